//! A node's cache as it would be under one arm: the production index without payloads, in miniature.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use nearcast_cache_node::index::{Admission, Evicted, Index, IndexConfig, PolicyKind, Unused};
use nearcast_datasets::{Map, SegmentId, Timestamp};
use nearcast_experiment::design::Turnover;
use nearcast_proto::message::{CommandId, CommandStatus, OutcomeKind};

use crate::engine::Arrivals;

/// A miniature of one node under one arm. Segments go by the hash of their key, which is the same in every engine.
#[derive(Debug)]
pub(super) struct GhostNode {
    index: Index,
    held: Map<SegmentId, Held>,
    arrivals: Arrivals,
    /// Prefetches under way, by when they land.
    due: BTreeMap<(Timestamp, u64), Prefetch>,
    under_way: Map<SegmentId, (Timestamp, u64)>,
    started: u64,
    /// Prefetches that were turned away because too many were under way.
    pub(super) turned_away: u64,
    events: VecDeque<GhostEvent>,
    evicted: Vec<Evicted>,
    /// How old segments were when they left.
    pub(super) turnover: Turnover,
    /// Bytes of prefetched segments that left unused.
    pub(super) unused_bytes: u64,
    /// Bytes of prefetched segments that landed.
    pub(super) landed_bytes: u64,
}

#[derive(Clone, Debug)]
struct Held {
    name: Arc<str>,
    since: Timestamp,
}

/// A segment that an order asks for.
#[derive(Clone, Debug)]
pub(super) struct Prefetch {
    pub(super) command: CommandId,
    pub(super) segment: SegmentId,
    pub(super) name: Arc<str>,
    pub(super) bytes: u64,
    pub(super) deadline: Timestamp,
}

/// What a request found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It was there.
    Held,
    /// It was there, and this was the first use of a prefetch.
    Prefetched,
    /// It had to be fetched or waited for.
    Missed,
}

/// What an engine whose world this is must be told.
#[derive(Clone, Debug)]
pub(super) enum GhostEvent {
    /// A segment is held now.
    Gained { name: Arc<str>, index: u32, bytes: u64 },
    /// A segment is no longer held.
    Lost { name: Arc<str>, index: u32 },
    /// A segment of an order ended its transfer.
    Ended { command: CommandId, status: CommandStatus, bytes: u64 },
    /// What became of a prefetched segment.
    Outcome { command: CommandId, kind: OutcomeKind, residence: Duration },
}

impl GhostNode {
    /// An empty one of so many bytes.
    pub(super) fn new(capacity_bytes: u64, policy: PolicyKind, entries_max: usize) -> Self {
        let config = IndexConfig {
            capacity_bytes: capacity_bytes.max(1),
            entries_max: entries_max.max(1),
            policy,
            pinned_share: 0.0,
            ..IndexConfig::default()
        };
        Self {
            index: Index::new(&config).expect("the bounds are at least one and every share lies between zero and one"),
            held: Map::default(),
            arrivals: Arrivals::default(),
            due: BTreeMap::new(),
            under_way: Map::default(),
            started: 0,
            turned_away: 0,
            events: VecDeque::new(),
            evicted: Vec::new(),
            turnover: Turnover::default(),
            unused_bytes: 0,
            landed_bytes: 0,
        }
    }

