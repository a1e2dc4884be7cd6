//! The sequence model as a candle graph over leaves that hold only what one batch needs.

use candle_core::{D, Device, Result, Tensor, Var, backprop::GradStore};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{
    SequenceConfig,
    sequence::ops::{GruCell, SampledSoftmax},
};

/// The weights that every request passes through; shapes as in `SequenceWeights`.
#[derive(Debug)]
pub(super) struct DenseWeights {
    pub(super) bias_hh: Var,
    pub(super) bias_ih: Var,
    pub(super) projection: Var,
    pub(super) weight_hh: Var,
    pub(super) weight_ih: Var,
}

/// One batch as leaves of the graph.
pub(super) struct Leaves {
    /// (steps · lanes, E): the input items' vectors.
    pub(super) inputs: Var,
    /// (candidates, E): the candidates' vectors.
    pub(super) candidates: Var,
    /// (candidates).
    pub(super) biases: Var,
    /// (lanes, H): the state that the batch before left.
    pub(super) state: Tensor,
    /// Per step: 0 where a session starts, else 1, (lanes, H); `None` when none starts.
    pub(super) keeps: Vec<Option<Tensor>>,
}

impl DenseWeights {
    /// Random weights, drawn in order of their names.
    pub(super) fn random(config: &SequenceConfig, rng: &mut ChaCha8Rng) -> Result<Self> {
        let (embedding, hidden) = (config.embedding_width, config.hidden_width);
        let mut draw = |rows: usize, columns: usize| {
            let limit = (6.0 / (rows + columns) as f32).sqrt();
            let numbers: Vec<f32> = (0..rows * columns).map(|_| rng.random_range(-limit..limit)).collect();
            Var::from_vec(numbers, (rows, columns), &Device::Cpu)
        };
        let zeros = || Var::from_vec(vec![0.0_f32; 3 * hidden], 3 * hidden, &Device::Cpu);
        Ok(Self {
            bias_hh: zeros()?,
            bias_ih: zeros()?,
            projection: draw(embedding, hidden)?,
            weight_hh: draw(3 * hidden, hidden)?,
            weight_ih: draw(3 * hidden, embedding)?,
        })
    }

    /// All weights in order of their names.
    pub(super) fn all(&self) -> [&Var; 5] {
        [&self.bias_hh, &self.bias_ih, &self.projection, &self.weight_hh, &self.weight_ih]
    }

    /// Adam over all weights.
    pub(super) fn optimizer(&self, learning_rate: f64) -> Result<AdamW> {
        let params = ParamsAdamW { lr: learning_rate, weight_decay: 0.0, ..ParamsAdamW::default() };
        AdamW::new(self.all().into_iter().cloned().collect(), params)
    }

    /// Scales the weights' gradients down when they are longer than `norm_max` together.
    pub(super) fn clip(&self, gradients: &mut GradStore, norm_max: f32) -> Result<()> {
        let mut squares = 0.0;
        for gradient in self.all().into_iter().filter_map(|weight| gradients.get(weight)) {
            squares += gradient.sqr()?.sum_all()?.to_scalar::<f32>()?;
        }
        if squares > norm_max * norm_max {
            for weight in self.all() {
                if let Some(gradient) = gradients.remove(weight) {
                    gradients.insert(weight, (gradient * f64::from(norm_max / squares.sqrt()))?);
                }
            }
        }
        Ok(())
    }

    /// The batch's scores before biases (steps · lanes, candidates), and the state it leaves (lanes, H).
    pub(super) fn scores(&self, leaves: &Leaves) -> Result<(Tensor, Tensor)> {
        let lanes = leaves.state.dim(0)?;
        let from_inputs = leaves.inputs.matmul(&self.weight_ih.t()?)?.broadcast_add(&self.bias_ih)?;
        let weight_hh = self.weight_hh.t()?;
        let mut state = leaves.state.clone();
        let mut states = Vec::with_capacity(leaves.keeps.len());
        for (step, keep) in leaves.keeps.iter().enumerate() {
            if let Some(keep) = keep {
                state = (state * keep)?;
            }
            let from_input = from_inputs.narrow(0, step * lanes, lanes)?;
            let from_state = state.matmul(&weight_hh)?.broadcast_add(&self.bias_hh)?;
            state = from_input.apply_op3(&from_state, &state, GruCell)?;
            states.push(state.clone());
        }
        let queries = Tensor::cat(&states, 0)?.matmul(&self.projection.t()?)?;
        let scores = queries.matmul(&leaves.candidates.transpose(0, D::Minus1)?)?;
        Ok((scores, state.detach()))
    }

    /// The batch's mean loss and the state it leaves (lanes, H).
    pub(super) fn loss(&self, leaves: &Leaves, softmax: SampledSoftmax) -> Result<(Tensor, Tensor)> {
        let (scores, state) = self.scores(leaves)?;
        Ok((scores.apply_op2(&leaves.biases, softmax)?, state))
    }
}
