//! Getting one segment for a request: from what is held, from a transfer under way, or by starting one.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use nearcast_datasets::{SegmentId, ServedFrom, Timestamp};
use tokio::sync::watch;

use super::{
    Answered, FetchError, SharedHead, Shell, State,
    answer::is_personal,
    flight::{Flight, FlightEnd, Purpose, wait},
    transfer::Transfer,
};
use crate::{
    clock,
    core::{Answer, FetchFailed, FetchedFrom, MissCause},
    digest::Digest,
    key::Key,
    object::SharedObject,
    origin::OriginBody,
    store::{Loaded, Payload, Tier},
};

/// How far a request may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Peers and the origin.
    Anywhere,
    /// Only what is held here, and it is not a use of it: a peer copies it for a prefetch of its own.
    Copy,
    /// Only what is held here.
    HeldOnly,
    /// The origin, but no peer: this node is the key's home, or was asked by a peer.
    OriginOnly,
}

/// A request for one segment.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) key: Key,
    pub(crate) index: u32,
    /// The state of the object that earlier segments of the same answer came from.
    pub(crate) pinned: Option<SharedObject>,
    pub(crate) route: Route,
    /// When the request arrived: what was validated since is fresh enough for it.
    pub(crate) asked_at: Timestamp,
    /// Whether the client wants the origin to be asked even if the object is fresh.
    pub(crate) must_validate: bool,
    /// The request's headers.
    pub(crate) asked: SharedHead,
    /// Whether the whole object is wanted, so that it may as well come in one piece.
    pub(crate) is_whole: bool,
}

/// A segment for a request.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) object: SharedObject,
    pub(crate) bytes: Bytes,
    pub(crate) served: ServedFrom,
    /// Why it was not simply there.
    pub(crate) cause: Option<MissCause>,
}

/// What a request for a segment came to.
#[derive(Debug)]
pub(crate) enum Obtained {
    /// The origin answered something else than the object.
    Answered(Arc<Answered>),
    /// The object is no longer in the pinned state.
    Changed,
    /// Not held, and nothing else was allowed.
    NotHeld,
    /// The segment.
    Segment(Delivery),
    /// The answer is for this request only.
    Passed(Response<OriginBody>),
    /// The answer is for one client only: pass the request through.
    Uncacheable,
}

/// What a look at the state says to do.
enum Step {
    Held(Held),
    NotHeld,
    Uncacheable,
    Wait { flight: watch::Receiver<Option<FlightEnd>>, cause: MissCause, start: Option<Start> },
}

/// A transfer to be started once the state is no longer locked: a task that cannot be spawned ends its flight at once,
/// which takes the lock.
struct Start {
    transfer: Transfer,
    flight: Flight,
}

/// A segment that the index says is held.
struct Held {
    segment: SegmentId,
    object: SharedObject,
    digest: Option<Digest>,
    is_first_use: bool,
    /// Asking the origin whether it is still good, while it is served.
    background: Option<Start>,
}

impl Shell {
    /// Gets one segment.
    ///
    /// # Errors
    /// When no source gave it.
    pub(crate) async fn obtain(self: &Arc<Self>, ask: &Ask) -> Result<Obtained, FetchError> {
        let mut validated = None;
        let mut may_be_stale = false;
        for _ in 0..ROUNDS_MAX {
            let mut step = self.look_up(ask, may_be_stale);
            if let Step::Held(mut held) = step {
                if let Some(Start { transfer, flight }) = held.background.take() {
                    self.tasks.spawn(transfer.run(flight));
                }
                match self.read(&held).await {
                    Some((payload, tier)) => return Ok(deliver_held(ask, held, payload, tier, validated)),
                    None if ask.route == Route::Copy => return Ok(Obtained::NotHeld),
                    None => step = self.repair(ask, &held),
                }
            }
            let (flight, cause, start) = match step {
                // Repairing finds it held again only if somebody else just fetched it.
                Step::Held(_) => continue,
                Step::NotHeld => return Ok(Obtained::NotHeld),
                Step::Uncacheable => return Ok(Obtained::Uncacheable),
                Step::Wait { flight, cause, start } => (flight, cause, start),
            };
            if let Some(Start { transfer, flight }) = start {
                self.tasks.spawn(transfer.run(flight));
            }
            match wait(flight).await {
                FlightEnd::Answered(_) if is_personal(&ask.asked) => return Ok(Obtained::Uncacheable),
                FlightEnd::Answered(answered) => return Ok(Obtained::Answered(answered)),
                FlightEnd::Failed(error) => return Err(error),
                // Somebody else's request brought another variant.
                FlightEnd::Landed { object, .. } if !object.suits(&ask.asked) => {}
                FlightEnd::Landed { object, bytes, from, cause: known } => {
                    return Ok(deliver_fetched(ask, object, bytes, from, known.unwrap_or(cause)));
                }
                FlightEnd::LookAgain => validated = Some(cause),
                FlightEnd::Stale => may_be_stale = true,
                FlightEnd::Uncacheable(passed) => {
                    let response = passed.and_then(|passed| passed.take(&ask.asked));
                    return Ok(response.map_or(Obtained::Uncacheable, Obtained::Passed));
                }
            }
        }
        Err(FetchError::Unsettled)
    }

