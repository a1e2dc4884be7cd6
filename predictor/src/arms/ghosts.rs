//! One arm's miniatures of all nodes.

use std::{sync::Arc, time::Duration};

use nearcast_cache_node::core::routing::Link;
use nearcast_datasets::{KeyId, SegmentId, ServedFrom, Timestamp, segment_len};
use nearcast_experiment::design::Turnover;
use nearcast_proto::message::Request;

use super::{
    NodeWorld,
    ghost_node::{Found, GhostEvent, GhostNode, Prefetch},
    tally::{Seen, Stratum, Tally},
};
use crate::engine::{NodeIndex, Order};

/// The miniatures by node, and what they counted.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    nodes: Vec<GhostNode>,
    pub(super) tally: Tally,
    /// Bytes that nodes themselves fetched ahead under this arm, and those of them that left unused.
    pub(super) real: (u64, u64),
}

impl Ghosts {
    /// A node has joined for the first time, or anew: its miniature is empty.
    pub(super) fn put(&mut self, node: NodeIndex, ghost: GhostNode) {
        let place = usize::from(node.0);
        if place < self.nodes.len() {
            self.nodes[place] = ghost;
        } else {
            self.nodes.push(ghost);
        }
    }

    pub(super) fn get_mut(&mut self, node: NodeIndex) -> Option<&mut GhostNode> {
        self.nodes.get_mut(usize::from(node.0))
    }

    pub(super) fn get(&self, node: NodeIndex) -> Option<&GhostNode> {
        self.nodes.get(usize::from(node.0))
    }

    /// Takes in a request; what the miniature of its node found, when its key is followed.
    pub(super) fn request(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        request: &Request,
        followed: (Stratum, Option<u32>),
        worlds: &[NodeWorld],
    ) -> Option<Found> {
        let asked = asked(request);
        let (stratum, hash) = followed;
        self.tally.add(stratum, asked.1 - asked.0);
        let hash = hash?;
        let world = worlds.get(usize::from(node.0))?;
        let segment_bytes = world.segment_bytes.max(1);
        let last = asked.1.div_ceil(segment_bytes).max(asked.0 / segment_bytes + 1);
        let mut found = Found::Held;
        let mut seen = Seen { bytes: asked.1 - asked.0, ..Seen::default() };
        self.nodes.get_mut(usize::from(node.0))?.advance(now);
        for index in (asked.0 / segment_bytes..last).take(SEGMENTS_MAX) {
            let segment = SegmentId { key: KeyId(hash), index: u32::try_from(index).unwrap_or(u32::MAX) };
            let bytes = segment_len(request.size_bytes, segment_bytes, segment.index);
            let (wait, is_origin) = self.fetch(node, segment, bytes, worlds);
            let ghost = self.nodes.get_mut(usize::from(node.0))?;
            match ghost.request(now, segment, &request.key, bytes, now.after(wait)) {
                Found::Held => {}
                Found::Prefetched => {
                    seen.is_prefetched = true;
                    if found == Found::Held {
                        found = Found::Prefetched;
                    }
                }
                Found::Missed => {
                    found = Found::Missed;
                    seen.is_missed = true;
                    seen.miss_bytes += bytes;
                    seen.origin_bytes += if is_origin { bytes } else { 0 };
                    seen.wait_seconds = wait.as_secs_f64().max(seen.wait_seconds);
                }
            }
        }
        self.tally.add_followed(stratum, hash, &seen);
        Some(found)
    }

    /// Takes in a request that the node itself answered under this arm.
    pub(super) fn observe(
        &mut self,
        node: NodeIndex,
        request: &Request,
        followed: (Stratum, Option<u32>),
        worlds: &[NodeWorld],
    ) {
        let asked = asked(request);
        let (stratum, hash) = followed;
        self.tally.add(stratum, asked.1 - asked.0);
        let (Some(hash), Some(world)) = (hash, worlds.get(usize::from(node.0))) else { return };
        let bytes = asked.1 - asked.0;
        let mut seen = Seen { bytes, is_prefetched: request.served == ServedFrom::Prefetched, ..Seen::default() };
        if !request.served.is_hit() {
            // Waits are told as those of miniatures are, so that they can be compared.
            let (wait, _) = match request.served {
                ServedFrom::Peer => nearest(node, bytes, world),
                _ => (world.origin.transfer_time(bytes), true),
            };
            let is_origin = request.served == ServedFrom::Origin;
            seen = Seen { is_missed: true, miss_bytes: bytes, wait_seconds: wait.as_secs_f64(), ..seen };
            seen.origin_bytes = if is_origin { bytes } else { 0 };
        }
        self.tally.add_followed(stratum, hash, &seen);
    }

