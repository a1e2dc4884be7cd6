//! The one place of the node that reads time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nearcast_datasets::Timestamp;

/// The wall clock, as cores take it.
#[expect(clippy::disallowed_methods, reason = "this is the shell's clock: everything else takes `now` as an argument")]
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

/// The instant that `at` stands for, as HTTP libraries take it.
pub(crate) fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(at.micros()).unwrap_or(0))
}

/// Measures how long something took, unaffected by clock steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[expect(clippy::disallowed_methods, reason = "part of the shell's clock")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
