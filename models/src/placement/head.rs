//! The trained placement head as it serves.

use nearcast_datasets::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ItemRef, PlacementConfig, SequenceModel, kernel,
    placement::{features::extras, weights::PlacementWeights},
};

/// Logs of rates are kept within these: a rate is never exactly zero, and never absurd.
pub(super) const LOG_RATE_RANGE: (f32, f32) = (-14.0, 14.0);

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
///
/// With `u = A·v(item) ⊙ r(region)`, features `x` and `y = relu(W·[u, r, x] + b)`, the rate is `exp(c·[y, x] + d)`:
/// item and region meet as in a factorisation, the hidden layer lets regions have their own hours, and the recent
/// counts act on the log rate directly as well.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlacementHead {
    config: PlacementConfig,
    weights: PlacementWeights,
}

impl PlacementHead {
    pub(crate) fn from_parts(config: PlacementConfig, weights: PlacementWeights) -> Self {
        Self { config, weights }
    }

    /// Expected requests in the horizon that begins at `query.at`; above zero and finite. `sequence` must be the model
    /// that the head was trained on.
    pub fn expected_requests(&self, sequence: &SequenceModel, query: &DemandQuery) -> f32 {
        let rank = self.config.rank;
        let weights = &self.weights;
        if weights.output_bias.is_empty() {
            return LOG_RATE_RANGE.0.exp();
        }
        let region = query.region.min(self.region_count()) * rank;
        let region = &weights.regions[region..region + rank];
        let extras = extras(query);
        let mut input = vec![0.0; PlacementWeights::input_width(&self.config)];
        kernel::add_product(&weights.item_map, &sequence.embedding(&query.item), &mut input[..rank]);
        input[..rank].iter_mut().zip(region).for_each(|(item, region)| *item *= region);
        input[rank..2 * rank].copy_from_slice(region);
        input[2 * rank..].copy_from_slice(&extras);
        let mut hidden = weights.hidden_biases.clone();
        kernel::add_product(&weights.hidden, &input, &mut hidden);
        hidden.iter_mut().for_each(|unit| *unit = unit.max(0.0));
        let (from_hidden, from_extras) = weights.output.split_at(hidden.len());
        let log_rate = kernel::dot(from_hidden, &hidden) + kernel::dot(from_extras, &extras) + weights.output_bias[0];
        log_rate.clamp(LOG_RATE_RANGE.0, LOG_RATE_RANGE.1).exp()
    }

    /// The configuration that the head was trained with.
    pub fn config(&self) -> &PlacementConfig {
        &self.config
    }

    /// Regions that the head knows.
    pub fn region_count(&self) -> usize {
        (self.weights.regions.len() / self.config.rank).saturating_sub(1)
    }

    pub(crate) fn weights(&self) -> &PlacementWeights {
        &self.weights
    }
}
