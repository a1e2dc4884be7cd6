//! Carrying a transfer out: its sources are tried in order, and what came is landed.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use nearcast_datasets::{KeyId, SegmentId, Timestamp};

use super::{
    Answered, Ask, FetchError, Route, SharedHead, Shell, State,
    answer::OriginAnswer,
    flight::{Flight, FlightEnd, Passed, Purpose},
};
use crate::{
    background::Lane,
    clock,
    core::{
        FetchedFrom,
        routing::{FetchSource, key_hash},
    },
    key::Key,
    object::{Object, SharedObject},
    origin::{Condition, OriginBody, OriginError, read_up_to},
    peers::{Peer, PeerAsk, PeerError},
    store::Payload,
};

/// A source that a transfer tries.
#[derive(Clone, Debug)]
pub(super) enum TransferSource {
    Origin,
    Peer(Peer),
}

/// One segment to be fetched.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) key: Key,
    pub(super) index: u32,
    /// What is known of the object already.
    pub(super) known: Option<SharedObject>,
    /// Tried in order.
    pub(super) sources: Vec<TransferSource>,
    /// Whether peers may fetch it from the origin for us.
    pub(super) through_peers: bool,
    /// The headers of the request that it is for; none when it is for no request.
    pub(super) asked: SharedHead,
    /// Whether the whole object may as well come in one piece.
    pub(super) is_whole: bool,
    /// Over whose connections, and on whose threads.
    pub(super) lane: Lane,
}

/// What a source gave.
pub(super) struct Pulled {
    pub(super) object: Object,
    pub(super) payload: Payload,
    pub(super) from: FetchedFrom,
    /// When its source was asked.
    pub(super) asked_at: Timestamp,
}

impl Transfer {
    /// A transfer for a request.
    pub(super) fn demand(state: &State, ask: &Ask, segment: SegmentId, known: Option<SharedObject>) -> Self {
        // Credentials go to the origin and to nobody else.
        let is_for_all = !ask.asked.contains_key(header::AUTHORIZATION);
        let sources = match ask.route {
            Route::Anywhere if is_for_all => state.route(&ask.key, segment, known.as_ref()),
            Route::Anywhere | Route::Copy | Route::HeldOnly | Route::OriginOnly => vec![TransferSource::Origin],
        };
        Self {
            key: ask.key.clone(),
            index: ask.index,
            known,
            sources,
            through_peers: true,
            asked: Arc::clone(&ask.asked),
            is_whole: ask.is_whole,
            lane: Lane::Demand,
        }
    }

    /// A question to the origin whether a stale object is still good, and for `segment` of it when it is not.
    pub(super) fn revalidation(ask: &Ask, segment: SegmentId, stale: SharedObject) -> Self {
        Self {
            key: ask.key.clone(),
            index: segment.index,
            known: Some(stale),
            sources: vec![TransferSource::Origin],
            through_peers: false,
            asked: Arc::clone(&ask.asked),
            is_whole: ask.is_whole,
            lane: Lane::Demand,
        }
    }

    /// An answer cannot be kept. One to a request with credentials says nothing about those to others.
    fn land_uncacheable(&self, shell: &Shell, id: KeyId, passed: Option<Arc<Passed>>) -> FlightEnd {
        if self.asked.contains_key(header::AUTHORIZATION) {
            return FlightEnd::Uncacheable(passed);
        }
        shell.land_uncacheable(id, passed)
    }

    /// Carries the transfer out and ends `flight`.
    pub(super) async fn run(mut self, flight: Flight) {
        if flight.purpose == Purpose::Revalidation {
            return self.revalidate(flight).await;
        }
        let shell = Arc::clone(&flight.shell);
        let Some(flight) = self.try_sources(flight).await else { return };
        // A prefetch failed for which requests wait: fetch for them as for any request.
        self.sources = shell.state().route(&self.key, flight.segment, self.known.as_ref());
        self.through_peers = true;
        self.lane = Lane::Demand;
        let demand = shell.demand.clone();
        drop(shell.tasks.spawn_on(async move { drop(self.try_sources(flight).await) }, &demand));
    }

