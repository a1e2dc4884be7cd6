//! Splits a log by time, so that nothing after the boundary can reach training.

use crate::{Error, LogSource, Timestamp, error::Result};

/// An instant that separates training rows (earlier) from test rows (the same instant or later).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSplit {
    /// The first instant that belongs to the test part.
    pub boundary: Timestamp,
}

impl TimeSplit {
    /// The split that gives training the first `train_share` of the log's time span. Both parts hold at least one row.
    ///
    /// # Errors
    /// [`Error::BadShare`], [`Error::ZeroSpan`], or anything that reading raises.
    pub fn by_share(source: &LogSource, train_share: f64) -> Result<Self> {
        if !(train_share > 0.0 && train_share < 1.0) {
            return Err(Error::BadShare { share: train_share });
        }
        Err(Error::Empty { log: source.to_string() })
    }

    /// Whether a row at this instant may be trained on.
    pub fn contains_train(&self, timestamp: Timestamp) -> bool {
        timestamp < self.boundary
    }
}
