//! The fused operations' computations for other devices than the CPU, in candle's elementary operations.
//!
//! At the sizes that are usual, such a device waits for its next operation most of the time: what counts is how many
//! there are, and that none has to be told how its arguments are strided. So the gradients are written out here too,
//! gates come one after another rather than side by side, and each cell's few numbers are worked out on the host.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::sigmoid;

use super::{Gru, Lesson, SampledSoftmax, softmax::Scores};

/// The weights of [`Gru`], gate by gate.
struct Weights {
    /// (3, H, E).
    ih: Tensor,
    /// (3, H, H).
    hh: Tensor,
    /// (3, 1, H).
    bias_ih: Tensor,
    /// (3, lanes, H): the same for each lane.
    bias_hh: Tensor,
}

/// What backpropagation needs of one step, each (lanes, H).
struct Step {
    before: Tensor,
    /// (2, lanes, H): reset and update.
    gates: Tensor,
    new: Tensor,
    /// What the reset gate multiplies.
    product: Tensor,
    /// From the new gate to the state before.
    difference: Tensor,
    /// Zero where a session starts, else one.
    keep: Tensor,
}

/// Forward and backward through both operations, for arguments as these take them.
pub(crate) fn lesson(
    inputs: &Tensor,
    recurrent: &Tensor,
    output: &Tensor,
    gru: &Gru,
    softmax: &SampledSoftmax,
) -> Result<Lesson> {
    let weights = Weights::new(recurrent, gru)?;
    let steps = forward(inputs, &weights, gru)?;
    let states = steps.iter().map(|(_, state)| state).collect::<Vec<_>>();
    let (loss, to_states, to_output) = sampled_softmax(&Tensor::cat(&states, 0)?, output, softmax)?;
    let (to_inputs, mut parts) = backward(inputs, &weights, gru, &steps, &to_states)?;
    parts.extend(to_output);
    parts.push(to_inputs);
    parts.extend(states.last().map(|state| (*state).clone()));
    // One transfer instead of many; what is longest stays where it arrives.
    let parts = parts.iter().map(Tensor::flatten_all).collect::<Result<Vec<_>>>()?;
    let mut numbers: Vec<f32> = Tensor::cat(&parts, 0)?.to_vec1()?;
    let state = numbers.split_off(numbers.len() - gru.lanes * gru.width);
    let inputs = numbers.split_off(numbers.len() - inputs.elem_count());
    let output = numbers.split_off(numbers.len() - output.elem_count());
    Ok(Lesson { loss, state, inputs, recurrent: numbers, output })
}

impl Weights {
    fn new(weights: &Tensor, gru: &Gru) -> Result<Self> {
        let (width, [ih, hh, bias_ih, bias_hh]) = (gru.width, gru.weight_ends());
        let part = |start: usize, end: usize| weights.narrow(0, start, end - start);
        Ok(Self {
            ih: part(0, ih)?.reshape((3, width, gru.input_width))?,
            hh: part(ih, hh)?.reshape((3, width, width))?,
            bias_ih: part(hh, bias_ih)?.reshape((3, 1, width))?,
            bias_hh: part(bias_ih, bias_hh)?
                .reshape((3, 1, width))?
                .broadcast_as((3, gru.lanes, width))?
                .contiguous()?,
        })
    }
}

/// Each step with the state after it.
fn forward(inputs: &Tensor, weights: &Weights, gru: &Gru) -> Result<Vec<(Step, Tensor)>> {
    let (cells, lanes, width, device) = (gru.starts.len(), gru.lanes, gru.width, inputs.device());
    let keeps: Vec<f32> = gru.starts.iter().map(|starts| if *starts { 0.0 } else { 1.0 }).collect();
    let keeps = Tensor::from_vec(keeps, (cells, 1), device)?.broadcast_as((cells, width))?.contiguous()?;
    let from_inputs = for_each_gate(inputs)?.matmul(&weights.ih.t()?)?.broadcast_add(&weights.bias_ih)?;
    let from_inputs = from_inputs.reshape((3, cells / lanes, lanes * width))?.transpose(0, 1)?.contiguous()?;
    let mut state = Tensor::from_slice(&gru.state, (lanes, width), device)?;
    let mut steps = Vec::with_capacity(cells / lanes);
    for step in 0..cells / lanes {
        let keep = keeps.narrow(0, step * lanes, lanes)?;
        let before = (&state * &keep)?;
        let from_input = from_inputs.get(step)?.reshape((3, lanes, width))?;
        let from_state = (for_each_gate(&before)?.matmul(&weights.hh.t()?)? + &weights.bias_hh)?;
        let gates = sigmoid(&(from_input.narrow(0, 0, 2)? + from_state.narrow(0, 0, 2)?)?)?;
        let product = from_state.get(2)?;
        let new = (from_input.get(2)? + (gates.get(0)? * &product)?)?.tanh()?;
        let difference = (&before - &new)?;
        state = (&new + (gates.get(1)? * &difference)?)?;
        steps.push((Step { before, gates, new, product, difference, keep }, state.clone()));
    }
    Ok(steps)
}

