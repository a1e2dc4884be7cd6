//! Two versions side by side: what they were made with, what was measured when they were trained, and, on a log that
//! neither has seen, how sure one may be of the difference.

use std::collections::{BTreeMap, BTreeSet};

use nearcast_datasets::{ClientId, LogSource, Map, Timestamp};
use nearcast_models::Model;
use serde::Serialize;

use super::{
    bootstrap::{BlockSum, Blocks, Interval, paired_interval},
    outcomes::{METHODS, Outcome, outcomes},
};
use crate::{
    Error, Result, TrainConfig,
    features::{Features, TimeRange},
    metrics::flatten,
    progress::OnProgress,
    time::rfc3339,
};

/// One of the two.
#[derive(Debug)]
pub struct Contender {
    /// What to call it.
    pub name: String,
    /// The version.
    pub model: Model,
    /// `train.toml`, when the version carries it.
    pub config: Option<String>,
}

/// How to compare.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// Bounds, sessions and how much is ranked.
    pub config: TrainConfig,
    /// Whether rows that a version was trained on may be measured on.
    pub allow_leakage: bool,
    /// What is drawn as a whole.
    pub blocks: Blocks,
    /// Draws.
    pub turns: usize,
    /// Share of the draws that the interval holds, between 0 and 1.
    pub level: f64,
}

/// What there is to say of two versions. The field names are a contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// `nearcast.compare/1`.
    pub schema: &'static str,
    /// The first version.
    pub a: String,
    /// The second version.
    pub b: String,
    /// Settings that differ.
    pub config: Vec<SettingDifference>,
    /// Numbers that both versions recorded when they were trained, each on its own later traffic.
    pub recorded: Vec<RecordedMetric>,
    /// Whether both recorded theirs on the same range of the same log.
    pub recorded_on_the_same: bool,
    /// Both on the same predictions; none without a log.
    pub measured: Option<Measured>,
}

/// A setting that differs; none where a version does not have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingDifference {
    /// `section.key`.
    pub name: String,
    /// The first version's value.
    pub a: Option<String>,
    /// The second version's value.
    pub b: Option<String>,
}

/// A number that both versions recorded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordedMetric {
    /// Its `/`-separated place in `metrics.json`.
    pub name: String,
    /// The first version's value.
    pub a: f64,
    /// The second version's value.
    pub b: f64,
}

/// Both versions on the same predictions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The log.
    pub log: String,
    /// Start of the range.
    pub start: String,
    /// End of the range.
    pub end: String,
    /// Whether a version was trained on part of the range.
    pub leaks: bool,
    /// Predictions that both made.
    pub predictions: u64,
    /// What was drawn as a whole.
    pub blocks: Blocks,
    /// How many of them there are.
    pub block_count: usize,
    /// Draws.
    pub turns: usize,
    /// Share of the draws within the intervals.
    pub level: f64,
    /// Metric by metric.
    pub metrics: Vec<MetricDifference>,
}

/// One metric of both versions on the same predictions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricDifference {
    /// `model`, `model_online` or `sequence`, as in an evaluation.
    pub method: &'static str,
    /// Whether predictions that repeat the current key count.
    pub with_repeats: bool,
    /// `hit_rate_1` … `mrr_20`.
    pub metric: &'static str,
    /// The first version's value.
    pub a: f64,
    /// The second version's value.
    pub b: f64,
    /// B minus A, with its interval.
    #[serde(flatten)]
    pub interval: Interval,
}

impl Measured {
    /// What a reader must know before trusting the numbers; empty when all is as it should be.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.leaks {
            warnings.push("the range overlaps what a version was trained on: its numbers flatter".to_owned());
        }
        if self.predictions == 0 {
            warnings.push("no request follows another of the same client within a session".to_owned());
        } else if self.block_count < BLOCKS_WARN {
            let count = self.block_count;
            warnings.push(format!("only {count} blocks: the intervals are narrower than they should be"));
        }
        warnings
    }
}

/// Compares two versions; with `logs`, on the rows that are later than what either was trained on.
///
/// # Errors
/// [`Error::OnlyTrainingRows`] when there is none, and whatever reading the logs raises.
pub fn compare(
    a: &Contender,
    b: &Contender,
    logs: &[LogSource],
    options: &CompareOptions,
    progress: OnProgress<'_>,
) -> Result<Comparison> {
    let place = |contender: &Contender| {
        ["log", "start", "end"].map(|field| contender.model.metrics.pointer(&format!("/evaluation/{field}")).cloned())
    };
    let measured = (!logs.is_empty()).then(|| measure(a, b, logs, options, progress)).transpose()?;
    Ok(Comparison {
        schema: SCHEMA,
        a: a.name.clone(),
        b: b.name.clone(),
        config: differing(&settings(a), &settings(b)),
        recorded: recorded(a, b),
        recorded_on_the_same: place(a) == place(b),
        measured,
    })
}

