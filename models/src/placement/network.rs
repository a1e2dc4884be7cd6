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
    output_biases: Var,
    regions: Var,
    /// (T, T): ones on and above the diagonal, which turn what each horizon adds into what it expects.
    sums: Tensor,
}

/// A batch of N questions as constants.
pub(super) struct PlacementInputs {
    /// (N, D).
    pub(super) items: Tensor,
    /// (N): rows of the region table.
    pub(super) regions: Tensor,
    /// (N, E): standardised.
    pub(super) extras: Tensor,
}

impl PlacementVars {
    /// Random weights, drawn in order of their names; before it has learned anything, the head expects `increments`
    /// (T) requests between one horizon and the next.
    pub(super) fn random(
        config: &PlacementConfig,
        item_width: usize,
        region_count: usize,
        increments: &[f32],
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let (rank, hidden, horizons) = (config.rank, config.hidden_width, config.horizons_seconds.len());
        let input = PlacementWeights::input_width(config);
        let mut draw = |rows: usize, columns: usize, middle: f32| {
            let limit = (6.0 / (rows + columns) as f32).sqrt();
            let numbers: Vec<f32> = (0..rows * columns).map(|_| middle + rng.random_range(-limit..limit)).collect();
            Var::from_vec(numbers, (rows, columns), &Device::Cpu)
        };
        let biases: Vec<f32> =
            increments.iter().map(|rate| rate.ln().clamp(LOG_RATE_RANGE.0, LOG_RATE_RANGE.1)).collect();
        let sums: Vec<f32> =
            (0..horizons * horizons).map(|at| f32::from(u8::from(at / horizons <= at % horizons))).collect();
        Ok(Self {
            hidden: draw(hidden, input, 0.0)?,
            hidden_biases: Var::zeros(hidden, candle_core::DType::F32, &Device::Cpu)?,
            item_map: draw(rank, item_width, 0.0)?,
            // Features past the hidden layer start without influence.
            output: Var::zeros((horizons, hidden + EXTRA_COUNT), candle_core::DType::F32, &Device::Cpu)?,
            output_biases: Var::from_vec(biases, horizons, &Device::Cpu)?,
            // Around one: at first every region sees an item alike.
            regions: draw(region_count + 1, rank, 1.0)?,
            sums: Tensor::from_vec(sums, (horizons, horizons), &Device::Cpu)?,
        })
    }

    pub(super) fn optimizer(&self, learning_rate: f64) -> Result<AdamW> {
        let params = ParamsAdamW { lr: learning_rate, weight_decay: 0.0, ..ParamsAdamW::default() };
        AdamW::new(self.all().into_iter().cloned().collect(), params)
    }

    /// One optimizer step on `loss`, its gradient shortened to a length of at most [`GRADIENT_MAX`].
    pub(super) fn step(&self, optimizer: &mut AdamW, loss: &Tensor) -> Result<()> {
        let mut gradients = loss.backward()?;
        let mut squares = 0.0;
        for gradient in self.all().into_iter().filter_map(|var| gradients.get(var)) {
            squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        if squares > GRADIENT_MAX * GRADIENT_MAX {
            for var in self.all() {
                if let Some(gradient) = gradients.remove(var) {
                    gradients.insert(var, (gradient * (GRADIENT_MAX / squares.sqrt()))?);
                }
            }
        }
        optimizer.step(&gradients)
    }

    /// Rates (N, T).
    pub(super) fn rates(&self, inputs: &PlacementInputs) -> Result<Tensor> {
        let regions = self.regions.index_select(&inputs.regions, 0)?;
        let items = (inputs.items.matmul(&self.item_map.t()?)? * &regions)?;
        let input = Tensor::cat(&[&items, &regions, &inputs.extras], 1)?;
        let hidden = input.matmul(&self.hidden.t()?)?.broadcast_add(&self.hidden_biases)?.relu()?;
        let last = Tensor::cat(&[&hidden, &inputs.extras], 1)?;
        let logs = last.matmul(&self.output.t()?)?.broadcast_add(&self.output_biases)?;
        logs.clamp(LOG_RATE_RANGE.0, LOG_RATE_RANGE.1)?.exp()?.matmul(&self.sums)
    }

    /// Mean over the examples of the Poisson loss `rate − requests · ln rate`, for requests (N, T) and weights (N, T),
    /// summed over the horizons.
    pub(super) fn loss(&self, inputs: &PlacementInputs, requests: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let rates = self.rates(inputs)?;
        let losses = (&rates - (requests * rates.log()?)?)?;
        (losses * weights)?.sum_all()? / requests.dim(0)? as f64
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
        set(&self.output_biases, &weights.output_biases)
    }

    /// The numbers, with `extra_means` and `extra_scales` left empty: they are not learned by gradient.
    pub(super) fn weights(&self) -> Result<PlacementWeights> {
        let read = |var: &Var| var.flatten_all()?.to_vec1::<f32>();
        Ok(PlacementWeights {
            item_map: read(&self.item_map)?,
            regions: read(&self.regions)?,
            extra_means: Vec::new(),
            extra_scales: Vec::new(),
            hidden: read(&self.hidden)?,
            hidden_biases: read(&self.hidden_biases)?,
            output: read(&self.output)?,
            output_biases: read(&self.output_biases)?,
        })
    }

    fn all(&self) -> [&Var; 6] {
        [&self.hidden, &self.hidden_biases, &self.item_map, &self.output, &self.output_biases, &self.regions]
    }
}

/// Rare examples with large counts would otherwise throw the weights about.
const GRADIENT_MAX: f64 = 1.0;
