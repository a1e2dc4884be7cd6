//! Quantiles of an arm over many nodes: sketches are merged, never averaged.

use sketches_ddsketch::{Config, DDSketch};

use crate::{Error, Result, error::ensure};

/// A mergeable sketch of a distribution; quantiles are within one per cent of the true value. The mean of several nodes'
/// 99th percentiles is not the 99th percentile of their users: merge their sketches and ask the result.
///
/// Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019.
#[derive(Clone)]
pub struct Sketch(DDSketch);

impl Default for Sketch {
    fn default() -> Self {
        Self(DDSketch::new(Config::new(RELATIVE_ERROR, BINS_MAX, VALUE_MIN)))
    }
}

impl std::fmt::Debug for Sketch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sketch").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Sketch {
    /// Takes in one value; negative, infinite and undefined ones are left out.
    pub fn add(&mut self, value: f64) {
        if value.is_finite() && value >= 0.0 {
            self.0.add(value);
        }
    }

    /// Takes in another's values.
    ///
    /// # Errors
    /// When the sketches do not fit together, which those made by this type do.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.0.merge(&other.0).map_err(|_| Error::Sketches)
    }

    /// The value that a share `quantile` of all values does not exceed; none when there are no values.
    ///
    /// # Errors
    /// When `quantile` is not between 0 and 1.
    pub fn quantile(&self, quantile: f64) -> Result<Option<f64>> {
        ensure((0.0..=1.0).contains(&quantile), "quantile", quantile, "between 0 and 1")?;
        Ok(self.0.quantile(quantile).expect("the quantile was checked above"))
    }

    /// Values seen.
    pub fn count(&self) -> u64 {
        self.0.count() as u64
    }
}

const RELATIVE_ERROR: f64 = 0.01;
/// Enough for values from a microsecond to a day at the relative error; beyond it the smallest are joined.
const BINS_MAX: u32 = 2_048;
const VALUE_MIN: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_quantiles_are_those_of_all_values_and_not_the_mean_of_quantiles() {
        let (mut fast, mut slow) = (Sketch::default(), Sketch::default());
        (0..9_900).for_each(|n| fast.add(1.0 + f64::from(n % 10) / 10.0));
        (0..100).for_each(|_| slow.add(500.0));
        let mean =
            |a: &Sketch, b: &Sketch| (a.quantile(0.98).unwrap().unwrap() + b.quantile(0.98).unwrap().unwrap()) / 2.0;
        assert!(mean(&fast, &slow) > 200.0);
        fast.merge(&slow).unwrap();
        assert_eq!(fast.count(), 10_000);
        let (usual, worst) = (fast.quantile(0.98).unwrap().unwrap(), fast.quantile(0.995).unwrap().unwrap());
        assert!((usual / 1.9 - 1.0).abs() < 0.02 && (worst / 500.0 - 1.0).abs() < 0.02, "{usual} {worst}");
    }

    #[test]
    fn what_is_no_latency_is_left_out() {
        let mut sketch = Sketch::default();
        [f64::NAN, f64::INFINITY, -1.0, 2.0].into_iter().for_each(|value| sketch.add(value));
        assert_eq!(sketch.count(), 1);
        assert!(sketch.quantile(1.5).is_err());
        assert_eq!(Sketch::default().quantile(0.5), Ok(None));
    }
}