fn measure(
    a: &Contender,
    b: &Contender,
    logs: &[LogSource],
    options: &CompareOptions,
    progress: OnProgress<'_>,
) -> Result<Measured> {
    let features = Features::prepare(logs, &options.config.features, progress)?;
    let (first, last) = (features.log.first, features.log.last);
    let end = Timestamp::from_micros(last.micros().saturating_add(1));
    let boundary = a.model.manifest.training.last.max(b.model.manifest.training.last);
    let boundary = Timestamp::from_micros(boundary.micros().saturating_add(1));
    let (leaks, start) = if options.allow_leakage { (first < boundary, first) } else { (false, boundary.max(first)) };
    if start >= end {
        return Err(Error::OnlyTrainingRows { log: features.log.name.clone(), end: rfc3339(boundary) });
    }
    let (range, most) = (TimeRange { start, end }, options.config.evaluate.predictions_max);
    let of_a = outcomes(&features, &a.model, range, most, progress)?.list;
    let of_b = outcomes(&features, &b.model, range, most, progress)?.list;
    let numbers = block_numbers(&of_a, range, features.session_gap(), options.blocks);
    let block_count = numbers.iter().max().map_or(0, |last| last + 1);
    let mut metrics = Vec::new();
    for with_repeats in [false, true] {
        for (index, name) in METHODS.into_iter().enumerate() {
            for (metric, value) in METRICS {
                let place = |outcome: &Outcome| {
                    let places = outcome.places[index];
                    value(if with_repeats { places.all } else { places.without_current })
                };
                let pairs = of_a.iter().zip(&of_b).zip(&numbers).filter(|((a, _), _)| with_repeats || !a.repeats);
                let pairs: Vec<_> = pairs.map(|((a, b), block)| (*block, place(a), place(b))).collect();
                let (mean_a, mean_b, interval) = difference(&pairs, block_count, options);
                metrics.push(MetricDifference { method: name, with_repeats, metric, a: mean_a, b: mean_b, interval });
            }
        }
    }
    Ok(Measured {
        log: features.log.name.clone(),
        start: rfc3339(start),
        end: rfc3339(end),
        leaks,
        predictions: of_a.len() as u64,
        blocks: options.blocks,
        block_count,
        turns: options.turns,
        level: options.level,
        metrics,
    })
}

/// Both means and the interval of their difference, of (block, A's value, B's value).
fn difference(pairs: &[(usize, f64, f64)], block_count: usize, options: &CompareOptions) -> (f64, f64, Interval) {
    let mut blocks = vec![BlockSum::default(); block_count];
    let (mut sum_a, mut sum_b) = (0.0, 0.0);
    for (block, a, b) in pairs {
        blocks[*block].count += 1.0;
        blocks[*block].difference += b - a;
        (sum_a, sum_b) = (sum_a + a, sum_b + b);
    }
    let count = (pairs.len() as f64).max(1.0);
    let interval = paired_interval(&blocks, options.level, options.turns, options.config.seed);
    (sum_a / count, sum_b / count, interval)
}

/// The block of every prediction, numbered from 0 without a gap.
fn block_numbers(list: &[Outcome], range: TimeRange, gap: std::time::Duration, blocks: Blocks) -> Vec<usize> {
    match blocks {
        Blocks::Client => {
            let mut numbers: Map<ClientId, usize> = Map::default();
            let number = |outcome: &Outcome| {
                let next = numbers.len();
                *numbers.entry(outcome.client).or_insert(next)
            };
            list.iter().map(number).collect()
        }
        Blocks::Time => {
            // Two sessions' length, so that what one client does falls into one block or two; where that would leave too
            // few to draw from, shorter.
            let span = range.end.since(range.start);
            let width = (span / BLOCKS_MAX).max((gap * 2).min(span / BLOCKS_MIN)).as_micros().max(1);
            let stretch = |outcome: &Outcome| outcome.at.since(range.start).as_micros() / width;
            let found: BTreeSet<u128> = list.iter().map(stretch).collect();
            let numbers: BTreeMap<u128, usize> = found.into_iter().zip(0..).collect();
            list.iter().map(|outcome| numbers[&stretch(outcome)]).collect()
        }
    }
}