/// The gradient to the inputs and those to each part of the weights.
fn backward(
    inputs: &Tensor,
    weights: &Weights,
    gru: &Gru,
    steps: &[(Step, Tensor)],
    to_states: &Tensor,
) -> Result<(Tensor, Vec<Tensor>)> {
    // To what the weights make of each step's input and state, (3, lanes, H), from the last step to the first.
    let (mut from_inputs, mut from_states) = (Vec::new(), Vec::new());
    let mut to_later = None;
    for (place, (step, _)) in steps.iter().enumerate().rev() {
        let mut to_state = to_states.narrow(0, place * gru.lanes, gru.lanes)?;
        if let Some(to_later) = to_later {
            to_state = (to_state + to_later)?;
        }
        let (reset, update) = (step.gates.get(0)?, step.gates.get(1)?);
        let kept = (&to_state * update)?;
        let to_new = (&to_state - &kept)?;
        let to_new = (&to_new - (&to_new * step.new.sqr()?)?)?;
        let to_gates = Tensor::stack(&[(&to_new * &step.product)?, (&to_state * &step.difference)?], 0)?;
        let to_gates = (to_gates * (&step.gates - step.gates.sqr()?)?)?;
        let to_product = (&to_new * reset)?.unsqueeze(0)?;
        from_inputs.push(Tensor::cat(&[&to_gates, &to_new.unsqueeze(0)?], 0)?);
        let from_state = Tensor::cat(&[to_gates, to_product], 0)?;
        to_later = Some(((sum_of_gates(&from_state.matmul(&weights.hh)?)? + kept)? * &step.keep)?);
        from_states.push(from_state);
    }
    from_inputs.reverse();
    from_states.reverse();
    let (from_inputs, from_states) = (Tensor::cat(&from_inputs, 1)?, Tensor::cat(&from_states, 1)?);
    let before = Tensor::cat(&steps.iter().map(|(step, _)| &step.before).collect::<Vec<_>>(), 0)?;
    let to_inputs = sum_of_gates(&from_inputs.matmul(&weights.ih)?)?;
    let to_weights = [to_weight(&from_inputs, inputs)?, to_weight(&from_states, &before)?];
    Ok((to_inputs, [&to_weights[..], &[from_inputs.sum(1)?, from_states.sum(1)?]].concat()))
}

/// The loss, the gradient to the states and those to each part of the weights.
fn sampled_softmax(states: &Tensor, weights: &Tensor, softmax: &SampledSoftmax) -> Result<(f32, Tensor, Vec<Tensor>)> {
    let (device, width, cells) = (states.device(), softmax.vector_width, softmax.labels.len());
    let [projection, candidates, biases] = softmax.weight_ends(states.dim(1)?);
    let chances = Tensor::from_slice(&softmax.log_chances, softmax.log_chances.len(), device)?;
    let offsets = (weights.narrow(0, candidates, biases - candidates)? - chances)?;
    let candidates = weights.narrow(0, projection, candidates - projection)?.reshape(((), width))?;
    let projection = weights.narrow(0, 0, projection)?.reshape((width, ()))?;
    let queries = states.matmul(&projection.t()?)?;
    let scores = queries.matmul(&candidates.t()?)?.broadcast_add(&offsets)?;
    let highest = scores.max_keepdim(D::Minus1)?;
    let odds = scores.broadcast_sub(&highest)?.exp()?;
    let places: Vec<u32> = softmax.labels.iter().map(|label| label.unwrap_or(0)).collect();
    let places = Tensor::from_vec(places, (cells, 1), device)?;
    let rows = [&highest, &odds.sum_keepdim(D::Minus1)?, &scores.gather(&places, 1)?];
    let rows: Vec<f32> = Tensor::cat(&rows, 0)?.flatten_all()?.to_vec1()?;

    let (mut loss, weight) = (0.0, softmax.weight());
    // Per cell: what its odds are multiplied with, and what is then missing from its target's gradient.
    let mut factors = vec![0.0; 2 * cells];
    for (cell, label) in softmax.labels.iter().enumerate() {
        let Some(label) = label else { continue };
        let [highest, sum, target] = [0, 1, 2].map(|part| rows[part * cells + cell]);
        let odds = (target - highest).exp();
        let scores = Scores { highest, sum, target, odds, log_chance: softmax.log_chances[*label as usize] };
        let cell_loss = softmax.cell(scores, weight);
        loss += weight * cell_loss.value;
        factors[cell] = cell_loss.shared;
        factors[cells + cell] = cell_loss.target - cell_loss.shared * odds;
    }
    let factors = Tensor::from_vec(factors, (2, cells, 1), device)?;
    let to_scores = odds.broadcast_mul(&factors.get(0)?)?;
    to_scores.scatter_add_set(&places, &factors.get(1)?, 1)?;
    let to_queries = to_scores.matmul(&candidates)?;
    let to_weights = vec![to_queries.t()?.matmul(states)?, to_scores.t()?.matmul(&queries)?, to_scores.sum(0)?];
    Ok((loss, to_queries.matmul(&projection)?, to_weights))
}

/// The same vectors (count, columns) for each of three gates, without a copy.
fn for_each_gate(vectors: &Tensor) -> Result<Tensor> {
    let (count, columns) = vectors.dims2()?;
    vectors.broadcast_as((3, count, columns))
}

/// The gradient to a weight (3H, columns), from those to what it makes (3, cells, H) of vectors (cells, columns).
///
/// Copied, since candle 0.11.1 on the CPU takes a transposed batch for rows when all of it meets the same matrix.
fn to_weight(from: &Tensor, of: &Tensor) -> Result<Tensor> {
    from.t()?.contiguous()?.flatten_to(1)?.matmul(of)
}

/// From (3, ..) to their sum; candle's sum over so few would start a block of threads per number.
fn sum_of_gates(parts: &Tensor) -> Result<Tensor> {
    (parts.get(0)? + parts.get(1)?)? + parts.get(2)?
}
