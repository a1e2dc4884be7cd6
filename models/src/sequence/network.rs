//! The sequence model as a candle graph over leaves that hold only what one batch needs.

use candle_core::{D, Result, Tensor, Var};

use crate::sequence::{
    dense::DenseLeaves,
    ops::{GruCell, SampledSoftmax},
};

/// One batch as leaves of the graph.
pub(super) struct Leaves {
    pub(super) dense: DenseLeaves,
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

impl Leaves {
    /// The batch's scores before biases (steps · lanes, candidates), and the state it leaves (lanes, H).
    pub(super) fn scores(&self) -> Result<(Tensor, Tensor)> {
        let lanes = self.state.dim(0)?;
        let from_inputs = self.inputs.matmul(&self.dense.weight_ih.t()?)?.broadcast_add(&self.dense.bias_ih)?;
        let weight_hh = self.dense.weight_hh.t()?;
        let mut state = self.state.clone();
        let mut states = Vec::with_capacity(self.keeps.len());
        for (step, keep) in self.keeps.iter().enumerate() {
            if let Some(keep) = keep {
                state = (state * keep)?;
            }
            let from_input = from_inputs.narrow(0, step * lanes, lanes)?;
            let from_state = state.matmul(&weight_hh)?.broadcast_add(&self.dense.bias_hh)?;
            state = from_input.apply_op3(&from_state, &state, GruCell)?;
            states.push(state.clone());
        }
        let queries = Tensor::cat(&states, 0)?.matmul(&self.dense.projection.t()?)?;
        let scores = queries.matmul(&self.candidates.transpose(0, D::Minus1)?)?;
        Ok((scores, state.detach()))
    }

    /// The batch's mean loss and the state it leaves (lanes, H).
    pub(super) fn loss(&self, softmax: SampledSoftmax) -> Result<(Tensor, Tensor)> {
        let (scores, state) = self.scores()?;
        Ok((scores.apply_op2(&self.biases, softmax)?, state))
    }
}
