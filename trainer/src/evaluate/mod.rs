//! Evaluating: how a model does on traffic later than what it learned from, beside baselines.

mod baselines;
mod blend;
mod bootstrap;
mod cold;
mod compare;
mod demand;
mod next_key;
mod outcomes;
mod rank;
mod report;
mod walk;

use nearcast_datasets::{LogSource, Timestamp};
use nearcast_models::Model;

pub use self::{
    bootstrap::{Blocks, Interval},
    cold::ColdReport,
    compare::{
        CompareOptions, Comparison, Contender, Measured, MetricDifference, RecordedMetric, SettingDifference, compare,
    },
    demand::{Decile, DemandGroup, DemandReport, HorizonReport, forecast},
    next_key::{NextKeyReport, method},
    rank::{MethodMetrics, RankMetrics},
    report::{Evaluation, Verdict},
};
pub(crate) use self::{
    compare::{differing, name_values},
    demand::{measure_demand, published_baselines},
    next_key::{measure, validate},
    outcomes::{Outcome, Reliability, outcomes},
};
use crate::{
    Error, Result, TrainConfig,
    demand::fit_baselines,
    features::{Features, TimeRange},
    fit::{DemandAsk, DemandSet, ItemMap, RegionMap},
    progress::{OnProgress, Progress},
    report::Details,
    time::rfc3339,
};

/// What to evaluate on, besides the log.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// Bounds, sessions and how much is ranked.
    pub config: TrainConfig,
    /// Whether rows of the training range may be measured on; the report then says so.
    pub allow_leakage: bool,
}

/// Measures `model` on the rows of `logs` that are later than its training range.
///
/// # Errors
/// [`Error::OnlyTrainingRows`] when there is none, and whatever reading the logs raises.
pub fn evaluate(
    model: &Model,
    logs: &[LogSource],
    options: &EvaluateOptions,
    progress: OnProgress<'_>,
) -> Result<Evaluation> {
    Ok(evaluate_range(model, logs, options, progress)?.1)
}

/// As [`evaluate()`], with a closer look at the same range for a report; it explains `keys`, or the most requested ones
/// when none is asked for.
///
/// # Errors
/// As [`evaluate()`].
pub fn evaluate_in_detail(
    model: &Model,
    logs: &[LogSource],
    options: &EvaluateOptions,
    keys: &[String],
    progress: OnProgress<'_>,
) -> Result<(Evaluation, Details)> {
    let (features, evaluation, range) = evaluate_range(model, logs, options, progress)?;
    progress(Progress::Stage("looking closer"));
    let most = options.config.evaluate.predictions_max;
    let details = Details::measure(&features, model, range, most, keys, progress)?;
    Ok((evaluation, details))
}

/// The evaluation, with the log and the range that it was made on.
fn evaluate_range(
    model: &Model,
    logs: &[LogSource],
    options: &EvaluateOptions,
    progress: OnProgress<'_>,
) -> Result<(Features, Evaluation, TimeRange)> {
    let features = Features::prepare(logs, &options.config.features, progress)?;
    let (first, last) = (features.log.first, features.log.last);
    let end = Timestamp::from_micros(last.micros().saturating_add(1));
    let boundary = Timestamp::from_micros(model.manifest.training.last.micros().saturating_add(1));
    let (leaks, start) = if options.allow_leakage { (first < boundary, first) } else { (false, boundary.max(first)) };
    if start >= end {
        return Err(Error::OnlyTrainingRows { log: features.log.name.clone(), end: rfc3339(boundary) });
    }
    let trained = (first < start).then_some(TimeRange { start: first, end: start });
    let test = TimeRange { start, end };
    let mut evaluation = evaluate_part(&features, model, trained, test, &options.config, progress)?;
    evaluation.leaks = leaks;
    Ok((features, evaluation, test))
}

/// Measures `model` on `test`; baselines are counted on `trained`, when the log reaches that far back.
pub(crate) fn evaluate_part(
    features: &Features,
    model: &Model,
    trained: Option<TimeRange>,
    test: TimeRange,
    config: &TrainConfig,
    progress: OnProgress<'_>,
) -> Result<Evaluation> {
    progress(Progress::Stage("ranking later requests"));
    let next_key = measure(features, model, trained, test, config.evaluate.predictions_max, progress)?;
    progress(Progress::Stage("forecasting later demand"));
    let demand = demand_part(features, model, trained, test, config)?;
    let requests = features.count(test)?;
    Ok(Evaluation::new(features.log.name.clone(), test, requests, next_key, demand))
}

fn demand_part(
    features: &Features,
    model: &Model,
    trained: Option<TimeRange>,
    test: TimeRange,
    config: &TrainConfig,
) -> Result<DemandReport> {
    let ask = DemandAsk {
        history: trained,
        asked: test,
        config: model.placement.config(),
        // Also when rows of the training range are measured on.
        newborn_from: test.start.max(Timestamp::from_micros(model.manifest.training.last.micros().saturating_add(1))),
        samples_max: config.demand.samples_max,
        seed: 0,
    };
    let set = DemandSet::sample(features, &ask)?;
    let items = ItemMap::new(features, &model.vocabulary);
    let regions = RegionMap::new(&features.log.regions, &model.regions);
    // Baselines of a version published without them are fitted on what they are measured on: too well, if anything.
    let baselines = published_baselines(&model.metrics).unwrap_or_else(|| fit_baselines(&set.samples, &set.grid));
    Ok(measure_demand(model, &items, &regions, &set, &baselines))
}
