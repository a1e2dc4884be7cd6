//! Storing what a transfer brought, and telling those who wait.

use std::sync::Arc;

use http::HeaderMap;
use nearcast_datasets::{KeyId, SegmentId, Timestamp};

use super::{
    Shell, State,
    answer::refresh,
    flight::{Flight, FlightEnd, Passed, Purpose},
    transfer::Pulled,
};
use crate::{
    clock,
    core::{Answer, Fetched, FetchedFrom, Landed},
    key::Key,
    object::{Object, SharedObject},
    purge::PurgeEffect,
    record::ChangeKind,
};

impl Shell {
    /// A transfer brought its segment: keeps it if the core says so and ends the flight.
    pub(super) fn land(&self, flight: Flight, pulled: Pulled) {
        let mut state = self.state();
        let id = self.settle(&mut state, &pulled.object);
        if id != flight.segment.key {
            // It varies in another way than was known: it is kept for requests like this one, and those that wait look
            // whether they are.
            drop(state);
            let segment = SegmentId { key: id, ..flight.segment };
            let (from, bytes) = (pulled.from, pulled.payload.bytes.clone());
            let object = self.keep(segment, pulled);
            flight.end_without_segment(FlightEnd::Landed { object, bytes, from, cause: None });
            return;
        }
        self.count_fetched(&pulled);
        let now = clock::now();
        let (from, bytes) = (pulled.from, pulled.payload.bytes.clone());
        let (segment, purpose) = (flight.segment, flight.purpose);
        let (object, landed) = self.store(&mut state, now, segment, pulled, |state, fetched| match purpose {
            Purpose::Prefetch => state.core.handle_prefetched(now, segment, Ok(fetched)),
            Purpose::Demand | Purpose::Revalidation => state.core.handle_fetched(now, segment, Ok(fetched)),
        });
        flight.end(&mut state, FlightEnd::Landed { object, bytes, from, cause: landed.cause });
    }

    /// A transfer brought a segment that nobody had asked for yet.
    pub(super) fn keep(&self, segment: SegmentId, pulled: Pulled) -> SharedObject {
        self.count_fetched(&pulled);
        let now = clock::now();
        let mut state = self.state();
        let tell = |state: &mut State, fetched| state.core.handle_fetched(now, segment, Ok(fetched));
        self.store(&mut state, now, segment, pulled, tell).0
    }

    /// The number under which an object is kept. What its key's answers no longer depend on is dropped.
    pub(super) fn settle(&self, state: &mut State, object: &Object) -> KeyId {
        let (id, gone) = state.settle(object);
        for former in gone {
            self.expire(state, clock::now(), former);
        }
        id
    }

    /// A stale object has changed, and this is a segment of its new state. The request that found it stale counts as a
    /// miss of the new state.
    pub(super) fn land_changed(&self, segment: SegmentId, pulled: Pulled) {
        self.count_fetched(&pulled);
        let now = clock::now();
        let mut state = self.state();
        if state.purged(&pulled.object, pulled.asked_at).is_some() {
            // Purged while it was on its way: those that wait ask again.
            return;
        }
        let bytes = pulled.payload.bytes.len() as u64;
        let segment = SegmentId { key: self.settle(&mut state, &pulled.object), ..segment };
        self.install(&mut state, now, segment.key, &Arc::new(pulled.object.clone()));
        if matches!(state.core.handle_request(now, segment, bytes), Answer::Join { .. }) {
            // Somebody else fetches it already.
            return self.drain_events(&mut state);
        }
        self.store(&mut state, now, segment, pulled, |state, fetched| {
            state.core.handle_fetched(now, segment, Ok(fetched))
        });
    }

    /// The origin confirmed a stale object.
    pub(super) fn land_validation(
        &self,
        id: KeyId,
        stale: &SharedObject,
        headers: &HeaderMap,
        asked_at: Timestamp,
    ) -> FlightEnd {
        self.metrics.validations.inc();
        let Some(refreshed) = refresh(stale, headers) else { return self.land_uncacheable(id, None) };
        let mut state = self.state();
        let is_same = state.entries.get(id).is_some_and(|entry| entry.object.version == refreshed.version);
        if is_same && state.purged(&refreshed, asked_at).is_none() {
            self.install(&mut state, clock::now(), id, &Arc::new(refreshed));
        }
        FlightEnd::LookAgain
    }

