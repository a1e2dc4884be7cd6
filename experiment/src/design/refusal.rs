//! Why an experiment is not planned.

use std::time::Duration;

use thiserror::Error;

/// A question that the design asked for cannot answer, and what can be done instead.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// Arms that share a cache.
    #[error(
        "clients of both arms would share every cache: each arm hits what the other fetched and suffers from what the \
         other pushed out, so that even a ruinous challenger measures no difference; assign cells (nodes or regions) instead"
    )]
    ByClient,
    /// Nothing to compare with.
    #[error("{found} cell(s): a comparison needs two with caches of their own")]
    TooFewCells {
        /// Cells that could be assigned.
        found: usize,
    },
    /// Another experiment has these cells at the same time.
    #[error("experiment {name:?} has {} until its end; wait, abort it, or leave these cells out", .cells.join(", "))]
    Overlap {
        /// The other experiment.
        name: String,
        /// The cells that both want.
        cells: Vec<String>,
    },
    /// The claim is smaller than what can be seen.
    #[error(
        "an effect of {asked:.3e} cannot be found by {pairs} pair(s) in {blocks} blocks, only one of {reach:.3e}; {}",
        advice(*.blocks_needed)
    )]
    OutOfReach {
        /// The effect asked for, in the metric's unit.
        asked: f64,
        /// Pairs of cells.
        pairs: usize,
        /// Blocks that there is time for.
        blocks: usize,
        /// The smallest effect that can be found.
        reach: f64,
        /// Blocks that the effect asked for needs.
        blocks_needed: Option<u64>,
    },
    /// Too few units for any claim.
    #[error(
        "{pairs} pair(s) in {blocks} block(s) are {units} units: by chance alone they split in one direction with \
         probability {p_least:.2e}, and intervals need {units_least}"
    )]
    TooFewUnits {
        /// Pairs of cells.
        pairs: usize,
        /// Blocks that there is time for.
        blocks: usize,
        /// Pairs times blocks.
        units: usize,
        /// The least p-value that any result could have.
        p_least: f64,
        /// Units that are needed.
        units_least: usize,
    },
    /// Blocks in which the caches mostly remember the other arm.
    #[error(
        "a block of {block:?} is too short for caches that remember the other arm for {burn_in:?}; make it {least:?}"
    )]
    BlockTooShort {
        /// The block asked for.
        block: Duration,
        /// What of each block must be left out.
        burn_in: Duration,
        /// The shortest block.
        least: Duration,
    },
    /// Caches that never forget.
    #[error("the caches evicted too little for their turnover to be known; log longer, or lower the capacity")]
    TurnoverUnknown,
    /// Not enough past.
    #[error("{cell} has {found} blocks of history, {least} are needed, as many for each cell")]
    HistoryTooShort {
        /// Which cell.
        cell: String,
        /// What it has.
        found: usize,
        /// What is needed.
        least: usize,
    },
    /// The cell is named twice.
    #[error("cell {0:?} is named twice")]
    CellTwice(String),
    /// A number outside its range.
    #[error(transparent)]
    Input(#[from] crate::Error),
}

fn advice(blocks_needed: Option<u64>) -> String {
    blocks_needed.map_or_else(
        || "no number of blocks would do".to_owned(),
        |blocks| format!("{blocks} blocks would do, or more cells"),
    )
}
