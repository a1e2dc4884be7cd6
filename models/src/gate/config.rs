//! How the gate learns, and what it believes before it has.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Learning of a [`Gate`](crate::Gate).
///
/// | field | default | meaning | range |
/// | --- | --- | --- | --- |
/// | `alpha` | 0.15 | step size | > 0 |
/// | `beta` | 1.0 | how long early steps stay small | ≥ 0 |
/// | `l1` | 0.0 | pull of weights to exactly zero | 0..=1 |
/// | `l2` | 0.0001 | pull of weights towards zero | 0..=1 |
/// | `batch` | 16 | outcomes learned from at once | 1..=1,024 |
/// | `prior_slope` | 1.0 | weight of the best source's log-odds before anything was learned | finite |
/// | `prior_bias` | -1.0 | bias before anything was learned; negative is cautious | finite |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateConfig {
    /// Step size.
    pub alpha: f64,
    /// How long early steps stay small.
    pub beta: f64,
    /// Pull of weights to exactly zero.
    pub l1: f64,
    /// Pull of weights towards zero.
    pub l2: f64,
    /// Outcomes learned from at once.
    pub batch: usize,
    /// Weight of the best source's log-odds before anything was learned.
    pub prior_slope: f64,
    /// Bias before anything was learned; negative is cautious.
    pub prior_bias: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self { alpha: 0.15, beta: 1.0, l1: 0.0, l2: 1e-4, batch: 16, prior_slope: 1.0, prior_bias: -1.0 }
    }
}

impl GateConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that is out of its range.
    pub fn check(&self) -> Result<()> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let checks = [
            ("gate.alpha", self.alpha.is_finite() && self.alpha > 0.0, self.alpha, "above 0"),
            ("gate.beta", self.beta.is_finite() && self.beta >= 0.0, self.beta, "0 or more"),
            ("gate.l1", share(self.l1), self.l1, "from 0 to 1"),
            ("gate.l2", share(self.l2), self.l2, "from 0 to 1"),
            ("gate.batch", (1..=1_024).contains(&self.batch), self.batch as f64, "from 1 to 1024"),
            ("gate.prior_slope", self.prior_slope.is_finite(), self.prior_slope, "finite"),
            ("gate.prior_bias", self.prior_bias.is_finite(), self.prior_bias, "finite"),
        ];
        match checks.into_iter().find(|(_, good, ..)| !good) {
            Some((field, _, value, expected)) => Err(Error::Config { field, value: value.to_string(), expected }),
            None => Ok(()),
        }
    }
}
