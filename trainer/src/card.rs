//! `MODEL_CARD.md`: what a version is, what it learned from, how it did, and what it is not for.

use std::fmt::Write;

use crate::{
    GateReport, GateTrial, TrainMetrics,
    evaluate::{DemandGroup, HorizonReport, MethodMetrics, forecast, method},
    train::DataReport,
};

/// The card of a version with these metrics: YAML header, then Markdown.
pub(crate) fn card(metrics: &TrainMetrics) -> String {
    let mut card = header(metrics);
    let sections = [
        data(&metrics.data),
        fitting(metrics),
        next_key(metrics),
        demand(metrics),
        gate(&metrics.gate_fit),
        LIMITS.to_owned(),
        LOADING.to_owned(),
    ];
    for section in sections {
        card.push('\n');
        card.push_str(section.trim_end());
        card.push('\n');
    }
    card
}

fn header(metrics: &TrainMetrics) -> String {
    let model = metrics.evaluation.next_key.methods.get(method::MODEL).copied().unwrap_or_default();
    format!(
        "---\nlicense: other\nlibrary_name: nearcast\ntags:\n- caching\n- prefetching\n- sequential-recommendation\n\
         metrics:\n- hit_rate\n- mrr\nmodel-index:\n- name: nearcast\n  results:\n  - task:\n      type: next-key-prediction\n\
         \x20   dataset:\n      type: request-log\n      name: {}\n    metrics:\n\
         \x20   - type: hit_rate_20\n      value: {:.4}\n    - type: mrr_20\n      value: {:.4}\n---\n\n# Nearcast model\n",
        serde_json::Value::from(metrics.data.logs.join(", ")),
        model.without_repeats.hit_rate_20,
        model.without_repeats.mrr_20,
    )
}

fn data(data: &DataReport) -> String {
    let rows = [
        ("logs", data.logs.join(", ")),
        ("training range", format!("{} to {} (excluded)", data.start, data.boundary)),
        ("validation slice from", data.validation_start.clone()),
        ("requests trained on", format!("{} of {}", data.train_requests, data.requests)),
        ("requests that follow another of their client", data.train_transitions.to_string()),
        ("keys with a row of their own", data.vocabulary_rows.to_string()),
        ("keys known by their path tokens alone", data.vocabulary_left_out.to_string()),
        ("clients", data.clients.to_string()),
        ("regions", data.regions.join(", ")),
    ];
    let mut text = "## Data\n\n| | |\n| --- | --- |\n".to_owned();
    for (name, value) in rows {
        // A pipe in a name would end the cell.
        let _ = writeln!(text, "| {name} | {} |", value.replace('|', "\\|"));
    }
    text
}

fn fitting(metrics: &TrainMetrics) -> String {
    let mut text =
        "## Fitting\n\n| epoch | loss | validation hit rate@20 | validation MRR@20 |\n| --- | --- | --- | --- |\n"
            .to_owned();
    for report in &metrics.epochs {
        let MethodMetrics { without_repeats, .. } = report.validation;
        let kept = if report.epoch == metrics.best_epoch { " (best)" } else { "" };
        let (hit, mrr) = (without_repeats.hit_rate_20, without_repeats.mrr_20);
        let _ = writeln!(text, "| {}{kept} | {:.4} | {hit:.4} | {mrr:.4} |", report.epoch, report.loss);
    }
    let best = metrics.best_epoch;
    let _ =
        writeln!(text, "\nThe published weights were then fitted anew for {best} epochs, validation slice included.");
    text
}

