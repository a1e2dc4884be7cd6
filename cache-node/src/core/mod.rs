//! The synchronous heart of a cache node: what is held, what is under way, what is fetched next and why something
//! was missed.
//!
//! A [`NodeCore`] reads no clock and does no I/O. Its caller reports what happened through `handle_*` and carries out
//! what `poll_*` returns; payload bytes never pass through it. The node's shell and replay drive the same type.
//!
//! | call | then |
//! | --- | --- |
//! | [`NodeCore::handle_request`] → [`Answer::Miss`] | fetch, then [`NodeCore::handle_fetched`] |
//! | [`NodeCore::handle_order`], [`NodeCore::handle_fetched`], [`NodeCore::handle_prefetched`] | [`NodeCore::poll_prefetch`] until `None` |
//! | [`NodeCore::poll_prefetch`] → an order | transfer, then [`NodeCore::handle_prefetched`] |
//! | any `handle_*` or `poll_prefetch` | [`NodeCore::poll_event`] until `None` |

mod commands;
mod config;
mod counters;
mod departed;
mod event;
mod flights;
mod orders;
mod queue;
pub mod routing;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, num::NonZeroUsize};

use nearcast_datasets::{SegmentId, Timestamp};
use nearcast_proto::message::{CommandId, OutcomeKind};

pub use self::{
    commands::CommandLedger,
    config::{NodeCoreConfig, NodeCoreConfigError},
    counters::{MissCauses, NodeCounters, PrefetchCounters},
    event::{Answer, FetchFailed, Fetched, FetchedFrom, Landed, MissCause, NodeEvent, PrefetchOrder},
};
use self::{
    departed::Departed,
    flights::{Flight, Flights},
    queue::PrefetchQueue,
};
use crate::index::{Admission, Evicted, Index, Unused};

/// Decides for one node; see the module's table for how to drive it.
#[derive(Debug)]
pub struct NodeCore {
    index: Index,
    departed: Departed,
    flights: Flights,
    flights_max: usize,
    queue: PrefetchQueue,
    prefetch_flights_max: usize,
    prefetch_flight_bytes_max: u64,
    demand_flights_max: usize,
    /// Bounded by the caller, who drains it after every call: one call adds at most what one insertion evicts.
    events: VecDeque<NodeEvent>,
    counters: NodeCounters,
    /// Kept between calls for its capacity.
    evicted: Vec<Evicted>,
    turned_away: Vec<PrefetchOrder>,
}

impl NodeCore {
    /// A core that holds nothing.
    ///
    /// # Errors
    /// When a bound of `config` is out of its range.
    pub fn new(config: &NodeCoreConfig) -> Result<Self, NodeCoreConfigError> {
        Self::with_index(config, Index::new(&config.index)?)
    }

