//! Why a log could not be replayed.

use nearcast_cache_node::core::NodeCoreConfigError;
use nearcast_predictor::{engine::InvalidSetting, placement::PlacementError};
use thiserror::Error;

/// The result of replaying.
pub type Result<T, E = ReplayError> = std::result::Result<T, E>;

/// Why a log could not be replayed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A cache size is not a number of bytes or a share.
    #[error("cache size `{text}` is neither bytes (`500000`, `64MiB`, `10GiB`) nor a share between 0 and 1 (`0.1`)")]
    CacheSize {
        /// What was given.
        text: String,
    },
    /// A cache could hold nothing.
    #[error("cache size `{text}` is {bytes} bytes of this log, so nothing could be held; give a larger one")]
    CacheTooSmall {
        /// What was given.
        text: String,
        /// What it comes to.
        bytes: u64,
    },
    /// The log has no request.
    #[error("{log} holds no request, so there is nothing to replay")]
    EmptyLog {
        /// The log.
        log: String,
    },
    /// The predictor's settings make no sense.
    #[error(transparent)]
    Engine(#[from] InvalidSetting),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] nearcast_datasets::Error),
    /// The node's bounds make no sense.
    #[error("the node cannot be set up so")]
    Node(#[from] NodeCoreConfigError),
    /// The placement's sites make no sense.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// Belady's rule beside what makes requests differ from the log.
    #[error(
        "`belady` needs to know every request that a node will get, and prefetching or placement would change them; \
         replay it with `--prefetch none --placement none`, on its own"
    )]
    NotForeseen,
    /// A list that makes cells is empty.
    #[error("`{list}` is empty: there is nothing to replay")]
    NothingToReplay {
        /// Which list.
        list: &'static str,
    },
    /// An object has more segments than replay follows.
    #[error(
        "object `{key}` has {bytes} bytes, which is more than {segments_max} segments of {segment_bytes} bytes; \
         give a larger segment size, or `--unit-size` to ignore sizes"
    )]
    ObjectTooLarge {
        /// Its key.
        key: String,
        /// Its size.
        bytes: u64,
        /// Bytes per segment.
        segment_bytes: u64,
        /// The limit.
        segments_max: u64,
    },
    /// A number is outside of its range.
    #[error("`{field}` is {value}, but must be {expected}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it is.
        value: f64,
        /// What it should be.
        expected: &'static str,
    },
    /// The report page could not be drawn.
    #[error("the report's {chart} chart could not be drawn: {reason}")]
    Chart {
        /// Which chart.
        chart: &'static str,
        /// What the drawing library said.
        reason: String,
    },
    /// The report page could not be written.
    #[error("cannot write the report to {path}")]
    Report {
        /// Where to.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The topology does not fit the log.
    #[error(transparent)]
    Topology(#[from] nearcast_proto::Error),
}