fn next_key(metrics: &TrainMetrics) -> String {
    let evaluation = &metrics.evaluation;
    let report = &evaluation.next_key;
    let mut text = format!(
        "## Next-key prediction on later traffic\n\n{} to {}: {} of {} transitions ranked against the whole vocabulary.\n\
         {:.1} % of the next keys have a row in the vocabulary; {:.1} % repeat the current key.\n\
         Columns marked * leave out repeats, which no prefetch can win.\n\n\
         | method | HR@1* | HR@5* | HR@10* | HR@20* | MRR@20* | HR@20 | MRR@20 |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        evaluation.start,
        evaluation.end,
        report.ranked,
        report.transitions,
        report.known_share * 100.0,
        report.repeat_share * 100.0,
    );
    for (name, MethodMetrics { all, without_repeats: other }) in &report.methods {
        let _ = writeln!(
            text,
            "| {name} | {:.4} | {:.4} | {:.4} | {:.4} | {:.4} | {:.4} | {:.4} |",
            other.hit_rate_1,
            other.hit_rate_5,
            other.hit_rate_10,
            other.hit_rate_20,
            other.mrr_20,
            all.hit_rate_20,
            all.mrr_20,
        );
    }
    let _ = writeln!(
        text,
        "\nThe blend learned from {} requests in {} passes; {:.1} % of their keys were among its candidates. Expected \
         calibration error of its 21 best proposals: {:.4} as published, {:.4} learning on.\n\
         Of {} rankings of the {} keys without a row, path tokens had {:.1} % within 20 places, popularity \
         {:.1} %, both together {:.1} %.",
        metrics.blend_fit.examples,
        metrics.blend_fit.best_epoch,
        metrics.blend_fit.covered_share * 100.0,
        report.calibration_error.get(method::MODEL).copied().unwrap_or_default(),
        report.calibration_error.get(method::MODEL_ONLINE).copied().unwrap_or_default(),
        report.cold.tokens.predictions,
        report.cold.keys,
        report.cold.tokens.hit_rate_20 * 100.0,
        report.cold.popularity.hit_rate_20 * 100.0,
        report.cold.tokens_and_popularity.hit_rate_20 * 100.0,
    );
    text.push('\n');
    for line in evaluation.verdicts.iter().map(crate::Verdict::sentence).chain(evaluation.warnings()) {
        let _ = writeln!(text, "- {line}");
    }
    text
}

fn demand(metrics: &TrainMetrics) -> String {
    let report = &metrics.evaluation.demand;
    let mut text = format!(
        "## Demand forecasts on later traffic\n\nRequests per key and region, asked every {} seconds about every key asked \
         for before: {} samples stand for {:.0} cells. Baselines have the factor, the constant and the half-life that \
         were best on the training range.\n",
        report.step_seconds, report.samples, report.cells,
    );
    for horizon in &report.horizons {
        demand_horizon(&mut text, horizon);
    }
    text
}

fn demand_horizon(text: &mut String, horizon: &HorizonReport) {
    let HorizonReport { horizon_seconds, left_out, all, newborn, deciles } = horizon;
    if let Some(why) = left_out {
        let _ = writeln!(text, "\nThe next {horizon_seconds} seconds: not measured, {why}.");
        return;
    }
    let _ = writeln!(
        text,
        "\n| the next {horizon_seconds} seconds | Poisson deviance per request (lower is better) | newborn keys |\n\
         | --- | --- | --- |"
    );
    for (name, deviance) in &all.deviance {
        // Where no such key came there is nothing to measure.
        let newborn = newborn.deviance.get(name).map_or_else(|| "-".to_owned(), |found| format!("{found:.4}"));
        let _ = writeln!(text, "| {name} | {deviance:.4} | {newborn} |");
    }
    let expected = |group: &DemandGroup, name: &str| {
        let found = group.expected_per_request.get(name).filter(|found| found.is_finite());
        found.map_or_else(|| "-".to_owned(), |found| format!("{found:.3}"))
    };
    let ratios: Vec<String> =
        deciles.iter().map(|part| format!("{:.2}", part.expected / part.came.max(f64::MIN_POSITIVE))).collect();
    let _ = writeln!(
        text,
        "\nThe model expected {} requests for each that came, {} when it is corrected online by how its forecasts \
         turned out ({} for newborn keys, which are {:.0} % of the requests); then in tenths of rising forecasts: {}.",
        expected(all, forecast::MODEL),
        expected(all, forecast::MODEL_ONLINE),
        expected(newborn, forecast::MODEL_ONLINE),
        100.0 * newborn.requests / all.requests.max(f64::MIN_POSITIVE),
        ratios.join(", "),
    );
}

