//! The trained sequence model as it serves: one recurrent step per request, dot products for scores.

use crate::{ItemRef, SequenceConfig, kernel, sequence::retrieval::Cells, sequence::weights::SequenceWeights};

/// What the model remembers of one client: 4·(H + E) bytes, 512 at the default widths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SequenceState {
    /// (H): the recurrent state.
    hidden: Vec<f32>,
    /// (E): the state projected to where embeddings live; its product with an embedding is the score.
    query: Vec<f32>,
}

/// A gated recurrent network over a client's requests, with embeddings shared between input and output.
///
/// `h' = GRU(h, v(item))`, `score(item) = P h' · v(item) + b(item)`, where `v` of a key with a row is its embedding and
/// of any other key the mean of its path tokens' embeddings. Scores are trained to be log-probabilities of the next
/// key. This serving path is plain loops; tests hold it equal to candle's GRU within 1e-5.
#[derive(Clone, Debug)]
pub struct SequenceModel {
    config: SequenceConfig,
    weights: SequenceWeights,
    cells: Option<Cells>,
}

impl SequenceModel {
    pub(crate) fn from_parts(config: SequenceConfig, weights: SequenceWeights, cells: Option<Cells>) -> Self {
        Self { config, weights, cells }
    }

    /// The configuration that the model was trained with.
    pub fn config(&self) -> &SequenceConfig {
        &self.config
    }

    /// Number of keys with an embedding row.
    pub fn row_count(&self) -> usize {
        self.weights.item_biases.len()
    }

    /// Number of buckets that path tokens are hashed into.
    pub fn token_count(&self) -> usize {
        self.weights.token_biases.len()
    }

    /// The state of a client of whom nothing is known.
    pub fn initial_state(&self) -> SequenceState {
        SequenceState { hidden: vec![0.0; self.config.hidden_width], query: vec![0.0; self.config.embedding_width] }
    }

    /// Moves a client's state on by one request.
    pub fn step(&self, state: &mut SequenceState, item: &ItemRef) {
        let hidden = self.config.hidden_width;
        let mut input = vec![0.0; self.config.embedding_width];
        self.weights.item_vector(item, &mut input);
        let mut from_input = self.weights.bias_ih.clone();
        kernel::add_product(&self.weights.weight_ih, &input, &mut from_input);
        let mut from_hidden = self.weights.bias_hh.clone();
        kernel::add_product(&self.weights.weight_hh, &state.hidden, &mut from_hidden);
        for (unit, value) in state.hidden.iter_mut().enumerate() {
            let reset = kernel::sigmoid(from_input[unit] + from_hidden[unit]);
            let update = kernel::sigmoid(from_input[hidden + unit] + from_hidden[hidden + unit]);
            let new = (from_input[2 * hidden + unit] + reset * from_hidden[2 * hidden + unit]).tanh();
            *value = new + update * (*value - new);
        }
        state.query.fill(0.0);
        kernel::add_product(&self.weights.projection, &state.hidden, &mut state.query);
    }

    /// The log-probability, as far as training made it one, that the client asks for `item` next.
    pub fn score(&self, state: &SequenceState, item: &ItemRef) -> f32 {
        if let Some(row) = item.row.filter(|row| (*row as usize) < self.row_count()) {
            return self.row_score(&state.query, row);
        }
        let mut vector = vec![0.0; self.config.embedding_width];
        let bias = self.weights.item_vector(item, &mut vector);
        kernel::dot(&state.query, &vector) + bias
    }

    /// Puts the `count` rows with the highest scores into `out`, best first, ties by row.
    ///
    /// Up to `exact_rows_max` rows are all compared; in a larger vocabulary only the cells nearest to the query.
    pub fn top(&self, state: &SequenceState, count: usize, out: &mut Vec<(u32, f32)>) {
        let Some(cells) = &self.cells else { return self.top_exact(state, count, out) };
        out.clear();
        let rows = cells.candidates(&state.query, self.config.cells_probed);
        out.extend(rows.map(|row| (row, self.row_score(&state.query, row))));
        keep_best(count, out);
    }

    /// As [`top`](Self::top), but compares all rows however many there are: for measuring, not for serving.
    pub fn top_exact(&self, state: &SequenceState, count: usize, out: &mut Vec<(u32, f32)>) {
        out.clear();
        let rows = 0..u32::try_from(self.row_count()).unwrap_or(u32::MAX);
        out.extend(rows.map(|row| (row, self.row_score(&state.query, row))));
        keep_best(count, out);
    }

    /// An item's embedding (E) with the bias as one more number at the end: what the placement head is built on.
    pub fn embedding(&self, item: &ItemRef) -> Vec<f32> {
        let mut vector = vec![0.0; self.config.embedding_width];
        let bias = self.weights.item_vector(item, &mut vector);
        vector.push(bias);
        vector
    }

    pub(crate) fn weights(&self) -> &SequenceWeights {
        &self.weights
    }

    pub(crate) fn cells(&self) -> Option<&Cells> {
        self.cells.as_ref()
    }

    fn row_score(&self, query: &[f32], row: u32) -> f32 {
        let (row, width) = (row as usize, self.config.embedding_width);
        kernel::dot(query, &self.weights.items[row * width..][..width]) + self.weights.item_biases[row]
    }
}

/// Keeps the `count` rows with the highest scores, best first, ties by row.
fn keep_best(count: usize, rows: &mut Vec<(u32, f32)>) {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if count < rows.len() {
        rows.select_nth_unstable_by(count, order);
        rows.truncate(count);
    }
    rows.sort_unstable_by(order);
}