/// Everything a version was made with, by dotted name.
fn settings(contender: &Contender) -> BTreeMap<String, String> {
    let written = contender.config.as_deref().and_then(|text| text.parse::<toml::Table>().ok());
    let table = written.or_else(|| {
        let model = toml::Value::try_from(&contender.model.config).ok()?;
        let seed = i64::try_from(contender.model.manifest.seed).ok()?;
        Some([("seed".to_owned(), seed.into()), ("model".to_owned(), model)].into_iter().collect())
    });
    let mut settings = BTreeMap::new();
    name_values("", &toml::Value::Table(table.unwrap_or_default()), &mut settings);
    settings
}

/// Every value of a configuration by its dotted name.
pub(crate) fn name_values(name: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(key, value)| {
            let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            name_values(&name, value, into);
        }),
        value => _ = into.insert(name.to_owned(), value.to_string()),
    }
}

/// The settings that are not the same.
pub(crate) fn differing(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<SettingDifference> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differing = names.into_iter().filter(|name| a.get(*name) != b.get(*name));
    let difference = |name: &String| {
        let (a, b) = (a.get(name).cloned(), b.get(name).cloned());
        SettingDifference { name: name.clone(), a, b }
    };
    differing.map(difference).collect()
}

fn recorded(a: &Contender, b: &Contender) -> Vec<RecordedMetric> {
    let numbers = |contender: &Contender| {
        let mut numbers = Vec::new();
        flatten("", &contender.model.metrics, &mut numbers);
        numbers
    };
    let of_b: BTreeMap<String, f64> = numbers(b).into_iter().collect();
    let pair = |(name, a): (String, f64)| of_b.get(&name).map(|b| RecordedMetric { name, a, b: *b });
    numbers(a).into_iter().filter_map(pair).collect()
}

/// What a place is worth; place 0 is a miss.
type Worth = fn(u8) -> f64;
const METRICS: [(&str, Worth); 5] = [
    ("hit_rate_1", |place| f64::from(u8::from(place == 1))),
    ("hit_rate_5", |place| f64::from(u8::from((1..=5).contains(&place)))),
    ("hit_rate_10", |place| f64::from(u8::from((1..=10).contains(&place)))),
    ("hit_rate_20", |place| f64::from(u8::from(place > 0))),
    ("mrr_20", |place| if place == 0 { 0.0 } else { 1.0 / f64::from(place) }),
];

const SCHEMA: &str = "nearcast.compare/1";
/// Most blocks of time.
const BLOCKS_MAX: u32 = 200;
/// Blocks of time that a short range is cut into at least.
const BLOCKS_MIN: u32 = 40;
/// With fewer blocks the percentile interval is known to be too narrow.
const BLOCKS_WARN: usize = 20;

#[cfg(test)]
mod tests {
    use nearcast_datasets::RegionId;

    use super::{super::outcomes::Places, *};

    fn outcome(seconds: i64, client: u32) -> Outcome {
        let (at, places) = (Timestamp::from_micros(seconds * 1_000_000), [Places::default(); METHODS.len()]);
        Outcome { at, client: ClientId(client), region: RegionId(0), repeats: false, places }
    }

    #[test]
    fn blocks_are_stretches_of_time_or_clients() {
        let list = [outcome(0, 5), outcome(50, 6), outcome(130, 5), outcome(9_000, 7)];
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let range = TimeRange { start: at(0), end: at(10_000) };
        let gap = std::time::Duration::from_secs(60);
        assert_eq!(block_numbers(&list, range, gap, Blocks::Time), [0, 0, 1, 2]);
        let short = TimeRange { start: at(0), end: at(200) };
        assert_eq!(block_numbers(&list[..3], short, gap, Blocks::Time), [0, 1, 2]);
        assert_eq!(block_numbers(&list, range, gap, Blocks::Client), [0, 1, 0, 2]);
    }

    #[test]
    fn settings_that_differ_are_named_with_both_values() {
        let table = |text: &str| {
            let mut found = BTreeMap::new();
            name_values("", &toml::Value::Table(text.parse().unwrap()), &mut found);
            found
        };
        let (a, b) = (table("seed = 1\n[fit]\nepochs_max = 3"), table("seed = 1\n[fit]\nepochs_max = 4\nmore = 1"));
        let found: Vec<_> = differing(&a, &b).into_iter().map(|found| (found.name, found.a, found.b)).collect();
        let some = |text: &str| Some(text.to_owned());
        let expected = [("fit.epochs_max".to_owned(), some("3"), some("4")), ("fit.more".to_owned(), None, some("1"))];
        assert_eq!(found, expected);
    }
}