    /// Asks the core, and starts a transfer when it says so.
    fn look_up(self: &Arc<Self>, ask: &Ask, may_be_stale: bool) -> Step {
        let now = clock::now();
        let mut state = self.state();
        let id = state.select(&ask.key, &ask.asked);
        if state.is_bypassed(now, id) {
            return Step::Uncacheable;
        }
        let segment = SegmentId { key: id, index: ask.index };
        let known = state.entries.get(id).map(|entry| Arc::clone(&entry.object));
        let is_held = state.core.index().contains(segment);
        let is_doubted = known.as_ref().is_some_and(|object| state.is_doubted(object));
        let must_validate = ask.must_validate || is_doubted;
        let is_stale =
            |object: &&SharedObject| (must_validate || !object.is_fresh(now)) && object.received_at < ask.asked_at;
        let stale = known.as_ref().filter(|_| is_held && !may_be_stale).filter(is_stale);
        if ask.route == Route::HeldOnly && (!is_held || stale.is_some()) {
            return Step::NotHeld;
        }
        if ask.route == Route::Copy {
            return state.copy(segment, known.filter(|object| is_held && !is_doubted && object.is_fresh(now)));
        }
        let mut background = None;
        if let Some(object) = stale {
            if must_validate || now >= object.while_revalidate_until {
                return self.revalidate(&mut state, ask, segment, object);
            }
            if let Step::Wait { start, .. } = self.revalidate(&mut state, ask, segment, object) {
                background = start;
            }
        }
        let bytes = known.as_ref().map_or(0, |object| object.segment_len(ask.index));
        let answer = state.core.handle_request(now, segment, bytes);
        self.drain_events(&mut state);
        let mut step = self.follow(&mut state, ask, segment, known, answer);
        if let Step::Held(held) = &mut step {
            held.background = background;
        }
        step
    }

    /// Does what the core answered.
    fn follow(
        self: &Arc<Self>,
        state: &mut State,
        ask: &Ask,
        segment: SegmentId,
        known: Option<SharedObject>,
        answer: Answer,
    ) -> Step {
        let cause = match (answer, known.as_ref()) {
            (Answer::Hit { first_use }, Some(object)) => {
                let digest = state.entries.digest(segment);
                return Step::Held(Held {
                    segment,
                    object: Arc::clone(object),
                    digest,
                    is_first_use: first_use,
                    background: None,
                });
            }
            (Answer::Join { cause } | Answer::Miss { cause }, _) => cause,
            // What the index holds has an entry; were it not so, fetching is always right.
            (Answer::Hit { .. }, None) => MissCause::Capacity,
        };
        if let Some(flight) = state.flights.get(&segment) {
            return Step::Wait { flight: flight.clone(), cause, start: None };
        }
        let (flight, receiver) = Flight::register(self, state, segment, Purpose::Demand);
        let known = known.or_else(|| ask.pinned.clone());
        let transfer = Transfer::demand(state, ask, segment, known);
        Step::Wait { flight: receiver, cause, start: Some(Start { transfer, flight }) }
    }

    /// Waits for the origin to say whether a stale object is still good; one such question at a time per object.
    fn revalidate(self: &Arc<Self>, state: &mut State, ask: &Ask, segment: SegmentId, object: &SharedObject) -> Step {
        let cause = MissCause::Expired;
        let question = SegmentId { index: REVALIDATION_INDEX, ..segment };
        if let Some(flight) = state.flights.get(&question) {
            return Step::Wait { flight: flight.clone(), cause, start: None };
        }
        let (flight, receiver) = Flight::register(self, state, question, Purpose::Revalidation);
        let transfer = Transfer::revalidation(ask, segment, Arc::clone(object));
        Step::Wait { flight: receiver, cause, start: Some(Start { transfer, flight }) }
    }

