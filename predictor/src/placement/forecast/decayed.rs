//! The reactive forecast: as much as lately.

use std::time::Duration;

use nearcast_datasets::{KeyId, RegionId, Timestamp};

use super::{Counted, Forecast, SavedForecast, counted::DECAYS};

/// Expects each key in each region as often as a decayed average of its past, as follow-the-workload placement does
/// (CockroachDB, Akkio).
#[derive(Clone, Debug)]
pub struct DecayedAverage {
    counted: Counted,
    half_life: usize,
    horizon: Duration,
}

impl DecayedAverage {
    /// For so many regions; of the half-lives that are counted, the one closest to `half_life` is taken.
    pub fn new(regions: usize, half_life: Duration) -> Self {
        let distance = |place: &usize| (super::HALF_LIVES_SECONDS[*place].ln() - half_life.as_secs_f64().ln()).abs();
        let half_life = (0..DECAYS).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0);
        Self { counted: Counted::new(regions), half_life, horizon: Duration::ZERO }
    }
}

impl Forecast for DecayedAverage {
    fn forget_key(&mut self, key: KeyId) {
        self.counted.forget(key);
    }

    fn record(&mut self, now: Timestamp, key: KeyId, region: RegionId) {
        self.counted.record(now, key, region);
    }

    fn begin(&mut self, _now: Timestamp, horizon: Duration) {
        self.horizon = horizon;
    }

    fn save(&self) -> Option<SavedForecast> {
        Some(SavedForecast { counted: self.counted.save(), classes: Vec::new(), together: Vec::new() })
    }

    fn restore(&mut self, saved: SavedForecast) {
        self.counted.restore(saved.counted);
    }

    fn expect(&mut self, now: Timestamp, key: KeyId, requests: &mut [f32], _is_planned: bool) {
        requests.fill(0.0);
        let factor = self.counted.per_second(now)[self.half_life] * self.horizon.as_secs_f32();
        if let Some(view) = self.counted.view(now, key) {
            for (request, counts) in requests.iter_mut().zip(&view.regions) {
                *request = counts[self.half_life] * factor;
            }
        }
    }
}
