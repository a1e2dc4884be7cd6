//! Clustered retrieval: which rows are worth scoring for a query, without looking at all of them.

use crate::kernel;

/// Rows grouped by where their embeddings lie.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cells {
    /// (cells, E + 1): the mean of each cell's embeddings and biases.
    centroids: Vec<f32>,
    /// Rows by cell.
    members: Vec<Vec<u32>>,
}

impl Cells {
    /// The rows of the cells whose centroids score best for `query` (E).
    pub(crate) fn candidates(&self, query: &[f32], share: f64) -> impl Iterator<Item = u32> {
        let width = query.len();
        let scores = self.centroids.chunks_exact(width + 1).map(|row| kernel::dot(query, &row[..width]) + row[width]);
        let mut order: Vec<(usize, f32)> = scores.enumerate().collect();
        order.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        order.truncate(((self.members.len() as f64 * share).ceil() as usize).max(1));
        order.into_iter().flat_map(|(cell, _)| self.members[cell].iter().copied())
    }
}
