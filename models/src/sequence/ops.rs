//! The two fused operations that make training in candle fast enough: the GRU cell and the sampled softmax.
//!
//! Composed of candle's elementary operations, each would take a dozen passes over memory forward and more backward.
//! Tests hold values and gradients equal to that composition.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::kernel;

/// One step of a GRU from its two linear maps: (lanes, 3H) of the input, (lanes, 3H) and (lanes, H) of the state, to
/// the new state (lanes, H). Gates are in the order reset, update, new.
pub(super) struct GruCell;

/// The gates of one unit and what the reset gate multiplies.
struct Gates {
    reset: f32,
    update: f32,
    new: f32,
}

fn gates(input: &[f32], state: &[f32], width: usize, unit: usize) -> Gates {
    let reset = kernel::sigmoid(input[unit] + state[unit]);
    let update = kernel::sigmoid(input[width + unit] + state[width + unit]);
    let new = (input[2 * width + unit] + reset * state[2 * width + unit]).tanh();
    Gates { reset, update, new }
}

impl CustomOp3 for GruCell {
    fn name(&self) -> &'static str {
        "gru-cell"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (input, from_state, state) = (floats(s1, l1)?, floats(s2, l2)?, floats(s3, l3)?);
        let width = l3.shape().dims2()?.1;
        let mut out = vec![0.0; state.len()];
        for (lane, out) in out.chunks_exact_mut(width).enumerate() {
            let (input, from_state) = (&input[lane * 3 * width..], &from_state[lane * 3 * width..]);
            for (unit, out) in out.iter_mut().enumerate() {
                let Gates { update, new, .. } = gates(input, from_state, width, unit);
                *out = new + update * (state[lane * width + unit] - new);
            }
        }
        Ok((CpuStorage::F32(out), l3.shape().clone()))
    }

    fn bwd(
        &self,
        input: &Tensor,
        from_state: &Tensor,
        state: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (lanes, width) = state.dims2()?;
        let [input, from_state, state, grad] = [input, from_state, state, grad].map(|t| t.flatten_all()?.to_vec1());
        let (input, from_state, state, grad): (Vec<f32>, Vec<f32>, Vec<f32>, Vec<f32>) =
            (input?, from_state?, state?, grad?);
        let mut grad_input = vec![0.0; lanes * 3 * width];
        let mut grad_from_state = vec![0.0; lanes * 3 * width];
        let mut grad_state = vec![0.0; lanes * width];
        for lane in 0..lanes {
            let (input, from_state) = (&input[lane * 3 * width..], &from_state[lane * 3 * width..]);
            for unit in 0..width {
                let Gates { reset, update, new } = gates(input, from_state, width, unit);
                let at = lane * width + unit;
                let grad_new = grad[at] * (1.0 - update) * (1.0 - new * new);
                let grad_update = grad[at] * (state[at] - new) * update * (1.0 - update);
                let grad_reset = grad_new * from_state[2 * width + unit] * reset * (1.0 - reset);
                grad_state[at] = grad[at] * update;
                let base = lane * 3 * width + unit;
                for (offset, value) in [(0, grad_reset), (width, grad_update), (2 * width, grad_new)] {
                    grad_input[base + offset] = value;
                    grad_from_state[base + offset] = value;
                }
                grad_from_state[base + 2 * width] = grad_new * reset;
            }
        }
        let tensor = |numbers, columns| Tensor::from_vec(numbers, (lanes, columns), &candle_core::Device::Cpu);
        let wide = 3 * width;
        Ok((Some(tensor(grad_input, wide)?), Some(tensor(grad_from_state, wide)?), Some(tensor(grad_state, width)?)))
    }
}

/// Mean over the labelled rows of the sampled-softmax loss of scores (rows, candidates) plus biases (candidates).
///
/// With `a` a row's scores, `q` the candidates' chances to be candidates and `t` the row's label, the loss is
/// `ln Σ exp(a − ln q) − (a[t] − ln q[t]) + penalty · z²`, where `z = ln(exp a[t] + Σ over others of exp(a − ln q))`
/// estimates the log of the full softmax's partition from the sample.
pub(super) struct SampledSoftmax {
    /// Per row: the candidate that is its target; `None` for rows without one.
    pub(super) labels: Vec<Option<u32>>,
    /// Per candidate: ln q.
    pub(super) log_chances: Vec<f32>,
    /// How hard z is pulled to zero.
    pub(super) penalty: f32,
    /// The gradient to the scores, worked out with the loss and kept for the backward pass.
    pub(super) gradient: Mutex<Vec<f32>>,
}

impl SampledSoftmax {
    /// Replaces a row's scores by their gradient and returns its loss.
    fn row(&self, scores: &mut [f32], biases: &[f32], label: usize, weight: f32) -> f32 {
        let mut highest = f32::MIN;
        for ((score, bias), chance) in scores.iter_mut().zip(biases).zip(&self.log_chances) {
            *score += bias - chance;
            highest = highest.max(*score);
        }
        let target = scores[label];
        let mut sum = 0.0;
        for score in scores.iter_mut() {
            *score = kernel::exp(*score - highest);
            sum += *score;
        }
        let own = (target + self.log_chances[label] - highest).exp();
        let partition = (sum - scores[label] + own).max(f32::MIN_POSITIVE);
        let log_partition = partition.ln() + highest;
        let pull = 2.0 * self.penalty * log_partition;
        let shared = weight * (1.0 / sum + pull / partition);
        let target_gradient = weight * (scores[label] / sum - 1.0 + pull * own / partition);
        scores.iter_mut().for_each(|score| *score *= shared);
        scores[label] = target_gradient;
        sum.ln() + highest - target + self.penalty * log_partition * log_partition
    }
}

