//! Carries out what a placement strategy decides: moves keys between nodes and tells nodes who holds what.

use nearcast_cache_node::core::{PrefetchOrder, routing::FetchSource};
use nearcast_datasets::{KeyId, RegionId, SegmentId, Timestamp};
use nearcast_predictor::placement::{Holdings, Link, Links, Move, MoveKind, NodeSet, Strategy};
use nearcast_proto::message::CommandId;

use super::Cluster;
use crate::replay::{columns::Row, node::ReplayNode, objects::Objects};

/// A strategy, and what is needed to carry it out.
#[derive(Debug)]
pub(super) struct Placed {
    strategy: Strategy,
    /// Keys whose holders changed since nodes were last told.
    changed: Vec<KeyId>,
    /// Bytes by key; keys that nobody asked for yet are as large as the strategy says.
    sizes: Vec<u64>,
    orders: u64,
    /// What each link may carry; without it, all that there is.
    links: Option<Links>,
}

impl Placed {
    pub(super) fn due(&self) -> Timestamp {
        self.strategy.poll_timeout()
    }

    /// A node has gained or lost a segment; the first one stands for the key.
    pub(super) fn note_changed(&mut self, segment: SegmentId) {
        if segment.index == 0 {
            self.changed.push(segment.key);
        }
    }

    fn size(&mut self, key: KeyId) -> &mut u64 {
        let slot = key.0 as usize;
        if self.sizes.len() <= slot {
            self.sizes.resize(slot + 1, 0);
        }
        &mut self.sizes[slot]
    }
}

/// What the nodes hold at the moment.
struct Held<'a> {
    nodes: &'a [ReplayNode],
    objects: Objects,
    sizes: &'a [u64],
}

impl Holdings for Held<'_> {
    fn holders(&self, key: KeyId) -> NodeSet {
        let size = self.sizes.get(key.0 as usize).copied().unwrap_or(0);
        let mut segments = self.objects.segments(size, None).map(|index| SegmentId { key, index });
        let Some(first) = segments.next() else { return NodeSet::EMPTY };
        let holds = |node: &usize, segment: SegmentId| self.nodes[*node].core.index().contains(segment);
        let holders = (0..self.nodes.len()).filter(|node| holds(node, first)).collect();
        segments.fold(holders, |left: NodeSet, segment| left.iter().filter(|node| holds(node, segment)).collect())
    }
}