fn gate(report: &GateReport) -> String {
    let mut text = "## Gate\n\n".to_owned();
    if let Some(reason) = &report.left_out {
        let _ = writeln!(text, "None, it learns online from nothing: {reason}.");
        return text;
    }
    let _ = writeln!(
        text,
        "Learnt from {} labels ({} used) while {} requests of the training range were played through the engine, first \
         without a model, then with one that had not seen what it was asked about. Expected calibration error {:.4}, \
         every label judged before it was learnt from.\n\
         Caches of {:.0} % of the distinct bytes, a budget of {:.0} % extra bytes, the built-in topology.",
        report.labels,
        report.labels_used,
        report.requests,
        report.calibration_error,
        report.cache_share * 100.0,
        report.budget_share * 100.0,
    );
    if let Some(reason) = &report.untried {
        let _ = writeln!(text, "\nNot tried on later traffic: {reason}.");
    }
    let Some(later) = &report.later else { return text };
    let _ = writeln!(
        text,
        "\n{} requests of later traffic, from empty caches and without anything else learnt online before:\n\n\
         | | miss ratio | mean ms | extra fetch | labels | calibration error |\n| --- | --- | --- | --- | --- | --- |",
        later.requests,
    );
    let rows = [
        ("no prefetching", later.without_prefetching),
        ("model, gate from nothing", later.untrained_gate),
        ("model, trained gate", later.trained_gate),
    ];
    for (name, trial) in rows {
        let GateTrial { miss_ratio, latency_ms_mean, extra_fetch_ratio, labels, calibration_error } = trial;
        let extra = extra_fetch_ratio * 100.0;
        let _ = writeln!(
            text,
            "| {name} | {miss_ratio:.4} | {latency_ms_mean:.2} | {extra:+.1} % | {labels} | {calibration_error:.4} |"
        );
    }
    text.push('\n');
    for sentence in later.verdicts() {
        let _ = writeln!(text, "- {sentence}");
    }
    text
}

const LIMITS: &str = "## Limits

- It knows the keys and regions of its training range; newer keys only by their path tokens and by what the predictor
  learns online.
- The numbers above hold for the log they were measured on; other traffic needs its own evaluation.
- It foresees requests, not their worth: whether to prefetch is decided by the gate and the budget that run beside it.
- Clients appear as pseudonyms in training and not at all in the files.
";

/// The scorer is run by `tests/python.rs` and agrees with the sequence model within 1e-5.
const LOADING: &str = "## Loading in Python

Every file opens with public tools: `pip install numpy pyarrow safetensors`. This scores every key of the vocabulary as a
client's next one, as the sequence model alone does; other keys are made of their path tokens, which takes the hash of
`models/src/tokens.rs`. `report.html` shows curves, `metrics.parquet` has their numbers, `train.toml` all settings.

```python
import numpy as np
import pyarrow.parquet as parquet
from safetensors.numpy import load_file

tensors = load_file(\"model.safetensors\")
weights = {name.removeprefix(\"sequence.\"): value for name, value in tensors.items()}
keys = parquet.read_table(\"vocabulary.parquet\")[\"key\"].to_pylist()
rows = {key: row for row, key in enumerate(keys)}
width = weights[\"gru.weight_hh_l0\"].shape[1]

def sigmoid(x):
    return 1 / (1 + np.exp(-x))

def step(state, key):
    \"\"\"A client's state after one more request: a gated recurrent unit over the key's embedding.\"\"\"
    given = weights[\"gru.weight_ih_l0\"] @ weights[\"items\"][rows[key]] + weights[\"gru.bias_ih_l0\"]
    kept = weights[\"gru.weight_hh_l0\"] @ state + weights[\"gru.bias_hh_l0\"]
    reset, update = np.split(sigmoid(given[:2 * width] + kept[:2 * width]), 2)
    new = np.tanh(given[2 * width:] + reset * kept[2 * width:])
    return new + update * (state - new)

def scores(history):
    \"\"\"Log-probability, as far as training made it one, of every key to come after these.\"\"\"
    state = np.zeros(width, np.float32)
    for key in history:
        state = step(state, key)
    return weights[\"items\"] @ (weights[\"projection\"] @ state) + weights[\"item_biases\"]
```
";
