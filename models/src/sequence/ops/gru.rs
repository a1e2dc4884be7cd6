//! A GRU unrolled over the steps of a batch, as one operation with hand-written backpropagation through time.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor};
use ndarray::Axis;
use rayon::prelude::*;

use super::{floats, matrix, product};
use crate::kernel;

/// Lanes that one task takes through all steps: they need nothing of other lanes.
const TASK_LANES: usize = 32;

/// From each cell's input (steps · lanes, E) and the weights to the state after each cell (steps · lanes, H).
///
/// Weights come as one vector: `weight_ih` (3H, E), `weight_hh` (3H, H), `bias_ih` (3H), `bias_hh` (3H), with gates in
/// the order reset, update, new.
#[derive(Debug)]
pub(crate) struct Gru {
    /// Width E of the inputs.
    pub(crate) input_width: usize,
    /// Width H of the state.
    pub(crate) width: usize,
    /// Number of lanes.
    pub(crate) lanes: usize,
    /// (lanes, H): the state that the batch before left.
    pub(crate) state: Vec<f32>,
    /// Per cell: whether its lane's state is cleared before it.
    pub(crate) starts: Vec<bool>,
    /// What backpropagation needs of the forward pass.
    pub(crate) trace: Mutex<Trace>,
}

/// What the forward pass leaves for the backward pass.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// (steps · lanes, H): the state before each cell.
    before: Vec<f32>,
    /// (steps · lanes, 4H): reset, update and new gate, and what the reset gate multiplies.
    gates: Vec<f32>,
}

/// The parts of the weights' vector.
#[derive(Clone, Copy)]
struct Weights<'a> {
    ih: &'a [f32],
    hh: &'a [f32],
    bias_ih: &'a [f32],
    bias_hh: &'a [f32],
}

impl Gru {
    /// Where the parts of the weights' vector end.
    pub(crate) fn weight_ends(&self) -> [usize; 4] {
        let ih = 3 * self.width * self.input_width;
        let hh = ih + 3 * self.width * self.width;
        [ih, hh, hh + 3 * self.width, hh + 6 * self.width]
    }

