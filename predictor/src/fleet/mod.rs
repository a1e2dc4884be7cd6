//! Many predictors on one log: batches of requests are published in partitions by client, and who owns a partition
//! learns from it.
//!
//! [`LogRecord`] is what is published, [`split`] divides a node's batch among partitions, and [`EngineLearners`] let an
//! engine learn what a [`Fleet`](nearcast_bus::fleet::Fleet) reads for it. A part of the engine's clients
//! ([`Engine::part`](crate::engine::Engine::part)) is a partition, so that it can change hands.

mod learner;
mod record;

pub(crate) use self::record::client_number;
pub use self::{
    learner::{EngineLearners, LearnerCounts, PartitionState},
    record::{LogRecord, RecordUnreadable, split},
};
use nearcast_bus::{BucketSpec, Discard, StreamSpec};

/// The stream of request logs, in so many partitions of so many bytes.
pub fn log_spec(partitions: u32, bytes_max: u64) -> StreamSpec {
    StreamSpec {
        name: "log".to_owned(),
        version: record::VERSION,
        partitions,
        bytes_max,
        // What has not been learnt from is not let go of: publishers wait, within their own bounds.
        discard: Discard::Newest,
        duplicates_within: std::time::Duration::from_secs(120),
    }
}

/// Memberships and claims.
pub fn members_spec() -> BucketSpec {
    BucketSpec { name: "members".to_owned(), version: 1, bytes_max: 16 << 20 }
}

/// How far each partition has come.
pub fn checkpoints_spec() -> BucketSpec {
    BucketSpec { name: "checkpoints".to_owned(), version: learner::VERSION, bytes_max: 4 << 30 }
}
