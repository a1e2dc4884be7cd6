//! Trust: the controller that turns prediction down where it loses.

use serde::{Deserialize, Serialize};

/// Compares what issued orders were expected to be worth with what they turned out to be.
///
/// Two brakes, both learnt from outcomes and both easing off with time, so that a node that was turned down is tried
/// again: *faith* scales the probabilities by realised over expected uses, and *rate* is the share of worthwhile
/// candidates that is issued at all, halved while the realised value is negative.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    expected_uses: f64,
    realised_uses: f64,
    gain_seconds: f64,
    loss_seconds: f64,
    outcomes: f64,
    rate: f64,
}

impl Default for Trust {
    fn default() -> Self {
        Self { expected_uses: 0.0, realised_uses: 0.0, gain_seconds: 0.0, loss_seconds: 0.0, outcomes: 0.0, rate: 1.0 }
    }
}

impl Trust {
    /// An order ended: P(use) as claimed at issue, whether it was used, latency saved and cost caused in seconds.
    pub(super) fn learn(&mut self, claimed: f32, used: bool, gain_seconds: f64, loss_seconds: f64) {
        for sum in [&mut self.expected_uses, &mut self.realised_uses, &mut self.gain_seconds, &mut self.loss_seconds] {
            *sum *= KEPT;
        }
        self.expected_uses += f64::from(claimed);
        self.realised_uses += f64::from(u8::from(used));
        self.gain_seconds += gain_seconds;
        self.loss_seconds += loss_seconds;
        self.outcomes = self.outcomes.mul_add(KEPT, 1.0);
        if self.outcomes >= OUTCOMES_MIN {
            let loses = self.gain_seconds < self.loss_seconds;
            self.rate = if loses { (self.rate * DOWN).max(RATE_MIN) } else { (self.rate * UP).min(1.0) };
        }
    }

    /// One request passed at the node: what was held against prediction weighs a little less.
    pub(super) fn ease(&mut self) {
        if self.rate < 1.0 || self.outcomes > 0.0 {
            self.rate = (self.rate + EASE_RATE).min(1.0);
            for sum in [
                &mut self.expected_uses,
                &mut self.realised_uses,
                &mut self.gain_seconds,
                &mut self.loss_seconds,
                &mut self.outcomes,
            ] {
                *sum *= EASE_KEPT;
            }
        }
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
/// What remains with every request: a memory of about twenty thousand.
const EASE_KEPT: f64 = 0.99995;
const EASE_RATE: f64 = 0.000_02;
const OUTCOMES_MIN: f64 = 16.0;
const PRIOR_USES: f64 = 2.0;
const DOWN: f64 = 0.9;
const UP: f64 = 1.02;
/// One in a thousand is still tried, or nothing could ever be learnt again.
const RATE_MIN: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_down_what_loses_and_comes_back_when_it_wins() {
        let mut trust = Trust::default();
        for _ in 0..200 {
            trust.learn(0.5, false, 0.0, 0.1);
        }
        assert!(trust.faith() < 0.05 && trust.rate() < 0.01, "{trust:?}");
        for _ in 0..2_000 {
            trust.learn(0.5, true, 0.3, 0.1);
        }
        assert!(trust.faith() > 0.95 && trust.rate() > 0.9, "{trust:?}");
    }

    #[test]
    fn holds_nothing_against_prediction_for_ever() {
        let mut trust = Trust::default();
        for _ in 0..200 {
            trust.learn(0.5, false, 0.0, 0.1);
        }
        for _ in 0..100_000 {
            trust.ease();
        }
        assert!(trust.faith() > 0.5 && trust.rate() > 0.9, "{trust:?}");
    }
}
