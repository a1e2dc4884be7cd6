//! The index's bounds, as configured and as checked.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::PolicyKind;

/// What bounds an [`Index`](super::Index).
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `capacity_bytes` | 1 GiB | from 1 |
/// | `entries_max` | 4,000,000 | from 1 |
/// | `policy` | adaptive | see [`PolicyKind`] |
/// | `probation` | true | false only to measure what probation is worth |
/// | `probation_share` | 0.35 | 0 to 1; 0 refuses every prefetch; without probation as if 1 |
/// | `pinned_share` | 0.5 | 0 to 1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IndexConfig {
    /// The most bytes held.
    pub capacity_bytes: u64,
    /// The most segments held, whatever their bytes: bounds the index's own memory.
    pub entries_max: usize,
    /// What leaves first.
    pub policy: PolicyKind,
    /// Whether prefetched segments wait apart for their first use; else they enter main as demanded ones do.
    pub probation: bool,
    /// The most of the capacity that prefetched segments may take before their first use; how much of it they do is
    /// learned.
    pub probation_share: f64,
    /// The share of the capacity that may be pinned.
    pub pinned_share: f64,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            capacity_bytes: 1 << 30,
            entries_max: 4_000_000,
            policy: PolicyKind::default(),
            probation: true,
            probation_share: 0.35,
            pinned_share: 0.5,
        }
    }
}

/// Why an [`IndexConfig`] was refused.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum IndexConfigError {
    /// A bound that must be positive is zero.
    #[error("`{field}` is zero: the index could hold nothing; set it to at least 1")]
    Zero {
        /// Which bound.
        field: &'static str,
    },
    /// A share is not between 0 and 1.
    #[error("`{field}` is {value}: a share of the capacity is between 0 and 1")]
    Share {
        /// Which share.
        field: &'static str,
        /// What was configured.
        value: f64,
    },
}

/// A checked [`IndexConfig`] in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) capacity_bytes: u64,
    pub(super) entries_max: usize,
    pub(super) has_probation: bool,
    /// The most bytes of prefetched segments that nobody has used.
    pub(super) probation_bytes: u64,
    pub(super) pinned_bytes: u64,
}

impl TryFrom<&IndexConfig> for Limits {
    type Error = IndexConfigError;

    fn try_from(config: &IndexConfig) -> Result<Self, IndexConfigError> {
        if config.capacity_bytes == 0 {
            return Err(IndexConfigError::Zero { field: "capacity_bytes" });
        }
        if config.entries_max == 0 {
            return Err(IndexConfigError::Zero { field: "entries_max" });
        }
        let share_bytes = |field, value: f64| {
            if !(0.0..=1.0).contains(&value) {
                return Err(IndexConfigError::Share { field, value });
            }
            Ok((config.capacity_bytes as f64 * value) as u64)
        };
        let probation_bytes = share_bytes("probation_share", config.probation_share)?;
        Ok(Self {
            capacity_bytes: config.capacity_bytes,
            entries_max: config.entries_max,
            has_probation: config.probation,
            probation_bytes: if config.probation { probation_bytes } else { config.capacity_bytes },
            pinned_bytes: share_bytes("pinned_share", config.pinned_share)?,
        })
    }
}
