//! The trained placement head as it serves.

use nearcast_datasets::Timestamp;

use crate::{
    ItemRef, PlacementConfig, RecentCounts, SequenceModel, kernel,
    placement::{features::extras, weights::PlacementWeights},
};

/// Logs of rates are kept within these: a rate is never exactly zero, and never absurd.
pub(super) const LOG_RATE_RANGE: (f32, f32) = (-20.0, 14.0);
/// Standardised features are kept within this distance of their mean: beyond it lies nothing that training saw.
pub(super) const EXTRA_LIMIT: f32 = 6.0;

/// What demand is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DemandQuery {
    /// The key.
    pub item: ItemRef,
    /// The region's position in the model's list of regions; any larger number means one the model does not know.
    pub region: usize,
    /// When the predicted horizons begin.
    pub at: Timestamp,
    /// What was counted before `at`.
    pub counts: RecentCounts,
}

impl DemandQuery {
    /// The key as the head sees it: by its path tokens alone.
    ///
    /// A row was learned from the very requests that the head is then asked to foresee in training, and whether a key
    /// has one tells how often it was asked for in all: a head that reads rows learns to trust what it will not have.
    pub(super) fn shared_item(&self) -> ItemRef {
        ItemRef { row: None, ..self.item }
    }
}

/// Predicts requests per key, region and horizon from path tokens, region, time of day and week, and recent counts.
///
/// With `u = A·v(item) ⊙ r(region)`, standardised features `x` and `y = relu(W·[u, r, x] + b)`, the rate of horizon
/// `h` is `Σ exp(C·[y, x] + d)` over the horizons up to `h`: item and region meet as in a factorisation, the hidden
/// layer lets regions have their own hours, the logs of the recent counts act on the log rate directly as well, and a
/// longer horizon never expects less than a shorter one. Keys that training never saw are asked about in the same way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlacementHead {
    config: PlacementConfig,
    weights: PlacementWeights,
}

impl PlacementHead {
    pub(crate) fn from_parts(config: PlacementConfig, weights: PlacementWeights) -> Self {
        Self { config, weights }
    }

    /// Expected requests from `query.at` on within each of the configured horizons; above zero and finite. `sequence`
    /// must be the model that the head was trained on.
    pub fn expected_requests(&self, sequence: &SequenceModel, query: &DemandQuery) -> Vec<f32> {
        let (rank, horizons) = (self.config.rank, self.config.horizons_seconds.len());
        let weights = &self.weights;
        if weights.output_biases.is_empty() {
            return vec![LOG_RATE_RANGE.0.exp(); horizons];
        }
        let region = query.region.min(self.region_count()) * rank;
        let region = &weights.regions[region..region + rank];
        let mut input = vec![0.0; PlacementWeights::input_width(&self.config)];
        kernel::add_product(&weights.item_map, &sequence.embedding(&query.shared_item()), &mut input[..rank]);
        input[..rank].iter_mut().zip(region).for_each(|(item, region)| *item *= region);
        input[rank..2 * rank].copy_from_slice(region);
        let scales = weights.extra_means.iter().zip(&weights.extra_scales);
        for ((input, extra), (mean, scale)) in input[2 * rank..].iter_mut().zip(extras(query)).zip(scales) {
            *input = ((extra - mean) * scale).clamp(-EXTRA_LIMIT, EXTRA_LIMIT);
        }
        let mut last = weights.hidden_biases.clone();
        kernel::add_product(&weights.hidden, &input, &mut last);
        last.iter_mut().for_each(|unit| *unit = unit.max(0.0));
        last.extend_from_slice(&input[2 * rank..]);
        let mut rates = weights.output_biases.clone();
        kernel::add_product(&weights.output, &last, &mut rates);
        let mut sum = 0.0;
        for rate in &mut rates {
            sum += rate.clamp(LOG_RATE_RANGE.0, LOG_RATE_RANGE.1).exp();
            *rate = sum;
        }
        rates
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
