//! What the core reports, carried to the journal, the payload store and the uplink.

use std::sync::Arc;

use bytes::Bytes;
use nearcast_datasets::SegmentId;
use nearcast_proto::message::{CommandResult, Outcome};

use super::{Shell, State};
use crate::{
    core::NodeEvent,
    link::{Report, SegmentReport},
    record::{ChangeKind, GoneRecord, SegmentRecord},
};

impl Shell {
    /// Carries out every event that the core holds. To be called after each call of the core, under the same lock, so
    /// that journal and uplink see changes in the order in which they happened.
    pub(super) fn drain_events(&self, state: &mut State) {
        while let Some(event) = state.core.poll_event() {
            match event {
                NodeEvent::Evicted { segment, .. } => self.handle_evicted(state, segment),
                NodeEvent::Gained { segment, bytes } => self.handle_gained(state, segment, bytes),
                NodeEvent::Outcome { command, segment, kind, at, residence } => {
                    let Some(key) = state.key_name(segment.key).map(Arc::clone) else { continue };
                    let segment = segment.index;
                    self.uplink.send(Report::Outcome(Outcome { command, key, segment, kind, at, residence }));
                }
                NodeEvent::Result { command, segment, status, bytes } => {
                    state.forget_ordered(segment.key);
                    if let Some((status, bytes)) = state.commands.record(command, status, bytes) {
                        let result = CommandResult { id: command, status, bytes, detail: String::new() };
                        self.uplink.send(Report::Result(result));
                    }
                }
            }
        }
    }

    fn handle_evicted(&self, state: &mut State, segment: SegmentId) {
        state.entries.forget_digest(segment);
        let Some(entry) = state.entries.get_mut(segment.key) else { return };
        let object = Arc::clone(&entry.object);
        entry.held_count = entry.held_count.saturating_sub(1);
        if entry.held_count == 0 {
            state.entries.remove(segment.key);
        }
        self.store.remove(object.payload_key(segment.index));
        let key = object.key.to_bytes();
        self.journal.append(ChangeKind::Gone(GoneRecord { key, index: segment.index }));
        if !object.key.is_variant() {
            self.uplink.send(Report::Lost(SegmentReport::of(&object, segment.index)));
        }
    }

    fn handle_gained(&self, state: &mut State, segment: SegmentId, bytes: u64) {
        let Some(entry) = state.entries.get_mut(segment.key) else { return };
        entry.held_count += 1;
        let object = Arc::clone(&entry.object);
        if let Some(digest) = state.entries.digest(segment) {
            self.journal.append(ChangeKind::Held(SegmentRecord {
                key: object.key.to_bytes(),
                version: object.version,
                index: segment.index,
                bytes,
                digest: Bytes::copy_from_slice(&digest.to_bytes()),
            }));
        }
        // The predictor knows keys as clients name them, and places what is the same for everyone.
        if !object.key.is_variant() {
            self.uplink.send(Report::Gained(SegmentReport::of(&object, segment.index)));
        }
    }
}