    /// Lets every transfer land that would have by now.
    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let (at, _) = *entry.key();
            let prefetch = entry.remove();
            self.under_way.remove(&prefetch.segment);
            self.land(at, &prefetch);
        }
    }

    /// A client asks for a segment; when it must be fetched, that takes until `lands_at`.
    pub(super) fn request(
        &mut self,
        now: Timestamp,
        segment: SegmentId,
        name: &Arc<str>,
        bytes: u64,
        lands_at: Timestamp,
    ) -> Found {
        if let Some(touched) = self.index.touch(now, segment) {
            if let Some(unused) = touched.first_use {
                self.tell(&unused, OutcomeKind::Used);
                return Found::Prefetched;
            }
            return if self.arrivals.is_under_way(now, segment) { Found::Missed } else { Found::Held };
        }
        let mut lands_at = lands_at;
        if let Some(due) = self.under_way.remove(&segment)
            && let Some(prefetch) = self.due.remove(&due)
        {
            lands_at = lands_at.min(due.0);
            self.landed_bytes += prefetch.bytes;
            let command = prefetch.command;
            self.events.push_back(GhostEvent::Outcome { command, kind: OutcomeKind::Late, residence: Duration::ZERO });
            self.events.push_back(GhostEvent::Ended { command, status: CommandStatus::Done, bytes: prefetch.bytes });
        }
        self.hold(now, segment, name, bytes, Admission::Demand);
        self.arrivals.start(now, segment, lands_at);
        Found::Missed
    }

    /// An order's transfer starts, to land at `lands_at`; what comes after its deadline will not be held.
    pub(super) fn order(&mut self, prefetch: Prefetch, lands_at: Timestamp) {
        let Prefetch { command, segment, .. } = prefetch;
        let status = if self.index.contains(segment) || self.under_way.contains_key(&segment) {
            Some(CommandStatus::AlreadyPresent)
        } else if self.due.len() >= UNDER_WAY_MAX || prefetch.bytes > self.index.probation_bytes_max() {
            self.turned_away += 1;
            Some(CommandStatus::Rejected)
        } else {
            None
        };
        if let Some(status) = status {
            self.events.push_back(GhostEvent::Ended { command, status, bytes: 0 });
            return;
        }
        self.started += 1;
        self.under_way.insert(segment, (lands_at, self.started));
        self.due.insert((lands_at, self.started), prefetch);
    }

    /// Holds a segment from before this was watched.
    pub(super) fn take_over(&mut self, now: Timestamp, segment: SegmentId, name: &Arc<str>, bytes: u64) {
        self.hold(now, segment, name, bytes, Admission::Demand);
        self.events.clear();
    }

    /// The node itself holds a segment now, under an arm that is in force: only how long it stays is of interest.
    pub(super) fn note_gained(&mut self, now: Timestamp, segment: SegmentId, name: &Arc<str>) {
        if self.held.len() < HELD_MAX {
            self.held.entry(segment).or_insert_with(|| Held { name: Arc::clone(name), since: now });
        }
    }

    /// The node itself no longer holds a segment.
    pub(super) fn note_lost(&mut self, now: Timestamp, segment: SegmentId) {
        if let Some(held) = self.held.remove(&segment) {
            self.turnover.handle_evicted(now.since(held.since));
        }
    }

    /// Nothing is under way any more, and nobody is told of what happened so far.
    pub(super) fn recall(&mut self) {
        self.due.clear();
        self.under_way.clear();
        self.events.clear();
    }

    /// What happened since it was last asked.
    pub(super) fn poll_event(&mut self) -> Option<GhostEvent> {
        self.events.pop_front()
    }

    /// Whether it holds a segment.
    pub(super) fn contains(&self, segment: SegmentId) -> bool {
        self.index.contains(segment)
    }

    /// What it holds: segment, name and bytes, what would be evicted first coming first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SegmentId, &Arc<str>, u64)> {
        self.index.iter().filter_map(|(segment, bytes)| Some((segment, &self.held.get(&segment)?.name, bytes)))
    }

    fn land(&mut self, now: Timestamp, prefetch: &Prefetch) {
        let Prefetch { command, segment, bytes, .. } = *prefetch;
        self.landed_bytes += bytes;
        let is_in_time = prefetch.deadline >= now;
        let is_held = is_in_time && self.hold(now, segment, &prefetch.name, bytes, Admission::Prefetched(command));
        let status = match (is_in_time, is_held) {
            (false, _) => CommandStatus::Expired,
            (true, true) => CommandStatus::Done,
            (true, false) => CommandStatus::Rejected,
        };
        if !is_held {
            self.unused_bytes += bytes;
        }
        self.events.push_back(GhostEvent::Ended { command, status, bytes });
    }

    fn hold(&mut self, now: Timestamp, segment: SegmentId, name: &Arc<str>, bytes: u64, admission: Admission) -> bool {
        let mut evicted = std::mem::take(&mut self.evicted);
        let is_held = self.index.insert(now, segment, bytes, admission, &mut evicted);
        for gone in evicted.drain(..) {
            self.drop_evicted(now, &gone);
        }
        self.evicted = evicted;
        if is_held {
            self.held.insert(segment, Held { name: Arc::clone(name), since: now });
            self.events.push_back(GhostEvent::Gained { name: Arc::clone(name), index: segment.index, bytes });
        }
        while self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
        is_held
    }

    fn drop_evicted(&mut self, now: Timestamp, gone: &Evicted) {
        if let Some(unused) = gone.unused {
            self.unused_bytes += gone.bytes;
            self.tell(&unused, OutcomeKind::EvictedUnused);
        }
        if let Some(held) = self.held.remove(&gone.segment) {
            self.turnover.handle_evicted(now.since(held.since));
            self.events.push_back(GhostEvent::Lost { name: held.name, index: gone.segment.index });
        }
    }

    fn tell(&mut self, unused: &Unused, kind: OutcomeKind) {
        let Unused { command, residence } = *unused;
        self.events.push_back(GhostEvent::Outcome { command, kind, residence });
    }
}

