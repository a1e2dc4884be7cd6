//! The baselines that the placement head must beat, each at its best.

use nearcast_models::{DECAYS, HALF_LIVES_SECONDS};
use serde::{Deserialize, Serialize};

use super::{DemandGrid, DemandSample};

/// A forecast that needs no model: what was counted, times a factor, plus a constant.
///
/// Factor and constant are those of the highest Poisson likelihood on the training range, which is kinder to the
/// baseline than a mere floor for zero; a decayed average also takes its half-life from there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineFit {
    /// Its name in a report.
    pub name: String,
    /// What it forecasts, in seconds.
    pub horizon_seconds: u64,
    /// Half-life of its counts, where it has one.
    pub half_life_seconds: Option<f64>,
    /// What the count is multiplied with.
    pub factor: f64,
    /// What is added, in requests.
    pub constant: f64,
}

/// Names of the baselines in a report.
pub(crate) const LAST_WINDOW: &str = "last_window";
pub(crate) const DECAYED_AVERAGE: &str = "decayed_average";
pub(crate) const DAY_AGO: &str = "day_ago";

impl BaselineFit {
    /// Expected requests of a sample within horizon number `horizon`.
    pub(crate) fn forecast(&self, sample: &DemandSample, horizon: usize) -> f64 {
        let counted = match (self.name.as_str(), self.half_life_seconds) {
            (LAST_WINDOW, _) => f64::from(sample.last_window[horizon]),
            (DAY_AGO, _) => f64::from(sample.day_ago[horizon]),
            (_, half_life) => decayed(sample, half_life.unwrap_or_default(), self.horizon_seconds as f64),
        };
        (self.factor * counted + self.constant).max(FORECAST_MIN)
    }
}

/// The three baselines for every horizon, fitted on `samples`.
pub(crate) fn fit_baselines(samples: &[DemandSample], grid: &DemandGrid) -> Vec<BaselineFit> {
    let mut fits = Vec::new();
    for (index, horizon) in grid.horizons.iter().enumerate() {
        let start = |name: &str, half_life_seconds| BaselineFit {
            name: name.to_owned(),
            horizon_seconds: horizon.horizon.as_secs(),
            half_life_seconds,
            factor: 1.0,
            constant: 0.0,
        };
        fits.push(fit(start(LAST_WINDOW, None), samples, index).0);
        fits.push(fit(start(DAY_AGO, None), samples, index).0);
        let decays = HALF_LIVES_SECONDS.map(|seconds| fit(start(DECAYED_AVERAGE, Some(seconds)), samples, index));
        fits.extend(decays.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(fit, _)| fit));
    }
    fits
}

/// Poisson deviance of one forecast.
pub(crate) fn deviance(requests: f64, forecast: f64) -> f64 {
    let surprise = if requests > 0.0 { requests * (requests / forecast).ln() } else { 0.0 };
    2.0 * (surprise - (requests - forecast))
}

/// Fits factor and constant by expectation maximisation, and returns them with the deviance that they leave.
///
/// A request is due to the count or to the constant, in the proportion in which they forecast it; both are then scaled
/// to what they are held to have brought. Each round raises the likelihood (Dempster, Laird and Rubin, 1977).
fn fit(start: BaselineFit, samples: &[DemandSample], horizon: usize) -> (BaselineFit, f64) {
    let plain = BaselineFit { factor: 1.0, constant: 0.0, ..start };
    let rows: Vec<[f64; 3]> = samples
        .iter()
        .map(|sample| {
            let counted = plain.forecast(sample, horizon);
            [counted, f64::from(sample.requests[horizon]), f64::from(sample.weight)]
        })
        .collect();
    let weighted = |of: fn(&[f64; 3]) -> f64| rows.iter().map(|row| row[2] * of(row)).sum::<f64>();
    let (counted_sum, weight_sum) = (weighted(|row| row[0]).max(FORECAST_MIN), weighted(|_| 1.0).max(FORECAST_MIN));
    let (mut factor, mut constant) = (0.9, 0.05 * weighted(|row| row[1]) / weight_sum);
    for _ in 0..ROUNDS {
        let (mut due_to_count, mut due_to_constant) = (0.0, 0.0);
        for [counted, requests, weight] in rows.iter().filter(|row| row[1] > 0.0) {
            let share = weight * requests / (factor * counted + constant).max(FORECAST_MIN);
            due_to_count += share * counted;
            due_to_constant += share;
        }
        factor *= due_to_count / counted_sum;
        constant *= due_to_constant / weight_sum;
    }
    let fit = BaselineFit { factor, constant, ..plain };
    let left = rows.iter().map(|[counted, requests, weight]| {
        weight * deviance(*requests, (factor * counted + constant).max(FORECAST_MIN))
    });
    let left = left.sum();
    (fit, left)
}

/// Requests per horizon at the pace of a decayed count, which holds `half-life / ln 2` seconds' worth.
fn decayed(sample: &DemandSample, half_life_seconds: f64, horizon_seconds: f64) -> f64 {
    let same = |place: &usize| (HALF_LIVES_SECONDS[*place] - half_life_seconds).abs() < 0.5;
    let count = (0..DECAYS).find(same).map_or(0.0, |place| sample.counts.key_region[place]);
    f64::from(count) * horizon_seconds * std::f64::consts::LN_2 / half_life_seconds.max(1.0)
}

/// No forecast is exactly zero: the deviance of a request that was called impossible is infinite.
const FORECAST_MIN: f64 = 1e-9;
const ROUNDS: usize = 60;