    /// Takes in an order for a followed key.
    pub(super) fn order(&mut self, now: Timestamp, order: &Order, name: &Arc<str>, hash: u32, worlds: &[NodeWorld]) {
        let Some(world) = worlds.get(usize::from(order.node.0)) else { return };
        for index in &order.segments {
            let segment = SegmentId { key: KeyId(hash), index: *index };
            let bytes = segment_len(order.size_bytes, world.segment_bytes, *index);
            let (wait, _) = self.fetch(order.node, segment, bytes, worlds);
            let Some(ghost) = self.nodes.get_mut(usize::from(order.node.0)) else { return };
            let name = Arc::clone(name);
            let prefetch = Prefetch { command: order.id, segment, name, bytes, deadline: order.deadline };
            ghost.order(prefetch, now.after(wait));
        }
    }

    /// What happened at a miniature since it was last asked.
    pub(super) fn poll_event(&mut self, node: NodeIndex) -> Option<GhostEvent> {
        self.nodes.get_mut(usize::from(node.0))?.poll_event()
    }

    /// Forgets what was counted; what the miniatures hold stays.
    pub(super) fn start_counting(&mut self) {
        self.tally = Tally::default();
        self.real = (0, 0);
        for node in &mut self.nodes {
            (node.landed_bytes, node.unused_bytes) = (0, 0);
        }
    }

    /// What was counted, prefetches included.
    pub(super) fn tally(&self, share: f64) -> Tally {
        let mut tally = self.tally.clone();
        let all =
            |of: fn(&GhostNode) -> u64, real: u64| self.nodes.iter().map(of).sum::<u64>() as f64 / share + real as f64;
        tally.prefetched_bytes = all(|node| node.landed_bytes, self.real.0);
        tally.wasted_bytes = all(|node| node.unused_bytes, self.real.1);
        tally
    }

    /// The longest turnover of any of these nodes' miniatures; none while one of them has evicted too little to tell.
    pub(super) fn turnover(&self, nodes: &[NodeIndex]) -> Option<Duration> {
        let measured: Option<Vec<Duration>> =
            nodes.iter().map(|node| self.get(*node).and_then(|node| Turnover::measure(&node.turnover))).collect();
        measured.and_then(|measured| measured.into_iter().max())
    }

    /// Orders turned away because too much was under way.
    pub(super) fn turned_away(&self) -> u64 {
        self.nodes.iter().map(|node| node.turned_away).sum()
    }

    /// How long a fetch takes, from the nearest miniature that has the segment or the origin; whether it is the origin.
    fn fetch(&self, to: NodeIndex, segment: SegmentId, bytes: u64, worlds: &[NodeWorld]) -> (Duration, bool) {
        let Some(world) = worlds.get(usize::from(to.0)) else { return (Duration::ZERO, true) };
        let holds = |(place, link): (usize, &Link)| {
            let is_there = place != usize::from(to.0)
                && worlds.get(place).is_some_and(|world| world.is_alive)
                && self.nodes.get(place).is_some_and(|node| node.contains(segment));
            is_there.then(|| link.transfer_time(bytes))
        };
        let origin = world.origin.transfer_time(bytes);
        let nearest = world.peers.iter().enumerate().filter_map(holds).min();
        nearest.filter(|peer| *peer < origin).map_or((origin, true), |peer| (peer, false))
    }
}

/// How long a fetch from the nearest other node takes.
fn nearest(to: NodeIndex, bytes: u64, world: &NodeWorld) -> (Duration, bool) {
    let peers = world.peers.iter().enumerate().filter(|(place, _)| *place != usize::from(to.0));
    let nearest = peers.map(|(_, link)| link.transfer_time(bytes)).min();
    nearest.map_or_else(|| (world.origin.transfer_time(bytes), true), |wait| (wait, false))
}

/// The bytes that a request touched, half-open.
fn asked(request: &Request) -> (u64, u64) {
    let range = request.range.map_or((0, request.size_bytes), |range| (range.start, range.end));
    (range.0.min(request.size_bytes), range.1.clamp(range.0.min(request.size_bytes), request.size_bytes))
}

/// Segments of one request that are looked up.
const SEGMENTS_MAX: usize = 64;