    /// Carries a prefetch out, or breaks it off when it is recalled: its flight and its connection end then.
    pub(super) async fn run_unless_recalled(self, flight: Flight) {
        let (shell, segment) = (Arc::clone(&flight.shell), flight.segment);
        tokio::select! {
            () = self.run(flight) => {}
            () = shell.recalled(segment) => {}
        }
    }

    /// Asks the origin whether the object is still good; ends `flight` either way.
    async fn revalidate(self, flight: Flight) {
        let shell = Arc::clone(&flight.shell);
        let Some(stale) = &self.known else { return };
        let segment = SegmentId { index: self.index, ..flight.segment };
        let asked_at = clock::now();
        let answer = shell.ask_origin(&self, Condition::IfChanged(stale)).await;
        let now = clock::now();
        let is_doubted = shell.state().is_doubted(stale);
        let end = match answer {
            Ok(OriginAnswer::NotModified(headers)) => shell.land_validation(segment.key, stale, &headers, asked_at),
            Ok(OriginAnswer::Segment(object, payload)) => {
                shell.land_changed(segment, Pulled { object, payload, from: FetchedFrom::Origin, asked_at });
                FlightEnd::LookAgain
            }
            Ok(OriginAnswer::Whole(object, body)) => shell.land_changed_whole(segment, object, body, asked_at).await,
            Ok(OriginAnswer::Changed) => shell.land_gone(segment.key, FlightEnd::LookAgain),
            // An error says nothing about the object, which may be served for a while yet.
            Ok(OriginAnswer::Answered(answered)) if answered.status.is_server_error() => {
                if !is_doubted && now < stale.if_error_until { FlightEnd::Stale } else { FlightEnd::Answered(answered) }
            }
            Ok(OriginAnswer::Answered(answered)) => shell.land_gone(segment.key, FlightEnd::Answered(answered)),
            Ok(OriginAnswer::Uncacheable(passed)) => self.land_uncacheable(&shell, segment.key, passed),
            Err(error) => {
                let may_be_stale = !is_doubted && now < stale.if_unreachable_until.max(stale.if_error_until);
                if may_be_stale { FlightEnd::Stale } else { FlightEnd::Failed(error.into()) }
            }
        };
        let mut state = shell.state();
        flight.end(&mut state, end);
    }

    /// Tries the sources in turn. Returns the flight when it failed as a prefetch but requests wait for it.
    async fn try_sources(&mut self, mut flight: Flight) -> Option<Flight> {
        let shell = Arc::clone(&flight.shell);
        let mut last_error = FetchError::Origin(OriginError::Unreachable("no source is known".to_owned()));
        for source in std::mem::take(&mut self.sources) {
            match source {
                TransferSource::Peer(peer) => match self.pull_from_peer(&shell, &peer).await {
                    Ok(pulled) => {
                        shell.land(flight, pulled);
                        return None;
                    }
                    Err(error) => shell.note_peer_failure(&peer, &error),
                },
                TransferSource::Origin => match self.pull_from_origin(&shell, flight).await {
                    Ok(()) => return None,
                    Err((returned, error)) => {
                        flight = returned;
                        last_error = error.into();
                    }
                },
            }
        }
        flight.end_without_segment(FlightEnd::Failed(last_error))
    }

