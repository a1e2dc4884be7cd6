//! A GRU unrolled over the steps of a batch, as one operation with hand-written backpropagation through time.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor};
use ndarray::Axis;
use rayon::prelude::*;

use super::{floats, matrix, product};
use crate::kernel;

/// Lanes that one task takes through all steps: they need nothing of other lanes.
const TASK_LANES: usize = 32;

/// From what the input weights make of each cell's input (steps · lanes, 3H) and the recurrent weights to the state
/// after each cell (steps · lanes, H). Gates are in the order reset, update, new.
///
/// The recurrent weights come as one vector: `weight_hh` (3H, H), `bias_hh` (3H), `bias_ih` (3H).
#[derive(Debug)]
pub(crate) struct Gru {
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

/// The parts of the recurrent weights' vector.
#[derive(Clone, Copy)]
struct Recurrent<'a> {
    weight: &'a [f32],
    bias_hh: &'a [f32],
    bias_ih: &'a [f32],
}

impl<'a> Recurrent<'a> {
    fn split(numbers: &'a [f32], width: usize) -> Self {
        let (weight, biases) = numbers.split_at(3 * width * width);
        let (bias_hh, bias_ih) = biases.split_at(3 * width);
        Self { weight, bias_hh, bias_ih }
    }
}

impl Gru {
    fn forward(&self, inputs: &[f32], recurrent: Recurrent<'_>) -> (Vec<f32>, Trace) {
        let cells = self.starts.len();
        let mut states = vec![0.0; cells * self.width];
        let mut trace = Trace { before: vec![0.0; cells * self.width], gates: vec![0.0; cells * 4 * self.width] };
        let tasks = self.tasks(&mut states, self.width).into_iter();
        let tasks =
            tasks.zip(self.tasks(&mut trace.before, self.width)).zip(self.tasks(&mut trace.gates, 4 * self.width));
        let tasks: Vec<_> = tasks.enumerate().collect();
        tasks.into_par_iter().for_each(|(task, ((states, before), gates))| {
            self.forward_lanes(task * TASK_LANES, inputs, recurrent, states, before, gates);
        });
        (states, trace)
    }

    /// Takes the lanes from `first` on through all steps; `states`, `before` and `gates` have their part of each step.
    fn forward_lanes(
        &self,
        first: usize,
        inputs: &[f32],
        recurrent: Recurrent<'_>,
        states: Vec<&mut [f32]>,
        before: Vec<&mut [f32]>,
        gates: Vec<&mut [f32]>,
    ) {
        let width = self.width;
        let mut state = self.state[first * width..][..states.first().map_or(0, |part| part.len())].to_vec();
        let mut from_state = vec![0.0; 3 * state.len()];
        for (step, ((states, before), gates)) in states.into_iter().zip(before).zip(gates).enumerate() {
            let cell = step * self.lanes + first;
            for (lane, state) in state.chunks_exact_mut(width).enumerate() {
                if self.starts[cell + lane] {
                    state.fill(0.0);
                }
            }
            before.copy_from_slice(&state);
            product(&matrix(&state, width), &matrix(recurrent.weight, width).t(), 0.0, &mut from_state);
            let inputs = &inputs[cell * 3 * width..];
            kernel::vectorised(|| {
                for (lane, state) in state.chunks_exact_mut(width).enumerate() {
                    let input = &inputs[lane * 3 * width..][..3 * width];
                    let from_state = &from_state[lane * 3 * width..][..3 * width];
                    cell_forward(input, from_state, recurrent, state, &mut gates[lane * 4 * width..][..4 * width]);
                }
            });
            states.copy_from_slice(&state);
        }
    }

