//! A cluster under a virtual clock: plays the log through one node per region and, when it prefetches, the engine.
//!
//! Two simplifications: a node that is asked by another answers from what it holds when the question leaves, half a
//! round trip early; and links carry any number of transfers at their full bandwidth each, of which placement's begin
//! as the links' buckets of bytes allow.

mod placed;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use nearcast_cache_node::{
    core::{
        Answer, Fetched, FetchedFrom, MissCause, NodeCore, NodeCoreConfigError, NodeEvent, PrefetchOrder,
        routing::FetchSource,
    },
    index::Index,
};
use nearcast_datasets::{KeyId, SegmentId, ServedFrom, Timestamp};
use nearcast_models::Model;
use nearcast_predictor::engine::{Engine, Order, OrderSource};
use nearcast_proto::message::{Action, NodeDescriptor, NodeName};

use self::placed::Placed;
use super::{
    EvictionKind, LogColumns, Result,
    agenda::{Landing, Landings},
    baselines::Baselines,
    belady::{BeladyPolicy, next_uses},
    cell::CellSetup,
    network::Network,
    node::{Arrival, ReplayNode},
    objects::Objects,
    predictor::{Message, Predictor},
    tally::{Felt, Tally},
};

/// Everything that one cell's replay changes.
#[derive(Debug)]
pub(super) struct Cluster<'a> {
    log: &'a LogColumns,
    objects: Objects,
    network: Network,
    is_instant: bool,
    nodes: Vec<ReplayNode>,
    landings: Landings,
    predictor: Option<Predictor<'a>>,
    baselines: Option<Baselines>,
    placed: Option<Placed>,
    tally: Tally,
}

/// How one segment was served.
#[derive(Clone, Copy, Debug)]
struct SegmentServed {
    cause: Option<MissCause>,
    from: ServedFrom,
    wait: Duration,
}

/// What is due next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Landing,
    Links,
    Message,
    Order,
    Plan,
    Timeout,
}

impl<'a> Cluster<'a> {
    /// Empty nodes, and the engine when there is one, at the log's first instant.
    pub(super) fn new(log: &'a LogColumns, setup: &CellSetup<'_>, engine: Option<Engine>) -> Result<Self> {
        let names = log.region_names();
        let network = Network::new(setup.topology, names);
        let describe = |name: &String| NodeDescriptor {
            name: NodeName::from(name.as_str()),
            region: Arc::from(name.as_str()),
            url: Arc::from(""),
            capacity_bytes: setup.node.index.capacity_bytes,
            segment_bytes: setup.segment_bytes,
        };
        let descriptors: Vec<_> = names.iter().map(describe).collect();
        let objects = Objects::new(setup.segment_bytes);
        let cores = cores(log, setup, objects)?.into_iter().enumerate();
        let node = |(own, core)| ReplayNode::new(core, setup.placement, &descriptors, own, &network);
        let nodes = cores.map(node).collect();
        let one_way = if setup.is_instant { Duration::ZERO } else { setup.control_round_trip / 2 };
        Ok(Self {
            log,
            objects,
            network,
            is_instant: setup.is_instant,
            nodes,
            landings: Landings::default(),
            predictor: engine.map(|engine| Predictor::new(log, engine, descriptors, one_way)),
            baselines: Baselines::new(setup.prefetch, log, objects),
            placed: None,
            tally: Tally::new(names.len(), log.first_timestamp(), log.last_timestamp()),
        })
    }