impl Cluster<'_> {
    /// Puts a strategy into service.
    pub(in crate::replay) fn place(&mut self, strategy: Option<Strategy>, link_share: f64) {
        let links = (!self.is_instant).then(|| Links::new(link_share));
        let placed = |strategy| Placed { strategy, changed: Vec::new(), sizes: Vec::new(), orders: 0, links };
        self.placed = strategy.map(placed);
    }

    /// Whether a node lacks a segment that another one holds.
    pub(super) fn is_only_elsewhere(&self, node: usize, segment: SegmentId) -> bool {
        !self.holds(node, segment) && (0..self.nodes.len()).any(|node| self.holds(node, segment))
    }

    pub(super) fn tell_strategy(&mut self, now: Timestamp, row: &Row) {
        let Some(placed) = &mut self.placed else { return };
        *placed.size(row.key) = row.size_bytes;
        let held = Held { nodes: &self.nodes, objects: self.objects, sizes: &placed.sizes };
        let key = (row.key, self.log.key_name(row.key));
        let mut moves = Vec::new();
        placed.strategy.note_client(now, row.client, row.key);
        placed.strategy.handle_request(now, key, row.region, row.size_bytes, &held, &mut moves);
        self.carry_out(now, moves);
    }

    pub(super) fn plan(&mut self, now: Timestamp) {
        let Some(placed) = &mut self.placed else { return };
        let held = Held { nodes: &self.nodes, objects: self.objects, sizes: &placed.sizes };
        let mut moves = Vec::new();
        placed.strategy.handle_timeout(now, &held, Some(&mut moves));
        // What has not had its turn is planned again.
        for node in &mut self.nodes {
            node.moves.clear();
            node.moves_ahead.clear();
            node.links_ready_at = None;
        }
        self.carry_out(now, moves);
    }

    fn carry_out(&mut self, now: Timestamp, moves: Vec<Move>) {
        for step in moves {
            if let Some(placed) = &mut self.placed {
                *placed.size(step.key) = step.bytes;
            }
            match step.kind {
                MoveKind::Release => {
                    self.nodes[step.node].to_hold.remove(&step.key);
                    for segment in self.segments(step.key, step.bytes) {
                        self.nodes[step.node].core.handle_unpin(now, CommandId(0), segment);
                    }
                }
                MoveKind::Hold | MoveKind::Ahead | MoveKind::Await => self.hold(step),
                MoveKind::Push => {
                    self.nodes[step.node].links_ready_at = None;
                    self.nodes[step.node].moves.push_front(step);
                }
            }
        }
        for node in 0..self.nodes.len() {
            let there = &mut self.nodes[node];
            if !(there.moves.is_empty() && there.moves_ahead.is_empty()) {
                self.feed(now, node);
            }
        }
    }

    /// Pins what is there of a key, and has the rest fetched in its turn.
    fn hold(&mut self, step: Move) {
        self.nodes[step.node].to_hold.insert(step.key);
        let mut is_whole = true;
        for segment in self.segments(step.key, step.bytes) {
            is_whole &= self.hold_landed(step.node, segment);
        }
        let there = &mut self.nodes[step.node];
        if !is_whole && step.kind != MoveKind::Await {
            there.links_ready_at = None;
            there.waiting(step.kind == MoveKind::Ahead).push_back(step);
        }
    }

    /// Hands nodes whose links have room again their next moves.
    pub(super) fn feed_ready(&mut self, now: Timestamp) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].links_ready_at.take_if(|at| *at <= now).is_some() {
                self.feed(now, node);
            }
        }
    }

    /// Hands a node the next moves while its queue is short.
    pub(super) fn feed(&mut self, now: Timestamp, node: usize) {
        while self.nodes[node].core.queue_len() < QUEUE_LENGTH {
            let Some(step) = self.next_move(now, node) else { break };
            let sources = self.holders_by_cost(node, step.key);
            for segment in self.segments(step.key, step.bytes) {
                if self.hold_landed(node, segment) {
                    continue;
                }
                let Some(placed) = &mut self.placed else { return };
                placed.orders += 1;
                self.tally.prefetch.issued += 1;
                let order = PrefetchOrder {
                    command: CommandId(ORDERS_FROM + placed.orders),
                    segment,
                    bytes: self.objects.segment_bytes(step.bytes, segment.index),
                    sources: sources.clone(),
                    deadline: Timestamp::MAX,
                    value_seconds: f64::from(step.value_seconds),
                };
                self.nodes[node].core.handle_order(now, order);
            }
            self.start_prefetches(now, node);
        }
        self.report(now, node);
    }

    /// The next move whose link has room; which links have none is remembered until the first one does.
    fn next_move(&mut self, now: Timestamp, node: usize) -> Option<Move> {
        if self.nodes[node].links_ready_at.is_some_and(|at| now < at) {
            return None;
        }
        let mut full: Vec<(Link, Timestamp)> = Vec::new();
        for is_ahead in [false, true] {
            for place in 0..WAITING_MAX {
                let Some(step) = self.nodes[node].waiting(is_ahead).get(place).copied() else { break };
                if self.take_room(now, &step, &mut full) {
                    return self.nodes[node].waiting(is_ahead).remove(place);
                }
            }
        }
        self.nodes[node].links_ready_at = full.into_iter().map(|(_, at)| at).min();
        None
    }

    /// Whether a move's link has room for it, which it then takes; full ones are noted.
    fn take_room(&mut self, now: Timestamp, step: &Move, full: &mut Vec<(Link, Timestamp)>) -> bool {
        if self.segments(step.key, step.bytes).all(|segment| self.holds(step.node, segment)) {
            return true;
        }
        let holders = self.holders_by_cost(step.node, step.key);
        let peer = holders.first().and_then(|source| self.nodes[step.node].peer(*source));
        let region = |node: usize| RegionId(node as u16);
        let link = (peer.map(region), region(step.node));
        let bandwidth = match peer {
            Some(peer) => self.network.between(step.node, peer).bandwidth,
            None => self.network.to_origin(step.node).bandwidth,
        };
        let Some(links) = self.placed.as_mut().and_then(|placed| placed.links.as_mut()) else { return true };
        if full.iter().any(|(other, _)| *other == link) {
            return false;
        }
        if links.may_begin(now, link, bandwidth) {
            links.begin(link, step.bytes);
            return true;
        }
        full.push((link, links.ready_at(link, bandwidth)));
        false
    }

    /// Pins a segment if it is to be held and there; says whether it is there.
    pub(super) fn hold_landed(&mut self, node: usize, segment: SegmentId) -> bool {
        let is_there = self.holds(node, segment);
        let there = &mut self.nodes[node];
        if is_there && there.to_hold.contains(&segment.key) {
            there.core.handle_pin(CommandId(0), segment);
        }
        is_there
    }

    /// Tells every node who holds the keys whose holders changed.
    pub(super) fn tell_holders(&mut self) {
        let changed = self.placed.as_mut().map(|placed| std::mem::take(&mut placed.changed));
        for key in changed.into_iter().flatten() {
            let segment = SegmentId { key, index: 0 };
            let holders: NodeSet = (0..self.nodes.len()).filter(|node| self.holds(*node, segment)).collect();
            for node in 0..self.nodes.len() {
                let closer: NodeSet = holders.without(node).iter().filter(|peer| self.is_closer(node, *peer)).collect();
                self.nodes[node].place(key, closer.iter());
            }
        }
    }

    fn holds(&self, node: usize, segment: SegmentId) -> bool {
        self.nodes[node].core.index().contains(segment)
    }

    /// Whether a node is nearer to another one than to the origin.
    fn is_closer(&self, node: usize, peer: usize) -> bool {
        self.network.between(node, peer).round_trip < self.network.to_origin(node).round_trip
    }

    fn holders_by_cost(&self, node: usize, key: KeyId) -> Vec<FetchSource> {
        let segment = SegmentId { key, index: 0 };
        let is_of_use = |peer: &usize| *peer != node && self.holds(*peer, segment) && self.is_closer(node, *peer);
        let mut peers: Vec<usize> = (0..self.nodes.len()).filter(is_of_use).collect();
        peers.sort_by_key(|peer| (self.network.between(node, *peer).round_trip, *peer));
        let peers = peers.into_iter().filter_map(|peer| self.nodes[node].source(peer));
        peers.chain([FetchSource::Origin]).collect()
    }

    fn segments(&self, key: KeyId, bytes: u64) -> impl Iterator<Item = SegmentId> + use<> {
        self.objects.segments(bytes, None).map(move |index| SegmentId { key, index })
    }
}

/// Prefetches that wait at a node at a time; the rest waits for its turn, which a better plan may change.
const QUEUE_LENGTH: usize = 32;
/// Moves that are looked at for one whose link has room.
const WAITING_MAX: usize = 256;
/// Numbers of orders that no engine gets to.
const ORDERS_FROM: u64 = 1 << 62;