    async fn pull_from_peer(&self, shell: &Shell, peer: &Peer) -> Result<Pulled, PeerError> {
        let ask = PeerAsk {
            key: &self.key,
            index: self.index,
            segment_bytes: shell.config.segment_bytes,
            only_if_held: !self.through_peers,
            asked: &self.asked,
        };
        let asked_at = clock::now();
        let answer = shell.peers.pull(peer, ask, self.lane).await?;
        let now = clock::now();
        let contradicts = |known: &SharedObject| known.version != answer.object.version && known.is_fresh(now);
        if !answer.object.suits(&self.asked)
            || !answer.object.is_fresh(now)
            || self.known.as_ref().is_some_and(contradicts)
            || shell.state().purged(&answer.object, asked_at).is_some()
        {
            return Err(PeerError::Absent);
        }
        let from = if answer.was_held { FetchedFrom::Peer } else { FetchedFrom::Origin };
        Ok(Pulled { object: answer.object, payload: answer.payload, from, asked_at })
    }

    /// Fetches from the origin and ends the flight, or hands it back with the error.
    async fn pull_from_origin(&self, shell: &Arc<Shell>, flight: Flight) -> Result<(), (Flight, OriginError)> {
        let condition = self.known.as_deref().map_or(Condition::Always, Condition::IfSame);
        let asked_at = clock::now();
        let mut answer = shell.ask_origin(self, condition).await;
        if matches!(answer, Ok(OriginAnswer::Changed | OriginAnswer::NotModified(_))) {
            shell.land_gone(flight.segment.key, FlightEnd::LookAgain);
            answer = shell.ask_origin(self, Condition::Always).await;
        }
        match answer {
            Ok(OriginAnswer::Segment(object, payload)) => {
                shell.land(flight, Pulled { object, payload, from: FetchedFrom::Origin, asked_at });
            }
            Ok(OriginAnswer::Whole(object, body)) => shell.land_whole(flight, object, body, asked_at).await,
            Ok(OriginAnswer::Answered(answered)) => {
                // Requests that wait for a failed prefetch get this answer too: it is the origin's.
                flight.end_without_segment(FlightEnd::Answered(answered));
            }
            Ok(OriginAnswer::Uncacheable(passed)) => {
                let end = self.land_uncacheable(shell, flight.segment.key, passed);
                flight.end_without_segment(end);
            }
            Ok(OriginAnswer::Changed | OriginAnswer::NotModified(_)) => {
                return Err((flight, OriginError::Unusable("a conditional answer to an unconditional request")));
            }
            Err(error) => return Err((flight, error)),
        }
        Ok(())
    }
}

impl Shell {
    /// Lands every segment of an object whose origin ignores ranges, as its bytes arrive. Requests for any of them
    /// wait for this one transfer.
    async fn land_whole(self: &Arc<Self>, flight: Flight, object: Object, mut body: OriginBody, asked_at: Timestamp) {
        let id = self.settle(&mut self.state(), &object);
        let wanted = SegmentId { key: id, ..flight.segment };
        let mut flights = if id == flight.segment.key { self.register_rest(flight, &object) } else { vec![flight] };
        let mut rest = Bytes::new();
        for index in 0..object.segment_count() {
            let expected = object.segment_len(index);
            let read = read_up_to(&mut body, expected, &mut rest).await;
            let bytes = match read {
                Ok(bytes) if bytes.len() as u64 == expected => bytes,
                Ok(_) => return fail_all(flights, &OriginError::Unusable("a body shorter than its Content-Length")),
                Err(error) => return fail_all(flights, &OriginError::Body(Arc::new(error))),
            };
            let pulled =
                Pulled { object: object.clone(), payload: Payload::new(bytes), from: FetchedFrom::Origin, asked_at };
            match flights.iter().position(|flight| flight.segment.index == index) {
                Some(position) => self.land(flights.swap_remove(position), pulled),
                None => drop(self.keep(SegmentId { index, ..wanted }, pulled)),
            }
        }
        // The wanted segment lay beyond the end.
        flights.into_iter().for_each(|flight| {
            flight.end_without_segment(FlightEnd::Answered(Answered::unsatisfiable(Some(object.size_bytes))));
        });
    }

