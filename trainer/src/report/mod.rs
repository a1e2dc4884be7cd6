//! `report.html` of a version: how it learned, how it did, where it fails, and what it knows about single keys.

mod charts;
mod details;
mod keys;

use std::fmt::Write;

use nearcast_models::Model;

pub use self::details::Details;
use self::keys::KeyFacts;
use crate::{
    Evaluation, TrainMetrics, Verdict,
    replay::{Result, charts::Chart, document, escape},
};

/// The page of a version: its `evaluation`, a closer look at the same range, and how it was trained when `model` says.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn report_page(name: &str, model: &Model, evaluation: &Evaluation, details: &Details) -> Result<String> {
    let metrics: Option<TrainMetrics> = serde_json::from_value(model.metrics.clone()).ok();
    page(name, metrics.as_ref(), evaluation, details)
}

pub(crate) fn page(
    name: &str,
    metrics: Option<&TrainMetrics>,
    evaluation: &Evaluation,
    details: &Details,
) -> Result<String> {
    let mut body = format!(
        "<h1>{}</h1><p>Measured on {} requests of {}, {} to {}.</p>",
        escape(name),
        evaluation.requests,
        escape(&evaluation.log),
        evaluation.start,
        evaluation.end,
    );
    verdicts(&mut body, evaluation);
    methods(&mut body, evaluation);
    let curves = metrics.map(|metrics| charts::learning_curves(&metrics.epochs, metrics.best_epoch)).transpose()?;
    for (title, explanation, chart) in [
        ("Learning curves", CURVES, curves.flatten()),
        ("Reliability", RELIABILITY, charts::reliability(&details.reliability)?),
        ("By region", BY_REGION, charts::by_region(details)?),
        ("By hour", BY_HOUR, charts::by_hour(details)?),
    ] {
        if let Some(Chart { svg, note }) = chart {
            // Writing to a string cannot fail, here and below.
            let _ = write!(body, "<h2>{title}</h2><p>{explanation} {note}</p>{svg}");
        }
    }
    keys(&mut body, &details.keys)?;
    Ok(document(name, &body))
}

fn verdicts(body: &mut String, evaluation: &Evaluation) {
    body.push_str("<ul>");
    let warnings = evaluation.warnings().into_iter().map(|warning| format!("warning: {warning}"));
    for line in evaluation.verdicts.iter().map(Verdict::sentence).chain(warnings) {
        let _ = write!(body, "<li>{}</li>", escape(&line));
    }
    body.push_str("</ul>");
}

fn methods(body: &mut String, evaluation: &Evaluation) {
    let report = &evaluation.next_key;
    let _ = write!(
        body,
        "<h2>Next key</h2><p>{} of {} transitions ranked against the whole vocabulary; {:.1} % repeat the current key and \
         are left out of all columns but the last, {:.1} % of the next keys are in the vocabulary.</p><table><thead><tr>",
        report.ranked,
        report.transitions,
        report.repeat_share * 100.0,
        report.known_share * 100.0,
    );
    for column in ["method", "HR@1", "HR@5", "HR@10", "HR@20", "MRR@20", "MRR@20 with repeats"] {
        let _ = write!(body, "<th>{column}</th>");
    }
    body.push_str("</tr></thead><tbody>");
    for (name, metrics) in &report.methods {
        let other = metrics.without_repeats;
        let _ = write!(
            body,
            "<tr><td>{}</td><td>{:.4}</td><td>{:.4}</td><td>{:.4}</td><td>{:.4}</td><td>{:.4}</td><td>{:.4}</td></tr>",
            escape(name),
            other.hit_rate_1,
            other.hit_rate_5,
            other.hit_rate_10,
            other.hit_rate_20,
            other.mrr_20,
            metrics.all.mrr_20,
        );
    }
    body.push_str("</tbody></table>");
    for horizon in evaluation.demand.horizons.iter().filter(|horizon| horizon.left_out.is_none()) {
        let _ = write!(
            body,
            "<h2>Demand in the next {} s</h2><p>Poisson deviance per request; lower is better. Expected requests for each \
             that came; 1 is calibrated.</p><table><tbody>",
            horizon.horizon_seconds,
        );
        for (name, deviance) in &horizon.all.deviance {
            let expected = horizon.all.expected_per_request.get(name).copied().unwrap_or(f64::NAN);
            let _ = write!(body, "<tr><td>{}</td><td>{deviance:.4}</td><td>{expected:.3}</td></tr>", escape(name));
        }
        body.push_str("</tbody></table>");
    }
}

fn keys(body: &mut String, keys: &[KeyFacts]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let _ = write!(body, "<h2>What it knows about keys</h2><p>{KEYS}</p>");
    for facts in keys {
        let requests = facts.requests.map_or_else(
            || "no row of its own: known by its path tokens alone".to_owned(),
            |requests| format!("{requests} requests in the training range"),
        );
        let _ = write!(body, "<h3>{}</h3><p>{requests}</p>", escape(&facts.key));
        if let Some(hours) = &facts.hours {
            body.push_str(&charts::day(hours)?);
        }
        body.push_str("<table><tbody>");
        for (title, found, digits) in [
            ("next by the same client", &facts.next, "share"),
            ("next by others of the region", &facts.next_by_others, "share"),
            ("nearest embeddings", &facts.nearest, "cosine"),
        ] {
            let list: Vec<_> =
                found.iter().map(|(key, value)| format!("{} ({digits} {value:.2})", escape(key))).collect();
            let list = if list.is_empty() { "none".to_owned() } else { list.join("<br>") };
            let _ = write!(body, "<tr><td>{title}</td><td>{list}</td></tr>");
        }
        body.push_str("</tbody></table>");
    }
    Ok(())
}

const CURVES: &str = "Each pass over the training sessions without their validation slice; the larger mark is the pass that \
    validation chose. The published weights were then fitted anew for as many passes, validation slice included.";
const RELIABILITY: &str = "Probabilities that the blend claims for its first 21 proposals, against the share that \
    came true; on the diagonal they are the same. Ten times the claims make a circle a step larger.";
const BY_REGION: &str = "How often the next key was among the blend's first 20 proposals, by the \
    region of the request; repeats of the current key left out.";
const BY_HOUR: &str = "The same by hour of the day, UTC.";
const KEYS: &str = "The small bars are requests by hour of the day (UTC) in this report's log.";
