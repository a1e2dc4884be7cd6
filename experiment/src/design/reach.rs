//! What effect can be found in how many units.

use serde::{Deserialize, Serialize};

use crate::{Alpha, Result, error::ensure, sequence::NormalMixture};

/// The power of a switchback, from how much its units' scores varied on past traffic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reach {
    /// The variance of a unit's score, relative to the squared weight of a unit.
    variance: f64,
    alpha: Alpha,
    power: f64,
}

impl Reach {
    /// For units whose score varies by `score_variance` and whose weight is `weight` on average; `power` is the
    /// probability to find an effect that is there.
    ///
    /// # Errors
    /// When a number is not positive or the power no probability.
    pub fn new(score_variance: f64, weight: f64, alpha: Alpha, power: f64) -> Result<Self> {
        ensure(weight > 0.0, "weight", weight, "positive")?;
        let variance = score_variance / (weight * weight);
        ensure(variance > 0.0 && variance.is_finite(), "variance", variance, "positive and finite")?;
        ensure(power > 0.0 && power < 1.0, "power", power, "between 0 and 1, both excluded")?;
        Ok(Self { variance, alpha, power })
    }

    /// The smallest effect that is found with the asked power after `units` units, in the metric's unit: the interval's
    /// half-width there, plus what chance may take away.
    pub fn effect(&self, units: f64) -> f64 {
        let variance = units * self.variance;
        let Ok(mixture) = NormalMixture::tightest_at(variance, self.alpha) else { return f64::INFINITY };
        (mixture.bound(variance, self.alpha) + normal_quantile(self.power) * variance.sqrt()) / units
    }

    /// The fewest units in which an effect of `effect` is found; none when there is no effect to find.
    pub fn units(&self, effect: f64) -> Option<u64> {
        if effect.is_nan() || effect <= 0.0 {
            return None;
        }
        // The effect falls as one over the root of the units.
        let units = (self.effect(1.0) / effect).powi(2).ceil();
        (units < UNITS_MAX).then_some((units as u64).max(1))
    }
}

/// The value that a standard normal variable does not exceed with probability `share`.
fn normal_quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        let below = 0.5 * libm::erfc(-middle / std::f64::consts::SQRT_2);
        *(if below < share { &mut low } else { &mut high }) = middle;
    }
    low
}

/// Halves the range until it is as narrow as a number's last digits.
const BISECTIONS: u32 = 60;

/// More units than anybody waits for.
const UNITS_MAX: f64 = 1e9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_units_as_it_asks_for_find_the_effect() {
        let reach = Reach::new(4.0, 2.0, Alpha::EFFECT, 0.8).unwrap();
        assert!((normal_quantile(0.8) - 0.841_621_233_572_914).abs() < 1e-9);
        for effect in [0.5, 0.1, 0.01] {
            let units = reach.units(effect).unwrap();
            assert!(reach.effect(units as f64) <= effect * (1.0 + 1e-9), "{effect}: {units}");
            assert!(reach.effect(units as f64 - 1.0) > effect);
        }
        assert_eq!(reach.units(0.0), None);
        assert_eq!(reach.units(f64::NAN), None);
        assert!(Reach::new(0.0, 1.0, Alpha::EFFECT, 0.8).is_err());
    }
}
