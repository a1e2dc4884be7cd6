//! Who is treated when, and what can be learned from it.
//!
//! Cells are matched in pairs by their history ([`match_pairs`]). In every block of time a coin decides which cell of a
//! pair is treated ([`Schedule`]); the block's first part, until the caches have turned over ([`Turnover`]), is left out.
//! [`Analysis`] turns measured blocks into an interval, [`Reach`] says what effect can be found in how many blocks, and
//! [`plan()`] puts all of it together or says why it refuses.

mod analysis;
mod forecast;
mod pairs;
mod plan;
mod reach;
mod refusal;
mod schedule;
#[cfg(test)]
mod tests;
mod turnover;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::{
    analysis::Analysis,
    forecast::Forecast,
    pairs::{Matching, Pair, match_pairs},
    plan::{Assignment, Claim, Plan, PlanRequest, Running, plan},
    reach::Reach,
    refusal::Refusal,
    schedule::Schedule,
    turnover::Turnover,
};

/// One of the two variants that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// What runs today.
    Control,
    /// What may replace it.
    Treated,
}

impl fmt::Display for Arm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Control => "control",
            Self::Treated => "treated",
        })
    }
}

/// What a cell measured in one block after the burn-in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Requests. Without any, nothing is known of the mean, and the block counts as not measured.
    pub requests: f64,
    /// The metric's mean per request.
    pub mean: f64,
}

impl Measured {
    /// Whether there is something that the mean is of.
    pub fn is_measured(&self) -> bool {
        self.requests > 0.0
    }
}

/// A cell with its past: the last blocks before an experiment, in order, all under one arm; a block of which nothing is known has
/// no requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellHistory {
    /// The cell's name: a node's or a region's.
    pub name: String,
    /// What it measured, block by block.
    pub blocks: Vec<Measured>,
}