    /// Reads a held segment's payload; `None` when it is gone or not the right one.
    async fn read(&self, held: &Held) -> Option<(Payload, Tier)> {
        let number = held.object.payload_key(held.segment.index);
        let is_right = |payload: &Payload| Some(payload.digest) == held.digest;
        if let Some(payload) = self.store.find_in_memory(number).filter(is_right) {
            return Some((payload, Tier::Memory));
        }
        match self.store.load(number).await {
            Loaded::Intact(payload, tier) if is_right(&payload) => Some((payload, tier)),
            Loaded::Intact(..) | Loaded::Damaged => {
                self.metrics.payloads_damaged.inc();
                None
            }
            Loaded::Gone => {
                self.metrics.payloads_gone.inc();
                None
            }
        }
    }

    /// Takes back that a segment is held, and treats the request as a miss.
    fn repair(self: &Arc<Self>, ask: &Ask, held: &Held) -> Step {
        let now = clock::now();
        let mut state = self.state();
        let object = state.entries.get(held.segment.key).map(|entry| Arc::clone(&entry.object));
        // Somebody may have repaired or replaced it while the payload was read.
        let is_same = object.as_ref().is_some_and(|object| object.version == held.object.version)
            && state.entries.digest(held.segment) == held.digest;
        if !is_same {
            return Step::Held(Held {
                segment: held.segment,
                object: Arc::clone(&held.object),
                digest: held.digest,
                is_first_use: false,
                background: None,
            });
        }
        let bytes = held.object.segment_len(held.segment.index);
        let answer = state.core.handle_damaged(now, held.segment, bytes);
        if ask.route == Route::HeldOnly {
            if matches!(answer, Answer::Miss { .. }) {
                state.core.handle_fetched(now, held.segment, Err(FetchFailed));
            }
            self.drain_events(&mut state);
            return Step::NotHeld;
        }
        self.drain_events(&mut state);
        let known = Some(Arc::clone(&held.object));
        self.follow(&mut state, ask, held.segment, known, answer)
    }
}

impl State {
    /// A held segment, without the core hearing of it.
    fn copy(&self, segment: SegmentId, object: Option<SharedObject>) -> Step {
        let digest = self.entries.digest(segment);
        object.map_or(Step::NotHeld, |object| {
            Step::Held(Held { segment, object, digest, is_first_use: false, background: None })
        })
    }
}

fn deliver_held(ask: &Ask, held: Held, payload: Payload, tier: Tier, validated: Option<MissCause>) -> Obtained {
    if is_other_version(ask, &held.object) {
        return Obtained::Changed;
    }
    let served = match (validated, held.is_first_use, tier) {
        // The origin was asked, so the region's own node did not answer alone.
        (Some(_), _, _) => ServedFrom::Origin,
        (None, true, _) => ServedFrom::Prefetched,
        (None, false, Tier::Memory) => ServedFrom::Memory,
        (None, false, Tier::Disk) => ServedFrom::Disk,
    };
    Obtained::Segment(Delivery { object: held.object, bytes: payload.bytes, served, cause: validated })
}

fn deliver_fetched(ask: &Ask, object: SharedObject, bytes: Bytes, from: FetchedFrom, cause: MissCause) -> Obtained {
    if is_other_version(ask, &object) {
        return Obtained::Changed;
    }
    let served = match from {
        FetchedFrom::Origin => ServedFrom::Origin,
        FetchedFrom::Peer => ServedFrom::Peer,
    };
    Obtained::Segment(Delivery { object, bytes, served, cause: Some(cause) })
}

fn is_other_version(ask: &Ask, object: &SharedObject) -> bool {
    ask.pinned.as_ref().is_some_and(|pinned| pinned.version != object.version)
}

/// No object has so many segments, so this stands for the question whether it is still good.
const REVALIDATION_INDEX: u32 = u32::MAX;
/// Looks at the state before giving up: damaged, then revalidated, then fetched, and one to spare.
const ROUNDS_MAX: usize = 5;