    fn split<'a>(&self, numbers: &'a [f32]) -> Weights<'a> {
        let [ih, hh, bias_ih, bias_hh] = self.weight_ends();
        Weights {
            ih: &numbers[..ih],
            hh: &numbers[ih..hh],
            bias_ih: &numbers[hh..bias_ih],
            bias_hh: &numbers[bias_ih..bias_hh],
        }
    }

    fn forward(&self, inputs: &[f32], weights: Weights<'_>) -> (Vec<f32>, Trace) {
        let (cells, width) = (self.starts.len(), self.width);
        let mut states = vec![0.0; cells * width];
        let mut trace = Trace { before: vec![0.0; cells * width], gates: vec![0.0; cells * 4 * width] };
        let parts = self.tasks(&mut trace.before, width).into_iter().zip(self.tasks(&mut trace.gates, 4 * width));
        let tasks: Vec<_> = self.tasks(&mut states, width).into_iter().zip(parts).enumerate().collect();
        tasks.into_par_iter().for_each(|(task, (states, (before, gates)))| {
            self.forward_lanes(task * TASK_LANES, inputs, weights, states, before, gates);
        });
        (states, trace)
    }

    /// Takes the lanes from `first` on through all steps; `states`, `before` and `gates` have their part of each step.
    fn forward_lanes(
        &self,
        first: usize,
        inputs: &[f32],
        weights: Weights<'_>,
        states: Vec<&mut [f32]>,
        before: Vec<&mut [f32]>,
        gates: Vec<&mut [f32]>,
    ) {
        let width = self.width;
        let size = states.first().map_or(0, |part| part.len());
        let mut state = self.state[first * width..][..size].to_vec();
        let (mut from_input, mut from_state) = (vec![0.0; 3 * size], vec![0.0; 3 * size]);
        for (step, ((states, before), gates)) in states.into_iter().zip(before).zip(gates).enumerate() {
            let cell = step * self.lanes + first;
            for (lane, state) in state.chunks_exact_mut(width).enumerate() {
                if self.starts[cell + lane] {
                    state.fill(0.0);
                }
            }
            before.copy_from_slice(&state);
            let inputs = &inputs[cell * self.input_width..][..size / width * self.input_width];
            product(&matrix(inputs, self.input_width), &matrix(weights.ih, self.input_width).t(), 0.0, &mut from_input);
            product(&matrix(&state, width), &matrix(weights.hh, width).t(), 0.0, &mut from_state);
            kernel::vectorised(|| {
                for (lane, state) in state.chunks_exact_mut(width).enumerate() {
                    let input = &from_input[lane * 3 * width..][..3 * width];
                    let from_state = &from_state[lane * 3 * width..][..3 * width];
                    cell_forward(input, from_state, weights, state, &mut gates[lane * 4 * width..][..4 * width]);
                }
            });
            states.copy_from_slice(&state);
        }
    }

    /// Gradients to the inputs (steps · lanes, E) and to the weights.
    fn backward(&self, trace: &Trace, inputs: &[f32], weights: Weights<'_>, grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (cells, width) = (self.starts.len(), self.width);
        let mut to_inputs = vec![0.0; inputs.len()];
        // To what the weights make of each cell's input and state.
        let (mut from_input, mut from_state) = (vec![0.0; cells * 3 * width], vec![0.0; cells * 3 * width]);
        let parts = self.tasks(&mut from_input, 3 * width).into_iter().zip(self.tasks(&mut from_state, 3 * width));
        let tasks: Vec<_> = self.tasks(&mut to_inputs, self.input_width).into_iter().zip(parts).enumerate().collect();
        tasks.into_par_iter().for_each(|(task, (to_inputs, (from_input, from_state)))| {
            self.backward_lanes(task * TASK_LANES, trace, weights, grad, to_inputs, from_input, from_state);
        });
        let mut to_weights = vec![0.0; self.weight_ends()[3]];
        let [ih, hh, bias_ih, _] = self.weight_ends();
        let (to_ih, rest) = to_weights.split_at_mut(ih);
        let (to_hh, rest) = rest.split_at_mut(hh - ih);
        let (to_bias_ih, to_bias_hh) = rest.split_at_mut(bias_ih - hh);
        rayon::join(
            || self.to_weight(&from_input, inputs, to_ih, to_bias_ih),
            || self.to_weight(&from_state, &trace.before, to_hh, to_bias_hh),
        );
        (to_inputs, to_weights)
    }

    /// The gradients to a weight (3H, columns) and its bias (3H), from those to what they make (cells, 3H) `of` vectors
    /// (cells, columns).
    fn to_weight(&self, from: &[f32], of: &[f32], to_weight: &mut [f32], to_bias: &mut [f32]) {
        let width = self.width;
        kernel::vectorised(|| kernel::add_rows(from, to_bias));
        let columns = to_weight.len() / (3 * width);
        to_weight.par_chunks_mut(width * columns).enumerate().for_each(|(gate, out)| {
            let from = matrix(from, 3 * width);
            let from = from.slice_axis(Axis(1), (gate * width..(gate + 1) * width).into());
            product(&from.t(), &matrix(of, columns), 0.0, out);
        });
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one task, which have nothing else in common")]
    fn backward_lanes(
        &self,
        first: usize,
        trace: &Trace,
        weights: Weights<'_>,
        grad: &[f32],
        to_inputs: Vec<&mut [f32]>,
        from_input: Vec<&mut [f32]>,
        from_state: Vec<&mut [f32]>,
    ) {
        let width = self.width;
        let size = from_input.first().map_or(0, |part| part.len() / 3);
        // The gradient to the state after the cell, and then to the one before it.
        let mut to_state = vec![0.0; size];
        let steps: Vec<_> = to_inputs.into_iter().zip(from_input.into_iter().zip(from_state)).enumerate().collect();
        for (step, (to_inputs, (from_input, from_state))) in steps.into_iter().rev() {
            let cell = step * self.lanes + first;
            kernel::add(&mut to_state, &grad[cell * width..][..size]);
            let before = &trace.before[cell * width..][..size];
            let gates = &trace.gates[cell * 4 * width..][..4 * size];
            kernel::vectorised(|| {
                for (lane, to_state) in to_state.chunks_exact_mut(width).enumerate() {
                    let from_input = &mut from_input[lane * 3 * width..][..3 * width];
                    let from_state = &mut from_state[lane * 3 * width..][..3 * width];
                    let before = &before[lane * width..][..width];
                    cell_backward(&gates[lane * 4 * width..][..4 * width], before, to_state, from_input, from_state);
                }
            });
            product(&matrix(from_input, 3 * width), &matrix(weights.ih, self.input_width), 0.0, to_inputs);
            product(&matrix(from_state, 3 * width), &matrix(weights.hh, width), 1.0, &mut to_state);
            for (lane, to_state) in to_state.chunks_exact_mut(width).enumerate() {
                if self.starts[cell + lane] {
                    to_state.fill(0.0);
                }
            }
        }
    }

    /// Cuts (steps · lanes, columns) into each task's part of each step.
    fn tasks<'a>(&self, numbers: &'a mut [f32], columns: usize) -> Vec<Vec<&'a mut [f32]>> {
        let mut tasks: Vec<Vec<&mut [f32]>> = (0..self.lanes.div_ceil(TASK_LANES)).map(|_| Vec::new()).collect();
        for step in numbers.chunks_exact_mut(self.lanes * columns) {
            for (task, part) in tasks.iter_mut().zip(step.chunks_mut(TASK_LANES * columns)) {
                task.push(part);
            }
        }
        tasks
    }
}

