//! Splits a log by time, so that nothing after the boundary can reach training.

use std::{ops::Range, time::Duration};

use crate::{Error, LogSource, Timestamp, error::Result, read, time::rfc3339};

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
        let (first, last) = read::time_span(source)?;
        if first >= last {
            return Err(Error::ZeroSpan { log: source.to_string(), at: rfc3339(first) });
        }
        // At least one microsecond after the first row and never after the last, so neither part is empty.
        let span = last.since(first);
        let train = span.mul_f64(train_share).max(Duration::from_micros(1));
        Ok(Self { boundary: first.after(train).min(last) })
    }

    /// Whether a row at this instant may be trained on.
    pub fn contains_train(&self, timestamp: Timestamp) -> bool {
        timestamp < self.boundary
    }

    /// The window of the training part, for [`LogReader::within`](crate::LogReader::within).
    pub fn train(&self) -> Range<Timestamp> {
        Timestamp::MIN..self.boundary
    }

    /// The window of the test part, for [`LogReader::within`](crate::LogReader::within).
    pub fn test(&self) -> Range<Timestamp> {
        self.boundary..Timestamp::MAX
    }
}
