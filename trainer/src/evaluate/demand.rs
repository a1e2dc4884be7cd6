//! Demand forecasts: the placement head against the last bucket and a decayed average.

use std::collections::BTreeMap;

use nearcast_models::Model;
use serde::{Deserialize, Serialize};

use crate::{
    demand::DemandSample,
    fit::{DemandSet, ItemMap, query},
};

/// How well demand per key, region and horizon was forecast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemandReport {
    /// Length of the forecast, in seconds.
    pub horizon_seconds: f64,
    /// Forecasts made.
    pub forecasts: u64,
    /// How many there were to draw from.
    pub drawn_from: u64,
    /// Requests per forecast that really came, on average.
    pub mean_requests: f64,
    /// Mean Poisson deviance by method (lower is better), see [`forecast`].
    pub deviance: BTreeMap<String, f64>,
}

/// The methods' names in a [`DemandReport`].
pub mod forecast {
    /// The placement head.
    pub const MODEL: &str = "model";
    /// As much as in the bucket before.
    pub const LAST_BUCKET: &str = "last_bucket";
    /// A decayed average of the day before.
    pub const DECAYED_AVERAGE: &str = "decayed_average";
}

/// Forecasts every sample of `set`. Where a baseline says zero it forecasts `floor` instead, because the deviance of a
/// request that was called impossible is infinite.
pub(crate) fn measure_demand(model: &Model, items: &ItemMap, set: &DemandSet, floor: f64) -> DemandReport {
    let mut sums = [Deviance::default(); 3];
    let (mut weight_sum, mut requests_sum) = (0.0, 0.0);
    for sample in &set.samples {
        let expected = model.placement.expected_requests(&model.sequence, &query(sample, items));
        let forecasts = [expected, sample.counts.key_region_last, sample.decayed_average];
        for (sum, forecast) in sums.iter_mut().zip(forecasts) {
            sum.add(sample, f64::from(forecast).max(floor));
        }
        weight_sum += f64::from(sample.weight);
        requests_sum += f64::from(sample.weight * sample.requests);
    }
    let mean = |sum: f64| if weight_sum > 0.0 { sum / weight_sum } else { 0.0 };
    let names = [forecast::MODEL, forecast::LAST_BUCKET, forecast::DECAYED_AVERAGE];
    DemandReport {
        horizon_seconds: model.placement.config().horizon_seconds,
        forecasts: set.samples.len() as u64,
        drawn_from: set.seen,
        mean_requests: mean(requests_sum),
        deviance: names.into_iter().zip(sums).map(|(name, sum)| (name.to_owned(), mean(sum.0))).collect(),
    }
}

/// A weighted sum of Poisson deviances.
#[derive(Clone, Copy, Debug, Default)]
struct Deviance(f64);

impl Deviance {
    fn add(&mut self, sample: &DemandSample, forecast: f64) {
        let requests = f64::from(sample.requests);
        let surprise = if requests > 0.0 { requests * (requests / forecast).ln() } else { 0.0 };
        self.0 += f64::from(sample.weight) * 2.0 * (surprise - (requests - forecast));
    }
}

#[cfg(test)]
mod tests {
    use nearcast_datasets::{KeyId, RegionId, Timestamp};
    use nearcast_models::RecentCounts;

    use super::*;

    #[test]
    fn deviance_is_zero_for_a_perfect_forecast_and_matches_the_formula_otherwise() {
        let sample = DemandSample {
            key: KeyId(0),
            region: RegionId(0),
            at: Timestamp::default(),
            counts: RecentCounts::default(),
            decayed_average: 0.0,
            requests: 3.0,
            weight: 2.0,
        };
        let mut perfect = Deviance::default();
        perfect.add(&sample, 3.0);
        assert!(perfect.0.abs() < 1e-12);
        // scipy: 2 * 2 * (3 * log(3 / 1.5) - (3 - 1.5)) = 2.317766166719343
        let mut half = Deviance::default();
        half.add(&sample, 1.5);
        assert!((half.0 - 2.317_766_166_719_343).abs() < 1e-9);
    }
}
