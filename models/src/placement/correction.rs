//! Corrects forecasts by how the ones before them turned out.

use nearcast_datasets::Timestamp;

/// Keeps demand forecasts calibrated while traffic drifts away from what a head was trained on.
///
/// Per horizon, and apart for forecasts below and above one request, it holds what was expected and what came, both
/// halved every day; their quotient corrects the next forecasts. A prior of a hundred requests in
/// line with the forecasts keeps it near one until something is known. Constant time and space.
#[derive(Clone, Debug)]
pub struct DemandCorrection {
    at: Timestamp,
    horizons: Vec<[Account; BANDS]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    expected: f64,
    came: f64,
}

impl DemandCorrection {
    /// A correction for so many horizons, of nothing so far.
    pub fn new(horizon_count: usize) -> Self {
        Self { at: Timestamp::default(), horizons: vec![[Account::default(); BANDS]; horizon_count] }
    }

    /// A head's `forecast` for horizon number `horizon`, corrected. Horizons beyond those it was made for stay as they
    /// are.
    pub fn correct(&self, horizon: usize, forecast: f32) -> f32 {
        let Some(bands) = self.horizons.get(horizon) else { return forecast };
        let Account { expected, came } = bands[band(forecast)];
        forecast * ((came + PRIOR_REQUESTS) / (expected + PRIOR_REQUESTS)) as f32
    }

    /// Learns at `now` that a horizon that ended brought `came` requests where the head's forecast was `forecast`;
    /// `weight` tells how many forecasts this one stands for.
    pub fn learn(&mut self, now: Timestamp, horizon: usize, forecast: f32, came: f32, weight: f32) {
        if now > self.at {
            let decay = (-now.since(self.at).as_secs_f64() / HALF_LIFE_SECONDS).exp2();
            for account in self.horizons.iter_mut().flatten() {
                account.expected *= decay;
                account.came *= decay;
            }
            self.at = now;
        }
        if let Some(bands) = self.horizons.get_mut(horizon) {
            let account = &mut bands[band(forecast)];
            account.expected += f64::from(weight) * f64::from(forecast);
            account.came += f64::from(weight) * f64::from(came);
        }
    }
}

fn band(forecast: f32) -> usize {
    usize::from(forecast >= 1.0)
}

const BANDS: usize = 2;
const HALF_LIFE_SECONDS: f64 = 86_400.0;
/// Requests that the prior is worth.
const PRIOR_REQUESTS: f64 = 100.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hour(hour: u64) -> Timestamp {
        Timestamp::default().after(Duration::from_secs(3_600 * hour))
    }

    #[test]
    fn forecasts_follow_what_came_in_their_band_and_horizon_only() {
        let mut correction = DemandCorrection::new(2);
        assert_eq!(correction.correct(0, 3.0).to_bits(), 3.0_f32.to_bits(), "nothing is known yet");
        for step in 0..200 {
            correction.learn(hour(step), 0, 2.0, 3.0, 50.0);
        }
        assert!((correction.correct(0, 2.0) - 3.0).abs() < 0.05, "{}", correction.correct(0, 2.0));
        for (horizon, forecast) in [(0, 0.5_f32), (1, 2.0), (2, 2.0)] {
            assert_eq!(correction.correct(horizon, forecast).to_bits(), forecast.to_bits());
        }
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let mut correction = DemandCorrection::new(1);
        correction.learn(hour(0), 0, 2.0, 4.0, 1_000.0);
        assert!(correction.correct(0, 2.0) > 3.8);
        correction.learn(hour(24 * 20), 0, 2.0, 2.0, 1.0);
        assert!((correction.correct(0, 2.0) - 2.0).abs() < 0.01);
    }
}
