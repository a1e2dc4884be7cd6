//! The placement head as a candle graph.

use candle_core::{Device, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{
    PlacementConfig,
    placement::{features::EXTRA_COUNT, head::LOG_RATE_RANGE, weights::PlacementWeights},
};

/// The head's weights as variables; shapes as in [`PlacementWeights`].
#[derive(Debug)]
pub(super) struct PlacementVars {
    hidden: Var,
    hidden_biases: Var,
    item_map: Var,
    output: Var,
    output_bias: Var,
    regions: Var,
}

/// A batch of N questions as constants.
pub(super) struct PlacementInputs {
    /// (N, D).
    pub(super) items: Tensor,
    /// (N): rows of the region table.
    pub(super) regions: Tensor,
    /// (N, 12).
    pub(super) extras: Tensor,
}

impl PlacementVars {
    /// Random weights, drawn in order of their names.
    pub(super) fn random(
        config: &PlacementConfig,
        item_width: usize,
        region_count: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let (rank, hidden) = (config.rank, config.hidden_width);
        let input = PlacementWeights::input_width(config);
        let mut draw = |rows: usize, columns: usize, middle: f32| {
            let limit = (6.0 / (rows + columns) as f32).sqrt();
            let numbers: Vec<f32> = (0..rows * columns).map(|_| middle + rng.random_range(-limit..limit)).collect();
            Var::from_vec(numbers, (rows, columns), &Device::Cpu)
        };
        let zeros = |count: usize| Var::from_vec(vec![0.0_f32; count], count, &Device::Cpu);
        Ok(Self {
            hidden: draw(hidden, input, 0.0)?,
            hidden_biases: zeros(hidden)?,
            item_map: draw(rank, item_width, 0.0)?,
            // Features past the hidden layer start without influence.
            output: zeros(hidden + EXTRA_COUNT)?,
            output_bias: zeros(1)?,
            // Around one: at first every region sees an item alike.
            regions: draw(region_count + 1, rank, 1.0)?,
        })
    }

    pub(super) fn optimizer(&self, learning_rate: f64) -> Result<AdamW> {
        let all = [&self.hidden, &self.hidden_biases, &self.item_map, &self.output, &self.output_bias, &self.regions];
        let params = ParamsAdamW { lr: learning_rate, weight_decay: 0.0, ..ParamsAdamW::default() };
        AdamW::new(all.into_iter().cloned().collect(), params)
    }

    /// Logs of the rates (N).
    pub(super) fn log_rates(&self, inputs: &PlacementInputs) -> Result<Tensor> {
        let regions = self.regions.index_select(&inputs.regions, 0)?;
        let items = (inputs.items.matmul(&self.item_map.t()?)? * &regions)?;
        let input = Tensor::cat(&[&items, &regions, &inputs.extras], 1)?;
        let hidden = input.matmul(&self.hidden.t()?)?.broadcast_add(&self.hidden_biases)?.relu()?;
        let last = Tensor::cat(&[&hidden, &inputs.extras], 1)?;
        let log_rates = last.matmul(&self.output.unsqueeze(1)?)?.squeeze(1)?.broadcast_add(&self.output_bias)?;
        log_rates.clamp(LOG_RATE_RANGE.0, LOG_RATE_RANGE.1)
    }

    /// Weighted mean of the Poisson loss `rate − requests · ln rate`, for requests (N) and weights (N).
    pub(super) fn loss(&self, inputs: &PlacementInputs, requests: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let log_rates = self.log_rates(inputs)?;
        let losses = (log_rates.exp()? - (requests * log_rates)?)?;
        let weight_sum = weights.sum_all()?.to_scalar::<f32>()?.max(f32::MIN_POSITIVE);
        (losses * weights)?.sum_all()? / f64::from(weight_sum)
    }

    /// Takes over the numbers of a trained head.
    #[cfg(test)]
    pub(super) fn set(&self, weights: &PlacementWeights) -> Result<()> {
        let set = |var: &Var, numbers: &[f32]| var.set(&Tensor::from_slice(numbers, var.shape(), &Device::Cpu)?);
        set(&self.item_map, &weights.item_map)?;
        set(&self.regions, &weights.regions)?;
        set(&self.hidden, &weights.hidden)?;
        set(&self.hidden_biases, &weights.hidden_biases)?;
        set(&self.output, &weights.output)?;
        set(&self.output_bias, &weights.output_bias)
    }

    pub(super) fn weights(&self) -> Result<PlacementWeights> {
        let read = |var: &Var| var.flatten_all()?.to_vec1::<f32>();
        Ok(PlacementWeights {
            item_map: read(&self.item_map)?,
            regions: read(&self.regions)?,
            hidden: read(&self.hidden)?,
            hidden_biases: read(&self.hidden_biases)?,
            output: read(&self.output)?,
            output_bias: read(&self.output_bias)?,
        })
    }
}
