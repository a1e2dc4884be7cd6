//! The output layer and its loss, as one operation that works out its gradients along with its value.

use std::{
    cell::Cell,
    sync::{Mutex, PoisonError},
};

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor};
use ndarray::Axis;
use rayon::prelude::*;

use super::{floats, matrix, product};
use crate::kernel;

/// Cells that one task scores: their scores stay in a core's cache.
const TASK_CELLS: usize = 64;
/// Candidates whose gradient one task sums up.
const TASK_CANDIDATES: usize = 64;

/// Mean over the labelled cells of the sampled-softmax loss, from the states after cells (N, H) and the output weights.
///
/// Weights come as one vector: the projection (E, H), the candidates' vectors (C, E) and their biases (C).
/// With `a` a cell's scores (products of its projected state with the vectors, plus biases), `q` the candidates' chances
/// to be candidates and `t` the cell's label, the loss is `ln Σ exp(a − ln q) − (a[t] − ln q[t]) + penalty · z²`, where
/// `z = ln(exp a[t] + Σ over others of exp(a − ln q))` estimates the log of the full softmax's partition from the
/// sample.
#[derive(Debug)]
pub(crate) struct SampledSoftmax {
    /// Width E of the candidates' vectors.
    pub(crate) vector_width: usize,
    /// Per cell: the candidate that is its target; `None` for cells without one.
    pub(crate) labels: Vec<Option<u32>>,
    /// Per candidate: ln q.
    pub(crate) log_chances: Vec<f32>,
    /// How hard z is pulled to zero.
    pub(crate) penalty: f32,
    /// The gradients to the operation's arguments, worked out with the loss and kept for the backward pass.
    pub(crate) gradients: Mutex<Gradients>,
}

/// Gradients to the states and to the weights.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    states: Vec<f32>,
    weights: Vec<f32>,
}

/// What a cell's loss needs of its scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scores {
    pub(super) highest: f32,
    /// Sum over the candidates of `exp(score − highest)`.
    pub(super) sum: f32,
    /// The target's score,
    pub(super) target: f32,
    /// its `exp(score − highest)`,
    pub(super) odds: f32,
    /// and its ln q.
    pub(super) log_chance: f32,
}

/// A cell's loss and the gradient to its scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct CellLoss {
    pub(super) value: f32,
    /// The gradient to any score but the target's, as a share of its `exp(score − highest)`.
    pub(super) shared: f32,
    /// The gradient to the target's score.
    pub(super) target: f32,
}

