//! The fused operations' computations in candle's elementary operations, whose gradients candle works out.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::sigmoid;

use super::{Gru, SampledSoftmax};

/// What [`Gru`] computes.
pub(crate) fn gru(inputs: &Tensor, weights: &Tensor, gru: &Gru) -> Result<Tensor> {
    let (width, lanes, device) = (gru.width, gru.lanes, inputs.device());
    let [ih, hh, bias_ih, bias_hh] = gru.weight_ends();
    let weight_ih = weights.narrow(0, 0, ih)?.reshape((3 * width, gru.input_width))?.t()?;
    let weight = weights.narrow(0, ih, hh - ih)?.reshape((3 * width, width))?.t()?;
    let inputs = inputs.matmul(&weight_ih)?.broadcast_add(&weights.narrow(0, hh, bias_ih - hh)?)?;
    let bias_hh = weights.narrow(0, bias_ih, bias_hh - bias_ih)?;
    let mut state = Tensor::from_slice(&gru.state, (lanes, width), device)?;
    let mut states = Vec::new();
    for (step, starts) in gru.starts.chunks_exact(lanes).enumerate() {
        if starts.contains(&true) {
            let keep: Vec<f32> = starts.iter().map(|starts| if *starts { 0.0 } else { 1.0 }).collect();
            state = state.broadcast_mul(&Tensor::from_vec(keep, (lanes, 1), device)?)?;
        }
        let input = inputs.narrow(0, step * lanes, lanes)?;
        let from_state = state.matmul(&weight)?.broadcast_add(&bias_hh)?;
        let part = |of: &Tensor, gate: usize| of.narrow(1, gate * width, width);
        let reset = sigmoid(&(part(&input, 0)? + part(&from_state, 0)?)?)?;
        let update = sigmoid(&(part(&input, 1)? + part(&from_state, 1)?)?)?;
        let new = (part(&input, 2)? + (reset * part(&from_state, 2)?)?)?.tanh()?;
        state = (&new + (update * (state - &new)?)?)?;
        states.push(state.clone());
    }
    Tensor::cat(&states, 0)
}

/// What [`SampledSoftmax`] computes.
pub(crate) fn sampled_softmax(states: &Tensor, weights: &Tensor, softmax: &SampledSoftmax) -> Result<Tensor> {
    let (device, width, state_width) = (states.device(), softmax.vector_width, states.dim(1)?);
    let [projection, candidates, biases] = softmax.weight_ends(state_width);
    let chances = Tensor::from_slice(&softmax.log_chances, softmax.log_chances.len(), device)?;
    let offsets = (weights.narrow(0, candidates, biases - candidates)? - chances)?;
    let candidates = weights.narrow(0, projection, candidates - projection)?.reshape(((), width))?;
    let projection = weights.narrow(0, 0, projection)?.reshape((width, state_width))?;
    let queries = states.matmul(&projection.t()?)?;
    let scores = queries.matmul(&candidates.t()?)?.broadcast_add(&offsets)?;
    let weight = softmax.weight();
    let weights: Vec<f32> = softmax.labels.iter().map(|label| label.map_or(0.0, |_| weight)).collect();
    let places: Vec<u32> = softmax.labels.iter().map(|label| label.unwrap_or(0)).collect();
    let own: Vec<f32> = places.iter().map(|place| softmax.log_chances[*place as usize]).collect();
    let count = places.len();
    let weights = Tensor::from_vec(weights, count, device)?;
    let places = Tensor::from_vec(places, (count, 1), device)?;
    let target = scores.gather(&places, 1)?.squeeze(1)?;
    let own = (&target + Tensor::from_vec(own, count, device)?)?;
    let log_sum = scores.log_sum_exp(D::Minus1)?;
    // The partition as a share of the sum, which no overflow reaches.
    let share = ((own - &log_sum)?.exp()? - (&target - &log_sum)?.exp()?)?;
    let partition = (&log_sum + (share + 1.0)?.clamp(f32::MIN_POSITIVE, f32::MAX)?.log()?)?;
    let losses = ((log_sum - target)? + (partition.sqr()? * f64::from(softmax.penalty))?)?;
    (losses * weights)?.sum_all()
}
