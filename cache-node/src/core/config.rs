//! The node core's bounds.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::index::{IndexConfig, IndexConfigError};

/// What bounds a [`NodeCore`](super::NodeCore).
///
/// | field | default | purpose |
/// | --- | --- | --- |
/// | `index` | see [`IndexConfig`] | what is held |
/// | `departed_max` | 1,000,000 | segments no longer held whose miss cause is remembered |
/// | `flights_max` | 65,536 | transfers that requests may join; beyond it they are not coalesced |
/// | `queue_max` | 4,096 | prefetches waiting for their transfer |
/// | `queue_bytes_max` | 256 MiB | bytes of those |
/// | `prefetch_flights_max` | 16 | prefetch transfers at a time while there is no demand; fewer the more there is |
/// | `prefetch_flight_bytes_max` | 64 MiB | bytes of those; one larger prefetch may fly alone |
/// | `demand_flights_max` | 64 | demand transfers under way above which no prefetch starts |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeCoreConfig {
    /// What is held.
    pub index: IndexConfig,
    /// Departed segments remembered.
    pub departed_max: usize,
    /// Transfers that requests may join.
    pub flights_max: usize,
    /// Prefetches waiting.
    pub queue_max: usize,
    /// Bytes of the prefetches waiting.
    pub queue_bytes_max: u64,
    /// Prefetch transfers at a time.
    pub prefetch_flights_max: usize,
    /// Bytes of the prefetch transfers under way.
    pub prefetch_flight_bytes_max: u64,
    /// Demand transfers under way above which no prefetch starts.
    pub demand_flights_max: usize,
}

impl Default for NodeCoreConfig {
    fn default() -> Self {
        Self {
            index: IndexConfig::default(),
            departed_max: 1_000_000,
            flights_max: 65_536,
            queue_max: 4_096,
            queue_bytes_max: 256 << 20,
            prefetch_flights_max: 16,
            prefetch_flight_bytes_max: 64 << 20,
            demand_flights_max: 64,
        }
    }
}

/// Why a [`NodeCoreConfig`] was refused.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum NodeCoreConfigError {
    /// The index cannot be built so.
    #[error("`index` is wrong")]
    Index(#[from] IndexConfigError),
    /// A bound that must be positive is zero.
    #[error("`{field}` is zero: it must be at least 1")]
    Zero {
        /// Which bound.
        field: &'static str,
    },
}