impl CustomOp2 for SampledSoftmax {
    fn name(&self) -> &'static str {
        "sampled-softmax"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (scores, biases) = (floats(s1, l1)?, floats(s2, l2)?);
        let weight = 1.0 / self.labels.iter().flatten().count().max(1) as f32;
        let mut gradient = scores.to_vec();
        let mut loss = 0.0;
        for (row, label) in gradient.chunks_exact_mut(biases.len()).zip(&self.labels) {
            match label {
                Some(label) => loss += weight * self.row(row, biases, *label as usize, weight),
                None => row.fill(0.0),
            }
        }
        *self.gradient.lock().unwrap_or_else(PoisonError::into_inner) = gradient;
        Ok((CpuStorage::F32(vec![loss]), Shape::from(())))
    }

    fn bwd(
        &self,
        scores: &Tensor,
        biases: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let factor = grad.to_scalar::<f32>()?;
        let mut gradient = std::mem::take(&mut *self.gradient.lock().unwrap_or_else(PoisonError::into_inner));
        let mut grad_biases = vec![0.0; biases.elem_count()];
        for row in gradient.chunks_exact_mut(grad_biases.len()) {
            row.iter_mut().for_each(|value| *value *= factor);
            kernel::add_scaled(&mut grad_biases, 1.0, row);
        }
        let grad_scores = Tensor::from_vec(gradient, scores.shape(), scores.device())?;
        Ok((Some(grad_scores), Some(Tensor::from_vec(grad_biases, biases.shape(), biases.device())?)))
    }
}

/// The numbers of a contiguous tensor.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("a fused operation needs contiguous tensors"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Device, Var};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn leaf(rng: &mut ChaCha8Rng, shape: (usize, usize)) -> Result<Var> {
        let numbers: Vec<f32> = (0..shape.0 * shape.1).map(|_| rng.random_range(-2.0..2.0)).collect();
        Var::from_vec(numbers, shape, &Device::Cpu)
    }

    fn assert_close(a: &Tensor, b: &Tensor, what: &str) -> Result<()> {
        let distance = (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        assert!(distance < 1e-5, "{what}: {distance}");
        Ok(())
    }

    /// Checks that two graphs over the same leaves have equal values and gradients.
    fn assert_same_graph(leaves: &[&Var], fused: &Tensor, composed: &Tensor) -> Result<()> {
        assert_close(fused, composed, "value")?;
        let (fused, composed) = (fused.sqr()?.sum_all()?.backward()?, composed.sqr()?.sum_all()?.backward()?);
        for (position, leaf) in leaves.iter().enumerate() {
            let gradients = fused.get(leaf).zip(composed.get(leaf)).expect("every leaf has a gradient");
            assert_close(gradients.0, gradients.1, &format!("gradient of leaf {position}"))?;
        }
        Ok(())
    }

    #[test]
    fn gru_cell_equals_its_composition() -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (input, from_state, state) = (leaf(&mut rng, (3, 15))?, leaf(&mut rng, (3, 15))?, leaf(&mut rng, (3, 5))?);
        let (inputs, states) = (input.chunk(3, 1)?, from_state.chunk(3, 1)?);
        let reset = candle_nn::ops::sigmoid(&(&inputs[0] + &states[0])?)?;
        let update = candle_nn::ops::sigmoid(&(&inputs[1] + &states[1])?)?;
        let new = (&inputs[2] + (reset * &states[2])?)?.tanh()?;
        let composed = (&new + (update * (state.as_tensor() - &new)?)?)?;
        let fused = input.apply_op3(&from_state, &state, GruCell)?;
        assert_same_graph(&[&input, &from_state, &state], &fused, &composed)
    }

    #[test]
    fn sampled_softmax_equals_its_composition() -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let scores = leaf(&mut rng, (3, 4))?;
        let biases = Var::from_tensor(&leaf(&mut rng, (1, 4))?.flatten_all()?)?;
        let log_chances = vec![-0.1, -1.0, -2.5, -0.7];
        let penalty = 0.3;
        let labelled = [(0_usize, 2_u32), (2, 1)];
        let mut composed = Tensor::new(0.0_f32, &Device::Cpu)?;
        for (row, label) in labelled {
            let plain = (scores.get(row)? + biases.as_tensor())?;
            let shifted = (&plain - Tensor::new(&log_chances[..], &Device::Cpu)?)?;
            let target = shifted.get(label as usize)?;
            let own = plain.get(label as usize)?.exp()?;
            let log_sum = shifted.log_sum_exp(D::Minus1)?;
            let partition = ((log_sum.exp()? - target.exp()?)? + own)?.log()?;
            composed = (composed + ((log_sum - target)? + (partition.sqr()? * f64::from(penalty))?)?)?;
        }
        let softmax =
            SampledSoftmax { labels: vec![Some(2), None, Some(1)], log_chances, penalty, gradient: Mutex::default() };
        let fused = scores.apply_op2(&biases, softmax)?;
        assert_same_graph(&[&scores, &biases], &fused, &(composed / 2.0)?)
    }
}
