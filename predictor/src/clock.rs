//! The service's only clock.

use std::time::{SystemTime, UNIX_EPOCH};

use nearcast_datasets::Timestamp;

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "the shell's one clock; cores take `now` as an argument")]
pub(crate) fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().after(elapsed)
}
