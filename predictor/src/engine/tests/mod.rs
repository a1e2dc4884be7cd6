//! The engine by virtual time: a small world of nodes that carry every order out at once.

mod behaviour;
mod bounds;

use std::{collections::VecDeque, time::Duration};

use nearcast_cache_node::index::PolicyKind;
use nearcast_datasets::{KeyId, SegmentId, ServedFrom, Timestamp};
use nearcast_proto::{
    message::{CommandId, CommandStatus, NodeDescriptor, OutcomeKind},
    topology::Topology,
};

use super::{Engine, EngineConfig, EngineSettings, NodeIndex, Observation, Order};

const SIZE: u64 = 1_000;

/// One node's cache: what demand brought and what was prefetched, each oldest first.
#[derive(Default)]
struct Cache {
    demanded: VecDeque<KeyId>,
    prefetched: VecDeque<(KeyId, CommandId, Timestamp)>,
}

/// An engine and the caches that it acts on.
struct World {
    engine: Engine,
    caches: Vec<Cache>,
    now: Timestamp,
    held_max: usize,
    prefetched_max: usize,
    orders: Vec<Order>,
}

impl World {
    /// A node in each region, each with room for `held_max` demanded and `prefetched_max` prefetched objects.
    fn new(settings: EngineSettings, regions: &[&str], held_max: usize, prefetched_max: usize) -> Self {
        // Its nodes drop what was used longest ago, and so must their ghosts.
        let settings = EngineSettings { policy: PolicyKind::Lru, ..settings };
        let config = EngineConfig::try_from(settings).expect("the test's settings are in range");
        let mut world = Self {
            engine: Engine::new(config, Topology::default()),
            caches: Vec::new(),
            now: Timestamp::default(),
            held_max,
            prefetched_max,
            orders: Vec::new(),
        };
        for region in regions {
            world.join(region);
        }
        world
    }

    fn join(&mut self, region: &str) -> NodeIndex {
        let node = self.engine.handle_join(
            self.now,
            NodeDescriptor {
                name: region.into(),
                region: region.into(),
                url: "http://127.0.0.1:1".into(),
                capacity_bytes: SIZE * self.held_max as u64,
                segment_bytes: SIZE,
            },
        );
        if self.caches.len() <= usize::from(node.0) {
            self.caches.push(Cache::default());
        }
        node
    }

    /// A client asks a node for a key, a second after the last request; whether the node had it.
    fn ask(&mut self, node: u16, client: u64, key: &str) -> bool {
        self.now = self.now.after(Duration::from_secs(1));
        let key = self.engine.intern_key(key);
        let node = NodeIndex(node);
        let served = self.serve(node, key);
        let region = self.engine.node(node).expect("a known node").region.clone();
        let region = self.engine.intern_region(&region);
        let seen = Observation { node, client, region, key, size_bytes: SIZE, range: None, served };
        self.engine.handle_request(self.now, &seen);
        while let Some(order) = self.engine.poll_order(self.now) {
            self.carry_out(&order);
            self.orders.push(order);
        }
        served.is_hit()
    }

    fn serve(&mut self, node: NodeIndex, key: KeyId) -> ServedFrom {
        let cache = &mut self.caches[usize::from(node.0)];
        if let Some(position) = cache.prefetched.iter().position(|(held, ..)| *held == key) {
            let (_, command, landed_at) = cache.prefetched.remove(position).expect("its position was just found");
            self.engine.handle_outcome(self.now, command, OutcomeKind::Used, self.now.since(landed_at));
            self.demand(node, key);
            return ServedFrom::Prefetched;
        }
        if let Some(position) = cache.demanded.iter().position(|held| *held == key) {
            cache.demanded.remove(position);
            cache.demanded.push_back(key);
            return ServedFrom::Memory;
        }
        self.demand(node, key);
        ServedFrom::Origin
    }

    fn demand(&mut self, node: NodeIndex, key: KeyId) {
        let cache = &mut self.caches[usize::from(node.0)];
        cache.demanded.push_back(key);
        self.engine.handle_gained(self.now, node, SegmentId { key, index: 0 }, SIZE);
        if cache.demanded.len() > self.held_max {
            let key = cache.demanded.pop_front().expect("it is not empty");
            self.engine.handle_lost(self.now, node, SegmentId { key, index: 0 });
        }
    }

    fn carry_out(&mut self, order: &Order) {
        let cache = &mut self.caches[usize::from(order.node.0)];
        let segment = SegmentId { key: order.key, index: 0 };
        cache.prefetched.push_back((order.key, order.id, self.now));
        self.engine.handle_gained(self.now, order.node, segment, SIZE);
        self.engine.handle_result(self.now, order.id, CommandStatus::Done, SIZE);
        if cache.prefetched.len() > self.prefetched_max {
            let (key, command, landed_at) = cache.prefetched.pop_front().expect("it is not empty");
            self.engine.handle_lost(self.now, order.node, SegmentId { key, index: 0 });
            let residence = self.now.since(landed_at);
            self.engine.handle_outcome(self.now, command, OutcomeKind::EvictedUnused, residence);
        }
    }

    fn key(&mut self, name: &str) -> KeyId {
        self.engine.intern_key(name)
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}
