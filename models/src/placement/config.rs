//! What the placement head looks like and how it learns.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Shape and learning of a [`PlacementHead`](crate::PlacementHead).
///
/// | field | default | meaning | range |
/// | --- | --- | --- | --- |
/// | `horizons_seconds` | 900, 3,600 | spans that demand is predicted for, shortest first | 1 to 4, each a multiple of the first, at most a day |
/// | `rank` | 8 | width of the space where item and region embeddings meet | 1..=256 |
/// | `hidden_width` | 48 | width of the hidden layer | 1..=1,024 |
/// | `learning_rate` | 0.003 | first step size (Adam); it falls to a hundredth over the fit | > 0 |
/// | `keys_max` | 1,000,000 | most keys that a [`DemandHistory`](crate::DemandHistory) holds | ≥ 1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlacementConfig {
    /// Seconds that demand is predicted for, shortest first; each a multiple of the first.
    pub horizons_seconds: Vec<u32>,
    /// Width of the space where item and region embeddings meet.
    pub rank: usize,
    /// Width of the hidden layer.
    pub hidden_width: usize,
    /// First step size (Adam).
    pub learning_rate: f64,
    /// Most keys whose history is held.
    pub keys_max: usize,
}

impl Default for PlacementConfig {
    fn default() -> Self {
        Self {
            horizons_seconds: vec![900, 3_600],
            rank: 8,
            hidden_width: 48,
            learning_rate: 0.003,
            keys_max: 1_000_000,
        }
    }
}

impl PlacementConfig {
    /// The spans that demand is predicted for, shortest first.
    pub fn horizons(&self) -> Vec<Duration> {
        self.horizons_seconds.iter().map(|seconds| Duration::from_secs(u64::from(*seconds))).collect()
    }

    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that is out of its range.
    pub fn check(&self) -> Result<()> {
        let refuse = |field, value: String, expected| Err(Error::Config { field, value, expected });
        if !self.horizons_fit() {
            let expected = "one to four spans of at most 86400 seconds, rising, each a multiple of the first";
            return refuse("placement.horizons_seconds", format!("{:?}", self.horizons_seconds), expected);
        }
        let (rank, hidden, rate) = (self.rank, self.hidden_width, self.learning_rate);
        let checks = [
            ("placement.rank", (1..=256).contains(&rank), rank as f64, "from 1 to 256"),
            ("placement.hidden_width", (1..=1_024).contains(&hidden), hidden as f64, "from 1 to 1024"),
            ("placement.learning_rate", rate.is_finite() && rate > 0.0, rate, "above 0"),
            ("placement.keys_max", self.keys_max >= 1, self.keys_max as f64, "at least 1"),
        ];
        match checks.into_iter().find(|(_, good, ..)| !good) {
            Some((field, _, value, expected)) => refuse(field, value.to_string(), expected),
            None => Ok(()),
        }
    }

    fn horizons_fit(&self) -> bool {
        let horizons = &self.horizons_seconds;
        let Some(first) = horizons.first().filter(|first| **first > 0) else { return false };
        horizons.len() <= HORIZONS_MAX
            && horizons.is_sorted_by(|a, b| a < b)
            && horizons.iter().all(|horizon| horizon % first == 0 && *horizon <= 86_400)
    }
}

/// Most horizons of one head.
pub const HORIZONS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn horizons_rise_in_multiples_of_the_first() {
        let check = |horizons: &[u32]| {
            PlacementConfig { horizons_seconds: horizons.to_vec(), ..PlacementConfig::default() }.check().is_ok()
        };
        for good in [&[900, 3_600][..], &[60], &[60, 120, 180, 86_400]] {
            assert!(check(good), "{good:?}");
        }
        for bad in [&[][..], &[0], &[900, 900], &[3_600, 900], &[900, 1_000], &[1, 86_401], &[1, 2, 3, 4, 5]] {
            assert!(!check(bad), "{bad:?}");
        }
    }
}