    /// A core that holds nothing, with an empty index of the caller's own making.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_index(config: &NodeCoreConfig, index: Index) -> Result<Self, NodeCoreConfigError> {
        let zero = |field| NodeCoreConfigError::Zero { field };
        let departed_max = NonZeroUsize::new(config.departed_max).ok_or_else(|| zero("departed_max"))?;
        let flights_max = NonZeroUsize::new(config.flights_max).ok_or_else(|| zero("flights_max"))?;
        Ok(Self {
            index,
            departed: Departed::new(departed_max),
            flights: Flights::default(),
            flights_max: flights_max.get(),
            queue: PrefetchQueue::new(config.queue_max, config.queue_bytes_max),
            prefetch_flights_max: config.prefetch_flights_max,
            prefetch_flight_bytes_max: config.prefetch_flight_bytes_max,
            demand_flights_max: config.demand_flights_max,
            events: VecDeque::new(),
            counters: NodeCounters::default(),
            evicted: Vec::new(),
            turned_away: Vec::new(),
        })
    }

    /// A client or a peer asks for `segment`, which has `bytes` bytes.
    pub fn handle_request(&mut self, now: Timestamp, segment: SegmentId, bytes: u64) -> Answer {
        self.counters.requests += 1;
        if let Some(touched) = self.index.touch(now, segment) {
            self.counters.hits += 1;
            self.counters.hit_bytes += touched.bytes;
            if let Some(unused) = touched.first_use {
                self.record_use(now, segment, touched.bytes, unused);
            }
            return Answer::Hit { first_use: touched.first_use.is_some() };
        }
        self.counters.miss_bytes += bytes;
        self.answer_miss(now, segment)
    }

    /// The payload of a segment that a request was told is held is gone or damaged: takes the hit back, forgets the
    /// segment and answers as for a miss.
    pub fn handle_damaged(&mut self, now: Timestamp, segment: SegmentId, bytes: u64) -> Answer {
        self.counters.repaired += 1;
        self.counters.hits = self.counters.hits.saturating_sub(1);
        self.counters.hit_bytes = self.counters.hit_bytes.saturating_sub(bytes);
        self.counters.miss_bytes += bytes;
        self.drop_segment(now, segment, MissCause::Capacity, OutcomeKind::EvictedUnused);
        self.answer_miss(now, segment)
    }

    /// A demand fetch ended. Says whether the segment is held now, so that the caller knows whether to keep the
    /// payload, and what the misses that waited for it are put down to in the end.
    pub fn handle_fetched(
        &mut self,
        now: Timestamp,
        segment: SegmentId,
        result: Result<Fetched, FetchFailed>,
    ) -> Landed {
        let flight = self.flights.end(segment);
        let Ok(fetched) = result else {
            self.counters.fetches_failed += 1;
            return Landed::default();
        };
        self.counters.demand_bytes += fetched.bytes;
        let mut cause = None;
        if let Some(Flight::Demand { cause: known, waiting }) = flight {
            let is_elsewhere = known == MissCause::First && fetched.from == FetchedFrom::Peer;
            cause = Some(if is_elsewhere { MissCause::Elsewhere } else { known });
            if is_elsewhere {
                self.counters.misses.recount(known, MissCause::Elsewhere, waiting);
            }
        }
        let is_held = self.store_demanded(now, segment, &fetched);
        Landed { is_held, cause, demand_waits: false }
    }

    /// A held segment went stale.
    pub fn handle_expired(&mut self, now: Timestamp, segment: SegmentId) {
        self.drop_segment(now, segment, MissCause::Expired, OutcomeKind::Expired);
    }

    /// Holds a segment whose payload survived a restart. Reports no gain: the inventory announces it.
    pub fn restore(&mut self, now: Timestamp, segment: SegmentId, bytes: u64) -> bool {
        let is_held = self.index.insert(now, segment, bytes, Admission::Demand, &mut self.evicted);
        self.report_evicted(now);
        is_held
    }

    /// What the shell must hear of next. Call until `None` after every `handle_*`, `restore` and `poll_prefetch`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<NodeEvent> {
        self.events.pop_front()
    }

    /// What is held.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Running totals.
    pub fn counters(&self) -> &NodeCounters {
        &self.counters
    }

    /// Prefetches waiting for their transfer.
    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Transfers under way, of demand and of prefetch.
    pub fn flights_len(&self) -> usize {
        self.flights.len()
    }

    /// Whether demand has so many transfers under way that work which can wait should.
    pub fn is_demand_busy(&self) -> bool {
        self.flights.demand_count() > self.demand_flights_max / 2
    }

    /// Decides between joining a transfer and starting one, and finds the cause.
    fn answer_miss(&mut self, now: Timestamp, segment: SegmentId) -> Answer {
        if let Some(flight) = self.flights.find_mut(segment) {
            self.counters.joins += 1;
            let (cause, overtaken) = match flight {
                Flight::Demand { cause, waiting } => {
                    *waiting += 1;
                    (*cause, None)
                }
                Flight::Prefetch { command, is_demanded, .. } => {
                    let is_first = !std::mem::replace(is_demanded, true);
                    (MissCause::LatePrefetch, is_first.then_some(*command))
                }
            };
            if let Some(command) = overtaken {
                self.record_late(now, segment, command);
            }
            self.counters.misses.record(cause);
            return Answer::Join { cause };
        }
        let cause = if self.overtake_queued(now, segment) {
            MissCause::LatePrefetch
        } else {
            self.departed.take(segment).unwrap_or(MissCause::First)
        };
        self.counters.misses.record(cause);
        if self.flights.len() < self.flights_max {
            self.flights.start(segment, Flight::Demand { cause, waiting: 1 });
        } else {
            self.counters.flights_full += 1;
        }
        Answer::Miss { cause }
    }

    fn store_demanded(&mut self, now: Timestamp, segment: SegmentId, fetched: &Fetched) -> bool {
        if !fetched.is_cacheable {
            self.record_departed(segment, MissCause::Uncacheable);
            return false;
        }
        let was_held = self.index.contains(segment);
        let is_held = self.index.insert(now, segment, fetched.bytes, Admission::Demand, &mut self.evicted);
        self.report_evicted(now);
        if !is_held {
            self.counters.refused += 1;
            self.record_departed(segment, MissCause::Rejected);
        } else if !was_held {
            self.events.push_back(NodeEvent::Gained { segment, bytes: fetched.bytes });
        }
        is_held
    }

    /// Turns what the index just evicted into events, counters and memories.
    fn report_evicted(&mut self, now: Timestamp) {
        let mut evicted = std::mem::take(&mut self.evicted);
        for entry in evicted.drain(..) {
            self.counters.evicted += 1;
            self.report_gone(now, &entry, MissCause::Capacity, OutcomeKind::EvictedUnused);
        }
        self.evicted = evicted;
    }

    fn drop_segment(&mut self, now: Timestamp, segment: SegmentId, cause: MissCause, kind: OutcomeKind) -> bool {
        let removed = self.index.remove(now, segment);
        if let Some(entry) = removed {
            self.report_gone(now, &entry, cause, kind);
        }
        removed.is_some()
    }

    fn report_gone(&mut self, now: Timestamp, gone: &Evicted, cause: MissCause, kind: OutcomeKind) {
        let Evicted { segment, bytes, unused } = *gone;
        self.record_departed(segment, cause);
        self.events.push_back(NodeEvent::Evicted { segment, bytes });
        let Some(Unused { command, residence }) = unused else { return };
        if kind == OutcomeKind::Expired {
            self.counters.prefetch.expired_unused += 1;
        } else {
            self.counters.prefetch.evicted_unused += 1;
            self.counters.prefetch.evicted_unused_bytes += bytes;
        }
        self.events.push_back(NodeEvent::Outcome { command, segment, kind, at: now, residence });
    }

    fn record_departed(&mut self, segment: SegmentId, cause: MissCause) {
        if self.departed.record(segment, cause) {
            self.counters.departed_forgotten += 1;
        }
    }

    fn record_use(&mut self, now: Timestamp, segment: SegmentId, bytes: u64, unused: Unused) {
        self.counters.prefetch.used += 1;
        self.counters.prefetch.used_bytes += bytes;
        let Unused { command, residence } = unused;
        self.events.push_back(NodeEvent::Outcome { command, segment, kind: OutcomeKind::Used, at: now, residence });
    }

    fn record_late(&mut self, now: Timestamp, segment: SegmentId, command: CommandId) {
        self.counters.prefetch.late += 1;
        let residence = std::time::Duration::ZERO;
        self.events.push_back(NodeEvent::Outcome { command, segment, kind: OutcomeKind::Late, at: now, residence });
    }
}
