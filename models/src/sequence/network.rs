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
    /// (candidates, E): the candidates' vectors.
    candidates: Var,
    /// (candidates).
    biases: Var,
    weight_ih: Var,
    /// What [`Gru`] wants of the recurrent weights.
    recurrent: Var,
    projection: Var,
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
        let recurrent = [&weight_hh.values[..], &bias_hh.values, &bias_ih.values].concat();
        let width = weight_ih.shape.1;
        Ok(Self {
            inputs: Var::from_slice(inputs, (inputs.len() / width, width), device)?,
            candidates: Var::from_slice(&candidates.vectors, (candidates.biases.len(), width), device)?,
            biases: Var::from_slice(&candidates.biases, candidates.biases.len(), device)?,
            weight_ih: Var::from_slice(&weight_ih.values, weight_ih.shape, device)?,
            recurrent: Var::from_slice(&recurrent, recurrent.len(), device)?,
            projection: Var::from_slice(&projection.values, projection.shape, device)?,
        })
    }

    /// The batch's mean loss and the state that it leaves (lanes, H).
    ///
    /// The fused operations run on the CPU; any other device gets the same computation from elementary ones.
    pub(super) fn loss(&self, gru: Gru, softmax: SampledSoftmax) -> Result<(Tensor, Tensor)> {
        let lanes = gru.lanes;
        let fused = self.inputs.device().is_cpu();
        let from_inputs = self.inputs.matmul(&self.weight_ih.t()?)?;
        let states = match fused {
            true => from_inputs.apply_op2(&self.recurrent, gru)?,
            false => composed::gru(&from_inputs, &self.recurrent, &gru)?,
        };
        let queries = states.matmul(&self.projection.t()?)?;
        let loss = match fused {
            true => queries.apply_op3(&self.candidates, &self.biases, softmax)?,
            false => composed::sampled_softmax(&queries, &self.candidates, &self.biases, &softmax)?,
        };
        let state = states.narrow(0, states.dim(0)? - lanes, lanes)?;
        Ok((loss, state.detach()))
    }

    /// The gradients of a loss of this graph.
    pub(super) fn gradients(&self, loss: &Tensor) -> Result<Gradients> {
        let store = loss.backward()?;
        let recurrent = read(&store, &self.recurrent)?;
        let width = self.projection.dim(1)?;
        let (weight_hh, biases) = recurrent.split_at(3 * width * width);
        let (bias_hh, bias_ih) = biases.split_at(3 * width);
        Ok(Gradients {
            dense: DenseGradients {
                bias_hh: bias_hh.to_vec(),
                bias_ih: bias_ih.to_vec(),
                projection: read(&store, &self.projection)?,
                weight_hh: weight_hh.to_vec(),
                weight_ih: read(&store, &self.weight_ih)?,
            },
            inputs: read(&store, &self.inputs)?,
            candidates: Vectors { vectors: read(&store, &self.candidates)?, biases: read(&store, &self.biases)? },
        })
    }
}

fn read(gradients: &GradStore, leaf: &Var) -> Result<Vec<f32>> {
    match gradients.get(leaf) {
        Some(gradient) => gradient.flatten_all()?.to_vec1(),
        None => Ok(vec![0.0; leaf.elem_count()]),
    }
}
