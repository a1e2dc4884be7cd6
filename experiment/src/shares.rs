//! Whether events fall to the arms in the shares that they should, checked at every look.

use libm::lgamma;
use serde::{Deserialize, Serialize};

use crate::{
    Alpha, Result,
    error::{Error, ensure},
};

/// A sequential test of multinomial shares: of exposure (sample ratio mismatch), and of rare events such as errors, which
/// fall to an arm as its requests do when the arm does no harm.
///
/// The evidence against the expected shares is a Bayes factor with a Dirichlet prior around them. It exceeds `1/α`, ever,
/// with probability α at most; a χ² test repeated daily at one in a thousand raises fourteen times its false alarms.
///
/// Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022, arXiv 2011.03567.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareCheck {
    shares: Vec<f64>,
    /// The prior's parameters plus what was counted.
    counts: Vec<f64>,
    log_evidence: f64,
    log_evidence_max: f64,
}

impl ShareCheck {
    /// A check of `shares`, given in any unit; `concentration` is how many events the prior is worth: the larger, the
    /// better at small deviations and the slower at large ones.
    ///
    /// # Errors
    /// With fewer than two shares, or when a share or the concentration is not positive and finite.
    pub fn new(shares: &[f64], concentration: f64) -> Result<Self> {
        ensure(shares.len() >= 2, "shares", shares.len() as f64, "at least two")?;
        for share in shares {
            ensure(*share > 0.0 && share.is_finite(), "share", *share, "positive and finite")?;
        }
        let range = "positive and finite";
        ensure(concentration > 0.0 && concentration.is_finite(), "concentration", concentration, range)?;
        let sum: f64 = shares.iter().sum();
        let shares: Vec<f64> = shares.iter().map(|share| share / sum).collect();
        let counts = shares.iter().map(|share| share * concentration).collect();
        Ok(Self { shares, counts, log_evidence: 0.0, log_evidence_max: 0.0 })
    }

    /// Takes in what was counted since the last look, arm by arm.
    ///
    /// # Errors
    /// When there are not as many counts as shares.
    pub fn handle_counts(&mut self, counts: &[u64]) -> Result<()> {
        if counts.len() != self.shares.len() {
            return Err(Error::Arms { found: counts.len(), expected: self.shares.len() });
        }
        let before: f64 = self.counts.iter().sum();
        let mut log_factor = lgamma(before);
        for ((prior, share), count) in self.counts.iter_mut().zip(&self.shares).zip(counts) {
            let count = *count as f64;
            log_factor += lgamma(*prior + count) - lgamma(*prior) - count * share.ln();
            *prior += count;
        }
        log_factor -= lgamma(self.counts.iter().sum());
        self.log_evidence += log_factor;
        self.log_evidence_max = self.log_evidence_max.max(self.log_evidence);
        Ok(())
    }

    /// The natural logarithm of the evidence against the shares at the last look.
    pub fn log_evidence(&self) -> f64 {
        self.log_evidence
    }

    /// The probability of so clear a deviation at this or any earlier look, were the shares right.
    pub fn p_value(&self) -> f64 {
        (-self.log_evidence_max).exp()
    }

    /// Whether the shares are refuted.
    pub fn is_refuted(&self, alpha: Alpha) -> bool {
        self.p_value() <= alpha.value()
    }
}

/// The concentration that GrowthBook's sequential exposure check takes.
pub const CONCENTRATION: f64 = 10_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often_one_looks_does_not_change_the_evidence() {
        let mut often = ShareCheck::new(&[1.0, 1.0, 2.0], 100.0).unwrap();
        let mut once = often.clone();
        [[10, 20, 30], [0, 0, 7], [40, 3, 60]].iter().for_each(|counts| often.handle_counts(counts).unwrap());
        once.handle_counts(&[50, 23, 97]).unwrap();
        assert!((often.log_evidence() - once.log_evidence()).abs() < 1e-9);
        assert!(often.p_value() <= once.p_value());
    }

    #[test]
    fn an_arm_that_loses_events_is_found_and_stays_found() {
        let mut check = ShareCheck::new(&[0.5, 0.5], CONCENTRATION).unwrap();
        (0..30).for_each(|_| check.handle_counts(&[5_000, 5_000]).unwrap());
        assert!(!check.is_refuted(Alpha::EXPOSURE));
        (0..10).for_each(|_| check.handle_counts(&[5_000, 4_000]).unwrap());
        assert!(check.is_refuted(Alpha::EXPOSURE));
        (0..10).for_each(|_| check.handle_counts(&[4_000, 5_000]).unwrap());
        assert!(check.is_refuted(Alpha::EXPOSURE), "looks good again, but was not");
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(ShareCheck::new(&[1.0], 10.0).is_err());
        assert!(ShareCheck::new(&[1.0, 0.0], 10.0).is_err());
        assert!(ShareCheck::new(&[1.0, 1.0], f64::NAN).is_err());
        let mut check = ShareCheck::new(&[1.0, 1.0], 10.0).unwrap();
        assert_eq!(check.handle_counts(&[1, 2, 3]), Err(Error::Arms { found: 3, expected: 2 }));
    }
}