    /// The object is gone or no longer what is held: drops its segments. Returns `end`.
    pub(super) fn land_gone(&self, id: KeyId, end: FlightEnd) -> FlightEnd {
        let mut state = self.state();
        self.expire(&mut state, clock::now(), id);
        end
    }

    /// Answers for this key cannot be kept: drops what is held and lets requests pass for a while.
    pub(super) fn land_uncacheable(&self, id: KeyId, passed: Option<Arc<Passed>>) -> FlightEnd {
        let now = clock::now();
        let mut state = self.state();
        self.expire(&mut state, now, id);
        state.bypass(id, now.after(BYPASS_TIME));
        FlightEnd::Uncacheable(passed)
    }

    /// Stores a segment: its object first, then what `tell` says the core thinks of it.
    fn store(
        &self,
        state: &mut State,
        now: Timestamp,
        segment: SegmentId,
        pulled: Pulled,
        tell: impl FnOnce(&mut State, Fetched) -> Landed,
    ) -> (SharedObject, Landed) {
        let Pulled { mut object, payload, from, asked_at } = pulled;
        match state.purged(&object, asked_at) {
            None => {}
            Some(PurgeEffect::Stale(at)) => object = object.staled(at),
            Some(PurgeEffect::Gone) => {
                let bytes = payload.bytes.len() as u64;
                let landed = tell(state, Fetched { bytes, from, is_cacheable: false });
                self.drain_events(state);
                return (Arc::new(object), landed);
            }
        }
        let object = self.install(state, now, segment.key, &Arc::new(object));
        let fetched = Fetched { bytes: payload.bytes.len() as u64, from, is_cacheable: true };
        state.entries.set_digest(segment, payload.digest);
        let landed = tell(state, fetched);
        if landed.is_held {
            self.store.insert(object.payload_key(segment.index), payload);
        } else {
            state.entries.forget_digest(segment);
        }
        self.drain_events(state);
        if state.entries.get(segment.key).is_some_and(|entry| entry.held_count == 0) {
            state.entries.remove(segment.key);
        }
        (object, landed)
    }

    /// Makes `object` the known state of its key. The segments of another state are dropped; of the same state, the one
    /// that stays fresh longer is kept.
    fn install(&self, state: &mut State, now: Timestamp, id: KeyId, object: &SharedObject) -> SharedObject {
        if let Some(entry) = state.entries.get_mut(id)
            && entry.object.version == object.version
        {
            if object.fresh_until > entry.object.fresh_until || object.received_at > entry.object.received_at {
                entry.object = Arc::clone(object);
                self.journal.append(ChangeKind::Object(object.to_record()));
            }
            return Arc::clone(&entry.object);
        }
        self.expire(state, now, id);
        state.entries.insert(id, Arc::clone(object));
        self.journal.append(ChangeKind::Object(object.to_record()));
        Arc::clone(object)
    }

    /// A client changed the object at the origin: drops what is held of it.
    pub(crate) fn invalidate(&self, key: &Key) {
        let mut state = self.state();
        for id in state.all_variants(key) {
            self.expire(&mut state, clock::now(), id);
        }
    }

    /// Drops every held segment of a key.
    pub(super) fn expire(&self, state: &mut State, now: Timestamp, id: KeyId) {
        let Some(object) = state.entries.get(id).map(|entry| Arc::clone(&entry.object)) else { return };
        for index in held_indexes(state, id, &object) {
            state.core.handle_expired(now, SegmentId { key: id, index });
        }
        self.drain_events(state);
        state.entries.remove(id);
    }

    fn count_fetched(&self, pulled: &Pulled) {
        let bytes = pulled.payload.bytes.len() as u64;
        match pulled.from {
            FetchedFrom::Origin => self.metrics.origin_bytes.inc_by(bytes),
            FetchedFrom::Peer => self.metrics.peer_bytes.inc_by(bytes),
        };
    }
}

fn held_indexes(state: &State, id: KeyId, object: &Object) -> Vec<u32> {
    let indexes = 0..object.segment_count();
    indexes.filter(|index| state.core.index().contains(SegmentId { key: id, index: *index })).collect()
}

/// How long requests for a key whose answers cannot be kept are passed through without trying.
const BYPASS_TIME: std::time::Duration = std::time::Duration::from_secs(60);
