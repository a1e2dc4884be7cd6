//! Taking up what a former run held.

use std::sync::Arc;

use nearcast_datasets::{SegmentId, Timestamp};

use super::{Shell, State};
use crate::{
    clock,
    object::SharedObject,
    purge::{LoggedPurges, PurgeEffect},
    store::{Restored, RestoredObject, RestoredSegment},
};

impl Shell {
    /// Holds again what the journal says was held. Payloads are not read: one that is gone is noticed on its first use.
    pub(super) fn restore(&self, restored: Restored, logged: LoggedPurges) {
        let mut state = self.state();
        state.purges = logged.purges.into_iter().map(Arc::new).collect();
        state.lasting_doubt = logged.doubted_before;
        // Until the predictor has said what was purged in the meantime.
        state.doubted_before = self.config.link.as_ref().map(|_| clock::now()).or(logged.doubted_before);
        state.reserve(restored.objects.len());
        self.store.reserve(restored.objects.len());
        let now = clock::now();
        for object in restored.objects {
            self.restore_object(&mut state, now, object);
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

    fn restore_object(&self, state: &mut State, now: Timestamp, restored: RestoredObject) {
        let RestoredObject { mut object, segments } = restored;
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
        state.entries.insert(id, Arc::clone(&object));
        for (index, RestoredSegment { bytes, digest }) in segments {
            let segment = SegmentId { key: id, index };
            if object.segment_len(index) == bytes && state.core.restore(now, segment, bytes) {
                state.entries.set_digest(segment, digest);
                self.store.claim(object.payload_key(index));
                if let Some(entry) = state.entries.get_mut(id) {
                    entry.held_count += 1;
                }
            }
        }
        if state.entries.get(id).is_some_and(|entry| entry.held_count == 0) {
            state.entries.remove(id);
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
