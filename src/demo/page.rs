//! The report as one self-contained page.

use std::fmt::Write;

use nearcast_trainer::replay::{Result, document, escape, sections};

use super::{DemoReport, findings::Finding, place, text};
use crate::commands::{duration, grouped, percent};

/// The page of a demo: findings first, then what they rest on.
pub(super) fn page(demo: &DemoReport) -> Result<String> {
    let mut body = format!(
        "<h1>Nearcast: the first minute</h1><p>A real log, {}, was trained on in its first {} requests; everything below is \
         measured on the {} requests after them.</p>",
        escape(place::LOG_NAME),
        grouped(demo.training.metrics.data.train_requests),
        grouped(demo.evaluation.requests),
    );
    findings(&mut body, "Better", &demo.findings, true);
    findings(&mut body, "Worse", &demo.findings, false);
    heading(&mut body, "Replay", &text::replay_title(&demo.replay));
    table(&mut body, &text::REPLAY_HEADER, &text::replay_rows(&demo.replay));
    heading(&mut body, "Next key", &text::next_key_title(&demo.evaluation));
    table(&mut body, &text::NEXT_KEY_HEADER, &text::next_key_rows(&demo.evaluation));
    heading(&mut body, "The log", LOG);
    table(&mut body, &["", ""], &profile(demo));
    heading(&mut body, "The model", MODEL);
    table(&mut body, &["", ""], &model(demo));
    body.push_str(&sections(&demo.replay)?);
    Ok(document(place::TITLE, &body))
}

fn findings(body: &mut String, title: &str, findings: &[Finding], is_better: bool) {
    let _ = write!(body, "<h2>{title}</h2><ul>");
    for finding in findings.iter().filter(|finding| finding.is_better == is_better) {
        // Writing to a string cannot fail, here and below.
        let _ = write!(body, "<li>{}</li>", escape(&finding.text));
    }
    body.push_str("</ul>");
}

fn heading(body: &mut String, title: &str, explanation: &str) {
    let _ = write!(body, "<h2>{title}</h2><p>{}</p>", escape(explanation));
}

fn table<const COLUMNS: usize>(body: &mut String, header: &[&str; COLUMNS], rows: &[[String; COLUMNS]]) {
    body.push_str("<table><thead><tr>");
    for name in header {
        let _ = write!(body, "<th>{}</th>", escape(name));
    }
    body.push_str("</tr></thead><tbody>");
    for row in rows {
        let cells: String = row.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        let _ = write!(body, "<tr>{cells}</tr>");
    }
    body.push_str("</tbody></table>");
}

fn profile(demo: &DemoReport) -> Vec<[String; 2]> {
    let profile = &demo.profile;
    let skew = profile.zipf_exponent.map_or_else(|| "-".to_owned(), |exponent| format!("{exponent:.2}"));
    [
        ("requests", grouped(profile.requests)),
        ("clients", grouped(profile.clients)),
        ("keys", grouped(profile.keys)),
        ("keys asked for once", percent(profile.one_hit_share)),
        ("regions", profile.regions.len().to_string()),
        ("span", format!("{} from {}", duration(profile.span_seconds), profile.first)),
        ("Zipf exponent", skew),
        ("first for their key", percent(profile.compulsory.ever)),
        ("first for their key in their region", percent(profile.compulsory.in_region)),
    ]
    .map(|(name, value)| [name.to_owned(), value])
    .into()
}

fn model(demo: &DemoReport) -> Vec<[String; 2]> {
    let metrics = &demo.training.metrics;
    let gate = &metrics.gate_fit;
    [
        ("version", demo.training.version.to_string()),
        ("trained on", format!("{} to {}", metrics.data.start, metrics.data.boundary)),
        ("passes that validation chose", format!("{} of {} tried", metrics.best_epoch, metrics.epochs.len())),
        ("keys with a row of their own", grouped(metrics.data.vocabulary_rows)),
        ("labels of the gate", format!("{}, of them {} used", grouped(gate.labels), grouped(gate.labels_used))),
        ("calibration error of the gate", format!("{:.4}", gate.calibration_error)),
        ("trained in", format!("{:.1} s", demo.seconds.train)),
    ]
    .map(|(name, value)| [name.to_owned(), value])
    .into()
}

const LOG: &str = "Part of the HTTP log of NASA's Kennedy Space Center, 1 August 1995, from the Internet Traffic Archive; \
    regions are the clients' top-level domains.";
const MODEL: &str = "A recurrent network over each client's requests, counts of what follows what, expected demand by key and \
    region, and a gate that decides what is worth its bytes.";