/// Moves one lane's state (H) on and writes its gates (4H).
#[inline(always)]
fn cell_forward(input: &[f32], from_state: &[f32], weights: Weights<'_>, state: &mut [f32], gates: &mut [f32]) {
    let width = state.len();
    let [input_reset, input_update, input_new] = thirds(input, width);
    let [state_reset, state_update, state_new] = thirds(from_state, width);
    let [hh_reset, hh_update, hh_new] = thirds(weights.bias_hh, width);
    let [ih_reset, ih_update, ih_new] = thirds(weights.bias_ih, width);
    let (reset, gates) = gates.split_at_mut(width);
    let (update, gates) = gates.split_at_mut(width);
    let (new, product) = gates.split_at_mut(width);
    for unit in 0..width {
        reset[unit] = kernel::sigmoid_fast(input_reset[unit] + ih_reset[unit] + (state_reset[unit] + hh_reset[unit]));
    }
    for unit in 0..width {
        update[unit] =
            kernel::sigmoid_fast(input_update[unit] + ih_update[unit] + (state_update[unit] + hh_update[unit]));
    }
    for unit in 0..width {
        product[unit] = state_new[unit] + hh_new[unit];
        new[unit] = kernel::tanh_fast(input_new[unit] + ih_new[unit] + reset[unit] * product[unit]);
        state[unit] = new[unit] + update[unit] * (state[unit] - new[unit]);
    }
}

/// From the gradient to one lane's new state (H) to those to the gates' inputs and products (3H each), and to the part
/// of the state before (H) that the update gate kept, which replaces the gradient given.
#[inline(always)]
fn cell_backward(gates: &[f32], before: &[f32], to_state: &mut [f32], to_input: &mut [f32], to_product: &mut [f32]) {
    let width = before.len();
    let [reset, update, new] = thirds(gates, width);
    let product = &gates[3 * width..];
    let (to_reset, to_input) = to_input.split_at_mut(width);
    let (to_update, to_new) = to_input.split_at_mut(width);
    for unit in 0..width {
        let grad = to_state[unit];
        let grad_new = grad * (1.0 - update[unit]) * (1.0 - new[unit] * new[unit]);
        to_new[unit] = grad_new;
        to_update[unit] = grad * (before[unit] - new[unit]) * update[unit] * (1.0 - update[unit]);
        to_reset[unit] = grad_new * product[unit] * reset[unit] * (1.0 - reset[unit]);
        to_state[unit] = grad * update[unit];
    }
    let (reset_and_update, to_product_new) = to_product.split_at_mut(2 * width);
    reset_and_update[..width].copy_from_slice(to_reset);
    reset_and_update[width..].copy_from_slice(to_update);
    for unit in 0..width {
        to_product_new[unit] = to_new[unit] * reset[unit];
    }
}

#[inline(always)]
fn thirds(numbers: &[f32], width: usize) -> [&[f32]; 3] {
    [&numbers[..width], &numbers[width..2 * width], &numbers[2 * width..3 * width]]
}

impl CustomOp2 for Gru {
    fn name(&self) -> &'static str {
        "gru"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (states, trace) = self.forward(floats(s1, l1)?, self.split(floats(s2, l2)?));
        *self.trace.lock().unwrap_or_else(PoisonError::into_inner) = trace;
        Ok((CpuStorage::F32(states), Shape::from((self.starts.len(), self.width))))
    }

    fn bwd(
        &self,
        inputs: &Tensor,
        weights: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let trace = std::mem::take(&mut *self.trace.lock().unwrap_or_else(PoisonError::into_inner));
        let read = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let (to_inputs, to_weights) = self.backward(&trace, &read(inputs)?, self.split(&read(weights)?), &read(grad)?);
        let to_inputs = Tensor::from_vec(to_inputs, inputs.shape(), &Device::Cpu)?;
        Ok((Some(to_inputs), Some(Tensor::from_vec(to_weights, weights.shape(), &Device::Cpu)?)))
    }
}
