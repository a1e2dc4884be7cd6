//! Clustered retrieval: which rows are worth scoring for a query, without looking at all of them.

use linfa::{DatasetBase, traits::Fit};
use linfa_clustering::{KMeans, KMeansInit};
use ndarray::{Array2, ArrayView2};
use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;

use crate::{Error, Result, SequenceConfig, kernel, sequence::weights::SequenceWeights};

/// The most rows that centroids are fitted to; all rows are then assigned to them.
const FIT_ROWS_MAX: usize = 16_384;
/// The most cells: beyond this, comparing centroids would cost more than it saves.
const CELLS_MAX: usize = 1_024;
/// k-means gets this far in few rounds, and cells need not be perfect.
const FIT_ROUNDS: u64 = 10;
/// Rows assigned to cells at once, which bounds the memory that takes.
const ASSIGN_ROWS: usize = 4_096;
const WHAT: &str = "the retrieval cells";

/// Rows grouped by where their embeddings lie.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cells {
    /// (cells, E + 1): the mean of each cell's embeddings and biases.
    pub(crate) centroids: Vec<f32>,
    /// Rows by cell, ascending within it.
    members: Vec<Vec<u32>>,
}

impl Cells {
    /// Groups the rows of a trained model by k-means; `None` when there are so few that all can be compared.
    pub(crate) fn build(config: &SequenceConfig, weights: &SequenceWeights, seed: u64) -> Result<Option<Self>> {
        let (rows, width) = (weights.item_biases.len(), config.embedding_width);
        if rows <= config.exact_rows_max {
            return Ok(None);
        }
        let cell_count = ((rows as f64).sqrt().ceil() as usize).clamp(1, CELLS_MAX);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut sample = index::sample(&mut rng, rows, rows.min(FIT_ROWS_MAX)).into_vec();
        let starts: Vec<usize> = sample[..cell_count.min(sample.len())].to_vec();
        sample.sort_unstable();
        let points = |rows: &[usize]| {
            let bias = |row: usize| weights.item_biases[row];
            Array2::from_shape_fn((rows.len(), width + 1), |(place, column)| {
                let row = rows[place];
                if column < width { weights.items[row * width + column] } else { bias(row) }
            })
        };
        let fitted = KMeans::params(starts.len())
            .n_runs(1)
            .max_n_iterations(FIT_ROUNDS)
            .init_method(KMeansInit::Precomputed(points(&starts)))
            .fit(&DatasetBase::from(points(&sample)))
            .map_err(Error::learn(WHAT))?;
        let centroids: Vec<f32> = fitted.centroids().iter().copied().collect();
        Ok(Some(Self::assign(centroids, weights, width)))
    }

    /// The cells with these centroids (cells, E + 1) and the rows nearest to each.
    pub(crate) fn assign(centroids: Vec<f32>, weights: &SequenceWeights, width: usize) -> Self {
        let cell_count = centroids.len() / (width + 1);
        let mut members = vec![Vec::new(); cell_count];
        // Nearest: smallest |c|² − 2 c·v, so one matrix product does a whole run of rows.
        let half_norms: Vec<f32> = centroids.chunks_exact(width + 1).map(|c| 0.5 * kernel::dot(c, c)).collect();
        let columns =
            Array2::from_shape_fn((width, cell_count), |(column, cell)| centroids[cell * (width + 1) + column]);
        for (run, vectors) in weights.items.chunks(ASSIGN_ROWS * width).enumerate() {
            let rows = vectors.len() / width;
            let Ok(vectors) = ArrayView2::from_shape((rows, width), vectors) else { continue };
            for (place, products) in vectors.dot(&columns).rows().into_iter().enumerate() {
                let row = run * ASSIGN_ROWS + place;
                let bias = weights.item_biases[row];
                let nearness =
                    |cell: usize| products[cell] + bias * centroids[(cell + 1) * (width + 1) - 1] - half_norms[cell];
                let cell = (0..cell_count).max_by(|a, b| nearness(*a).total_cmp(&nearness(*b)).then(b.cmp(a)));
                // Rows are numbered by u32 in the vocabulary.
                members[cell.unwrap_or(0)].push(u32::try_from(row).unwrap_or(u32::MAX));
            }
        }
        Self { centroids, members }
    }

    /// The rows of the `share` of the cells whose centroids score best for `query` (E).
    pub(crate) fn candidates(&self, query: &[f32], share: f64) -> impl Iterator<Item = u32> {
        let width = query.len();
        let scores = self.centroids.chunks_exact(width + 1).map(|row| kernel::dot(query, &row[..width]) + row[width]);
        let mut order: Vec<(usize, f32)> = scores.enumerate().collect();
        order.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        order.truncate(((self.members.len() as f64 * share).ceil() as usize).max(1));
        order.into_iter().flat_map(|(cell, _)| self.members[cell].iter().copied())
    }
}
