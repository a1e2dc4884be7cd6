//! What a demo says: a line per stage while it runs, tables and findings at its end.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use nearcast_datasets::Profile;
use nearcast_trainer::{Evaluation, Published, method, replay::ReplayReport};

use super::{DemoReport, findings::Arms};
use crate::commands::{duration, grouped, percent};

pub(super) fn profile_line(profile: &Profile) -> String {
    format!(
        "      {} requests of {} clients for {} keys in {} regions, within {}\n      \
         {} are the first for their key in their region: no cache can answer them without prediction",
        grouped(profile.requests),
        grouped(profile.clients),
        grouped(profile.keys),
        profile.regions.len(),
        duration(profile.span_seconds),
        percent(profile.compulsory.in_region),
    )
}

pub(super) fn training_line(published: &Published) -> String {
    let metrics = &published.metrics;
    format!(
        "      {} from {} requests: {} keys, best of {} epochs: {}, gate from {} labels",
        published.version,
        grouped(metrics.data.train_requests),
        grouped(metrics.data.vocabulary_rows),
        metrics.epochs.len(),
        metrics.best_epoch,
        grouped(metrics.gate_fit.labels),
    )
}

pub(super) fn evaluation_line(evaluation: &Evaluation) -> String {
    let value = |name: &str| evaluation.next_key.methods.get(name).map_or(0.0, |m| m.without_repeats.hit_rate_20);
    format!(
        "      hit rate@20 {:.3}; popularity {:.3}, Markov {:.3}",
        value(method::MODEL),
        value(method::POPULARITY),
        value(method::MARKOV)
    )
}

pub(super) fn replay_line(replay: &ReplayReport) -> String {
    let Some(Arms { without, online, trained }) = Arms::of(replay) else { return String::new() };
    format!(
        "      misses: {} without prefetching, {} learning online, {} with the trained model",
        percent(without.miss_ratio),
        percent(online.miss_ratio),
        percent(trained.miss_ratio)
    )
}

/// The end of a demo: two tables, what is better, what is worse, and what to do next.
pub(crate) fn text(demo: &DemoReport) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{}\n{}\n\n{}\n{}\n",
        replay_title(&demo.replay),
        replay_table(&demo.replay),
        next_key_title(&demo.evaluation),
        next_key_table(&demo.evaluation)
    );
    for (title, is_better) in [("Better", true), ("Worse", false)] {
        let _ = write!(text, "\n{title}\n");
        let found = demo.findings.iter().filter(|finding| finding.is_better == is_better);
        found.for_each(|finding| {
            let _ = writeln!(text, "  {}", finding.text);
        });
    }
    let _ = write!(
        text,
        "\nThe whole story with charts: {} ({:.0} s)\n{}",
        demo.report.display(),
        demo.seconds.total(),
        next_steps(demo)
    );
    text
}

pub(super) fn replay_title(replay: &ReplayReport) -> String {
    let cell = replay.cells.first();
    format!(
        "Replay: the last {} of {} requests, {} regions, a cache of {} of all bytes each",
        grouped(cell.map_or(0, |cell| cell.requests)),
        grouped(replay.requests),
        replay.regions,
        cell.and_then(|cell| cell.cache.parse().ok()).map_or_else(String::new, percent),
    )
}

pub(super) fn next_key_title(evaluation: &Evaluation) -> String {
    format!(
        "Next key: {} predictions in the same part, ranked among all keys, repeats left out",
        grouped(evaluation.next_key.ranked)
    )
}

pub(super) const REPLAY_HEADER: [&str; 6] = ["", "misses", "mean ms", "p99 ms", "extra bytes", "prefetches used"];

pub(super) fn replay_rows(replay: &ReplayReport) -> Vec<[String; 6]> {
    let Some(arms) = Arms::of(replay) else { return Vec::new() };
    let rows = arms.named().map(|(name, cell)| {
        let prefetch = cell.prefetch;
        let (extra, used) = match cell.budget {
            Some(_) => (
                format!("{:+.1} %", cell.extra_fetch_ratio * 100.0),
                format!("{} of {}", grouped(prefetch.used), grouped(prefetch.used + prefetch.late + prefetch.unused)),
            ),
            None => Default::default(),
        };
        let latency = cell.latency_ms;
        [
            name,
            format!("{:.2} %", cell.miss_ratio * 100.0),
            format!("{:.1}", latency.mean),
            format!("{:.0}", latency.p99),
            extra,
            used,
        ]
    });
    rows.into()
}

pub(super) const NEXT_KEY_HEADER: [&str; 5] = ["", "HR@1", "HR@5", "HR@20", "MRR@20"];

pub(super) fn next_key_rows(evaluation: &Evaluation) -> Vec<[String; 5]> {
    let row = |(name, metrics): (&String, &nearcast_trainer::MethodMetrics)| {
        let other = metrics.without_repeats;
        let values = [other.hit_rate_1, other.hit_rate_5, other.hit_rate_20, other.mrr_20];
        let [one, five, twenty, mrr] = values.map(|value| format!("{value:.3}"));
        [name.clone(), one, five, twenty, mrr]
    };
    // What serves, and what it is up against; `evaluate` has every method.
    let shown = |name: &str| [method::MODEL, method::MODEL_ONLINE].contains(&name) || method::BASELINES.contains(&name);
    let mut rows: Vec<_> = evaluation.next_key.methods.iter().filter(|(name, _)| shown(name)).collect();
    rows.sort_by(|a, b| b.1.without_repeats.mrr_20.total_cmp(&a.1.without_repeats.mrr_20));
    rows.into_iter().map(row).collect()
}

fn replay_table(replay: &ReplayReport) -> Table {
    table(REPLAY_HEADER, replay_rows(replay))
}

fn next_key_table(evaluation: &Evaluation) -> Table {
    table(NEXT_KEY_HEADER, next_key_rows(evaluation))
}

fn table<const COLUMNS: usize>(header: [&str; COLUMNS], rows: Vec<[String; COLUMNS]>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header).add_rows(rows);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn next_steps(demo: &DemoReport) -> String {
    match &demo.dir {
        Some(dir) => {
            let dir = dir.display();
            format!(
                "Kept in {dir}: the log, the model registry, the report. A cluster of real processes on the same log:\n  \
                 nearcast up --log {dir}/web-1995.parquet --speed 60"
            )
        }
        None => "Keep log and model: nearcast demo --dir first-minute".to_owned(),
    }
}
