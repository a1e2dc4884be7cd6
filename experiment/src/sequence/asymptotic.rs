//! Differences between two arms of many independent units.

use serde::{Deserialize, Serialize};

use super::NormalMixture;
use crate::{Alpha, Estimate, Interval, Result, error::ensure};

/// An asymptotic confidence sequence: as a normal confidence interval, but at all looks together.
///
/// Valid when the units are independent and many. Requests that share a cache are neither: for cells and blocks of time
/// use [`DesignSequence`](super::DesignSequence).
///
/// Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence
/// sequences", Annals of Statistics 52 (2024), arXiv 2103.06476: the interval is its equation 9, the tuning its 161, the
/// p-value its 155.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asymptotic {
    /// Over the count of units, each of variance one.
    mixture: NormalMixture,
    alpha: Alpha,
}

impl Asymptotic {
    /// A sequence that is tightest when both arms together have `units_planned` units. It must be chosen before the
    /// first look.
    ///
    /// # Errors
    /// When no unit is planned.
    pub fn new(units_planned: f64, alpha: Alpha) -> Result<Self> {
        ensure(units_planned >= 1.0, "units_planned", units_planned, "at least 1")?;
        Ok(Self { mixture: NormalMixture::tightest_at(units_planned, alpha)?, alpha })
    }

    /// The effect with its interval; nothing is known of an estimate without a variance.
    pub fn interval(&self, estimate: &Estimate) -> Interval {
        if !Self::is_usable(estimate) {
            return Interval::UNKNOWN;
        }
        let deviation = (estimate.variance * estimate.units).sqrt();
        Interval::around(estimate.effect, deviation * self.mixture.bound(estimate.units, self.alpha) / estimate.units)
    }

    /// The probability of so clear a difference from `null` at this or a later look, were there none. The smallest of
    /// all looks counts.
    pub fn p_value(&self, estimate: &Estimate, null: f64) -> f64 {
        if !Self::is_usable(estimate) {
            return 1.0;
        }
        let deviation = (estimate.variance * estimate.units).sqrt();
        let sum = (estimate.effect - null) * estimate.units / deviation;
        (-self.mixture.log_evidence(sum, estimate.units)).exp().min(1.0)
    }

    fn is_usable(estimate: &Estimate) -> bool {
        estimate.units >= 2.0 && estimate.variance > 0.0 && estimate.variance.is_finite()
    }
}
