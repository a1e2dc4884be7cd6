//! The placement head's numbers.

use crate::{Error, PlacementConfig, Result, placement::features::EXTRA_COUNT};

/// All weights in plain row-major arrays; D is the width of an item embedding with its bias, K the rank, E the number
/// of features, F = 2K + E the width of the hidden layer's input, H the hidden width, R the number of regions, T the
/// number of horizons.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PlacementWeights {
    /// (K, D): from item embeddings to where they meet regions.
    pub(crate) item_map: Vec<f32>,
    /// (R + 1, K): the last row stands for any region that training did not see.
    pub(crate) regions: Vec<f32>,
    /// (E): means of the features in training.
    pub(crate) extra_means: Vec<f32>,
    /// (E): one over their standard deviations.
    pub(crate) extra_scales: Vec<f32>,
    /// (H, F).
    pub(crate) hidden: Vec<f32>,
    /// (H).
    pub(crate) hidden_biases: Vec<f32>,
    /// (T, H + E): weights of the hidden layer and, past it, of the features themselves.
    pub(crate) output: Vec<f32>,
    /// (T).
    pub(crate) output_biases: Vec<f32>,
}

impl PlacementWeights {
    /// Width of the hidden layer's input.
    pub(crate) fn input_width(config: &PlacementConfig) -> usize {
        2 * config.rank + EXTRA_COUNT
    }

    /// Width of the output layer's input.
    pub(crate) fn output_width(config: &PlacementConfig) -> usize {
        config.hidden_width + EXTRA_COUNT
    }

    /// Checks that every array has the size that the widths ask for; `item_width` is D.
    pub(crate) fn check_shapes(&self, file: &str, config: &PlacementConfig, item_width: usize) -> Result<()> {
        let (rank, hidden, horizons) = (config.rank, config.hidden_width, config.horizons_seconds.len());
        let regions = self.regions.len() / rank.max(1);
        let shapes = [
            ("item_map", self.item_map.len(), rank * item_width),
            ("regions", self.regions.len(), regions.max(1) * rank),
            ("extra_means", self.extra_means.len(), EXTRA_COUNT),
            ("extra_scales", self.extra_scales.len(), EXTRA_COUNT),
            ("hidden", self.hidden.len(), hidden * Self::input_width(config)),
            ("hidden_biases", self.hidden_biases.len(), hidden),
            ("output", self.output.len(), horizons * Self::output_width(config)),
            ("output_biases", self.output_biases.len(), horizons),
        ];
        match shapes.into_iter().find(|(_, found, expected)| found != expected) {
            Some((name, found, expected)) => {
                Err(Error::content(file, format!("placement tensor {name} has {found} numbers instead of {expected}")))
            }
            None => Ok(()),
        }
    }
}
