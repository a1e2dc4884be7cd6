//! Means, ratios, their variances, and what history explains of them.

use serde::{Deserialize, Serialize};

/// Count, means, variances and covariance of two numbers per unit: numerator and denominator of a ratio, or a metric and
/// the same unit's history. Merging gives what one pass over all units would have.
///
/// Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 4 (1962); merged
/// as in Chan, Golub and LeVeque, "Algorithms for computing the sample variance", The American Statistician 37 (1983).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    count: f64,
    mean: [f64; 2],
    squares: [f64; 2],
    products: f64,
}

impl Moments {
    /// Takes in one unit.
    pub fn add(&mut self, first: f64, second: f64) {
        self.count += 1.0;
        let before = [first - self.mean[0], second - self.mean[1]];
        self.mean[0] += before[0] / self.count;
        self.mean[1] += before[1] / self.count;
        let after = [first - self.mean[0], second - self.mean[1]];
        self.squares[0] += before[0] * after[0];
        self.squares[1] += before[1] * after[1];
        self.products += before[0] * after[1];
    }

    /// Takes in another's units.
    pub fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        if other.count <= 0.0 {
            return;
        }
        let gap = [other.mean[0] - self.mean[0], other.mean[1] - self.mean[1]];
        let share = self.count * other.count / count;
        self.products += other.products + gap[0] * gap[1] * share;
        for (index, gap) in gap.into_iter().enumerate() {
            self.squares[index] += other.squares[index] + gap * gap * share;
            self.mean[index] += gap * other.count / count;
        }
        self.count = count;
    }

    /// Units seen.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// The mean of the first number.
    pub fn mean(&self) -> Summary {
        let [mean, _] = self.mean;
        Summary { mean, baseline: mean, variance: self.variance(0), units: self.count }
    }

    /// The sum of the first number over the sum of the second, with its variance by the delta method: hits over
    /// requests, where a unit is a client's session or a block of time and not a request.
    pub fn ratio(&self) -> Summary {
        let [above, below] = self.mean;
        let ratio = above / below;
        let spread = self.variance(0) - 2.0 * ratio * self.covariance() + ratio * ratio * self.variance(1);
        Summary { mean: ratio, baseline: ratio, variance: spread / (below * below), units: self.count }
    }

    /// The mean of the first number less what the second, from before the experiment, explains of it, by the slope
    /// `theta` (CUPED).
    ///
    /// Deng, Xu, Kohavi and Walker, "Improving the sensitivity of online controlled experiments by utilizing
    /// pre-experiment data", WSDM 2013.
    pub fn adjusted(&self, theta: f64) -> Summary {
        let [mean, before] = self.mean;
        let spread = self.variance(0) + theta * theta * self.variance(1) - 2.0 * theta * self.covariance();
        Summary { mean: mean - theta * before, baseline: mean, variance: spread, units: self.count }
    }

    /// The slope of the first number on the second; 0 where the second does not vary. Of both arms merged, it is CUPED's
    /// theta.
    pub fn slope(&self) -> f64 {
        if self.squares[1] > 0.0 { self.products / self.squares[1] } else { 0.0 }
    }

    /// How closely both numbers go together, from −1 to 1; 0 where one of them does not vary.
    pub fn correlation(&self) -> f64 {
        let scale = (self.squares[0] * self.squares[1]).sqrt();
        if scale > 0.0 { self.products / scale } else { 0.0 }
    }

    fn variance(&self, index: usize) -> f64 {
        if self.count > 1.0 { self.squares[index] / (self.count - 1.0) } else { 0.0 }
    }

    fn covariance(&self) -> f64 {
        if self.count > 1.0 { self.products / (self.count - 1.0) } else { 0.0 }
    }
}

/// One arm's metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The mean or ratio, adjusted where it is.
    pub mean: f64,
    /// The same without adjustment: what a lift is relative to.
    pub baseline: f64,
    /// The variance of one unit.
    pub variance: f64,
    /// Units.
    pub units: f64,
}

impl Summary {
    /// `self` less `control`, in the metric's unit.
    pub fn less(&self, control: &Self) -> Estimate {
        let variance = self.variance / self.units + control.variance / control.units;
        Estimate { effect: self.mean - control.mean, variance, units: self.units + control.units }
    }

    /// `self` less `control` as a share of `control`, with its variance by the delta method.
    pub fn lift_over(&self, control: &Self) -> Estimate {
        let base = control.baseline;
        let variance = self.variance / (base.powi(2) * self.units)
            + control.variance * self.baseline.powi(2) / (base.powi(4) * control.units);
        Estimate { effect: (self.mean - control.mean) / base, variance, units: self.units + control.units }
    }
}

/// A difference between two arms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The difference, treated less control.
    pub effect: f64,
    /// The variance of the difference.
    pub variance: f64,
    /// Independent units of both arms.
    pub units: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_is_one_pass_over_all_units() {
        let pairs: Vec<(f64, f64)> = (0..40).map(|n| (f64::from(n * n % 17), f64::from(n * 7 % 11) + 1e6)).collect();
        let of = |pairs: &[(f64, f64)]| {
            let mut moments = Moments::default();
            pairs.iter().for_each(|(first, second)| moments.add(*first, *second));
            moments
        };
        let whole = of(&pairs);
        let mut merged = Moments::default();
        merged.merge(&of(&pairs[..13]));
        merged.merge(&Moments::default());
        merged.merge(&of(&pairs[13..]));
        assert!((whole.mean().variance - merged.mean().variance).abs() < 1e-9);
        assert!((whole.slope() - merged.slope()).abs() < 1e-9);
        assert!((whole.ratio().variance - merged.ratio().variance).abs() < 1e-9);
    }
}