    /// Gradients to the inputs (steps · lanes, 3H) and to the recurrent weights.
    fn backward(&self, trace: &Trace, recurrent: Recurrent<'_>, grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let width = self.width;
        let cells = self.starts.len();
        let mut to_inputs = vec![0.0; cells * 3 * width];
        // Of what the recurrent weights make of each cell's state.
        let mut to_products = vec![0.0; cells * 3 * width];
        let tasks = self.tasks(&mut to_inputs, 3 * width).into_iter().zip(self.tasks(&mut to_products, 3 * width));
        let tasks: Vec<_> = tasks.enumerate().collect();
        tasks.into_par_iter().for_each(|(task, (to_inputs, to_products))| {
            self.backward_lanes(task * TASK_LANES, trace, recurrent, grad, to_inputs, to_products);
        });
        let mut to_recurrent = vec![0.0; 3 * width * width + 6 * width];
        let (to_weight, to_biases) = to_recurrent.split_at_mut(3 * width * width);
        let (to_bias_hh, to_bias_ih) = to_biases.split_at_mut(3 * width);
        let products = matrix(&to_products, 3 * width);
        let before = matrix(&trace.before, width);
        let sums = || {
            kernel::add_rows(&to_products, to_bias_hh);
            kernel::add_rows(&to_inputs, to_bias_ih);
        };
        let weights = || {
            to_weight.par_chunks_mut(width * width).enumerate().for_each(|(gate, out)| {
                let products = products.slice_axis(Axis(1), (gate * width..(gate + 1) * width).into());
                product(&products.t(), &before, 0.0, out);
            });
        };
        rayon::join(weights, sums);
        (to_inputs, to_recurrent)
    }

    fn backward_lanes(
        &self,
        first: usize,
        trace: &Trace,
        recurrent: Recurrent<'_>,
        grad: &[f32],
        to_inputs: Vec<&mut [f32]>,
        to_products: Vec<&mut [f32]>,
    ) {
        let width = self.width;
        let size = to_inputs.first().map_or(0, |part| part.len() / 3);
        // The gradient to the state after the cell, and then to the one before it.
        let mut to_state = vec![0.0; size];
        let steps: Vec<_> = to_inputs.into_iter().zip(to_products).enumerate().collect();
        for (step, (to_inputs, to_products)) in steps.into_iter().rev() {
            let cell = step * self.lanes + first;
            kernel::add_scaled(&mut to_state, 1.0, &grad[cell * width..][..size]);
            let before = &trace.before[cell * width..][..size];
            let gates = &trace.gates[cell * 4 * width..][..4 * size];
            kernel::vectorised(|| {
                for (lane, to_state) in to_state.chunks_exact_mut(width).enumerate() {
                    let to_input = &mut to_inputs[lane * 3 * width..][..3 * width];
                    let to_product = &mut to_products[lane * 3 * width..][..3 * width];
                    let before = &before[lane * width..][..width];
                    cell_backward(&gates[lane * 4 * width..][..4 * width], before, to_state, to_input, to_product);
                }
            });
            product(&matrix(to_products, 3 * width), &matrix(recurrent.weight, width), 1.0, &mut to_state);
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
fn cell_forward(input: &[f32], from_state: &[f32], recurrent: Recurrent<'_>, state: &mut [f32], gates: &mut [f32]) {
    let width = state.len();
    let [input_reset, input_update, input_new] = thirds(input, width);
    let [state_reset, state_update, state_new] = thirds(from_state, width);
    let [hh_reset, hh_update, hh_new] = thirds(recurrent.bias_hh, width);
    let [ih_reset, ih_update, ih_new] = thirds(recurrent.bias_ih, width);
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
        let recurrent = Recurrent::split(floats(s2, l2)?, self.width);
        let (states, trace) = self.forward(floats(s1, l1)?, recurrent);
        *self.trace.lock().unwrap_or_else(PoisonError::into_inner) = trace;
        Ok((CpuStorage::F32(states), Shape::from((self.starts.len(), self.width))))
    }

    fn bwd(
        &self,
        inputs: &Tensor,
        recurrent: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let trace = std::mem::take(&mut *self.trace.lock().unwrap_or_else(PoisonError::into_inner));
        let (numbers, grad): (Vec<f32>, Vec<f32>) = (recurrent.to_vec1()?, grad.flatten_all()?.to_vec1()?);
        let (to_inputs, to_recurrent) = self.backward(&trace, Recurrent::split(&numbers, self.width), &grad);
        let to_inputs = Tensor::from_vec(to_inputs, inputs.shape(), &Device::Cpu)?;
        Ok((Some(to_inputs), Some(Tensor::from_vec(to_recurrent, recurrent.shape(), &Device::Cpu)?)))
    }
}
