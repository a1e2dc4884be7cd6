//! How much co-access is remembered, and for how long.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Bounds and forgetting of a [`CoAccess`](crate::CoAccess) table.
///
/// | field | default | meaning | range |
/// | --- | --- | --- | --- |
/// | `keys_max` | 262,144 | keys with successors; the least recently updated one makes room | ≥ 1 |
/// | `successors_per_key` | 24 | successors of a key; the least counted one makes room | ≥ 1 |
/// | `half_life_seconds` | 604,800 (a week) | time after which a count is worth half | > 0 |
/// | `prior_weight` | 2.0 | occurrences without successor added to every key, so that one pair is not taken for certain | ≥ 0 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoAccessConfig {
    /// Keys with successors; the least recently updated one makes room.
    pub keys_max: usize,
    /// Successors of a key; the least counted one makes room.
    pub successors_per_key: usize,
    /// Seconds after which a count is worth half.
    pub half_life_seconds: f64,
    /// Occurrences without any successor that are added to every key.
    pub prior_weight: f32,
}

impl Default for CoAccessConfig {
    fn default() -> Self {
        Self { keys_max: 262_144, successors_per_key: 24, half_life_seconds: 604_800.0, prior_weight: 2.0 }
    }
}

impl CoAccessConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that is out of its range.
    pub fn check(&self) -> Result<()> {
        let half_life = self.half_life_seconds;
        let prior = f64::from(self.prior_weight);
        let checks = [
            ("coaccess.keys_max", self.keys_max > 0, self.keys_max as f64, "at least 1"),
            ("coaccess.successors_per_key", self.successors_per_key > 0, self.successors_per_key as f64, "at least 1"),
            ("coaccess.half_life_seconds", half_life.is_finite() && half_life > 0.0, half_life, "above 0"),
            ("coaccess.prior_weight", prior.is_finite() && prior >= 0.0, prior, "0 or more"),
        ];
        match checks.into_iter().find(|(_, good, ..)| !good) {
            Some((field, _, value, expected)) => Err(Error::Config { field, value: value.to_string(), expected }),
            None => Ok(()),
        }
    }
}
