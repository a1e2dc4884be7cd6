//! The sampled softmax with its scores, as one operation that works out its gradients along with its loss.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};
use ndarray::Axis;
use rayon::prelude::*;

use super::{floats, matrix, product};
use crate::kernel;

/// Queries that one task scores: their scores stay in a core's cache.
const TASK_QUERIES: usize = 64;
/// Candidates whose gradient one task sums up.
const TASK_CANDIDATES: usize = 64;

/// Mean over the labelled queries of the sampled-softmax loss, from queries (N, E), the candidates' vectors (C, E) and
/// their biases (C).
///
/// With `a` a query's scores (products plus biases), `q` the candidates' chances to be candidates and `t` the query's
/// label, the loss is `ln Σ exp(a − ln q) − (a[t] − ln q[t]) + penalty · z²`, where
/// `z = ln(exp a[t] + Σ over others of exp(a − ln q))` estimates the log of the full softmax's partition from the
/// sample.
#[derive(Debug)]
pub(crate) struct SampledSoftmax {
    /// Per query: the candidate that is its target; `None` for queries without one.
    pub(crate) labels: Vec<Option<u32>>,
    /// Per candidate: ln q.
    pub(crate) log_chances: Vec<f32>,
    /// How hard z is pulled to zero.
    pub(crate) penalty: f32,
    /// The gradients to the operation's arguments, worked out with the loss and kept for the backward pass.
    pub(crate) gradients: Mutex<Gradients>,
}

/// Gradients to queries, candidates and biases.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    queries: Vec<f32>,
    candidates: Vec<f32>,
    biases: Vec<f32>,
}

impl SampledSoftmax {
    /// What one labelled query contributes to the mean.
    pub(crate) fn weight(&self) -> f32 {
        1.0 / self.labels.iter().flatten().count().max(1) as f32
    }

    fn run(&self, queries: &[f32], candidates: &[f32], biases: &[f32]) -> (f32, Gradients) {
        let count = biases.len();
        let width = candidates.len() / count;
        let offsets: Vec<f32> = biases.iter().zip(&self.log_chances).map(|(bias, chance)| bias - chance).collect();
        let mut scores = vec![0.0; self.labels.len() * count];
        let mut to_queries = vec![0.0; queries.len()];
        let tasks = scores.par_chunks_mut(TASK_QUERIES * count).zip(to_queries.par_chunks_mut(TASK_QUERIES * width));
        let tasks = tasks.zip(queries.par_chunks(TASK_QUERIES * width)).zip(self.labels.par_chunks(TASK_QUERIES));
        let losses: Vec<f32> = tasks
            .map(|(((scores, to_queries), queries), labels)| {
                product(&matrix(queries, width), &matrix(candidates, width).t(), 0.0, scores);
                let loss = self.rows(scores, &offsets, labels);
                product(&matrix(scores, count), &matrix(candidates, width), 0.0, to_queries);
                loss
            })
            .collect();
        let scores = matrix(&scores, count);
        let mut to_candidates = vec![0.0; candidates.len()];
        let mut to_biases = vec![0.0; count];
        let tasks = to_candidates.par_chunks_mut(TASK_CANDIDATES * width);
        tasks.zip(to_biases.par_chunks_mut(TASK_CANDIDATES)).enumerate().for_each(
            |(task, (to_candidates, to_biases))| {
                let first = task * TASK_CANDIDATES;
                let scores = scores.slice_axis(Axis(1), (first..first + to_biases.len()).into());
                product(&scores.t(), &matrix(queries, width), 0.0, to_candidates);
                for row in scores.rows() {
                    row.as_slice().into_iter().for_each(|row| kernel::add_scaled(to_biases, 1.0, row));
                }
            },
        );
        let loss = losses.into_iter().sum();
        (loss, Gradients { queries: to_queries, candidates: to_candidates, biases: to_biases })
    }

    /// Replaces queries' products by the gradients to them and returns what they add to the loss.
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

    /// Replaces a query's products by the gradients to them and returns its loss.
    #[inline(always)]
    fn row(&self, scores: &mut [f32], offsets: &[f32], label: usize, weight: f32) -> f32 {
        kernel::add(scores, offsets);
        let highest = kernel::highest(scores);
        let target = scores[label];
        let sum = kernel::exp_all(scores, highest);
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

impl CustomOp3 for SampledSoftmax {
    fn name(&self) -> &'static str {
        "sampled-softmax"
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
        let (loss, gradients) = self.run(floats(s1, l1)?, floats(s2, l2)?, floats(s3, l3)?);
        *self.gradients.lock().unwrap_or_else(PoisonError::into_inner) = gradients;
        Ok((CpuStorage::F32(vec![loss]), Shape::from(())))
    }

    fn bwd(
        &self,
        queries: &Tensor,
        candidates: &Tensor,
        biases: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let factor = grad.to_scalar::<f32>()?;
        let gradients = std::mem::take(&mut *self.gradients.lock().unwrap_or_else(PoisonError::into_inner));
        let tensor = |mut numbers: Vec<f32>, argument: &Tensor| {
            // The loss itself is what training differentiates: its gradient is one.
            if factor.to_bits() != 1.0_f32.to_bits() {
                numbers.iter_mut().for_each(|value| *value *= factor);
            }
            Tensor::from_vec(numbers, argument.shape(), &Device::Cpu).map(Some)
        };
        Ok((
            tensor(gradients.queries, queries)?,
            tensor(gradients.candidates, candidates)?,
            tensor(gradients.biases, biases)?,
        ))
    }
}