    /// Plays one request of the log, after everything that was due before it.
    pub(super) fn play(&mut self, index: usize) {
        let row = self.log.row(index);
        let now = row.timestamp;
        self.advance(now);
        let node = usize::from(row.region.0);
        let latency = Duration::ZERO;
        let mut felt = Felt { region: node, bytes: 0, miss_bytes: 0, cause: None, latency, is_elsewhere: false };
        let mut served = ServedFrom::Memory;
        for segment in self.objects.segments(row.size_bytes, row.range) {
            let bytes = self.objects.segment_bytes(row.size_bytes, segment);
            let id = SegmentId { key: row.key, index: segment };
            felt.is_elsewhere |= self.is_only_elsewhere(node, id);
            let answer = self.request(now, node, id, bytes);
            felt.bytes += bytes;
            if answer.cause.is_some() {
                felt.miss_bytes += bytes;
            }
            felt.cause = felt.cause.or(answer.cause);
            felt.latency = felt.latency.max(answer.wait);
            served = served.max(answer.from);
        }
        felt.latency += self.network.client_round_trip(node);
        self.tally.record(now, &felt);
        if let Some(predictor) = &mut self.predictor {
            predictor.to_engine.send(now, Message::Request { row: index, served });
        }
        if let Some(baselines) = &mut self.baselines {
            for order in baselines.handle_request(&row, served) {
                self.execute(now, node, order.key, &order);
            }
        }
        self.tell_strategy(now, &row);
        if self.is_instant {
            self.advance(now);
        }
    }

    /// Puts a model into service; nothing without a predictor.
    pub(super) fn install_model(&mut self, now: Timestamp, version: &Arc<str>, model: &Arc<Model>) {
        if let Some(predictor) = &mut self.predictor {
            predictor.install_model(now, Arc::clone(version), Arc::clone(model));
        }
    }

    /// Forgets what was counted so far: the warm-up is over.
    pub(super) fn start_counting(&mut self, now: Timestamp) {
        self.tally = Tally::new(self.nodes.len(), now, self.log.last_timestamp());
    }

    /// What was counted, and the engine as it is now.
    pub(super) fn finish(self) -> (Tally, Option<Engine>) {
        (self.tally, self.predictor.map(Predictor::into_engine))
    }

    /// Lets everything happen that is due until `now`.
    fn advance(&mut self, now: Timestamp) {
        while let Some((at, due)) = self.next_due().filter(|(at, _)| *at <= now) {
            match due {
                Due::Landing => self.land(at),
                Due::Links => self.feed_ready(at),
                Due::Message => self.tell_predictor(|predictor| predictor.handle_message(at)),
                Due::Order => self.deliver(at),
                Due::Plan => self.plan(now),
                Due::Timeout => self.tell_predictor(|predictor| predictor.handle_timeout(at)),
            }
        }
    }

    fn next_due(&self) -> Option<(Timestamp, Due)> {
        let landing = self.landings.next_at().map(|at| (at, Due::Landing));
        let plan = self.placed.as_ref().map(|placed| (placed.due(), Due::Plan));
        let links = self.nodes.iter().filter_map(|node| node.links_ready_at).min().map(|at| (at, Due::Links));
        let Some(predictor) = &self.predictor else { return [landing, links, plan].into_iter().flatten().min() };
        let message = predictor.to_engine.next_at().map(|at| (at, Due::Message));
        let order = predictor.to_nodes.next_at().map(|at| (at, Due::Order));
        let timeout = predictor.timeout_at().map(|at| (at, Due::Timeout));
        [landing, links, plan, message, order, timeout].into_iter().flatten().min()
    }

    /// A client, or another node, asks a node for a segment.
    fn request(&mut self, now: Timestamp, node: usize, segment: SegmentId, bytes: u64) -> SegmentServed {
        let answer = self.nodes[node].core.handle_request(now, segment, bytes);
        self.report(now, node);
        match answer {
            Answer::Hit { first_use } => {
                let from = if first_use { ServedFrom::Prefetched } else { ServedFrom::Memory };
                SegmentServed { cause: None, from, wait: Duration::ZERO }
            }
            Answer::Join { cause } => {
                let arrival = self.nodes[node].arrivals.get(&segment);
                let wait = arrival.map_or(Duration::ZERO, |arrival| arrival.at.since(now));
                missed(cause, arrival.is_some_and(|arrival| arrival.is_from_peer), wait)
            }
            Answer::Miss { cause } => {
                let (is_from_peer, wait) = self.fetch(now, node, segment, bytes);
                let landing = Landing { node, segment, bytes, is_prefetch: false, is_from_peer };
                self.start(now, landing, wait);
                missed(cause, is_from_peer, wait)
            }
        }
    }

