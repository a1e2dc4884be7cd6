//! How sure one may be: error probabilities and intervals.

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    error::{Error, ensure},
};

/// The probability of error that one is ready to bear, over all looks together.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Alpha(f64);

impl Alpha {
    /// One in twenty: what effects are judged by.
    pub const EFFECT: Self = Self(0.05);
    /// One in a thousand: what exposure is judged by. Nearly all experiments are sound, so that at one in twenty half of
    /// all alarms would be false.
    pub const EXPOSURE: Self = Self(0.001);

    /// A probability.
    ///
    /// # Errors
    /// When it is not between 0 and 1, both excluded.
    pub fn new(value: f64) -> Result<Self> {
        ensure(value > 0.0 && value < 1.0, "alpha", value, "between 0 and 1, both excluded")?;
        Ok(Self(value))
    }

    /// The probability.
    pub fn value(self) -> f64 {
        self.0
    }

    /// What each of `count` claims may take so that all of them together stay within this probability (Bonferroni).
    #[must_use]
    pub fn shared_by(self, count: usize) -> Self {
        Self(self.0 / count.max(1) as f64)
    }
}

impl TryFrom<f64> for Alpha {
    type Error = Error;

    fn try_from(value: f64) -> Result<Self> {
        Self::new(value)
    }
}

impl From<Alpha> for f64 {
    fn from(alpha: Alpha) -> Self {
        alpha.0
    }
}

/// An estimate with what it might as well be, in the metric's unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The best guess.
    pub estimate: f64,
    /// The lower end; minus infinity when nothing is known.
    pub low: f64,
    /// The upper end; infinity when nothing is known.
    pub high: f64,
}

impl Interval {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { estimate: 0.0, low: f64::NEG_INFINITY, high: f64::INFINITY };

    /// From half its width; one that is no number says that nothing is known.
    pub fn around(estimate: f64, half_width: f64) -> Self {
        if estimate.is_finite() && half_width.is_finite() {
            Self { estimate, low: estimate - half_width, high: estimate + half_width }
        } else {
            Self::UNKNOWN
        }
    }

    /// Whether `value` is within.
    pub fn covers(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Half the width.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// The interval of the negative.
    #[must_use]
    pub fn negated(&self) -> Self {
        Self { estimate: -self.estimate, low: -self.high, high: -self.low }
    }
}
