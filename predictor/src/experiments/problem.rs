//! Why something is not done to an experiment.

use std::{collections::BTreeSet, sync::Arc};

use nearcast_experiment::{design::Refusal, stage::StageError};
use nearcast_proto::config_file;

use crate::arms::ArmRefused;

/// What is wrong, and what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Nobody knows the experiment.
    #[error("there is no experiment {0:?}; `nearcast experiment status` names those there are")]
    Unknown(String),
    /// None is under way.
    #[error("no experiment is under way")]
    NoneRunning,
    /// More than one is under way.
    #[error("several experiments are under way: name one of {0}")]
    Several(String),
    /// The name cannot be a folder's.
    #[error("{0:?} is no name: use 1 to 64 letters, digits, `-` and `_`")]
    Name(String),
    /// There was one of this name.
    #[error("there is an experiment {0:?} already: its record is kept, choose another name")]
    NameTaken(String),
    /// A node that is not connected.
    #[error("there is no connected node {node:?}{hint}")]
    Node {
        /// Which.
        node: String,
        /// What it may have meant.
        hint: String,
    },
    /// A length of time that makes no sense.
    #[error("`{field}` is {value}: from 0 seconds to a year")]
    Seconds {
        /// Which.
        field: &'static str,
        /// What it was.
        value: f64,
    },
    /// The history is coarser than the blocks that it is to be cut into.
    #[error(
        "the history is in slots of {slot_seconds} s, which cannot be cut into blocks of {block_seconds} s: choose longer \
         blocks or a finer history (`history_slot_seconds`)"
    )]
    Coarse {
        /// The length of a slot.
        slot_seconds: f64,
        /// The length of a block.
        block_seconds: f64,
    },
    /// What is compared must not change.
    #[error("{} under way, which compares the champion as it is: abort or finish it first", match &.0[..] {
        [one] => format!("experiment {one:?} is"),
        several => format!("experiments {} are", several.join(", ")),
    })]
    UnderWay(Vec<String>),
    /// Nothing was asked.
    #[error("no question: say which challenger against which nodes")]
    NoQuestion,
    /// A version that cannot be loaded.
    #[error("version {version} cannot be an arm: {reason}")]
    Version {
        /// Which.
        version: String,
        /// Why.
        reason: String,
    },
    /// The design cannot answer the question.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Not in this stage.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A number outside of its range.
    #[error(transparent)]
    Number(#[from] nearcast_experiment::Error),
    /// No such arm.
    #[error(transparent)]
    Arm(#[from] ArmRefused),
    /// It could not be written down, so it was not done.
    #[error("not done, as it cannot be written down: {0}")]
    File(#[from] crate::Error),
}

impl Problem {
    pub(super) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Self {
        let nearest = config_file::nearest(name, known.map(String::as_str));
        let hint = nearest.map(|nearest| format!("{name} (did you mean {nearest}?)"));
        Self::Unknown(hint.unwrap_or_else(|| name.to_owned()))
    }

    pub(super) fn unknown_node(node: &str, connected: &BTreeSet<Arc<str>>) -> Self {
        let nearest = config_file::nearest(node, connected.iter().map(|name| &**name));
        let hint = match nearest {
            Some(nearest) => format!("; did you mean {nearest:?}?"),
            None if connected.is_empty() => "; none is connected".to_owned(),
            None => format!("; connected are {}", connected.iter().map(|name| &**name).collect::<Vec<_>>().join(", ")),
        };
        Self::Node { node: node.to_owned(), hint }
    }
}