    /// Finds out where a missed segment comes from: whether a peer held it, and how long it takes.
    fn fetch(&mut self, now: Timestamp, node: usize, segment: SegmentId, bytes: u64) -> (bool, Duration) {
        let key_hash = self.log.key_hash(segment.key);
        let Some(home) = self.nodes[node].route(now, segment.key, key_hash, bytes) else {
            self.tally.record_fetch(now, bytes, false);
            return (false, self.network.to_origin(node).transfer_time(bytes));
        };
        let there = self.request(now, home, segment, bytes);
        self.tally.record_fetch(now, bytes, true);
        (there.cause.is_none(), there.wait + self.network.between(node, home).transfer_time(bytes))
    }

    fn start(&mut self, now: Timestamp, landing: Landing, wait: Duration) {
        let at = if self.is_instant { now } else { now.after(wait) };
        let arrival = Arrival { at, is_from_peer: landing.is_from_peer };
        self.nodes[landing.node].arrivals.insert(landing.segment, arrival);
        self.landings.push(at, landing);
    }

    /// The transfer that ends first ends.
    fn land(&mut self, now: Timestamp) {
        let Some(landing) = self.landings.pop() else { return };
        let Landing { node, segment, bytes, is_prefetch, is_from_peer } = landing;
        let from = if is_from_peer { FetchedFrom::Peer } else { FetchedFrom::Origin };
        let fetched = Fetched { bytes, from, is_cacheable: true };
        let there = &mut self.nodes[node];
        there.arrivals.remove(&segment);
        if is_prefetch {
            self.tally.prefetch.landed += 1;
            there.core.handle_prefetched(now, segment, Ok(fetched));
        } else {
            there.core.handle_fetched(now, segment, Ok(fetched));
        }
        self.hold_landed(node, segment);
        self.report(now, node);
        self.start_prefetches(now, node);
        self.feed(now, node);
    }

    /// An order arrives at its node.
    fn deliver(&mut self, now: Timestamp) {
        let Some(predictor) = &mut self.predictor else { return };
        let Some(order) = predictor.to_nodes.receive() else { return };
        let Some((node, key)) = predictor.locate(&order) else { return };
        self.execute(now, node, key, &order);
    }

    fn execute(&mut self, now: Timestamp, node: usize, key: KeyId, order: &Order) {
        match order.action {
            Action::Replicate => self.replicate(now, node, key, order),
            Action::Evict => {
                self.each_segment(node, key, order, |core, segment| core.handle_evict(now, order.id, segment));
            }
            Action::Pin => self.each_segment(node, key, order, |core, segment| core.handle_pin(order.id, segment)),
            Action::Unpin => {
                self.each_segment(node, key, order, |core, segment| core.handle_unpin(now, order.id, segment));
            }
        }
        self.report(now, node);
        self.start_prefetches(now, node);
    }

    fn replicate(&mut self, now: Timestamp, node: usize, key: KeyId, order: &Order) {
        let sources = self.sources(node, &order.sources);
        let segment_count = order.segments.len().max(1);
        self.tally.prefetch.issued += order.segments.len() as u64;
        let objects = self.objects;
        self.each_segment(node, key, order, |core, segment| {
            core.handle_order(
                now,
                PrefetchOrder {
                    command: order.id,
                    segment,
                    bytes: objects.segment_bytes(order.size_bytes, segment.index),
                    sources: sources.clone(),
                    deadline: order.deadline,
                    value_seconds: order.expected_value_seconds / segment_count as f64,
                },
            );
        });
    }

    fn each_segment(&mut self, node: usize, key: KeyId, order: &Order, mut act: impl FnMut(&mut NodeCore, SegmentId)) {
        let there = &mut self.nodes[node];
        there.ledger.start(order.id, order.segments.len());
        for index in &order.segments {
            act(&mut there.core, SegmentId { key, index: *index });
        }
    }

