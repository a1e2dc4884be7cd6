//! Which rows may be learned from, which decide when to stop, and which are kept for measuring.

use nearcast_datasets::Timestamp;

use crate::{
    Error, Result,
    config::SplitConfig,
    features::{Features, TimeRange},
    time::rfc3339,
};

/// Consecutive, non-overlapping parts of a log. Nothing at or after `test.start` may reach fitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// What is fitted on until it is known when to stop.
    pub(crate) fit: TimeRange,
    /// What decides when to stop: the end of the training range.
    pub(crate) validation: TimeRange,
    /// What metrics are measured on.
    pub(crate) test: TimeRange,
}

impl Parts {
    /// Cuts the log's time span.
    ///
    /// # Errors
    /// [`Error::EmptyPart`] when a part holds no request.
    pub(crate) fn cut(features: &Features, config: &SplitConfig) -> Result<Self> {
        let (first, last) = (features.log.first, features.log.last);
        let parts = Self::of_span(first, last, config);
        for (part, range) in [("training", parts.fit), ("validation", parts.validation), ("test", parts.test)] {
            if features.count(range)? == 0 {
                let range = format!("{} to {}", rfc3339(range.start), rfc3339(range.end));
                return Err(Error::EmptyPart { part, range });
            }
        }
        Ok(parts)
    }

    fn of_span(first: Timestamp, last: Timestamp, config: &SplitConfig) -> Self {
        let end = Timestamp::from_micros(last.micros().saturating_add(1));
        let boundary = first.after(last.since(first).mul_f64(config.train_share));
        let validation = boundary.before(boundary.since(first).mul_f64(config.validation_share));
        Self {
            fit: TimeRange { start: first, end: validation },
            validation: TimeRange { start: validation, end: boundary },
            test: TimeRange { start: boundary, end },
        }
    }

    /// Everything that may be learned from.
    pub(crate) fn training(&self) -> TimeRange {
        TimeRange { start: self.fit.start, end: self.validation.end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_touch_and_cover_the_span() {
        let at = Timestamp::from_micros;
        let config = SplitConfig { train_share: 0.5, validation_share: 0.2 };
        let parts = Parts::of_span(at(100), at(1_100), &config);
        assert_eq!(parts.fit, TimeRange { start: at(100), end: at(500) });
        assert_eq!(parts.validation, TimeRange { start: at(500), end: at(600) });
        assert_eq!(parts.test, TimeRange { start: at(600), end: at(1_101) });
        assert_eq!(parts.training(), TimeRange { start: at(100), end: at(600) });
    }
}
