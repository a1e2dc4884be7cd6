//! The sequence model as a candle graph over leaves that hold only what one batch needs.

use candle_core::{Device, Result, Var, backprop::GradStore};

use super::{
    dense::{DenseGradients, DenseWeights},
    ops::{Gru, Lesson, SampledSoftmax, device},
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

/// The gradients of a lesson, each by what it is to.
#[derive(Debug)]
pub(super) struct Gradients<'a> {
    pub(super) dense: DenseGradients<'a>,
    /// (candidates, E).
    pub(super) vectors: &'a [f32],
    /// (candidates).
    pub(super) biases: &'a [f32],
    /// (steps · lanes, E): to the inputs' vectors.
    pub(super) inputs: &'a [f32],
}

impl Lesson {
    /// The gradients to these weights and to the vectors of this width.
    pub(super) fn gradients(&mut self, weights: &DenseWeights, width: usize) -> Gradients<'_> {
        let DenseWeights { bias_ih, projection, weight_hh, weight_ih, .. } = weights;
        let (to_weight_ih, rest) = self.recurrent.split_at_mut(weight_ih.values.len());
        let (to_weight_hh, rest) = rest.split_at_mut(weight_hh.values.len());
        let (to_bias_ih, to_bias_hh) = rest.split_at_mut(bias_ih.values.len());
        let (to_projection, rest) = self.output.split_at_mut(projection.values.len());
        let (vectors, biases) = rest.split_at(rest.len() / (width + 1) * width);
        let dense = DenseGradients {
            bias_hh: to_bias_hh,
            bias_ih: to_bias_ih,
            projection: to_projection,
            weight_hh: to_weight_hh,
            weight_ih: to_weight_ih,
        };
        Gradients { dense, vectors, biases, inputs: &self.inputs }
    }
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

    /// What the batch teaches.
    ///
    /// The fused operations run on the CPU; any other device gets the same computation from elementary ones.
    pub(super) fn learn(&self, gru: Gru, softmax: SampledSoftmax) -> Result<Lesson> {
        match self.inputs.device().is_cpu() {
            true => self.fused(gru, softmax),
            false => {
                let [inputs, recurrent, output] =
                    [&self.inputs, &self.recurrent, &self.output].map(Var::as_detached_tensor);
                device::lesson(&inputs, &recurrent, &output, &gru, &softmax)
            }
        }
    }

    fn fused(&self, gru: Gru, softmax: SampledSoftmax) -> Result<Lesson> {
        let lanes = gru.lanes;
        let states = self.inputs.apply_op2(&self.recurrent, gru)?;
        let loss = states.apply_op2(&self.output, softmax)?;
        let store = loss.backward()?;
        Ok(Lesson {
            loss: loss.to_scalar()?,
            state: states.narrow(0, states.dim(0)? - lanes, lanes)?.flatten_all()?.to_vec1()?,
            inputs: read(&store, &self.inputs)?,
            recurrent: read(&store, &self.recurrent)?,
            output: read(&store, &self.output)?,
        })
    }
}

fn read(gradients: &GradStore, leaf: &Var) -> Result<Vec<f32>> {
    match gradients.get(leaf) {
        Some(gradient) => gradient.flatten_all()?.to_vec1(),
        None => Ok(vec![0.0; leaf.elem_count()]),
    }
}
