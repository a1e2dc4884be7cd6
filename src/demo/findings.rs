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
        findings.extend(compare("no prefetching", trained, without));
        findings.extend(compare("learning online only", trained, online));
        findings.extend(price(trained));
    }
    let verdicts = evaluation.verdicts.iter();
    findings.extend(verdicts.map(|verdict| Finding { is_better: verdict.wins, text: verdict.sentence() }));
    findings
}

fn compare(baseline: &str, cell: &CellReport, other: &CellReport) -> Vec<Finding> {
    let share = |share: f64| format!("{:.1} %", share * 100.0);
    let millis = |millis: f64| format!("{millis:.1} ms");
    [
        lower("misses", &share(cell.miss_ratio), &share(other.miss_ratio), cell.miss_ratio - other.miss_ratio),
        lower(
            "mean latency",
            &millis(cell.latency_ms.mean),
            &millis(other.latency_ms.mean),
            cell.latency_ms.mean - other.latency_ms.mean,
        ),
        lower(
            "99th percentile of latency",
            &millis(cell.latency_ms.p99),
            &millis(other.latency_ms.p99),
            cell.latency_ms.p99 - other.latency_ms.p99,
        ),
    ]
    .into_iter()
    .flatten()
    .map(|(is_better, text)| Finding { is_better, text: format!("{text} {baseline}") })
    .collect()
}

/// A comparison in which less is better; nothing when both look the same.
fn lower(what: &str, value: &str, other: &str, difference: f64) -> Option<(bool, String)> {
    if value == other {
        return None;
    }
    let (is_better, word) = if difference < 0.0 { (true, "lower") } else { (false, "HIGHER") };
    Some((is_better, format!("{what} {word}: {value} against {other} with")))
}

/// What prefetching costs.
fn price(cell: &CellReport) -> Option<Finding> {
    let budget = cell.budget?;
    let (extra, allowed) = (cell.extra_fetch_ratio * 100.0, budget * 100.0);
    if cell.extra_fetch_ratio <= 0.0 {
        return Some(Finding { is_better: true, text: format!("{:.1} % fewer bytes fetched", -extra) });
    }
    let kept = if cell.extra_fetch_ratio <= budget { "within" } else { "OVER" };
    let text = format!("{extra:.1} % more bytes fetched than without prefetching, {kept} the budget of {allowed:.0} %");
    Some(Finding { is_better: false, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_way_a_difference_goes_and_nothing_when_there_is_none_to_see() {
        let better = lower("misses", "9.1 %", "19.2 %", -0.1).unwrap();
        assert_eq!(better, (true, "misses lower: 9.1 % against 19.2 % with".to_owned()));
        let worse = lower("misses", "19.2 %", "9.1 %", 0.1).unwrap();
        assert!(!worse.0 && worse.1.contains("HIGHER"));
        assert_eq!(lower("misses", "9.1 %", "9.1 %", -1e-9), None);
    }
}
