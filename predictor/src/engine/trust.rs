//! Trust: the controller that turns prediction down where it loses.

use serde::{Deserialize, Serialize};

/// Compares what prefetching was expected to do for a node with what it did.
///
/// Two brakes, both easing off with time, so that a node that was turned down is tried again. *Faith* scales the
/// probabilities by realised over expected uses. *Rate* is the share of worthwhile candidates that is issued at all: it
/// falls while prefetching loses, which is measured against a ghost of the node (see `ghost`): latency saved, less
/// latency caused by what was displaced, less the price of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    expected_uses: f64,
    realised_uses: f64,
    /// Decayed sum of what prefetching earned, in seconds, and of its squares.
    earned_seconds: f64,
    earned_squares: f64,
    rate: f64,
}

impl Default for Trust {
    fn default() -> Self {
        Self { expected_uses: 0.0, realised_uses: 0.0, earned_seconds: 0.0, earned_squares: 0.0, rate: 1.0 }
    }
}

impl Trust {
    /// An order ended: P(use) as claimed at issue, and whether it was used.
    pub(super) fn learn(&mut self, claimed: f32, used: bool) {
        self.expected_uses = self.expected_uses.mul_add(KEPT, f64::from(claimed));
        self.realised_uses = self.realised_uses.mul_add(KEPT, f64::from(u8::from(used)));
    }

    /// Prefetching earned this much latency; negative for what it cost.
    pub(super) fn record(&mut self, earned_seconds: f64) {
        self.earned_seconds += earned_seconds;
        self.earned_squares = earned_seconds.mul_add(earned_seconds, self.earned_squares);
    }

    /// One request passed at the node: what was held for or against prediction weighs a little less.
    pub(super) fn ease(&mut self) {
        for sum in [&mut self.expected_uses, &mut self.realised_uses, &mut self.earned_squares] {
            *sum *= EASE_KEPT;
        }
        self.earned_seconds *= EASE_KEPT;
        let loses = self.earned_seconds < -SIGNIFICANT * self.earned_squares.sqrt();
        self.rate = if loses { (self.rate * DOWN).max(RATE_MIN) } else { (self.rate * UP).min(1.0) };
    }

    /// What to multiply a claimed probability by: one while claims come true.
    pub fn faith(&self) -> f64 {
        ((self.realised_uses + PRIOR_USES) / (self.expected_uses + PRIOR_USES)).min(1.0)
    }

    /// The share of worthwhile candidates to issue; 0..=1.
    pub fn rate(&self) -> f64 {
        self.rate
    }
}

/// What remains of earlier outcomes with every new one: a memory of about three hundred.
const KEPT: f64 = 0.997;
/// What remains with every request: a memory of about ten thousand.
const EASE_KEPT: f64 = 0.9999;
const PRIOR_USES: f64 = 2.0;
/// How many standard errors below zero count as losing. With one, chance turns down what wins a little at a time.
const SIGNIFICANT: f64 = 2.0;
const DOWN: f64 = 0.999;
const UP: f64 = 1.000_5;
/// One in a thousand is still tried, or nothing could ever be learnt again.
const RATE_MIN: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loses_faith_in_claims_that_do_not_come_true() {
        let mut trust = Trust::default();
        (0..200).for_each(|_| trust.learn(0.5, false));
        assert!(trust.faith() < 0.05, "{trust:?}");
        (0..2_000).for_each(|_| trust.learn(0.5, true));
        assert!(trust.faith() > 0.95, "{trust:?}");
    }

    #[test]
    fn turns_down_what_loses_and_comes_back_when_it_wins() {
        let mut trust = Trust::default();
        let requests = |trust: &mut Trust, count, earned| {
            for _ in 0..count {
                trust.record(earned);
                trust.ease();
            }
        };
        requests(&mut trust, 10_000, -0.01);
        assert!(trust.rate() < 0.01, "{trust:?}");
        requests(&mut trust, 30_000, 0.01);
        assert!(trust.rate() > 0.9, "{trust:?}");
    }

    #[test]
    fn holds_nothing_against_prediction_for_ever() {
        let mut trust = Trust::default();
        for _ in 0..200 {
            trust.learn(0.5, false);
            trust.record(-0.1);
            trust.ease();
        }
        for _ in 0..300_000 {
            trust.ease();
        }
        assert!(trust.faith() > 0.5 && trust.rate() > 0.9, "{trust:?}");
    }
}
