//! From a question to a design, or to a reason why not.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use super::{CellHistory, Matching, Reach, Refusal, Schedule, match_pairs, pairs::mean_variance};
use crate::Alpha;

/// What a coin assigns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// Clients; always refused.
    Client,
    /// Cells, block by block.
    #[default]
    Cell,
}

/// What is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The smallest effect to be found, in the metric's unit.
    pub effect: f64,
    /// The false alarms to bear, over all looks.
    pub alpha: Alpha,
    /// The probability to find the effect when it is there.
    pub power: f64,
}

/// An experiment that has cells already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Its cells.
    pub cells: Vec<String>,
    /// Since the Unix epoch, when they are free again.
    pub until: Duration,
}

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRequest<'a> {
    /// What is assigned.
    pub assignment: Assignment,
    /// The cells with their past, cut into blocks of the length asked for.
    pub cells: &'a [CellHistory],
    /// The longest measured turnover of the cells' caches under either arm.
    pub turnover: Option<Duration>,
    /// The length of a block; none for the shortest.
    pub block: Option<Duration>,
    /// Blocks that make a season, as those of a day.
    pub season_blocks: usize,
    /// Since the Unix epoch, when it is to begin.
    pub start: Duration,
    /// How long it may take.
    pub span: Duration,
    /// What is to be shown.
    pub claim: Claim,
    /// Other experiments.
    pub running: &'a [Running],
    /// What the coins are drawn from.
    pub seed: u64,
}

/// A design.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The cells' names, in the order that numbers refer to.
    pub cells: Vec<String>,
    /// Who is compared with whom.
    pub matching: Matching,
    /// Since the Unix epoch, when the first block begins.
    pub start: Duration,
    /// The length of a block.
    pub block: Duration,
    /// What of each block is left out at its beginning.
    pub burn_in: Duration,
    /// Who is treated when.
    pub schedule: Schedule,
    /// Blocks that make a season.
    pub season_blocks: usize,
    /// The false alarms to bear.
    pub alpha: Alpha,
    /// What the scores' variance is expected to sum to.
    pub variance_planned: f64,
    /// The smallest effect that is found at the end.
    pub reach: f64,
    /// Blocks after which the effect asked for is found.
    pub blocks_needed: u64,
}

impl Plan {
    /// The block of a moment since the Unix epoch, and whether it is past the burn-in; none outside the experiment.
    pub fn block_at(&self, moment: Duration) -> Option<(usize, bool)> {
        let since = moment.checked_sub(self.start)?;
        let block = usize::try_from(since.as_nanos() / self.block.as_nanos()).ok()?;
        let within = Duration::from_nanos(u64::try_from(since.as_nanos() % self.block.as_nanos()).ok()?);
        (block < self.schedule.blocks()).then_some((block, within >= self.burn_in))
    }

    /// The same design for another metric of the same cells, whose history varies otherwise.
    #[must_use]
    pub fn of_metric(&self, cells: &[CellHistory], alpha: Alpha) -> Self {
        let units = (self.schedule.pairs() * self.schedule.blocks()) as f64;
        let variance = mean_variance(cells, &self.matching.pairs, self.season_blocks).max(f64::MIN_POSITIVE);
        Self { alpha, variance_planned: variance * units, ..self.clone() }
    }

    /// Since the Unix epoch, when the last block ends.
    pub fn end(&self) -> Duration {
        let blocks = u32::try_from(self.schedule.blocks()).unwrap_or(u32::MAX);
        self.start.saturating_add(self.block.saturating_mul(blocks))
    }
}

