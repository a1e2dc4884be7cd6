//! Who is treated in which block.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Arm, Pair};

/// A switchback of pairs: in each block and pair a fair coin, independent of all others, chooses which cell is treated.
///
/// Alternating would be cheaper to remember, and wrong: whatever has the same rhythm would look like an effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Both cells of each pair.
    pairs: Vec<(usize, usize)>,
    /// By pair and block, whether the first cell is treated.
    first_is_treated: Vec<Vec<bool>>,
}

impl Schedule {
    /// Draws the coins of `blocks` blocks. A pair's coins do not depend on how many pairs or blocks there are.
    pub fn draw(pairs: &[Pair], blocks: usize, seed: u64) -> Self {
        let coins = |pair: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(pair as u64);
            (0..blocks).map(|_| rng.random::<bool>()).collect()
        };
        let first_is_treated = (0..pairs.len()).map(coins).collect();
        Self { pairs: pairs.iter().map(|pair| (pair.a, pair.b)).collect(), first_is_treated }
    }

    /// The arm of a cell in a block; none for a cell without a pair and after the last block.
    pub fn arm(&self, cell: usize, block: usize) -> Option<Arm> {
        let (treated, _) = self.treated_first(self.pair_of(cell)?, block)?;
        Some(if treated == cell { Arm::Treated } else { Arm::Control })
    }

    /// The treated and the other cell of a pair in a block.
    pub fn treated_first(&self, pair: usize, block: usize) -> Option<(usize, usize)> {
        let (a, b) = *self.pairs.get(pair)?;
        let first = *self.first_is_treated.get(pair)?.get(block)?;
        Some(if first { (a, b) } else { (b, a) })
    }

    /// The pair of a cell.
    pub fn pair_of(&self, cell: usize) -> Option<usize> {
        self.pairs.iter().position(|(a, b)| *a == cell || *b == cell)
    }

    /// Pairs.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Blocks.
    pub fn blocks(&self) -> usize {
        self.first_is_treated.first().map_or(0, Vec::len)
    }
}
