//! An experiment's life as a record of changes: who, when, why, on what evidence.
//!
//! ```text
//! planned ─start→ shadow ─advance→ canary ─advance→ A/B ─promote→ promoting ─all cells→ holdback ─finish→ promoted
//!                    └──────────────┴─────────────────┴── abort, breach, undo ──→ rolling back ─all cells→ rolled back
//! ```
//!
//! [`Experiment`] is a fold over its [`Change`]s and nothing else: what is written down before it is acted on is all that
//! a successor needs. A promote is an intent, then one confirmation per cell; after a crash, [`Experiment::pending`]
//! names the cells that have not confirmed, and pointing a cell twice is the same as once. No cell changes its arm but by
//! a change: when nobody leads, the last assignment stays.

mod record;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::record::{Change, Evidence, Hash, Record, RecordError};
use crate::{design::Arm, verdict::Verdict};

/// Where an experiment is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Written down, not begun.
    #[default]
    Planned,
    /// Ghost caches only: no cell is treated.
    Shadow,
    /// The first pair switches.
    Canary,
    /// All pairs switch.
    Ab,
    /// Cells are being pointed at what is promoted.
    Promoting,
    /// All are treated but the last pair, which goes on switching.
    Holdback,
    /// All are treated, for good.
    Promoted,
    /// Cells are being pointed back.
    RollingBack,
    /// None is treated, for good.
    RolledBack,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Planned => "planned",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Ab => "A/B",
            Self::Promoting => "promoting",
            Self::Holdback => "holdback",
            Self::Promoted => "promoted",
            Self::RollingBack => "rolling back",
            Self::RolledBack => "rolled back",
        })
    }
}

/// Which arm cells serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Routing {
    /// Every cell the same.
    All(Arm),
    /// The pairs up to and without this one by the schedule, the others control.
    FirstPairs(usize),
    /// The last pair by the schedule, the others treated.
    AllButLastPair,
}

/// What can be done to an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Action {
    /// Begin with the shadow stage.
    Start,
    /// Go on to the next stage before promotion.
    Advance,
    /// Treat every cell.
    Promote {
        /// Whether a verdict other than PASS will do: somebody's decision, on record.
        full: bool,
    },
    /// A cell confirms that it points where the change numbered `epoch` told it to.
    Pointed {
        /// Which cell.
        cell: String,
        /// The number of the promote, abort, undo or breach.
        epoch: u64,
    },
    /// Treat no cell, before promotion.
    Abort,
    /// Treat no cell, after promotion.
    Undo,
    /// Treat no cell, because a guardrail is breached; done without asking anybody.
    Breach,
    /// Stay as it is: neither go on nor promote.
    Pause,
    /// No longer paused.
    Resume,
    /// End the holdback.
    Finish,
}

/// Why an action is not possible.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StageError {
    /// Not in this stage.
    #[error("not possible while {0}")]
    Stage(Stage),
    /// Not while paused.
    #[error("the experiment is paused: resume it first")]
    Paused,
    /// No verdict that would carry it.
    #[error("the verdict is {0}: promote needs PASS, or somebody who takes it on themselves with a full promote")]
    Verdict(Verdict),
    /// No evidence was given.
    #[error("a promote needs evidence")]
    NoEvidence,
    /// No reason or no name was given.
    #[error("every change needs who and why")]
    Anonymous,
    /// The cell does not take part.
    #[error("cell {0:?} does not take part")]
    UnknownCell(String),
    /// A confirmation of a change that has been overtaken.
    #[error("a confirmation of change {found}, while change {expected} is under way")]
    OldEpoch {
        /// The change confirmed.
        found: u64,
        /// The change under way.
        expected: u64,
    },
}

/// Who does something, when, why and on what evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct By<'a> {
    /// A person, or the part of the program that acted by itself.
    pub who: &'a str,
    /// Since the Unix epoch.
    pub at: Duration,
    /// In words.
    pub why: &'a str,
    /// What it rests on.
    pub evidence: Option<Evidence>,
}

/// A cell that is to be pointed at an arm. Sent again until confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Which cell.
    pub cell: String,
    /// At which arm.
    pub arm: Arm,
    /// The number of the change that asks for it: a cell ignores smaller ones than it has seen.
    pub epoch: u64,
}

/// Cells under way to one arm.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Switch {
    epoch: u64,
    arm: Arm,
    pending: BTreeSet<String>,
}

/// An experiment's state: what its changes add up to.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    cells: BTreeSet<String>,
    stage: Stage,
    is_paused: bool,
    switch: Option<Switch>,
    record: Record,
}

impl Experiment {
    /// An experiment over `cells` that has not begun.
    pub fn new(cells: impl IntoIterator<Item = String>) -> Self {
        let cells = cells.into_iter().collect();
        Self { cells, stage: Stage::Planned, is_paused: false, switch: None, record: Record::default() }
    }

    /// The experiment that a record adds up to, as after a crash.
    ///
    /// # Errors
    /// When a change of the record was not possible where it stands.
    pub fn resume(cells: impl IntoIterator<Item = String>, record: Record) -> Result<Self, StageError> {
        let mut experiment = Self::new(cells);
        for change in record.changes() {
            experiment.check(&change.action, change.evidence.as_ref())?;
            experiment.apply(change);
        }
        experiment.record = record;
        Ok(experiment)
    }

