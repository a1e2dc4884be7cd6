//! What a key is to the network: its own row and the mean of its tokens' rows.

use rayon::prelude::*;

use super::rows::{self, RowTable, Vectors};
use crate::{ItemCatalogue, ItemRef, kernel};

/// Items that one task gathers.
const TASK_ITEMS: usize = 64;

/// The embeddings that items are made of.
#[derive(Clone, Debug)]
pub(crate) struct ItemTables {
    /// Rows of the vocabulary.
    pub(crate) items: RowTable,
    /// Rows of the token buckets.
    pub(crate) tokens: RowTable,
}

impl ItemTables {
    /// Vectors of this width and biases of these items of the catalogue.
    pub(crate) fn gather(&self, catalogue: &ItemCatalogue, items: &[u32], width: usize) -> Vectors {
        let mut gathered = Vectors { vectors: vec![0.0; items.len() * width], biases: vec![0.0; items.len()] };
        let vectors = gathered.vectors.par_chunks_mut(TASK_ITEMS * width);
        let biases = gathered.biases.par_chunks_mut(TASK_ITEMS);
        vectors.zip(biases).zip(items.par_chunks(TASK_ITEMS)).for_each(|((vectors, biases), items)| {
            let rows = items.iter().filter_map(|item| catalogue.items[*item as usize].row);
            rows.for_each(|row| kernel::touch(self.items.vector(row)));
            kernel::vectorised(|| {
                for ((vector, bias), item) in vectors.chunks_exact_mut(width).zip(biases).zip(items) {
                    *bias = self.add_item(&catalogue.items[*item as usize], vector);
                }
            });
        });
        gathered
    }

    /// Learns from the gradients to these items' vectors and biases, one each.
    pub(crate) fn learn(&mut self, catalogue: &ItemCatalogue, items: &[u32], gradients: &Vectors, rate: f32) {
        for (source, item) in (0_u32..).zip(items) {
            let item = &catalogue.items[*item as usize];
            let share = token_share(item);
            item.tokens.as_slice().iter().for_each(|token| self.tokens.add(*token, share, source));
            if let Some(row) = item.row {
                self.items.add(row, 1.0, source);
            }
        }
        rows::learn([&mut self.items, &mut self.tokens], rate, gradients);
    }

    /// Adds what an item's tokens say of it to `vector` and returns what they say of its bias.
    #[inline(always)]
    pub(crate) fn add_tokens(&self, item: &ItemRef, vector: &mut [f32]) -> f32 {
        let share = token_share(item);
        let mut bias = 0.0;
        for token in item.tokens.as_slice() {
            kernel::add_scaled(vector, share, self.tokens.vector(*token));
            bias += share * self.tokens.bias(*token);
        }
        bias
    }

    #[inline(always)]
    fn add_item(&self, item: &ItemRef, vector: &mut [f32]) -> f32 {
        let mut bias = self.add_tokens(item, vector);
        if let Some(row) = item.row {
            kernel::add(vector, self.items.vector(row));
            bias += self.items.bias(row);
        }
        bias
    }
}

/// The weight that each of an item's tokens has in it.
#[inline(always)]
fn token_share(item: &ItemRef) -> f32 {
    1.0 / item.tokens.as_slice().len().max(1) as f32
}
