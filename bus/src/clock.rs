//! Where a bus takes the time from.

use std::{
    fmt::Debug,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A clock. Decisions take `now` as an argument; this is where their shells read it.
pub trait Clock: Debug + Send + Sync {
    /// Time since the Unix epoch; it may jump.
    fn unix(&self) -> Duration;

    /// Time since some moment of this process; it only grows.
    fn elapsed(&self) -> Duration;
}

/// A clock that is shared.
pub type SharedClock = Arc<dyn Clock>;

/// This machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one clock of this crate")]
    fn unix(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    #[expect(clippy::disallowed_methods, reason = "the one clock of this crate")]
    fn elapsed(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// This machine's clock, set wrong: what a bus does about that can be tried.
#[derive(Debug, Default)]
pub struct SkewedClock {
    seconds: AtomicI64,
}

impl SkewedClock {
    /// A clock that is so many seconds ahead, or behind if negative.
    pub fn new(seconds: i64) -> Self {
        Self { seconds: AtomicI64::new(seconds) }
    }

    /// Sets it to so many seconds ahead, or behind if negative.
    pub fn set(&self, seconds: i64) {
        self.seconds.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for SkewedClock {
    fn unix(&self) -> Duration {
        let seconds = self.seconds.load(Ordering::Relaxed);
        let by = Duration::from_secs(seconds.unsigned_abs());
        let now = SystemClock.unix();
        if seconds < 0 { now.saturating_sub(by) } else { now + by }
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed()
    }
}
