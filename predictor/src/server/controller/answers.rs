//! What the page is told.

use std::sync::Arc;

use nearcast_datasets::{Timestamp, segment_count};
use nearcast_proto::message::NodeDescriptor;
use serde::Serialize;

use super::{Controller, ledger::Entry, tally::Tallies};
use crate::{
    engine::{KeyFacts, NodeIndex},
    events::rfc3339,
    server::{input::SessionId, status::StatusDocument},
};

/// How things are, with what the shell has counted.
#[derive(Clone, Debug)]
pub(in crate::server) struct Facts {
    pub(in crate::server) status: StatusDocument,
    pub(in crate::server) tallies: Tallies,
}

/// One key's story; the schema is `nearcast.key/1`.
#[derive(Clone, Debug, Serialize)]
pub(in crate::server) struct KeyStory {
    schema: &'static str,
    key: Arc<str>,
    /// Whether anybody has asked for it, or holds it, or it was foreseen.
    known: bool,
    /// Bytes of the whole object, once somebody has asked for it.
    size_bytes: Option<u64>,
    /// Requests since it is known.
    requests: u32,
    /// The first and the last of them, RFC 3339.
    first_at: Option<String>,
    last_at: Option<String>,
    holders: Vec<Holder>,
    /// The latest commands about it, the last first.
    commands: Vec<Entry>,
    /// Commands, about whatever key, that are not remembered any more.
    commands_forgotten: u64,
}

/// A node that holds some of a key.
#[derive(Clone, Debug, Serialize)]
struct Holder {
    node: Arc<str>,
    region: Arc<str>,
    segments_held: u32,
    /// How many it has, by the node's size of segments.
    segments: u32,
}

impl Controller {
    pub(super) fn facts(&self, now: Timestamp) -> Facts {
        Facts { status: self.status(now), tallies: self.tallies.clone() }
    }

    pub(super) fn key_story(&self, key: &Arc<str>) -> KeyStory {
        let facts = self.engine.key_facts(key);
        let known = facts.is_some();
        let facts = facts.unwrap_or(KeyFacts { size_bytes: None, requests: 0, asked: None });
        let size = facts.size_bytes.unwrap_or(0);
        let holder = |(node, id): (&NodeIndex, &SessionId)| {
            // The engine in force knows what a node really holds; every other one sees a miniature.
            let segments_held = self.arms.engine_at(*node, &self.engine).segments_held(key, *node);
            let NodeDescriptor { name, region, segment_bytes, .. } = &self.sessions.get(id)?.descriptor;
            let segments = segment_count(size, *segment_bytes);
            let holder = Holder { node: Arc::clone(&name.0), region: Arc::clone(region), segments_held, segments };
            (segments_held > 0).then_some(holder)
        };
        KeyStory {
            schema: "nearcast.key/1",
            key: Arc::clone(key),
            known,
            size_bytes: facts.size_bytes,
            requests: facts.requests,
            first_at: facts.asked.map(|(first, _)| rfc3339(first)),
            last_at: facts.asked.map(|(_, last)| rfc3339(last)),
            holders: self.by_node.iter().filter_map(holder).collect(),
            commands: self.ledger.about(key),
            commands_forgotten: self.ledger.forgotten,
        }
    }
}