/// Segments whose stay at a node itself is watched.
const HELD_MAX: usize = 65_536;
/// Prefetches under way at one miniature.
const UNDER_WAY_MAX: usize = 4_096;
/// Events that nobody fetched: of an arm that is in force, the node itself tells.
const EVENTS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use nearcast_datasets::KeyId;

    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn segment(key: u32) -> SegmentId {
        SegmentId { key: KeyId(key), index: 0 }
    }

    fn name() -> Arc<str> {
        Arc::from("/k")
    }

    fn order(key: u32, deadline: i64) -> Prefetch {
        Prefetch {
            command: CommandId(u64::from(key)),
            segment: segment(key),
            name: name(),
            bytes: 1,
            deadline: at(deadline),
        }
    }

    fn ask(ghost: &mut GhostNode, micros: i64, key: u32) -> Found {
        ghost.advance(at(micros));
        ghost.request(at(micros), segment(key), &name(), 1, at(micros + 10))
    }

    fn outcomes(ghost: &mut GhostNode) -> Vec<(u64, OutcomeKind)> {
        let events = std::iter::from_fn(|| ghost.poll_event());
        let outcome = |event| match event {
            GhostEvent::Outcome { command, kind, .. } => Some((command.0, kind)),
            _ => None,
        };
        events.filter_map(outcome).collect()
    }

    #[test]
    fn a_prefetch_helps_only_once_it_has_landed_and_in_time() {
        let mut ghost = GhostNode::new(100, PolicyKind::Lru, 100);
        ghost.order(order(1, 1_000), at(50));
        ghost.order(order(2, 1_000), at(50));
        ghost.order(order(3, 40), at(50));
        assert_eq!(ask(&mut ghost, 49, 1), Found::Missed);
        assert_eq!(ask(&mut ghost, 49, 1), Found::Missed, "it is joined, which is no hit");
        assert_eq!(ask(&mut ghost, 60, 1), Found::Held);
        assert_eq!(ask(&mut ghost, 60, 2), Found::Prefetched);
        assert_eq!(ask(&mut ghost, 60, 2), Found::Held);
        assert_eq!(ask(&mut ghost, 60, 3), Found::Missed, "it came after its deadline");
        assert_eq!(outcomes(&mut ghost), [(1, OutcomeKind::Late), (2, OutcomeKind::Used)]);
        assert_eq!((ghost.landed_bytes, ghost.unused_bytes), (3, 1));
    }

    #[test]
    fn what_leaves_unused_is_wasted_and_told() {
        let mut ghost = GhostNode::new(10, PolicyKind::Lru, 100);
        ghost.order(order(1, 1_000), at(1));
        for key in 2..30 {
            ask(&mut ghost, i64::from(key) * 100, key);
        }
        assert!(!ghost.contains(segment(1)));
        assert_eq!(outcomes(&mut ghost), [(1, OutcomeKind::EvictedUnused)]);
        assert_eq!(ghost.unused_bytes, 1);
        assert_eq!(ghost.iter().count(), 10);
    }
}