/// Plans an experiment.
///
/// # Errors
/// A [`Refusal`] that says what can be done instead.
pub fn plan(request: &PlanRequest<'_>) -> Result<Plan, Refusal> {
    if request.assignment == Assignment::Client {
        return Err(Refusal::ByClient);
    }
    check_cells(request)?;
    let turnover = request.turnover.filter(|turnover| !turnover.is_zero()).ok_or(Refusal::TurnoverUnknown)?;
    let burn_in = turnover * BURN_IN_TURNOVERS;
    let least = burn_in * BLOCK_BURN_INS_MIN;
    let block = request.block.unwrap_or(least);
    if block < least {
        return Err(Refusal::BlockTooShort { block, burn_in, least });
    }
    let matching = match_pairs(request.cells, request.season_blocks);
    let (pairs, blocks) = (matching.pairs.len(), blocks_within(request.span, block));
    let units = pairs * blocks;
    if units < UNITS_MIN {
        let p_least = 2.0 * 0.5_f64.powi(i32::try_from(units).unwrap_or(i32::MAX));
        return Err(Refusal::TooFewUnits { pairs, blocks, units, p_least: p_least.min(1.0), units_least: UNITS_MIN });
    }
    let variance = matching.pairs.iter().map(|pair| pair.variance).sum::<f64>() / pairs as f64;
    let claim = request.claim;
    let weight = unit_weight(request.cells, &matching);
    // Cells without any variation would make every unit certain: their history says too little.
    let reach = Reach::new(variance.max(f64::MIN_POSITIVE), weight, claim.alpha, claim.power)?;
    let found = reach.effect(units as f64);
    let blocks_needed = reach.units(claim.effect).map(|units| units.div_ceil(pairs as u64));
    let out_of_reach = Refusal::OutOfReach { asked: claim.effect, pairs, blocks, reach: found, blocks_needed };
    let Some(blocks_needed) = blocks_needed.filter(|needed| *needed <= blocks as u64) else {
        return Err(out_of_reach);
    };
    Ok(Plan {
        cells: request.cells.iter().map(|cell| cell.name.clone()).collect(),
        schedule: Schedule::draw(&matching.pairs, blocks, request.seed),
        matching,
        start: request.start,
        block,
        burn_in,
        season_blocks: request.season_blocks,
        alpha: claim.alpha,
        variance_planned: variance.max(f64::MIN_POSITIVE) * units as f64,
        reach: found,
        blocks_needed,
    })
}

fn check_cells(request: &PlanRequest<'_>) -> Result<(), Refusal> {
    let mut names = BTreeSet::new();
    for cell in request.cells {
        if !names.insert(cell.name.as_str()) {
            return Err(Refusal::CellTwice(cell.name.clone()));
        }
    }
    if request.cells.len() < 2 {
        return Err(Refusal::TooFewCells { found: request.cells.len() });
    }
    for running in request.running.iter().filter(|running| running.until > request.start) {
        let cells: Vec<String> = running.cells.iter().filter(|cell| names.contains(cell.as_str())).cloned().collect();
        if !cells.is_empty() {
            return Err(Refusal::Overlap { name: running.name.clone(), cells });
        }
    }
    let longest = request.cells.iter().map(|cell| cell.blocks.len()).max().unwrap_or_default();
    let least = longest.max(HISTORY_BLOCKS_MIN);
    let short = request.cells.iter().find(|cell| cell.blocks.len() < least);
    if let Some(cell) = short {
        return Err(Refusal::HistoryTooShort { cell: cell.name.clone(), found: cell.blocks.len(), least });
    }
    let measured = |cell: &CellHistory| cell.blocks.iter().filter(|block| block.is_measured()).count();
    let found = request.cells.iter().map(|cell| (cell, measured(cell)));
    match found.min_by_key(|(_, found)| *found) {
        Some((cell, found)) if found < HISTORY_BLOCKS_MIN => {
            Err(Refusal::HistoryTooShort { cell: cell.name.clone(), found, least: HISTORY_BLOCKS_MIN })
        }
        _ => Ok(()),
    }
}

fn blocks_within(span: Duration, block: Duration) -> usize {
    usize::try_from(span.as_nanos() / block.as_nanos()).unwrap_or(usize::MAX).min(BLOCKS_MAX)
}

/// Requests of a pair in a block, on average.
fn unit_weight(cells: &[CellHistory], matching: &Matching) -> f64 {
    let requests = |cell: usize| {
        let blocks = &cells[cell].blocks;
        let measured = blocks.iter().filter(|block| block.is_measured()).count();
        blocks.iter().map(|block| block.requests).sum::<f64>() / measured.max(1) as f64
    };
    let weights = matching.pairs.iter().map(|pair| requests(pair.a) + requests(pair.b));
    weights.sum::<f64>() / matching.pairs.len() as f64
}

/// After one turnover the contents are the new arm's, but the index still divides its bytes between demand and
/// prefetching as the other arm taught it: after one, an effect came out 9 % too large, after three 3 % (decision 0013).
const BURN_IN_TURNOVERS: u32 = 3;
/// A third of a block, at most, is left out.
const BLOCK_BURN_INS_MIN: u32 = 3;
/// Below this an asymptotic interval is not to be trusted, and no randomisation test reaches one in a thousand by much.
const UNITS_MIN: usize = 20;
/// Most blocks of one experiment: a year of five-minute blocks.
const BLOCKS_MAX: usize = 105_120;
/// Blocks of history below which a forecast and a matching are guesses.
const HISTORY_BLOCKS_MIN: usize = 8;
