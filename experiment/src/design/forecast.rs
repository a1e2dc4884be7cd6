//! What a cell's past lets expect of its next block.

use serde::{Deserialize, Serialize};

use super::Measured;

/// A seasonal mean with a level that follows the last blocks (exponential smoothing; Gardner, "Exponential smoothing:
/// the state of the art", Journal of Forecasting 4, 1985). How fast the level follows is the choice that was best on the
/// history.
///
/// A prediction costs nothing when it is wrong, as the coin is independent of it: the estimate stays unbiased, only the
/// interval becomes wider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// The mean of each block of a season, the next block's first.
    season: Vec<f64>,
    next: usize,
    level: f64,
    rate: f64,
}

impl Forecast {
    /// From a cell's past. `season_blocks` is how many blocks make a day or a week; with less than two seasons of past
    /// there is no season.
    pub fn of(history: &[Measured], season_blocks: usize) -> Self {
        Self::with_errors(history, season_blocks).0
    }

    /// Also, what it would have missed each block of the history by.
    pub(super) fn with_errors(history: &[Measured], season_blocks: usize) -> (Self, Vec<f64>) {
        let period = if season_blocks >= 1 && history.len() >= 2 * season_blocks { season_blocks } else { 1 };
        let mut season = vec![0.0; period];
        for (place, mean) in season.iter_mut().enumerate() {
            let (mut sum, mut count) = (0.0, 0.0_f64);
            for block in history.iter().skip(place).step_by(period).filter(|block| block.is_measured()) {
                (sum, count) = (sum + block.mean, count + 1.0);
            }
            *mean = sum / count.max(1.0);
        }
        let mut best: Option<(f64, Self, Vec<f64>)> = None;
        for rate in RATES {
            let mut forecast = Self { season: season.clone(), next: 0, level: 0.0, rate };
            let mut errors = Vec::with_capacity(history.len());
            for block in history {
                if block.is_measured() {
                    errors.push(block.mean - forecast.predict());
                    forecast.handle(block.mean);
                } else {
                    errors.push(0.0);
                    forecast.skip();
                }
            }
            let squares: f64 = errors.iter().map(|error| error * error).sum();
            if best.as_ref().is_none_or(|(least, ..)| squares < *least) {
                best = Some((squares, forecast, errors));
            }
        }
        let (_, forecast, errors) = best.expect("there are rates to choose from");
        (forecast, errors)
    }

    /// The next block's mean.
    pub fn predict(&self) -> f64 {
        self.season[self.next] + self.level
    }

    /// Takes in the next block's mean, without the effect of a treatment.
    pub fn handle(&mut self, mean: f64) {
        self.level += self.rate * (mean - self.predict());
        self.skip();
    }

    /// Passes over a block without a measurement.
    pub fn skip(&mut self) {
        self.next = (self.next + 1) % self.season.len();
    }
}

const RATES: [f64; 6] = [0.0, 0.05, 0.1, 0.2, 0.4, 0.7];

#[cfg(test)]
mod tests {
    use super::*;

    fn history(means: impl Iterator<Item = f64>) -> Vec<Measured> {
        means.map(|mean| Measured { requests: 1.0, mean }).collect()
    }

    #[test]
    fn a_season_is_learned_and_a_drift_followed() {
        let daily = |n: u32| [0.2, 0.5, 0.9, 0.5][n as usize % 4];
        let seasonal = Forecast::of(&history((0..16).map(daily)), 4);
        assert!((seasonal.predict() - 0.2).abs() < 1e-12);
        let mut drifting = Forecast::of(&history((0..40).map(|n| f64::from(n) * 0.01)), 4);
        assert!((drifting.predict() - 0.4).abs() < 0.05, "{}", drifting.predict());
        drifting.skip();
        assert!((drifting.predict() - 0.4).abs() < 0.05);
    }

    #[test]
    fn blocks_without_requests_say_nothing() {
        let daily = |n: u32| [0.2, 0.5, 0.9, 0.5][n as usize % 4];
        let mut past = history((0..16).map(daily));
        for block in &mut past[5..7] {
            *block = Measured::default();
        }
        let (forecast, errors) = Forecast::with_errors(&past, 4);
        assert!((forecast.predict() - 0.2).abs() < 1e-12);
        assert!(errors.iter().all(|error| error.abs() < 1e-12), "{errors:?}");
    }

    #[test]
    fn too_short_a_past_has_no_season_and_none_at_all_predicts_nothing() {
        assert!((Forecast::of(&history([0.2, 0.4].into_iter()), 4).predict() - 0.3).abs() < 0.11);
        assert!(Forecast::of(&[], 4).predict().abs() < 1e-12);
    }
}
