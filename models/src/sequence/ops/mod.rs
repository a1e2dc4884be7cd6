//! The two fused operations that make training in candle fast: the unrolled GRU and the sampled softmax.
//!
//! Composed of candle's elementary operations, each would take dozens of passes over memory forward and more backward.
//! Here both directions run in parallel over pieces that stay in a core's cache. How work is cut depends on its size
//! alone and every sum is taken in one order, so that results do not depend on the number of threads.
//!
//! On other devices than the CPU, [`device`] does the same in candle's elementary operations. Tests hold values and
//! gradients of both equal to what candle works out itself.

#[cfg(test)]
mod composed;
pub(super) mod device;
mod gru;
mod softmax;

use candle_core::{CpuStorage, Layout, Result, bail};
use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};

pub(super) use gru::Gru;
pub(super) use softmax::SampledSoftmax;

/// What a batch teaches.
#[derive(Debug)]
pub(super) struct Lesson {
    /// The batch's mean loss.
    pub(super) loss: f32,
    /// (lanes, H): the state that the batch leaves.
    pub(super) state: Vec<f32>,
    /// Gradient to the inputs of [`Gru`].
    pub(super) inputs: Vec<f32>,
    /// Gradient to the weights of [`Gru`].
    pub(super) recurrent: Vec<f32>,
    /// Gradient to the weights of [`SampledSoftmax`].
    pub(super) output: Vec<f32>,
}

/// The numbers of a contiguous tensor.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("a fused operation needs contiguous tensors"),
    }
}

/// Row-major numbers as a matrix with so many columns.
fn matrix(numbers: &[f32], columns: usize) -> ArrayView2<'_, f32> {
    let shape = (numbers.len() / columns, columns);
    ArrayView2::from_shape(shape, numbers).expect("rows are complete")
}

/// `out = keep·out + a·b` on one thread, so that the order of its sums is always the same.
fn product(a: &ArrayView2<'_, f32>, b: &ArrayView2<'_, f32>, keep: f32, out: &mut [f32]) {
    let shape = (a.nrows(), b.ncols());
    let mut out = ArrayViewMut2::from_shape(shape, out).expect("the result has the product's shape");
    general_mat_mul(1.0, a, b, keep, &mut out);
}

#[cfg(test)]
mod tests;
