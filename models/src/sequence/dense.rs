//! The weights that every request passes through, and how they learn.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{SequenceConfig, kernel};

const FIRST_DECAY: f64 = 0.9;
const SECOND_DECAY: f64 = 0.999;
const EPSILON: f32 = 1e-8;

/// One weight and what Adam remembers of its gradients, all of the same shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DenseWeight {
    /// Rows and columns; vectors have one column.
    pub(super) shape: (usize, usize),
    pub(super) values: Vec<f32>,
    /// Running mean of the gradients.
    pub(super) first: Vec<f32>,
    /// Running mean of their squares.
    pub(super) second: Vec<f32>,
}

impl DenseWeight {
    fn new(shape: (usize, usize), values: Vec<f32>) -> Self {
        let zeros = vec![0.0; values.len()];
        Self { shape, values, first: zeros.clone(), second: zeros }
    }

    fn random(rows: usize, columns: usize, rng: &mut ChaCha8Rng) -> Self {
        let limit = (6.0 / (rows + columns) as f32).sqrt();
        Self::new((rows, columns), (0..rows * columns).map(|_| rng.random_range(-limit..limit)).collect())
    }
}

/// The weights that every request passes through; shapes as in `SequenceWeights`.
///
/// They live on the host like the embedding rows do; each step shows them to the device as leaves of its graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DenseWeights {
    pub(super) bias_hh: DenseWeight,
    pub(super) bias_ih: DenseWeight,
    pub(super) projection: DenseWeight,
    pub(super) weight_hh: DenseWeight,
    pub(super) weight_ih: DenseWeight,
}

/// Gradients to [`DenseWeights`].
#[derive(Debug, Default)]
pub(super) struct DenseGradients<'a> {
    pub(super) bias_hh: &'a mut [f32],
    pub(super) bias_ih: &'a mut [f32],
    pub(super) projection: &'a mut [f32],
    pub(super) weight_hh: &'a mut [f32],
    pub(super) weight_ih: &'a mut [f32],
}

impl DenseGradients<'_> {
    /// Scales the gradients down to `norm_max` when they are longer than that together; returns how long they were.
    pub(super) fn clip(&mut self, norm_max: f32) -> f32 {
        let norm = self.all_mut().iter().map(|gradient| kernel::dot(gradient, gradient)).sum::<f32>().sqrt();
        if norm > norm_max {
            let factor = norm_max / norm;
            self.all_mut().into_iter().flatten().for_each(|value| *value *= factor);
        }
        norm
    }

    /// All gradients in order of the weights' names.
    fn all_mut(&mut self) -> [&mut [f32]; 5] {
        [self.bias_hh, self.bias_ih, self.projection, self.weight_hh, self.weight_ih]
    }
}

impl DenseWeights {
    /// Random weights, drawn in order of their names.
    pub(super) fn random(config: &SequenceConfig, rng: &mut ChaCha8Rng) -> Self {
        let (embedding, hidden) = (config.embedding_width, config.hidden_width);
        let zeros = || DenseWeight::new((3 * hidden, 1), vec![0.0; 3 * hidden]);
        Self {
            bias_hh: zeros(),
            bias_ih: zeros(),
            projection: DenseWeight::random(embedding, hidden, rng),
            weight_hh: DenseWeight::random(3 * hidden, hidden, rng),
            weight_ih: DenseWeight::random(3 * hidden, embedding, rng),
        }
    }