    /// As [`Self::land_whole`], for an object that turned out to have changed.
    async fn land_changed_whole(
        self: &Arc<Self>,
        segment: SegmentId,
        object: Object,
        mut body: OriginBody,
        asked_at: Timestamp,
    ) -> FlightEnd {
        let mut rest = Bytes::new();
        for index in 0..object.segment_count() {
            let expected = object.segment_len(index);
            match read_up_to(&mut body, expected, &mut rest).await {
                Ok(bytes) if bytes.len() as u64 == expected => {
                    let payload = Payload::new(bytes);
                    let pulled = Pulled { object: object.clone(), payload, from: FetchedFrom::Origin, asked_at };
                    self.land_changed(SegmentId { index, ..segment }, pulled);
                }
                Ok(_) => {
                    return FlightEnd::Failed(OriginError::Unusable("a body shorter than its Content-Length").into());
                }
                Err(error) => return FlightEnd::Failed(OriginError::Body(Arc::new(error)).into()),
            }
        }
        FlightEnd::LookAgain
    }

    /// Lets requests for the other segments of an object wait for the transfer that brings them all.
    fn register_rest(self: &Arc<Self>, flight: Flight, object: &Object) -> Vec<Flight> {
        let wanted = flight.segment;
        let mut flights = vec![flight];
        let mut state = self.state();
        for index in (0..object.segment_count()).filter(|index| *index != wanted.index).take(REST_FLIGHTS_MAX) {
            let segment = SegmentId { index, ..wanted };
            if !state.flights.contains_key(&segment) && !state.core.index().contains(segment) {
                flights.push(Flight::register(self, &mut state, segment, Purpose::Demand).0);
            }
        }
        flights
    }

    /// Waits until the prefetch of a segment is recalled with nobody waiting for it.
    async fn recalled(&self, segment: SegmentId) {
        loop {
            // Before the look, so that no recall falls between the two.
            let recalled = self.recalls.notified();
            if self.state().core.is_recalled(segment) {
                return;
            }
            recalled.await;
        }
    }

    fn note_peer_failure(&self, peer: &Peer, error: &PeerError) {
        match error {
            PeerError::Absent => {}
            PeerError::Damaged(_)
            | PeerError::Failed(_)
            | PeerError::Stalled
            | PeerError::Timeout(_)
            | PeerError::Unreachable(_) => {
                tracing::info!(peer = %peer.name, %error, "a peer failed; the next source is tried");
                self.metrics.peer_failures.inc();
                self.state().routing.handle_failure(clock::now(), peer.member);
            }
        }
    }
}

impl State {
    /// Where a request's miss is fetched from, in order.
    pub(super) fn route(&self, key: &Key, segment: SegmentId, known: Option<&SharedObject>) -> Vec<TransferSource> {
        let bytes = known.map_or(0, |object| object.segment_len(segment.index));
        let mut sources = Vec::new();
        self.routing.route(clock::now(), segment.key, key_hash(key.as_str()), bytes, &mut sources);
        self.resolve(&sources)
    }

    /// All peers that the map names.
    pub(crate) fn all_peers(&self) -> Vec<Peer> {
        self.peers.values().cloned().collect()
    }

    /// Sources with their addresses; members that the map no longer names drop out.
    pub(super) fn resolve(&self, sources: &[FetchSource]) -> Vec<TransferSource> {
        let resolved = sources.iter().map(|source| match source {
            FetchSource::Origin => Some(TransferSource::Origin),
            FetchSource::Peer(member) => self.peers.get(member).cloned().map(TransferSource::Peer),
        });
        resolved.flatten().collect()
    }
}

fn fail_all(flights: Vec<Flight>, error: &OriginError) {
    for flight in flights {
        flight.end_without_segment(FlightEnd::Failed(error.clone().into()));
    }
}

/// Segments of one whole-object transfer that requests can wait for; requests for later ones start over.
const REST_FLIGHTS_MAX: usize = 4_096;
