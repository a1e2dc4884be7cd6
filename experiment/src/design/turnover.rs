//! How long a cache remembers the arm it served before.

use std::time::Duration;

use crate::{Result, Sketch};

/// Measures a cache's turnover by the age of what it evicts: after so long, nearly nothing of what another arm fetched is
/// still there. A switchback with a burn-in shorter than this loses a part of the effect without a sign.
///
/// The warm-up criterion is that of "When is the cache warm?" (HotCloud 2020), by its operational proxy: the 90th
/// percentile of ages at eviction.
#[derive(Clone, Debug, Default)]
pub struct Turnover {
    ages: Sketch,
}

impl Turnover {
    /// Takes in an eviction: how long the object had been held.
    pub fn handle_evicted(&mut self, age: Duration) {
        self.ages.add(age.as_secs_f64());
    }

    /// Takes in another cell's or arm's evictions.
    ///
    /// # Errors
    /// As [`Sketch::merge`].
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.ages.merge(&other.ages)
    }

    /// The turnover; none with too few evictions to tell.
    pub fn measure(&self) -> Option<Duration> {
        if self.ages.count() < EVICTIONS_MIN {
            return None;
        }
        let seconds = self.ages.quantile(QUANTILE).ok()??;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

const QUANTILE: f64 = 0.9;
/// Below this the 90th percentile is a guess.
const EVICTIONS_MIN: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turnover_is_the_age_that_nine_in_ten_do_not_reach() {
        let mut turnover = Turnover::default();
        (1..100).for_each(|age| turnover.handle_evicted(Duration::from_secs(age)));
        assert_eq!(turnover.measure(), None);
        turnover.handle_evicted(Duration::from_secs(100));
        let seconds = turnover.measure().unwrap().as_secs_f64();
        assert!((seconds - 90.0).abs() < 2.0, "{seconds}");
    }
}
