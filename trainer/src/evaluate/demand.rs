//! Demand forecasts: the placement head against counts of the last window, of a day ago, and a decayed average.

use std::{collections::BTreeMap, time::Duration};

use nearcast_models::{DemandCorrection, Model};
use serde::{Deserialize, Serialize};

use crate::{
    demand::{BaselineFit, DemandSample, deviance},
    fit::{DemandSet, ItemMap, RegionMap, query},
};

/// How well demand per key, region and horizon was forecast.
///
/// Measured over every cell (key, region, instant): instants a step apart, keys that were asked for anywhere before the
/// instant, all regions of the log. The cells are sampled with known probabilities, and all sums are weighted so that
/// they estimate those over all cells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DemandReport {
    /// Samples that were forecast.
    pub samples: u64,
    /// Cells that they stand for.
    pub cells: f64,
    /// Seconds from one instant to the next.
    pub step_seconds: u64,
    /// By horizon, shortest first.
    pub horizons: Vec<HorizonReport>,
}

/// Forecasts over one horizon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HorizonReport {
    /// Length of the horizon.
    pub horizon_seconds: u64,
    /// Why the horizon was not measured.
    pub left_out: Option<String>,
    /// All keys.
    pub all: DemandGroup,
    /// Keys that training never saw, from their first request on.
    pub newborn: DemandGroup,
    /// The forecasts of `model_online` in ten parts of equal expected requests, smallest forecasts first.
    pub deciles: Vec<Decile>,
}

/// Forecasts for one group of keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DemandGroup {
    /// Cells of the group.
    pub cells: f64,
    /// Requests that came, summed over the cells.
    pub requests: f64,
    /// Poisson deviance per request by method (lower is better), see [`forecast`]. Baselines have the factor, the constant
    /// and the half-life that were best on the training range.
    pub deviance: BTreeMap<String, f64>,
    /// Requests that were expected for each that came, by method: 1 is calibrated.
    pub expected_per_request: BTreeMap<String, f64>,
}

/// A part of the forecasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decile {
    /// The largest forecast of the part.
    pub forecast_max: f64,
    /// Requests expected, summed.
    pub expected: f64,
    /// Requests that came, summed.
    pub came: f64,
}

/// The methods' names in a [`DemandReport`].
pub mod forecast {
    /// The placement head.
    pub const MODEL: &str = "model";
    /// The placement head, corrected by how its forecasts of the last day or so turned out.
    pub const MODEL_ONLINE: &str = "model_online";
    /// As much as in the window just before, which is as long as the horizon.
    pub const LAST_WINDOW: &str = crate::demand::LAST_WINDOW;
    /// A decayed average of the requests for the key in the region.
    pub const DECAYED_AVERAGE: &str = crate::demand::DECAYED_AVERAGE;
    /// As much as in the same window a day before.
    pub const DAY_AGO: &str = crate::demand::DAY_AGO;

    /// All methods that need no model.
    pub const BASELINES: [&str; 3] = [LAST_WINDOW, DECAYED_AVERAGE, DAY_AGO];
}

/// Forecasts every sample of `set` with the model and the baselines of its training range.
pub(crate) fn measure_demand(
    model: &Model,
    items: &ItemMap,
    regions: &RegionMap,
    set: &DemandSet,
    baselines: &[BaselineFit],
) -> DemandReport {
    let expected: Vec<Vec<f32>> = set
        .samples
        .iter()
        .map(|sample| model.placement.expected_requests(&model.sequence, &query(sample, items, regions)))
        .collect();
    let mut horizons = Vec::new();
    for (index, horizon) in set.grid.horizons.iter().enumerate() {
        let horizon_seconds = horizon.horizon.as_secs();
        if !horizon.measurable() {
            let step = set.grid.step.as_secs();
            let why = format!("the log's timestamps are multiples of {step} s, which is coarser than the horizon");
            horizons.push(HorizonReport { horizon_seconds, left_out: Some(why), ..HorizonReport::default() });
            continue;
        }
        let fits: Vec<&BaselineFit> =
            baselines.iter().filter(|baseline| baseline.horizon_seconds == horizon_seconds).collect();
        let forecasts: Vec<f64> = expected.iter().map(|rates| f64::from(rates[index])).collect();
        let online = correct(&set.samples, &forecasts, index, horizon.horizon);
        let measured = Measured { samples: &set.samples, model: &forecasts, online: &online, horizon: index };
        let group = |newborn_only: bool| measured.group(&fits, newborn_only);
        horizons.push(HorizonReport {
            horizon_seconds,
            left_out: None,
            all: group(false),
            newborn: group(true),
            deciles: deciles(&set.samples, &online, index),
        });
    }
    DemandReport {
        samples: set.samples.len() as u64,
        cells: set.cells(),
        step_seconds: set.grid.step.as_secs(),
        horizons,
    }
}

/// The forecasts, each corrected by those whose horizon had ended when it was made.
fn correct(samples: &[DemandSample], forecasts: &[f64], index: usize, horizon: Duration) -> Vec<f64> {
    let mut correction = DemandCorrection::new(index + 1);
    let mut ended = 0;
    let mut corrected = Vec::with_capacity(forecasts.len());
    for (sample, forecast) in samples.iter().zip(forecasts) {
        while let Some(past) = samples.get(ended).filter(|past| past.at.after(horizon) <= sample.at) {
            correction.learn(sample.at, index, forecasts[ended] as f32, past.requests[index], past.weight);
            ended += 1;
        }
        corrected.push(f64::from(correction.correct(index, *forecast as f32)));
    }
    corrected
}

