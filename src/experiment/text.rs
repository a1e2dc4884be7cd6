//! What the predictor says of experiments, as text.

use std::fmt::Write;

use serde_json::Value;

/// A plan.
pub(crate) fn plan(document: &Value) -> String {
    let mut text = design(&document["design"]);
    let _ = writeln!(text, "nothing is begun: `nearcast experiment start` with the same arguments does");
    text
}

/// All experiments, and what miniatures count.
pub(crate) fn status(document: &Value) -> String {
    let mut text = String::new();
    let experiments = document["experiments"].as_array().cloned().unwrap_or_default();
    if experiments.is_empty() {
        text.push_str("no experiment yet\n");
    }
    for experiment in &experiments {
        text.push_str(&trial(experiment));
        text.push('\n');
    }
    let arms = document["shadow"]["arms"].as_array().cloned().unwrap_or_default();
    if !arms.is_empty() {
        let _ = writeln!(text, "shadow: miniatures of {} of the keys", percent(&document["shadow"]["sample_share"]));
    }
    for arm in &arms {
        let _ = writeln!(
            text,
            "  {:<14} hits {} ± {}   over none {} ± {}   wait {} ms   origin bytes {}   wasted {}",
            word(&arm["arm"]),
            percent(&arm["hit_ratio"]["estimate"]),
            percent(&arm["hit_ratio"]["error"]),
            signed_percent(&arm["hit_ratio_over_none"]["estimate"]),
            percent(&arm["hit_ratio_over_none"]["error"]),
            number(&arm["wait_ms"]["estimate"]),
            percent(&arm["origin_ratio"]["estimate"]),
            percent(&arm["wasted_ratio"]),
        );
    }
    text
}

/// One experiment with its looks and changes.
pub(crate) fn report(document: &Value) -> String {
    let mut text = trial(document);
    text.push_str(&design(&document["design"]));
    let looks = document["looks"].as_array().cloned().unwrap_or_default();
    for look in looks.iter().rev().take(LOOKS).rev() {
        let _ = writeln!(text, "  after block {:<5} {}", look["block"], interval(&look["effect"]));
    }
    text.push_str(&changes(document));
    text
}

/// Who did what, when and why.
pub(crate) fn changes(document: &Value) -> String {
    let mut text = String::new();
    for change in document["changes"].as_array().into_iter().flatten() {
        let at = nearcast_datasets::Timestamp::from_micros(change["at_micros"].as_i64().unwrap_or_default());
        let cell = change["cell"].as_str().map(|cell| format!(" {cell}")).unwrap_or_default();
        let evidence = &change["evidence"];
        let evidence = match (evidence["verdict"].as_str(), evidence["hash"].as_str()) {
            (Some(verdict), Some(hash)) => format!("  [{verdict}, evidence {}…]", hash.get(..12).unwrap_or(hash)),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "  {:>3} {} {}{cell} by {}: {}{evidence}",
            change["number"],
            nearcast_datasets::rfc3339(at),
            word(&change["action"]),
            word(&change["who"]),
            word(&change["why"]),
        );
    }
    text
}

fn trial(experiment: &Value) -> String {
    let mut text = String::new();
    let paused = if experiment["is_paused"] == true { ", paused" } else { "" };
    let control = match word(&experiment["control_version"]) {
        "" => "the champion without a version",
        version => version,
    };
    let _ = writeln!(
        text,
        "{}: {} against {control}, {}{paused}: {}",
        word(&experiment["name"]),
        word(&experiment["arm"]),
        word(&experiment["stage"]).replace('_', " "),
        word(&experiment["verdict"]),
    );
    for flaw in experiment["flaws"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "  ! {}", word(flaw));
    }
    let _ = writeln!(
        text,
        "  blocks measured {} of {}, units {}",
        experiment["blocks_counted"], experiment["design"]["blocks"], experiment["units"]
    );
    for metric in experiment["metrics"].as_array().into_iter().flatten() {
        let role = if metric["role"]["goal"].is_object() { "goal" } else { "guardrail" };
        let _ = writeln!(
            text,
            "  {:<9} {:<13} {}  control {}  {}",
            role,
            word(&metric["name"]),
            interval(&metric["effect"]),
            number(&metric["control"]),
            word(&metric["finding"]),
        );
    }
    let cells = experiment["cells"].as_object().into_iter().flatten();
    let cells: Vec<String> = cells.map(|(node, side)| format!("{node} {}", word(side))).collect();
    let _ = writeln!(text, "  nodes: {}", cells.join(", "));
    let pending: Vec<&str> = experiment["pending"].as_array().into_iter().flatten().map(word).collect();
    if !pending.is_empty() {
        let _ = writeln!(text, "  not confirmed yet by {}", pending.join(", "));
    }
    text
}

fn design(design: &Value) -> String {
    let mut text = String::new();
    for pair in design["pairs"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "pair: {} and {} (correlation {})", word(&pair[0]), word(&pair[1]), number(&pair[2]));
    }
    if let Some(spare) = design["spare"].as_str() {
        let _ = writeln!(text, "left over: {spare}, which stays with the champion until a promotion");
    }
    let _ = writeln!(
        text,
        "switchback: {} blocks of {} s, of which the first {} s are left out; from {} to {}",
        design["blocks"],
        number(&design["block_seconds"]),
        number(&design["burn_in_seconds"]),
        word(&design["start"]),
        word(&design["end"]),
    );
    let _ = writeln!(
        text,
        "{}: an effect of {} is found at the end; the one asked for after {} blocks",
        word(&design["goal"]),
        number(&design["reach"]),
        design["blocks_needed"],
    );
    text
}

fn interval(effect: &Value) -> String {
    match (effect["low"].as_f64(), effect["high"].as_f64()) {
        (Some(low), Some(high)) => {
            format!("{:+.4} [{low:+.4}, {high:+.4}]", effect["estimate"].as_f64().unwrap_or_default())
        }
        _ => "nothing known yet".to_owned(),
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |value| format!("{:.2} %", value * 100.0))
}

fn signed_percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |value| format!("{:+.2} %", value * 100.0))
}

/// Looks that a report shows; the document has them all.
const LOOKS: usize = 10;