thread_local! {
    /// The scores of the last batch: the next one need not ask the system for as much memory again.
    static SCORES: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl SampledSoftmax {
    /// What one labelled cell contributes to the mean.
    pub(crate) fn weight(&self) -> f32 {
        1.0 / self.labels.iter().flatten().count().max(1) as f32
    }

    /// Where the parts of the weights' vector end.
    pub(crate) fn weight_ends(&self, state_width: usize) -> [usize; 3] {
        let (projection, count) = (self.vector_width * state_width, self.log_chances.len());
        [projection, projection + count * self.vector_width, projection + count * (self.vector_width + 1)]
    }

    fn run(&self, states: &[f32], weights: &[f32]) -> (f32, Gradients) {
        let (width, count) = (self.vector_width, self.log_chances.len());
        let state_width = states.len() / self.labels.len();
        let [projection, candidates, _] = self.weight_ends(state_width);
        let (projection, rest) = weights.split_at(projection);
        let (candidates, biases) = rest.split_at(candidates - projection.len());
        let offsets: Vec<f32> = biases.iter().zip(&self.log_chances).map(|(bias, chance)| bias - chance).collect();
        let mut scores = SCORES.take();
        scores.resize(self.labels.len() * count, 0.0);
        let (mut queries, mut to_queries) =
            (vec![0.0; self.labels.len() * width], vec![0.0; self.labels.len() * width]);
        let mut to_states = vec![0.0; states.len()];
        let (projection, candidates) = (matrix(projection, state_width), matrix(candidates, width));
        let losses: Vec<f32> = scores
            .par_chunks_mut(TASK_CELLS * count)
            .zip(queries.par_chunks_mut(TASK_CELLS * width).zip(to_queries.par_chunks_mut(TASK_CELLS * width)))
            .zip(states.par_chunks(TASK_CELLS * state_width).zip(to_states.par_chunks_mut(TASK_CELLS * state_width)))
            .zip(self.labels.par_chunks(TASK_CELLS))
            .map(|(((scores, (queries, to_queries)), (states, to_states)), labels)| {
                product(&matrix(states, state_width), &projection.t(), 0.0, queries);
                product(&matrix(queries, width), &candidates.t(), 0.0, scores);
                let loss = self.rows(scores, &offsets, labels);
                product(&matrix(scores, count), &candidates, 0.0, to_queries);
                product(&matrix(to_queries, width), &projection, 0.0, to_states);
                loss
            })
            .collect();
        let mut to_weights = vec![0.0; weights.len()];
        let (to_projection, rest) = to_weights.split_at_mut(projection.len());
        let (to_candidates, to_biases) = rest.split_at_mut(candidates.len());
        let to_projection =
            || product(&matrix(&to_queries, width).t(), &matrix(states, state_width), 0.0, to_projection);
        rayon::join(|| self.to_candidates(&scores, &queries, to_candidates, to_biases), to_projection);
        SCORES.set(scores);
        (losses.into_iter().sum(), Gradients { states: to_states, weights: to_weights })
    }

    /// The gradients to the candidates' vectors and biases, from those to the scores.
    fn to_candidates(&self, scores: &[f32], queries: &[f32], to_candidates: &mut [f32], to_biases: &mut [f32]) {
        let (width, count) = (self.vector_width, self.log_chances.len());
        let tasks = to_candidates.par_chunks_mut(TASK_CANDIDATES * width);
        tasks.zip(to_biases.par_chunks_mut(TASK_CANDIDATES)).enumerate().for_each(
            |(task, (to_candidates, to_biases))| {
                let columns = task * TASK_CANDIDATES..task * TASK_CANDIDATES + to_biases.len();
                let part = matrix(scores, count);
                product(
                    &part.slice_axis(Axis(1), columns.clone().into()).t(),
                    &matrix(queries, width),
                    0.0,
                    to_candidates,
                );
                scores.chunks_exact(count).for_each(|row| kernel::add(to_biases, &row[columns.clone()]));
            },
        );
    }

    /// Replaces cells' products by the gradients to them and returns what they add to the loss.
    fn rows(&self, scores: &mut [f32], offsets: &[f32], labels: &[Option<u32>]) -> f32 {
        let weight = self.weight();
        let mut loss = 0.0;
        for (row, label) in scores.chunks_exact_mut(offsets.len()).zip(labels) {
            match label {
                Some(label) => {
                    loss += weight * kernel::vectorised(|| self.row(row, offsets, *label as usize, weight));
                }
                None => row.fill(0.0),
            }
        }
        loss
    }

    /// Replaces a cell's products by the gradients to them and returns its loss.
    #[inline(always)]
    fn row(&self, scores: &mut [f32], offsets: &[f32], label: usize, weight: f32) -> f32 {
        kernel::add(scores, offsets);
        let highest = kernel::highest(scores);
        let target = scores[label];
        let sum = kernel::exp_all(scores, highest);
        let log_chance = self.log_chances[label];
        let loss = self.cell(Scores { highest, sum, target, odds: scores[label], log_chance }, weight);
        scores.iter_mut().for_each(|score| *score *= loss.shared);
        scores[label] = loss.target;
        loss.value
    }

    /// A cell's loss from its scores; its gradients are those of a cell with this weight.
    #[inline(always)]
    pub(super) fn cell(&self, scores: Scores, weight: f32) -> CellLoss {
        let Scores { highest, sum, target, odds, log_chance } = scores;
        let own = (target + log_chance - highest).exp();
        let partition = (sum - odds + own).max(f32::MIN_POSITIVE);
        let log_partition = partition.ln() + highest;
        let pull = 2.0 * self.penalty * log_partition;
        CellLoss {
            value: sum.ln() + highest - target + self.penalty * log_partition * log_partition,
            shared: weight * (1.0 / sum + pull / partition),
            target: weight * (odds / sum - 1.0 + pull * own / partition),
        }
    }
}

impl CustomOp2 for SampledSoftmax {
    fn name(&self) -> &'static str {
        "sampled-softmax"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (loss, gradients) = self.run(floats(s1, l1)?, floats(s2, l2)?);
        *self.gradients.lock().unwrap_or_else(PoisonError::into_inner) = gradients;
        Ok((CpuStorage::F32(vec![loss]), Shape::from(())))
    }

    fn bwd(
        &self,
        states: &Tensor,
        weights: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let factor = grad.to_scalar::<f32>()?;
        let gradients = std::mem::take(&mut *self.gradients.lock().unwrap_or_else(PoisonError::into_inner));
        let tensor = |mut numbers: Vec<f32>, argument: &Tensor| {
            // The loss itself is what training differentiates: its gradient is one.
            if factor.to_bits() != 1.0_f32.to_bits() {
                numbers.iter_mut().for_each(|value| *value *= factor);
            }
            Tensor::from_vec(numbers, argument.shape(), &Device::Cpu).map(Some)
        };
        Ok((tensor(gradients.states, states)?, tensor(gradients.weights, weights)?))
    }
}