    fn sources(&self, node: usize, sources: &[OrderSource]) -> Vec<FetchSource> {
        let source = |source: &OrderSource| match source {
            OrderSource::Origin => Some(FetchSource::Origin),
            OrderSource::Peer(index) => {
                let peer = self.predictor.as_ref().and_then(|predictor| predictor.node(*index))?;
                self.nodes[node].source(peer)
            }
        };
        sources.iter().filter_map(source).collect()
    }

    /// Starts the transfers that the node is ready for.
    fn start_prefetches(&mut self, now: Timestamp, node: usize) {
        while let Some(order) = self.nodes[node].core.poll_prefetch(now) {
            let peers = order.sources.iter().filter_map(|source| self.nodes[node].peer(*source));
            let holder = peers.into_iter().find(|peer| self.nodes[*peer].core.index().contains(order.segment));
            let link = match holder {
                Some(peer) => self.network.between(node, peer),
                None => self.network.to_origin(node),
            };
            let wait = link.transfer_time(order.bytes);
            let is_from_peer = holder.is_some();
            self.tally.record_fetch(now, order.bytes, is_from_peer);
            self.tally.prefetch.bytes += order.bytes;
            let PrefetchOrder { segment, bytes, .. } = order;
            self.start(now, Landing { node, segment, bytes, is_prefetch: true, is_from_peer }, wait);
        }
        self.report(now, node);
    }

    /// Counts what happened at a node and sends it to the predictor.
    fn report(&mut self, now: Timestamp, node: usize) {
        let there = &mut self.nodes[node];
        while let Some(event) = there.core.poll_event() {
            match event {
                NodeEvent::Outcome { kind, .. } => self.tally.record_outcome(now, kind),
                NodeEvent::Gained { segment, .. } | NodeEvent::Evicted { segment, .. } => {
                    self.placed.iter_mut().for_each(|placed| placed.note_changed(segment));
                }
                NodeEvent::Result { .. } => {}
            }
            let message = match event {
                NodeEvent::Evicted { segment, .. } => Message::Lost { node, segment },
                NodeEvent::Gained { segment, bytes } => Message::Gained { node, segment, bytes },
                NodeEvent::Outcome { command, kind, residence, .. } => Message::Outcome { command, kind, residence },
                NodeEvent::Result { command, status, bytes, .. } => {
                    let Some((status, bytes)) = there.ledger.record(command, status, bytes) else { continue };
                    Message::Result { command, status, bytes }
                }
            };
            if let Some(predictor) = &mut self.predictor {
                predictor.to_engine.send(now, message);
            }
        }
        self.tell_holders();
    }

    fn tell_predictor(&mut self, tell: impl FnOnce(&mut Predictor<'a>)) {
        if let Some(predictor) = &mut self.predictor {
            tell(predictor);
        }
    }
}

/// One empty core per region.
fn cores(log: &LogColumns, setup: &CellSetup<'_>, objects: Objects) -> Result<Vec<NodeCore>> {
    let node = &setup.node;
    if setup.policy != EvictionKind::Belady {
        return Ok(log.region_names().iter().map(|_| NodeCore::new(node)).collect::<Result<_, _>>()?);
    }
    let core = |uses| -> Result<NodeCore, NodeCoreConfigError> {
        NodeCore::with_index(node, Index::with_policy(&node.index, Box::new(BeladyPolicy::new(uses)))?)
    };
    Ok(next_uses(log, objects).into_iter().map(core).collect::<Result<_, _>>()?)
}

/// A miss, put down to its cause now that it is known who answers.
fn missed(cause: MissCause, is_from_peer: bool, wait: Duration) -> SegmentServed {
    let is_elsewhere = cause == MissCause::First && is_from_peer;
    SegmentServed {
        cause: Some(if is_elsewhere { MissCause::Elsewhere } else { cause }),
        from: if is_from_peer { ServedFrom::Peer } else { ServedFrom::Origin },
        wait,
    }
}
