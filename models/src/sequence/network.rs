//! The sequence model as a candle graph over leaves that hold only what one batch needs.

use candle_core::{Device, Result, Tensor, Var, backprop::GradStore};

use super::{
    dense::{DenseGradients, DenseWeights},
    ops::{Gru, SampledSoftmax, composed},
    rows::Vectors,
};

/// One batch as leaves of the graph.
#[derive(Debug)]
pub(super) struct Leaves {
    /// (steps · lanes, E): the input items' vectors.
    inputs: Var,
    /// What [`Gru`] wants of the weights.
    recurrent: Var,
    /// What [`SampledSoftmax`] wants of the weights and of the candidates.
    output: Var,
}

/// What one batch teaches.
#[derive(Debug)]
pub(super) struct Gradients {
    pub(super) dense: DenseGradients,
    /// (steps · lanes, E).
    pub(super) inputs: Vec<f32>,
    pub(super) candidates: Vectors,
}

impl Leaves {
    /// Puts weights and vectors on the device.
    pub(super) fn new(weights: &DenseWeights, inputs: &[f32], candidates: &Vectors, device: &Device) -> Result<Self> {
        let DenseWeights { bias_hh, bias_ih, projection, weight_hh, weight_ih } = weights;
        let width = weight_ih.shape.1;
        let recurrent = [&weight_ih.values[..], &weight_hh.values, &bias_ih.values, &bias_hh.values].concat();
        let output = [&projection.values[..], &candidates.vectors, &candidates.biases].concat();
        let (recurrent_size, output_size) = (recurrent.len(), output.len());
        Ok(Self {
            inputs: Var::from_slice(inputs, (inputs.len() / width, width), device)?,
            recurrent: Var::from_vec(recurrent, recurrent_size, device)?,
            output: Var::from_vec(output, output_size, device)?,
        })
    }

    /// The batch's mean loss and the state that it leaves (lanes, H).
    ///
    /// The fused operations run on the CPU; any other device gets the same computation from elementary ones.
    pub(super) fn loss(&self, gru: Gru, softmax: SampledSoftmax) -> Result<(Tensor, Tensor)> {
        let lanes = gru.lanes;
        let (states, loss) = match self.inputs.device().is_cpu() {
            true => {
                let states = self.inputs.apply_op2(&self.recurrent, gru)?;
                let loss = states.apply_op2(&self.output, softmax)?;
                (states, loss)
            }
            false => {
                let states = composed::gru(&self.inputs, &self.recurrent, &gru)?;
                let loss = composed::sampled_softmax(&states, &self.output, &softmax)?;
                (states, loss)
            }
        };
        let state = states.narrow(0, states.dim(0)? - lanes, lanes)?;
        Ok((loss, state.detach()))
    }

    /// The gradients of a loss of this graph over these weights.
    pub(super) fn gradients(&self, loss: &Tensor, weights: &DenseWeights) -> Result<Gradients> {
        let store = loss.backward()?;
        let (recurrent, output) = (read(&store, &self.recurrent)?, read(&store, &self.output)?);
        let DenseWeights { bias_ih, projection, weight_hh, weight_ih, .. } = weights;
        let (to_weight_ih, rest) = recurrent.split_at(weight_ih.values.len());
        let (to_weight_hh, rest) = rest.split_at(weight_hh.values.len());
        let (to_bias_ih, to_bias_hh) = rest.split_at(bias_ih.values.len());
        let (to_projection, rest) = output.split_at(projection.values.len());
        let width = weight_ih.shape.1;
        let (vectors, biases) = rest.split_at(rest.len() / (width + 1) * width);
        Ok(Gradients {
            dense: DenseGradients {
                bias_hh: to_bias_hh.to_vec(),
                bias_ih: to_bias_ih.to_vec(),
                projection: to_projection.to_vec(),
                weight_hh: to_weight_hh.to_vec(),
                weight_ih: to_weight_ih.to_vec(),
            },
            inputs: read(&store, &self.inputs)?,
            candidates: Vectors { vectors: vectors.to_vec(), biases: biases.to_vec() },
        })
    }
}

fn read(gradients: &GradStore, leaf: &Var) -> Result<Vec<f32>> {
    match gradients.get(leaf) {
        Some(gradient) => gradient.flatten_all()?.to_vec1(),
        None => Ok(vec![0.0; leaf.elem_count()]),
    }
}
