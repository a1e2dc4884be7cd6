//! What the placement head looks like and how it learns.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Shape and learning of a [`PlacementHead`](crate::PlacementHead).
///
/// | field | default | meaning | range |
/// | --- | --- | --- | --- |
/// | `horizon_seconds` | 3,600 | span that demand is predicted for, and length of a count bucket | > 0 |
/// | `rank` | 16 | width of the space where item and region embeddings meet | 1..=256 |
/// | `hidden_width` | 32 | width of the hidden layer | 1..=1,024 |
/// | `learning_rate` | 0.003 | step size (Adam) | > 0 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlacementConfig {
    /// Seconds that demand is predicted for, which is also the length of a bucket of [`RecentCounts`](crate::RecentCounts).
    pub horizon_seconds: f64,
    /// Width of the space where item and region embeddings meet.
    pub rank: usize,
    /// Width of the hidden layer.
    pub hidden_width: usize,
    /// Step size (Adam).
    pub learning_rate: f64,
}

impl Default for PlacementConfig {
    fn default() -> Self {
        Self { horizon_seconds: 3_600.0, rank: 16, hidden_width: 32, learning_rate: 0.003 }
    }
}

impl PlacementConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that is out of its range.
    pub fn check(&self) -> Result<()> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let (rank, hidden) = (self.rank, self.hidden_width);
        let checks = [
            ("placement.horizon_seconds", positive(self.horizon_seconds), self.horizon_seconds, "above 0"),
            ("placement.rank", (1..=256).contains(&rank), rank as f64, "from 1 to 256"),
            ("placement.hidden_width", (1..=1_024).contains(&hidden), hidden as f64, "from 1 to 1024"),
            ("placement.learning_rate", positive(self.learning_rate), self.learning_rate, "above 0"),
        ];
        match checks.into_iter().find(|(_, good, ..)| !good) {
            Some((field, _, value, expected)) => Err(Error::Config { field, value: value.to_string(), expected }),
            None => Ok(()),
        }
    }
}
