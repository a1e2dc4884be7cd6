//! Commands, their targets and sources.

use nearcast_datasets::Timestamp;

use super::{
    BATCH_ENTRIES_MAX, SEGMENTS_MAX, SOURCES_MAX,
    check::{at_most, free_text, key, known, list, name, node_name, optional_name, outward, present},
};
use crate::{
    Error, Result,
    message::{Action, Command, CommandId, CommandResult, CommandStatus, Epoch, SegmentSet, Source},
    wire,
};

impl From<SegmentSet> for wire::SegmentSet {
    fn from(set: SegmentSet) -> Self {
        Self { key: set.key.as_ref().to_owned(), size_bytes: set.size_bytes, segments: set.segments }
    }
}

impl TryFrom<wire::SegmentSet> for SegmentSet {
    type Error = Error;

    fn try_from(wire: wire::SegmentSet) -> Result<Self> {
        at_most("segments", wire.segments.len(), SEGMENTS_MAX)?;
        Ok(Self { key: key(wire.key)?, size_bytes: wire.size_bytes, segments: wire.segments })
    }
}

impl From<Source> for wire::Source {
    fn from(source: Source) -> Self {
        let from = match source {
            Source::Origin => wire::source::From::Origin(true),
            Source::Peer(node) => wire::source::From::Node(node.0.as_ref().to_owned()),
        };
        Self { from: Some(from) }
    }
}

impl TryFrom<wire::Source> for Source {
    type Error = Error;

    fn try_from(wire: wire::Source) -> Result<Self> {
        match present("source", "from", wire.from)? {
            wire::source::From::Origin(true) => Ok(Self::Origin),
            wire::source::From::Origin(false) => Err(Error::MissingField { message: "source", field: "origin" }),
            wire::source::From::Node(node) => Ok(Self::Peer(node_name(node)?)),
        }
    }
}

impl From<Action> for wire::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::Evict => Self::Evict,
            Action::Pin => Self::Pin,
            Action::Replicate => Self::Replicate,
            Action::Unpin => Self::Unpin,
        }
    }
}

fn action(value: i32) -> Result<Action> {
    let meaning = match wire::Action::try_from(value) {
        Ok(wire::Action::Evict) => Some(Action::Evict),
        Ok(wire::Action::Pin) => Some(Action::Pin),
        Ok(wire::Action::Replicate) => Some(Action::Replicate),
        Ok(wire::Action::Unpin) => Some(Action::Unpin),
        Ok(wire::Action::Unspecified) | Err(_) => None,
    };
    known("action", value, meaning)
}

impl From<Command> for wire::Command {
    fn from(command: Command) -> Self {
        Self {
            id: command.id.0,
            epoch: command.epoch.0,
            action: wire::Action::from(command.action).into(),
            target: Some(command.target.into()),
            sources: outward(command.sources),
            deadline_us: command.deadline.micros(),
            probability: command.probability,
            expected_value_seconds: command.expected_value_seconds,
            arm: command.arm.as_ref().to_owned(),
            model_version: command.model_version.as_ref().to_owned(),
        }
    }
}

impl TryFrom<wire::Command> for Command {
    type Error = Error;

    fn try_from(wire: wire::Command) -> Result<Self> {
        let probability = wire.probability;
        if !(0.0..=1.0).contains(&probability) {
            let value = f64::from(probability);
            return Err(Error::BadNumber { field: "probability", value, expected: "between 0 and 1" });
        }
        if !wire.expected_value_seconds.is_finite() {
            let value = wire.expected_value_seconds;
            return Err(Error::BadNumber { field: "expected_value_seconds", value, expected: "finite" });
        }
        Ok(Self {
            id: CommandId(wire.id),
            epoch: Epoch(wire.epoch),
            action: action(wire.action)?,
            target: present("command", "target", wire.target)?.try_into()?,
            sources: list("sources", wire.sources, SOURCES_MAX)?,
            deadline: Timestamp::from_micros(wire.deadline_us),
            probability,
            expected_value_seconds: wire.expected_value_seconds,
            arm: name("arm", wire.arm)?,
            model_version: optional_name("model_version", wire.model_version)?,
        })
    }
}

impl TryFrom<wire::CommandBatch> for Vec<Command> {
    type Error = Error;

    fn try_from(wire: wire::CommandBatch) -> Result<Self> {
        list("commands", wire.commands, BATCH_ENTRIES_MAX)
    }
}

impl From<CommandStatus> for wire::CommandStatus {
    fn from(status: CommandStatus) -> Self {
        match status {
            CommandStatus::AlreadyPresent => Self::AlreadyPresent,
            CommandStatus::Done => Self::Done,
            CommandStatus::Expired => Self::Expired,
            CommandStatus::Failed => Self::Failed,
            CommandStatus::Rejected => Self::Rejected,
        }
    }
}

fn status(value: i32) -> Result<CommandStatus> {
    let meaning = match wire::CommandStatus::try_from(value) {
        Ok(wire::CommandStatus::AlreadyPresent) => Some(CommandStatus::AlreadyPresent),
        Ok(wire::CommandStatus::Done) => Some(CommandStatus::Done),
        Ok(wire::CommandStatus::Expired) => Some(CommandStatus::Expired),
        Ok(wire::CommandStatus::Failed) => Some(CommandStatus::Failed),
        Ok(wire::CommandStatus::Rejected) => Some(CommandStatus::Rejected),
        Ok(wire::CommandStatus::Unspecified) | Err(_) => None,
    };
    known("status", value, meaning)
}

impl From<CommandResult> for wire::CommandResult {
    fn from(result: CommandResult) -> Self {
        let status = wire::CommandStatus::from(result.status).into();
        Self { id: result.id.0, status, bytes: result.bytes, detail: result.detail }
    }
}

impl TryFrom<wire::CommandResult> for CommandResult {
    type Error = Error;

    fn try_from(wire: wire::CommandResult) -> Result<Self> {
        Ok(Self {
            id: CommandId(wire.id),
            status: status(wire.status)?,
            bytes: wire.bytes,
            detail: free_text("detail", wire.detail)?,
        })
    }
}
