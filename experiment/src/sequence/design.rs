//! The effect of a switchback, with no randomness but the assignment's.

use serde::{Deserialize, Serialize};

use super::NormalMixture;
use crate::{Alpha, Interval, Result, error::ensure};

/// What one randomised unit says: its unbiased estimate of its own effect, and what was predicted before it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// Requests of the unit, or what else it counts for; must not depend on the arm.
    pub weight: f64,
    /// Estimated effect times weight. Its mean over the unit's possible assignments must be the true effect times
    /// weight.
    pub score: f64,
    /// Weight of what was treated less weight of what was not: its mean over the possible assignments is 0.
    pub imbalance: f64,
}

impl Unit {
    /// Two matched cells in the same block of time, of which a fair coin chose the one that was treated.
    ///
    /// `treated` and `control` are what was measured less what was predicted from history. Each cell counts for its
    /// requests; dividing by the coin's one half makes the estimate unbiased for both cells (Horvitz and Thompson, 1952),
    /// and where they have about as many requests, what moves both cancels.
    pub fn of_pair(treated: Residual, control: Residual) -> Self {
        let weight = treated.requests + control.requests;
        let score = 2.0 * (treated.requests * treated.residual - control.requests * control.residual);
        Self { weight, score, imbalance: treated.requests - control.requests }
    }

    /// One cell in one block of time that was treated with probability `share`: the augmented inverse-propensity
    /// estimate from the predictions of both arms' outcomes.
    ///
    /// # Errors
    /// When the probability is not between 0 and 1, both excluded.
    pub fn of_cell(requests: f64, outcome: f64, is_treated: bool, share: f64, predicted: [f64; 2]) -> Result<Self> {
        ensure(share > 0.0 && share < 1.0, "share", share, "between 0 and 1, both excluded")?;
        let [control, treated] = predicted;
        let surprise = if is_treated { (outcome - treated) / share } else { -(outcome - control) / (1.0 - share) };
        Ok(Self { weight: requests, score: requests * (treated - control + surprise), imbalance: 0.0 })
    }
}

/// What a cell measured in a block less what its history let expect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residual {
    /// Requests that the measurement is a mean over.
    pub requests: f64,
    /// The mean less its prediction, which must not use the block itself or anything later.
    pub residual: f64,
}

/// A design-based confidence sequence for the weighted mean effect of the units seen so far.
///
/// The variance is bounded by the squared distance of every score from what the earlier units let expect of it: whatever
/// is known beforehand costs no width, neither a cell's habits (the caller's prediction) nor the effect found so far.
///
/// Ham, Bojinov, Lindon and Tingley, "Design-based confidence sequences", arXiv 2210.08639, with the predicted effect
/// subtracted from the bound on the variance. It is asymptotic in the units, as their theorem on predictions is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesignSequence {
    mixture: NormalMixture,
    alpha: Alpha,
    /// The effect that is expected of the first unit.
    expected: f64,
    count: u64,
    weights: f64,
    scores: f64,
    variance: f64,
}

impl DesignSequence {
    /// A sequence that is tightest when the scores' variance sums to `variance_planned`: units planned times the
    /// variance of a score on past traffic. It must be chosen before the first unit.
    ///
    /// # Errors
    /// When the variance is not positive and finite.
    pub fn new(variance_planned: f64, alpha: Alpha) -> Result<Self> {
        let mixture = NormalMixture::tightest_at(variance_planned, alpha)?;
        Ok(Self { mixture, alpha, expected: 0.0, count: 0, weights: 0.0, scores: 0.0, variance: 0.0 })
    }

    /// Takes in units that ended together: none of them may have informed another's prediction.
    pub fn handle_block(&mut self, units: &[Unit]) {
        let expected = self.expected;
        for unit in units.iter().filter(|unit| unit.weight > 0.0 && unit.score.is_finite()) {
            // Half the effect is expected of the treated cell, and half less of the other: unequal cells then say no less.
            let score = unit.score - expected * unit.imbalance;
            self.count += 1;
            self.weights += unit.weight;
            self.scores += score;
            self.variance += (score - expected * unit.weight).powi(2);
        }
        // One unit more, of no effect: the first found must not be believed at once.
        if self.weights > 0.0 {
            let shrunk = self.count as f64 / (self.count as f64 + EXPECTED_PRIOR_UNITS);
            self.expected = shrunk * self.scores / self.weights;
        }
    }

    /// The weighted mean effect of the units seen so far; valid at every block's end.
    pub fn interval(&self) -> Interval {
        if self.weights <= 0.0 {
            return Interval::UNKNOWN;
        }
        Interval::around(self.scores / self.weights, self.mixture.bound(self.variance, self.alpha) / self.weights)
    }

    /// The effect that is expected of the next units.
    pub fn expected(&self) -> f64 {
        self.expected
    }

    /// Units seen.
    pub fn units(&self) -> u64 {
        self.count
    }

    /// The scores' summed variance bound: what `variance_planned` should have been.
    pub fn variance(&self) -> f64 {
        self.variance
    }
}

/// Units of no effect that the effect found so far is averaged with.
const EXPECTED_PRIOR_UNITS: f64 = 1.0;