/// The samples of one horizon with the model's forecasts.
#[derive(Debug)]
struct Measured<'a> {
    samples: &'a [DemandSample],
    model: &'a [f64],
    online: &'a [f64],
    horizon: usize,
}

impl Measured<'_> {
    fn group(&self, baselines: &[&BaselineFit], newborn_only: bool) -> DemandGroup {
        let mut group = DemandGroup::default();
        let mut sums = vec![(0.0, 0.0); baselines.len() + 2];
        let models = self.model.iter().zip(self.online);
        for (sample, (model, online)) in self.samples.iter().zip(models).filter(|(s, _)| s.newborn || !newborn_only) {
            let (weight, requests) = (f64::from(sample.weight), f64::from(sample.requests[self.horizon]));
            group.cells += weight;
            group.requests += weight * requests;
            let others = baselines.iter().map(|baseline| baseline.forecast(sample, self.horizon));
            for ((surprise, expected), forecast) in sums.iter_mut().zip([*model, *online].into_iter().chain(others)) {
                *surprise += weight * deviance(requests, forecast);
                *expected += weight * forecast;
            }
        }
        if group.requests > 0.0 {
            let models = [forecast::MODEL, forecast::MODEL_ONLINE];
            let names = models.into_iter().chain(baselines.iter().map(|baseline| baseline.name.as_str()));
            for (name, (surprise, expected)) in names.zip(sums) {
                group.deviance.insert(name.to_owned(), surprise / group.requests);
                group.expected_per_request.insert(name.to_owned(), expected / group.requests);
            }
        }
        group
    }
}

/// Cuts the samples, by rising forecast, where each tenth of the expected requests is reached.
fn deciles(samples: &[DemandSample], forecasts: &[f64], horizon: usize) -> Vec<Decile> {
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by(|a, b| forecasts[*a].total_cmp(&forecasts[*b]));
    let weighted = |place: &usize| f64::from(samples[*place].weight) * forecasts[*place];
    let tenth = order.iter().map(weighted).sum::<f64>() / 10.0;
    let mut deciles = vec![Decile::default(); if samples.is_empty() { 0 } else { 10 }];
    let mut before = 0.0;
    for place in &order {
        let decile = &mut deciles[((before / tenth.max(f64::MIN_POSITIVE)) as usize).min(9)];
        let expected = weighted(place);
        decile.forecast_max = forecasts[*place];
        decile.expected += expected;
        decile.came += f64::from(samples[*place].weight * samples[*place].requests[horizon]);
        before += expected;
    }
    deciles
}

/// The baselines of a training range as `metrics.json` holds them; `None` where a version was published without.
pub(crate) fn published_baselines(metrics: &serde_json::Value) -> Option<Vec<BaselineFit>> {
    serde_json::from_value(metrics.pointer(BASELINES)?.clone()).ok()
}

/// Where `metrics.json` holds them.
const BASELINES: &str = "/demand_fit/baselines";

#[cfg(test)]
mod tests {
    use nearcast_datasets::{KeyId, RegionId, Timestamp};
    use nearcast_models::{HORIZONS_MAX, RecentCounts};

    use super::*;

    fn sample(hour: i64, requests: f32, newborn: bool) -> DemandSample {
        DemandSample {
            key: KeyId(0),
            region: RegionId(0),
            at: Timestamp::from_micros(hour * 3_600_000_000),
            counts: RecentCounts::default(),
            last_window: [1.0; HORIZONS_MAX],
            day_ago: [0.0; HORIZONS_MAX],
            requests: [requests; HORIZONS_MAX],
            weight: 200.0,
            newborn,
        }
    }

    #[test]
    fn corrections_come_only_from_horizons_that_have_ended() {
        let samples: Vec<_> = (0..4).map(|hour| sample(hour, 2.0, false)).collect();
        let corrected = correct(&samples, &[1.0; 4], 0, Duration::from_secs(2 * 3_600));
        assert!((corrected[1] - 1.0).abs() < 1e-6, "nothing has ended yet: {corrected:?}");
        assert!(corrected[2] > 1.5 && corrected[3] > corrected[2], "{corrected:?}");
    }

    #[test]
    fn groups_weigh_deviance_by_request_and_deciles_share_what_is_expected() {
        let samples: Vec<_> = (0..100).map(|hour| sample(hour, (hour % 4) as f32, hour % 2 == 1)).collect();
        let forecasts = vec![1.5; 100];
        let measured = Measured { samples: &samples, model: &forecasts, online: &forecasts, horizon: 0 };
        let group = measured.group(&[], false);
        assert!((group.requests - 200.0 * 150.0).abs() < 1e-3 && (group.cells - 20_000.0).abs() < 1e-3);
        assert!((group.expected_per_request[forecast::MODEL] - 1.0).abs() < 1e-6);
        let by_hand: f64 = (0..4_u8).map(|requests| deviance(f64::from(requests), 1.5)).sum::<f64>() / 6.0;
        assert!((group.deviance[forecast::MODEL] - by_hand).abs() < 1e-9);
        let newborn = measured.group(&[], true);
        assert!((newborn.requests - 200.0 * 100.0).abs() < 1e-3);
        let parts = deciles(&samples, &forecasts, 0);
        assert_eq!(parts.len(), 10);
        assert!(parts.iter().all(|part| (part.expected - 3_000.0).abs() < 301.0), "{parts:?}");
    }
}
