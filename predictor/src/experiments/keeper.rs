//! Where the record of experiments is kept: a folder, or what several predictors share.

use std::fmt::Debug;

use nearcast_experiment::stage::Record;

use super::trial::{Block, Design};
use crate::Result;

/// What is written down of an experiment before anybody acts on it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry<'a> {
    /// It begins with this, once.
    Design(&'a str),
    /// The next change, as a line.
    Change(&'a str),
    /// The next finished block, as a line.
    Block(&'a str),
    /// What a change rests on, by its hash.
    Evidence {
        /// In hexadecimal.
        hash: &'a str,
        /// Byte by byte.
        document: &'a [u8],
    },
}

/// Writes down what happens to experiments.
pub(crate) trait Keeper: Debug + Send {
    /// Keeps an entry of the experiment of this name for good.
    ///
    /// # Errors
    /// What could not be kept has not happened.
    fn keep(&mut self, name: &str, entry: Entry<'_>) -> Result<()>;
}

/// What was kept of one experiment, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) design: String,
    /// A line each.
    pub(crate) changes: String,
    pub(crate) blocks: Vec<String>,
}

/// The same, understood.
#[derive(Debug)]
pub(super) struct Understood {
    pub(super) design: Design,
    pub(super) record: Record,
    pub(super) blocks: Vec<Block>,
}

impl Kept {
    /// What it says, or which part of it says nothing, and why.
    pub(super) fn understand(&self) -> Result<Understood, (&'static str, String)> {
        let design = serde_json::from_str(&self.design).map_err(|error| (DESIGN, error.to_string()))?;
        let record = Record::from_lines(&self.changes).map_err(|error| (RECORD, error.to_string()))?;
        let blocks = self.blocks.iter().map(|line| serde_json::from_str(line)).collect::<Result<Vec<Block>, _>>();
        Ok(Understood { design, record, blocks: blocks.map_err(|error| (BLOCKS, error.to_string()))? })
    }
}

pub(super) const DESIGN: &str = "plan.json";
pub(super) const RECORD: &str = "record.jsonl";
pub(super) const BLOCKS: &str = "blocks.jsonl";
