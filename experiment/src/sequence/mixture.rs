//! The normal mixture: one boundary that a centred sum crosses, ever, with probability α at most.

use serde::{Deserialize, Serialize};

use crate::{Alpha, Result, error::ensure};

/// A two-sided normal mixture boundary over intrinsic time, the sum's variance.
///
/// Robbins, "Statistical methods related to the law of the iterated logarithm", Annals of Mathematical Statistics 41
/// (1970); Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences",
/// Annals of Statistics 49 (2021), proposition 5.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormalMixture {
    rho: f64,
}

impl NormalMixture {
    /// A boundary that is tightest when the sum's variance is `variance`; elsewhere it is valid too, only wider. It must
    /// be chosen before the first look.
    ///
    /// # Errors
    /// When the variance is not positive and finite.
    pub fn tightest_at(variance: f64, alpha: Alpha) -> Result<Self> {
        let odds = -2.0 * alpha.value().ln();
        Self::with_rho(variance / (odds + odds.ln_1p()))
    }

    /// A boundary by the precision of its mixing distribution, in units of variance.
    ///
    /// # Errors
    /// When `rho` is not positive and finite.
    pub fn with_rho(rho: f64) -> Result<Self> {
        ensure(rho > 0.0 && rho.is_finite(), "variance", rho, "positive and finite")?;
        Ok(Self { rho })
    }

    /// What the sum's absolute value exceeds at any time with probability α at most, when its variance is `variance`.
    pub fn bound(&self, variance: f64, alpha: Alpha) -> f64 {
        let grown = (variance / self.rho).ln_1p() - 2.0 * alpha.value().ln();
        ((variance + self.rho) * grown).sqrt()
    }

    /// The natural logarithm of the evidence against a centred sum; exceeds `ln(1/α)`, ever, with probability α at most.
    pub fn log_evidence(&self, sum: f64, variance: f64) -> f64 {
        let total = variance + self.rho;
        0.5 * (self.rho / total).ln() + sum * sum / (2.0 * total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_where_the_evidence_reaches_one_in_alpha() {
        let mixture = NormalMixture::tightest_at(100.0, Alpha::EFFECT).unwrap();
        for variance in [0.0, 1.0, 100.0, 1e6] {
            let bound = mixture.bound(variance, Alpha::EFFECT);
            assert!((mixture.log_evidence(bound, variance) + Alpha::EFFECT.value().ln()).abs() < 1e-9);
        }
    }

    #[test]
    fn no_other_choice_is_much_tighter_where_it_was_asked_to_be_tightest() {
        let width = |at: f64| NormalMixture::tightest_at(at, Alpha::EFFECT).unwrap().bound(100.0, Alpha::EFFECT);
        assert!(width(100.0) < width(10.0) && width(100.0) < width(1000.0));
        assert!(NormalMixture::tightest_at(0.0, Alpha::EFFECT).is_err());
        assert!(NormalMixture::tightest_at(f64::NAN, Alpha::EFFECT).is_err());
    }
}
