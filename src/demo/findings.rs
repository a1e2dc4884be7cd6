//! What a demo found, in sentences: better or worse, by how much, and than what.

use nearcast_trainer::{
    Evaluation,
    replay::{CellReport, ReplayReport},
};
use serde::Serialize;

/// One comparison with a baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    /// Whether it speaks for Nearcast.
    pub(crate) is_better: bool,
    /// What was compared, with both values and the baseline's name.
    pub(crate) text: String,
}

/// The three ways in which the later part was replayed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arms<'a> {
    pub(super) without: &'a CellReport,
    pub(super) online: &'a CellReport,
    pub(super) trained: &'a CellReport,
}

impl<'a> Arms<'a> {
    /// The cells of a demo's replay, in the order in which they were asked for.
    pub(super) fn of(replay: &'a ReplayReport) -> Option<Self> {
        match replay.cells.as_slice() {
            [without, online, trained] => Some(Self { without, online, trained }),
            _ => None,
        }
    }

    /// Each with the name to show.
    pub(super) fn named(&self) -> [(String, &'a CellReport); 3] {
        let version = self.trained.model_version.as_deref().unwrap_or_default();
        [
            ("no prefetching".to_owned(), self.without),
            ("Nearcast, learning online only".to_owned(), self.online),
            (format!("Nearcast, with trained {version}"), self.trained),
        ]
    }
}

/// All findings, replay first.
pub(super) fn of(replay: &ReplayReport, evaluation: &Evaluation) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(Arms { without, online, trained }) = Arms::of(replay) {
        findings.extend(compare("no prefetching", trained, without, 0.0));
        findings.extend(compare("learning online only", trained, online, SEED_NOISE));
        findings.extend(price(trained));
    }
    // Whatever is lost is told; of what is won, not every variation.
    let is_variation = |metric: &str| {
        let (next_key, with_repeats) = (!metric.starts_with("demand"), ["hit_rate_20", "mrr_20"].contains(&metric));
        if next_key { with_repeats } else { metric.contains("newborn") }
    };
    let verdicts = evaluation.verdicts.iter().filter(|verdict| !verdict.wins || !is_variation(&verdict.metric));
    findings.extend(verdicts.map(|verdict| Finding { is_better: verdict.wins, text: verdict.sentence() }));
    findings
}

/// Holds a cell against another; differences of at most `noise`, as a share, say nothing.
fn compare(baseline: &str, cell: &CellReport, other: &CellReport, noise: f64) -> Vec<Finding> {
    let share = |share: f64| format!("{:.1} %", share * 100.0);
    let millis = |millis: f64| format!("{millis:.1} ms");
    let (latency, of_other) = (&cell.latency_ms, &other.latency_ms);
    [
        lower("misses", cell.miss_ratio, other.miss_ratio, share, noise),
        lower("mean latency", latency.mean, of_other.mean, millis, noise),
        lower("99th percentile of latency", latency.p99, of_other.p99, millis, noise),
    ]
    .into_iter()
    .flatten()
    .map(|(is_better, text)| Finding { is_better, text: format!("{text} {baseline}") })
    .collect()
}

/// A comparison in which less is better; nothing when both look the same.
fn lower(what: &str, value: f64, other: f64, show: impl Fn(f64) -> String, noise: f64) -> Option<(bool, String)> {
    let (shown, shown_other) = (show(value), show(other));
    if shown == shown_other {
        return None;
    }
    let (is_better, word) = match value - other {
        difference if difference.abs() <= noise * other => (false, "no lower (another seed moves them as much)"),
        difference if difference < 0.0 => (true, "lower"),
        _ => (false, "HIGHER"),
    };
    Some((is_better, format!("{what} {word}: {shown} against {shown_other} with")))
}

/// What prefetching costs.
fn price(cell: &CellReport) -> Option<Finding> {
    let budget = cell.budget?;
    let (extra, allowed) = (cell.extra_fetch_ratio * 100.0, budget * 100.0);
    if cell.extra_fetch_ratio <= 0.0 {
        return Some(Finding { is_better: true, text: format!("{:.1} % fewer bytes fetched", -extra) });
    }
    // The budget bounds the whole log, of which only the later part is counted otherwise.
    let account = &cell.account.as_ref()?.budget;
    let whole = account.extra_bytes / account.baseline_bytes.max(1.0);
    let kept = if whole <= budget { "within" } else { "OVER" };
    let text = format!(
        "{extra:.1} % more bytes fetched than without prefetching; {:.1} % over the whole log, {kept} the budget of \
         {allowed:.0} %",
        whole * 100.0
    );
    Some(Finding { is_better: false, text })
}

/// What another seed changes on this log, as a share: two standard deviations of the difference of two runs, over five
/// seeds.
const SEED_NOISE: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_way_a_difference_goes_and_nothing_when_there_is_none_to_see() {
        let show = |value: f64| format!("{value:.1}");
        let better = lower("misses", 9.1, 19.2, show, 0.05).unwrap();
        assert_eq!(better, (true, "misses lower: 9.1 against 19.2 with".to_owned()));
        let worse = lower("misses", 19.2, 9.1, show, 0.05).unwrap();
        assert!(!worse.0 && worse.1.contains("HIGHER"));
        let alike = lower("misses", 9.1, 9.2, show, 0.05).unwrap();
        assert!(!alike.0 && alike.1.contains("no lower"));
        assert_eq!(lower("misses", 9.1, 9.1, show, 0.0), None);
    }
}
