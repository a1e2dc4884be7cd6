//! The latest commands and what became of each, so that one key's story can be told.

use std::{collections::VecDeque, sync::Arc};

use nearcast_datasets::{Map, Timestamp};
use nearcast_proto::message::{Command, CommandId, CommandResult, CommandStatus, OutcomeKind};
use serde::{Serialize, Serializer};

use super::{orders::action_name, tally::Outcomes};
use crate::{events::rfc3339, metrics::status_word};

/// Commands in the order in which they were issued, the latest [`COMMANDS_KEPT_MAX`] of them.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: VecDeque<Entry>,
    /// By a command's number, how many were issued before it. Numbers do not ascend: every arm has its own.
    places: Map<u64, u64>,
    /// Commands that made room for later ones.
    pub(super) forgotten: u64,
}

/// One command as the page tells of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::server) struct Entry {
    command: u64,
    #[serde(skip)]
    key: Arc<str>,
    node: Arc<str>,
    action: &'static str,
    #[serde(serialize_with = "as_rfc3339")]
    issued_at: Timestamp,
    segments: usize,
    size_bytes: u64,
    /// P(used at this node before it would be evicted), as claimed.
    probability: f32,
    expected_value_seconds: f64,
    arm: Arc<str>,
    model_version: Arc<str>,
    /// How the command ended, once it has.
    #[serde(serialize_with = "as_word")]
    status: Option<CommandStatus>,
    #[serde(serialize_with = "as_rfc3339_if_any")]
    ended_at: Option<Timestamp>,
    transferred_bytes: u64,
    /// Its segments by what became of them.
    outcomes: Outcomes,
}

impl Entry {
    /// A command that is about to be issued.
    pub(super) fn new(now: Timestamp, node: &Arc<str>, command: &Command) -> Self {
        Self {
            command: command.id.0,
            key: Arc::clone(&command.target.key),
            node: Arc::clone(node),
            action: action_name(command.action),
            issued_at: now,
            segments: command.target.segments.len(),
            size_bytes: command.target.size_bytes,
            probability: command.probability,
            expected_value_seconds: command.expected_value_seconds,
            arm: Arc::clone(&command.arm),
            model_version: Arc::clone(&command.model_version),
            status: None,
            ended_at: None,
            transferred_bytes: 0,
            outcomes: Outcomes::default(),
        }
    }
}

impl Ledger {
    /// A command was issued.
    pub(super) fn issue(&mut self, entry: Entry) {
        if self.entries.len() == COMMANDS_KEPT_MAX
            && let Some(oldest) = self.entries.pop_front()
        {
            self.places.remove(&oldest.command);
            self.forgotten += 1;
        }
        self.places.insert(entry.command, self.forgotten + self.entries.len() as u64);
        self.entries.push_back(entry);
    }

    /// A node says how a command ended.
    pub(super) fn end(&mut self, now: Timestamp, result: &CommandResult) {
        if let Some(entry) = self.find(result.id) {
            entry.status = Some(result.status);
            entry.ended_at = Some(now);
            entry.transferred_bytes = result.bytes;
        }
    }

    /// A node says what became of one segment of a command.
    pub(super) fn outcome(&mut self, command: CommandId, kind: OutcomeKind) {
        if let Some(entry) = self.find(command) {
            entry.outcomes.record(kind);
        }
    }

    /// The latest commands about a key, the last first, at most [`COMMANDS_TOLD_MAX`].
    pub(super) fn about(&self, key: &str) -> Vec<Entry> {
        let about = self.entries.iter().rev().filter(|entry| entry.key.as_ref() == key);
        about.take(COMMANDS_TOLD_MAX).cloned().collect()
    }

    fn find(&mut self, command: CommandId) -> Option<&mut Entry> {
        let place = self.places.get(&command.0)?.checked_sub(self.forgotten)?;
        self.entries.get_mut(usize::try_from(place).ok()?)
    }
}

fn as_rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}

fn as_rfc3339_if_any<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(rfc3339).serialize(serializer)
}

fn as_word<S: Serializer>(status: &Option<CommandStatus>, serializer: S) -> Result<S::Ok, S::Error> {
    status.map(status_word).serialize(serializer)
}

/// A few hundred bytes each: a few megabytes.
const COMMANDS_KEPT_MAX: usize = 8_192;
const COMMANDS_TOLD_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use nearcast_proto::message::{Action, Epoch, SegmentSet};

    use super::*;

    fn command(id: u64, key: &str) -> Command {
        Command {
            id: CommandId(id),
            epoch: Epoch(1),
            action: Action::Replicate,
            target: SegmentSet { key: key.into(), size_bytes: 10, segments: vec![0, 1] },
            sources: Vec::new(),
            deadline: Timestamp::MIN,
            probability: 0.5,
            expected_value_seconds: 0.1,
            arm: "nearcast".into(),
            model_version: "".into(),
        }
    }

    #[test]
    fn a_command_is_followed_to_its_end() {
        let mut ledger = Ledger::default();
        // Another arm's numbers are lower than those before.
        for (id, key) in [(3, "/a"), (1 << 40, "/b"), (9, "/a")] {
            ledger.issue(Entry::new(Timestamp::MIN, &"eu-1".into(), &command(id, key)));
        }
        let result = CommandResult { id: CommandId(9), status: CommandStatus::Done, bytes: 10, detail: String::new() };
        ledger.end(Timestamp::MIN, &result);
        ledger.outcome(CommandId(9), OutcomeKind::Used);
        ledger.outcome(CommandId(9), OutcomeKind::Late);
        ledger.outcome(CommandId(4), OutcomeKind::Expired);
        let about = ledger.about("/a");
        assert_eq!(about.iter().map(|entry| entry.command).collect::<Vec<_>>(), [9, 3]);
        assert_eq!((about[0].status, about[0].transferred_bytes), (Some(CommandStatus::Done), 10));
        assert_eq!(about[0].outcomes, Outcomes { used: 1, late: 1, ..Outcomes::default() });
        assert_eq!((about[1].status, about[1].outcomes), (None, Outcomes::default()));
        assert!(ledger.about("/c").is_empty());
        let told = serde_json::to_value(&about[0]).unwrap();
        assert_eq!((told["status"].as_str(), told["issued_at"].as_str()), (Some("done"), Some(&*rfc3339(Timestamp::MIN))));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut ledger = Ledger::default();
        for id in 0..=COMMANDS_KEPT_MAX as u64 {
            ledger.issue(Entry::new(Timestamp::MIN, &"eu-1".into(), &command(id, "/a")));
        }
        assert_eq!((ledger.entries.len(), ledger.places.len(), ledger.forgotten), (COMMANDS_KEPT_MAX, COMMANDS_KEPT_MAX, 1));
        ledger.outcome(CommandId(0), OutcomeKind::Used);
        ledger.outcome(CommandId(1), OutcomeKind::Late);
        assert_eq!(ledger.entries[0].outcomes, Outcomes { late: 1, ..Outcomes::default() });
        assert_eq!(ledger.about("/a").len(), COMMANDS_TOLD_MAX);
    }
}
