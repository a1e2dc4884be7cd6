//! A cluster under a virtual clock: plays the log through one node per region and, when it prefetches, the engine.
//!
//! Two simplifications: a node that is asked by another answers from what it holds when the question leaves, half a
//! round trip early; and links carry any number of transfers at their full bandwidth each.

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
    Message,
    Order,
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
            tally: Tally::new(log.first_timestamp(), log.last_timestamp()),
        })
    }

    /// Plays one request of the log, after everything that was due before it.
    pub(super) fn play(&mut self, index: usize) {
        let row = self.log.row(index);
        let now = row.timestamp;
        self.advance(now);
        let node = usize::from(row.region.0);
        let mut felt = Felt { bytes: 0, miss_bytes: 0, cause: None, latency: Duration::ZERO };
        let mut served = ServedFrom::Memory;
        for segment in self.objects.segments(row.size_bytes, row.range) {
            let bytes = self.objects.segment_bytes(row.size_bytes, segment);
            let answer = self.request(now, node, SegmentId { key: row.key, index: segment }, bytes);
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
        self.tally = Tally::new(now, self.log.last_timestamp());
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
                Due::Message => self.tell_predictor(|predictor| predictor.handle_message(at)),
                Due::Order => self.deliver(at),
                Due::Timeout => self.tell_predictor(|predictor| predictor.handle_timeout(at)),
            }
        }
    }

    fn next_due(&self) -> Option<(Timestamp, Due)> {
        let landing = self.landings.next_at().map(|at| (at, Due::Landing));
        let Some(predictor) = &self.predictor else { return landing };
        let message = predictor.to_engine.next_at().map(|at| (at, Due::Message));
        let order = predictor.to_nodes.next_at().map(|at| (at, Due::Order));
        let timeout = predictor.timeout_at().map(|at| (at, Due::Timeout));
        [landing, message, order, timeout].into_iter().flatten().min()
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
        self.report(now, node);
        self.start_prefetches(now, node);
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
            if let NodeEvent::Outcome { kind, .. } = event {
                self.tally.record_outcome(now, kind);
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

#[cfg(test)]
mod tests {
    use nearcast_datasets::RequestEvent;
    use nearcast_predictor::engine::EngineConfig;
    use nearcast_proto::{
        message::{CommandId, Epoch},
        topology::Topology,
    };

    use super::*;
    use crate::replay::{PlacementKind, PrefetchKind, ReadOptions};

    const SIZE: u64 = 500_000;

    fn event(millis: i64, key: &str) -> RequestEvent {
        RequestEvent {
            timestamp: Timestamp::from_micros(millis * 1_000),
            client: "c".to_owned(),
            region: "a".to_owned(),
            key: key.to_owned(),
            size_bytes: SIZE,
            range: None,
            node: None,
            outcome: None,
            latency_us: None,
            arm: None,
            model_version: None,
        }
    }

    fn setup(topology: &Topology, is_instant: bool) -> CellSetup<'_> {
        CellSetup {
            node: nearcast_cache_node::core::NodeCoreConfig::default(),
            policy: EvictionKind::default(),
            prefetch: PrefetchKind::Nearcast,
            placement: PlacementKind::None,
            topology,
            segment_bytes: 1 << 20,
            control_round_trip: Duration::from_millis(20),
            is_instant,
        }
    }

    /// To fetch all of `key` from the origin.
    fn order(key: KeyId) -> Order {
        Order {
            id: CommandId(900),
            epoch: Epoch(0),
            action: Action::Replicate,
            node: nearcast_predictor::engine::NodeIndex(0),
            key,
            size_bytes: SIZE,
            segments: vec![0],
            sources: vec![OrderSource::Origin],
            deadline: Timestamp::MAX,
            probability: 1.0,
            expected_value_seconds: 1.0,
        }
    }

    /// Asks for `/x` at the times given, having sent an order for it at 0; the causes of the misses among them.
    fn causes(asked_at_millis: &[i64], is_instant: bool) -> (Vec<MissCause>, Tally) {
        let asked = asked_at_millis.iter().map(|millis| event(*millis, "/x"));
        let events: Vec<_> = std::iter::once(event(0, "/other")).chain(asked).collect();
        let log = LogColumns::from_events(&events, ReadOptions::default());
        let topology = Topology::default();
        let mut engine = Engine::new(EngineConfig::default(), topology.clone());
        engine.set_arm(nearcast_predictor::engine::Arm::None, false);
        let key = engine.intern_key("/x");
        let mut cluster = Cluster::new(&log, &setup(&topology, is_instant), Some(engine)).unwrap();
        cluster.play(0);
        cluster.predictor.as_mut().unwrap().to_nodes.send(Timestamp::from_micros(0), order(key));
        cluster.start_counting(Timestamp::from_micros(0));
        let mut causes = Vec::new();
        for index in 1..log.len() {
            let before = cluster.tally.miss_causes;
            cluster.play(index);
            let grew = |cause: &MissCause| cluster.tally.miss_causes.count(*cause) > before.count(*cause);
            causes.extend(MissCause::ALL.into_iter().filter(grew));
        }
        (causes, cluster.finish().0)
    }

    #[test]
    fn an_order_for_what_nobody_ever_asks_for_is_fetched_and_paid_for() {
        let log = LogColumns::from_events(&[event(0, "/x"), event(500, "/x")], ReadOptions::default());
        let topology = Topology::default();
        let mut engine = Engine::new(EngineConfig::default(), topology.clone());
        engine.set_arm(nearcast_predictor::engine::Arm::None, false);
        let order = order(engine.intern_key("/made-up"));
        let mut cluster = Cluster::new(&log, &setup(&topology, false), Some(engine)).unwrap();
        cluster.predictor.as_mut().unwrap().to_nodes.send(Timestamp::from_micros(0), order);
        cluster.play(0);
        cluster.play(1);
        let (tally, _) = cluster.finish();
        assert_eq!((tally.prefetch.landed, tally.prefetch.bytes, tally.origin_bytes), (1, SIZE, 2 * SIZE));
    }

    // The order takes 10 ms to its node, the transfer 120 ms of round trip and 10 ms of bandwidth: it lands at 140 ms.

    #[test]
    fn a_prefetch_is_a_hit_only_after_its_transfer_would_have_ended() {
        let (missed, tally) = causes(&[141], false);
        assert_eq!((missed, tally.prefetch.used, tally.prefetch.landed), (vec![], 1, 1));
        assert_eq!(tally.origin_bytes, SIZE);
    }

    #[test]
    fn a_request_before_that_waits_for_the_rest_of_it_and_fetches_nothing() {
        let (missed, tally) = causes(&[100, 141], false);
        assert_eq!((missed, tally.prefetch.used, tally.prefetch.late), (vec![MissCause::LatePrefetch], 0, 1));
        assert_eq!(tally.origin_bytes, SIZE);
        assert!((tally.latency_ms(1.0) - 50.0).abs() < 0.1, "10 to the client and 40 until it lands");
    }

    #[test]
    fn a_request_before_the_order_arrives_knows_nothing_of_it() {
        let (missed, tally) = causes(&[5, 200], false);
        assert_eq!((missed, tally.prefetch.used, tally.prefetch.bytes), (vec![MissCause::First], 0, 0));
        assert_eq!(tally.origin_bytes, SIZE);
    }

    #[test]
    fn an_instant_prefetch_lands_at_once() {
        let (missed, tally) = causes(&[5], true);
        assert_eq!((missed, tally.prefetch.used), (vec![], 1));
    }
}
