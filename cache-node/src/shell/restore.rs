//! Taking up what a former run held.

use std::sync::Arc;

use nearcast_datasets::SegmentId;

use super::{Shell, State, state::Entry};
use crate::{
    clock,
    digest::Digest,
    object::{Object, SharedObject},
    purge::{LoggedPurges, PurgeEffect},
    record::SegmentRecord,
    store::{Restored, RestoredObject},
};

impl Shell {
    /// Holds again what the journal says was held. Payloads are not read: one that is gone is noticed on its first use.
    pub(super) fn restore(&self, restored: &Restored, logged: LoggedPurges) {
        let mut state = self.state();
        state.purges = logged.purges.into_iter().map(Arc::new).collect();
        state.lasting_doubt = logged.doubted_before;
        // Until the predictor has said what was purged in the meantime.
        state.doubted_before = self.config.link.as_ref().map(|_| clock::now()).or(logged.doubted_before);
        for object in &restored.objects {
            self.restore_object(&mut state, object);
            self.drain_events(&mut state);
        }
        let (bytes, segments) = state.held();
        if restored.is_torn {
            tracing::warn!("the index journal was cut off at a damaged record; what it lacks will be fetched again");
        }
        if segments > 0 {
            tracing::info!(segments, bytes, "restored what the last run held");
        }
    }

    fn restore_object(&self, state: &mut State, restored: &RestoredObject) {
        let Some(mut object) = Object::from_record(&restored.record) else { return };
        match state.purged(&object, object.received_at) {
            None => {}
            Some(PurgeEffect::Gone) => return,
            Some(PurgeEffect::Stale(at)) => object = object.staled(at),
        }
        if object.segment_bytes != self.config.segment_bytes {
            return;
        }
        let id = self.settle(state, &object);
        let object: SharedObject = Arc::new(object);
        state.entries.insert(id, Entry { object: Arc::clone(&object), held_count: 0 });
        for SegmentRecord { index, bytes, digest, .. } in &restored.segments {
            let Some(digest) = Digest::from_slice(digest) else { continue };
            let segment = SegmentId { key: id, index: *index };
            if object.segment_len(*index) == *bytes && state.core.restore(clock::now(), segment, *bytes) {
                state.digests.insert(segment, digest);
                self.store.claim(object.payload_key(*index));
                if let Some(entry) = state.entries.get_mut(&id) {
                    entry.held_count += 1;
                }
            }
        }
        if state.entries.get(&id).is_some_and(|entry| entry.held_count == 0) {
            state.entries.remove(&id);
        }
    }

    /// Drops everything that is held.
    pub(crate) async fn clear(&self) {
        {
            let mut state = self.state();
            let held: Vec<SegmentId> = state.core.index().iter().map(|(segment, _)| segment).collect();
            for segment in held {
                state.core.handle_expired(clock::now(), segment);
            }
            self.drain_events(&mut state);
        }
        self.journal.append(crate::record::ChangeKind::Cleared(true));
        self.store.clear().await;
    }
}