    /// All weights with their names, in order of those.
    pub(super) fn named(&self) -> [(&'static str, &DenseWeight); 5] {
        [
            ("bias_hh", &self.bias_hh),
            ("bias_ih", &self.bias_ih),
            ("projection", &self.projection),
            ("weight_hh", &self.weight_hh),
            ("weight_ih", &self.weight_ih),
        ]
    }

    /// As [`named`](Self::named), to be changed.
    pub(super) fn named_mut(&mut self) -> [(&'static str, &mut DenseWeight); 5] {
        [
            ("bias_hh", &mut self.bias_hh),
            ("bias_ih", &mut self.bias_ih),
            ("projection", &mut self.projection),
            ("weight_hh", &mut self.weight_hh),
            ("weight_ih", &mut self.weight_ih),
        ]
    }

    /// Moves the weights by step number `step` (from one) of Adam (Kingma and Ba, 2015).
    pub(super) fn learn(&mut self, mut gradients: DenseGradients<'_>, learning_rate: f64, step: u64) {
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        let first_scale = (1.0 / (1.0 - FIRST_DECAY.powi(step))) as f32;
        let second_scale = (1.0 / (1.0 - SECOND_DECAY.powi(step))) as f32;
        let (first_decay, first_share) = (FIRST_DECAY as f32, (1.0 - FIRST_DECAY) as f32);
        let (second_decay, second_share) = (SECOND_DECAY as f32, (1.0 - SECOND_DECAY) as f32);
        let rate = learning_rate as f32;
        for ((_, weight), gradient) in self.named_mut().into_iter().zip(gradients.all_mut()) {
            kernel::vectorised(|| {
                let moments = weight.first.iter_mut().zip(&mut weight.second);
                for ((value, (first, second)), gradient) in weight.values.iter_mut().zip(moments).zip(gradient) {
                    *first = *first * first_decay + *gradient * first_share;
                    *second = *second * second_decay + *gradient * *gradient * second_share;
                    *value -= rate * (*first * first_scale / ((*second * second_scale).sqrt() + EPSILON));
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor, Var};
    use candle_nn::{AdamW, Optimizer, ParamsAdamW};
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn learns_as_candles_adam_does() -> Result<()> {
        let config = SequenceConfig { embedding_width: 5, hidden_width: 3, ..SequenceConfig::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut weights = DenseWeights::random(&config, &mut rng);
        let leaf =
            |(_, weight): (&str, &DenseWeight)| Var::from_slice(&weight.values, weight.values.len(), &Device::Cpu);
        let leaves = weights.named().into_iter().map(leaf).collect::<Result<Vec<_>>>()?;
        let params = ParamsAdamW { lr: 0.01, weight_decay: 0.0, ..ParamsAdamW::default() };
        let mut adam = AdamW::new(leaves.clone(), params)?;
        for step in 1..=20 {
            let mut loss = Tensor::new(0.0_f32, &Device::Cpu)?;
            let mut numbers = Vec::new();
            for leaf in &leaves {
                let scale = 10.0_f32.powi(rng.random_range(-6..3));
                let gradient = (0..leaf.elem_count()).map(|_| scale * rng.random_range(-1.0..1.0));
                let gradient: Vec<f32> = gradient.collect();
                let tensor = Tensor::from_slice(&gradient, leaf.shape(), &Device::Cpu)?;
                loss = (loss + (leaf.as_tensor() * tensor)?.sum_all()?)?;
                numbers.push(gradient);
            }
            adam.step(&loss.backward()?)?;
            let [bias_hh, bias_ih, projection, weight_hh, weight_ih] = &mut numbers[..] else { unreachable!() };
            weights.learn(DenseGradients { bias_hh, bias_ih, projection, weight_hh, weight_ih }, 0.01, step);
        }
        for (leaf, (name, weight)) in leaves.iter().zip(weights.named()) {
            let expected: Vec<f32> = leaf.to_vec1()?;
            for (found, expected) in weight.values.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{name}: {found} instead of {expected}");
            }
        }
        Ok(())
    }

    #[test]
    fn only_long_gradients_are_cut() {
        let (mut bias_hh, mut weight_ih) = ([3.0], [4.0]);
        let mut gradients =
            DenseGradients { bias_hh: &mut bias_hh, weight_ih: &mut weight_ih, ..DenseGradients::default() };
        assert!((gradients.clip(5.0) - 5.0).abs() < 1e-6);
        assert_eq!(gradients.bias_hh, [3.0]);
        assert!((gradients.clip(1.0) - 5.0).abs() < 1e-6);
        assert!((gradients.bias_hh[0] - 0.6).abs() < 1e-6 && (gradients.weight_ih[0] - 0.8).abs() < 1e-6);
    }
}