    /// Does something: checks it, writes it down, and says what was written. Persist it before acting on
    /// [`Self::pending`] or [`Self::routing`].
    ///
    /// # Errors
    /// When it is not possible now; nothing has changed then.
    pub fn act(&mut self, action: Action, by: By<'_>) -> Result<&Change, StageError> {
        if by.who.trim().is_empty() || by.why.trim().is_empty() {
            return Err(StageError::Anonymous);
        }
        self.check(&action, by.evidence.as_ref())?;
        let change = self.record.next(action, by);
        self.apply(&change);
        Ok(self.record.push(change))
    }

    /// Where it is in its life.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Its changes.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Which arm cells serve in this stage. While cells are under way, those that have confirmed serve the new arm.
    pub fn routing(&self) -> Routing {
        match self.stage {
            Stage::Planned | Stage::Shadow | Stage::RollingBack | Stage::RolledBack => Routing::All(Arm::Control),
            Stage::Canary => Routing::FirstPairs(1),
            Stage::Ab => Routing::FirstPairs(usize::MAX),
            Stage::Promoting | Stage::Promoted => Routing::All(Arm::Treated),
            Stage::Holdback => Routing::AllButLastPair,
        }
    }

    /// Cells that have not confirmed where they point: to be told, and told again.
    pub fn pending(&self) -> Vec<Pointer> {
        let of = |switch: &Switch| {
            let pointer = |cell: &String| Pointer { cell: cell.clone(), arm: switch.arm, epoch: switch.epoch };
            switch.pending.iter().map(pointer).collect()
        };
        self.switch.as_ref().map(of).unwrap_or_default()
    }

    fn check(&self, action: &Action, evidence: Option<&Evidence>) -> Result<(), StageError> {
        let stage = self.stage;
        let goes_on = matches!(action, Action::Advance | Action::Promote { .. } | Action::Finish);
        if self.is_paused && goes_on {
            return Err(StageError::Paused);
        }
        let is_live = matches!(stage, Stage::Canary | Stage::Ab | Stage::Promoting | Stage::Holdback);
        let possible = match action {
            Action::Start => stage == Stage::Planned,
            Action::Advance => matches!(stage, Stage::Shadow | Stage::Canary),
            Action::Promote { .. } => stage == Stage::Ab,
            Action::Pointed { .. } => matches!(stage, Stage::Promoting | Stage::RollingBack),
            Action::Abort => matches!(stage, Stage::Planned | Stage::Shadow | Stage::Canary | Stage::Ab),
            Action::Undo => matches!(stage, Stage::Promoting | Stage::Holdback | Stage::Promoted),
            Action::Breach => is_live,
            Action::Pause => {
                matches!(stage, Stage::Shadow | Stage::Canary | Stage::Ab | Stage::Holdback) && !self.is_paused
            }
            Action::Resume => self.is_paused,
            Action::Finish => stage == Stage::Holdback,
        };
        if !possible {
            return Err(StageError::Stage(stage));
        }
        match action {
            Action::Promote { full } => match evidence {
                None => Err(StageError::NoEvidence),
                Some(evidence) if *full || evidence.verdict == Verdict::Pass => Ok(()),
                Some(evidence) => Err(StageError::Verdict(evidence.verdict)),
            },
            Action::Pointed { cell, epoch } => self.check_pointed(cell, *epoch),
            _ => Ok(()),
        }
    }

    fn check_pointed(&self, cell: &str, epoch: u64) -> Result<(), StageError> {
        if !self.cells.contains(cell) {
            return Err(StageError::UnknownCell(cell.to_owned()));
        }
        let expected = self.switch.as_ref().map_or(0, |switch| switch.epoch);
        if epoch == expected { Ok(()) } else { Err(StageError::OldEpoch { found: epoch, expected }) }
    }

    fn apply(&mut self, change: &Change) {
        let switch = |arm| Some(Switch { epoch: change.number, arm, pending: self.cells.clone() });
        match &change.action {
            Action::Start => self.stage = Stage::Shadow,
            Action::Advance if self.stage == Stage::Shadow => self.stage = Stage::Canary,
            Action::Advance => self.stage = Stage::Ab,
            Action::Promote { .. } => (self.stage, self.switch) = (Stage::Promoting, switch(Arm::Treated)),
            Action::Abort | Action::Undo | Action::Breach => {
                (self.stage, self.switch, self.is_paused) = (Stage::RollingBack, switch(Arm::Control), false);
            }
            Action::Pointed { cell, .. } => self.confirm(cell),
            Action::Pause => self.is_paused = true,
            Action::Resume => self.is_paused = false,
            Action::Finish => self.stage = Stage::Promoted,
        }
    }

    fn confirm(&mut self, cell: &str) {
        let Some(switch) = &mut self.switch else { return };
        switch.pending.remove(cell);
        if switch.pending.is_empty() {
            self.switch = None;
            self.stage = if self.stage == Stage::Promoting { Stage::Holdback } else { Stage::RolledBack };
        }
    }
}
