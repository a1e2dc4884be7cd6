//! The sequence model's numbers, as training leaves them and artifacts store them.

use crate::{Error, ItemRef, Result, kernel};

/// All weights in plain row-major arrays; E is the embedding width, H the hidden width, V the rows, T the buckets.
///
/// The recurrent weights have the names, shapes and gate order (reset, update, new) of a PyTorch or candle GRU.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SequenceWeights {
    /// (3H, E).
    pub(crate) weight_ih: Vec<f32>,
    /// (3H, H).
    pub(crate) weight_hh: Vec<f32>,
    /// (3H).
    pub(crate) bias_ih: Vec<f32>,
    /// (3H).
    pub(crate) bias_hh: Vec<f32>,
    /// (E, H): from the state to the space that embeddings are compared in.
    pub(crate) projection: Vec<f32>,
    /// (V, E): what is known of each key, the part its tokens tell included.
    pub(crate) items: Vec<f32>,
    /// (V): how frequent each key is, all else equal.
    pub(crate) item_biases: Vec<f32>,
    /// (T, E): what a token tells of a key.
    pub(crate) tokens: Vec<f32>,
    /// (T).
    pub(crate) token_biases: Vec<f32>,
}

impl SequenceWeights {
    /// Checks that every array has the size that the widths ask for.
    pub(crate) fn check_shapes(&self, file: &str, embedding: usize, hidden: usize) -> Result<()> {
        let (rows, buckets) = (self.item_biases.len(), self.token_biases.len());
        let shapes = [
            ("weight_ih", self.weight_ih.len(), 3 * hidden * embedding),
            ("weight_hh", self.weight_hh.len(), 3 * hidden * hidden),
            ("bias_ih", self.bias_ih.len(), 3 * hidden),
            ("bias_hh", self.bias_hh.len(), 3 * hidden),
            ("projection", self.projection.len(), embedding * hidden),
            ("items", self.items.len(), rows * embedding),
            ("tokens", self.tokens.len(), buckets * embedding),
        ];
        match shapes.into_iter().find(|(_, found, expected)| found != expected) {
            Some((name, found, expected)) => {
                Err(Error::content(file, format!("sequence tensor {name} has {found} numbers instead of {expected}")))
            }
            None => Ok(()),
        }
    }

    /// Writes an item's vector (E) to `out` and returns its bias. Keys without a row get the mean of their tokens.
    pub(crate) fn item_vector(&self, item: &ItemRef, out: &mut [f32]) -> f32 {
        let width = out.len();
        if let Some(row) = item.row.map(|row| row as usize).filter(|row| *row < self.item_biases.len()) {
            out.copy_from_slice(&self.items[row * width..][..width]);
            return self.item_biases[row];
        }
        out.fill(0.0);
        let tokens = item.tokens.as_slice();
        let share = 1.0 / tokens.len().max(1) as f32;
        let mut bias = 0.0;
        for token in tokens.iter().map(|token| *token as usize).filter(|token| *token < self.token_biases.len()) {
            kernel::add_scaled(out, share, &self.tokens[token * width..][..width]);
            bias += share * self.token_biases[token];
        }
        bias
    }
}
