//! Several arms on one stream.

use std::{sync::Arc, time::Duration};

use nearcast_datasets::{
    ServedFrom, Timestamp,
    synthesize::{Workload, WorkloadConfig},
};
use nearcast_proto::message::{NodeDescriptor, NodeName, Request};

use super::{ghost_node::GhostNode, *};
use crate::engine::{EngineConfig, EngineSettings};

/// Three regions with a node each, and a log whose sessions can be foreseen.
struct World {
    workload: Workload,
    regions: Vec<Arc<str>>,
    arms: Arms,
    engine: Engine,
    nodes: Vec<NodeIndex>,
    /// Orders for real nodes, by arm and node.
    sent: Vec<(Option<Arc<str>>, NodeIndex)>,
    /// What the nodes really hold, every key of it.
    real: Ghosts,
}

impl World {
    fn new(sample_share: f64, keys: u32, requests: u64) -> Self {
        let config = WorkloadConfig {
            request_count: requests,
            key_count: keys,
            client_count: 2_000,
            size_sigma: 0.5,
            ..WorkloadConfig::default()
        };
        let workload = Workload::new(&config).unwrap();
        let settings = EngineSettings { budget_share: 1.0, ..EngineSettings::default() };
        let mut engine = Engine::new(EngineConfig::try_from(settings).unwrap(), Topology::default());
        let mut arms = Arms::new(ShadowSettings { sample_share, arms_max: 2 });
        let regions: Vec<Arc<str>> = config.regions.iter().map(|region| Arc::from(region.name.as_str())).collect();
        let nodes = regions.iter().map(|region| {
            let node = NodeDescriptor {
                name: NodeName(Arc::clone(region)),
                region: Arc::clone(region),
                url: Arc::from("http://node.test"),
                capacity_bytes: u64::from(keys) * 2_500,
                segment_bytes: 1 << 20,
            };
            arms.handle_join(Timestamp::default(), &node, &mut engine)
        });
        let nodes: Vec<NodeIndex> = nodes.collect();
        let mut real = Ghosts::default();
        for node in &nodes {
            let settings = engine.config().settings();
            real.put(*node, GhostNode::new(u64::from(keys) * 2_500, settings.policy, 1_000_000));
        }
        Self { workload, regions, arms, engine, nodes, sent: Vec::new(), real }
    }

    fn add(&mut self, spec: ArmSpec) -> Arc<str> {
        self.arms.add(Timestamp::default(), spec, None, &self.engine).unwrap()
    }

    fn assign(&mut self, node: usize, arm: Option<&str>) -> Result<bool, ArmRefused> {
        self.arms.assign(Timestamp::default(), self.nodes[node], arm, &mut self.engine)
    }

    /// Plays so many requests to nodes that do what they are told.
    fn play(&mut self, requests: u64) {
        for _ in 0..requests {
            let Some(asked) = self.workload.next_request() else { return };
            let mut request = Request {
                timestamp: asked.timestamp,
                client: Workload::client_name(asked.client).into(),
                region: Arc::clone(&self.regions[asked.region]),
                key: self.workload.key_name(asked.key).into(),
                size_bytes: self.workload.size_bytes(asked.key),
                range: None,
                served: ServedFrom::Origin,
                latency: Duration::from_millis(100),
            };
            let (now, node) = (asked.timestamp, self.nodes[asked.region]);
            let hash = key_hash(&request.key);
            self.settle(now, node);
            let found = self.real.request(now, node, &request, (Stratum::of(0, 0), Some(hash)), &self.arms.worlds);
            request.served = served(ServedFrom::Origin, found);
            self.settle(now, node);
            self.arms.handle_request(now, node, u64::from(asked.client), &request, &mut self.engine);
            while let Some(sent) = self.arms.poll_order(now, &mut self.engine) {
                self.real.order(now, &sent.order, &sent.key, key_hash(&sent.key), &self.arms.worlds);
                self.sent.push((sent.arm, sent.order.node));
                self.settle(now, sent.order.node);
            }
        }
    }

    /// Reports what a node did.
    fn settle(&mut self, now: Timestamp, node: NodeIndex) {
        let engine = &mut self.engine;
        while let Some(event) = self.real.poll_event(node) {
            match event {
                GhostEvent::Gained { name, index, bytes } => {
                    self.arms.handle_gained(now, node, &name, (index, bytes), false, engine);
                }
                GhostEvent::Lost { name, index } => self.arms.handle_lost(now, node, &name, index, engine),
                GhostEvent::Ended { command, status, bytes } => {
                    self.arms.handle_result(now, command, status, bytes, engine);
                }
                GhostEvent::Outcome { command, kind, residence } => {
                    self.arms.handle_outcome(now, command, kind, residence, engine);
                }
            }
        }
    }

    fn shadow(&self, arm: &str) -> ArmShadow {
        let status = self.arms.status(&self.engine);
        let found = status.shadow.arms.into_iter().find(|shadow| &*shadow.arm == arm);
        found.unwrap_or_else(|| panic!("no arm {arm}"))
    }
}

fn online() -> ArmSpec {
    ArmSpec { version: None, learning: true, orders: true }
}

#[test]
fn orders_of_an_arm_go_to_the_nodes_at_which_it_is_in_force_and_to_no_other() {
    let mut world = World::new(0.5, 2_000, 60_000);
    let rival = world.add(online());
    world.play(20_000);
    assert!(!world.sent.is_empty() && world.sent.iter().all(|(arm, _)| arm.is_none()), "the champion is in force");
    assert_eq!(world.assign(1, Some(&rival)), Ok(true));
    assert_eq!(world.assign(1, Some(&rival)), Ok(false), "nothing changes");
    world.sent.clear();
    world.play(20_000);
    let at = |place: usize| world.sent.iter().filter(move |(_, node)| node.0 as usize == place);
    assert!(at(1).count() > 0 && at(1).all(|(arm, _)| arm.as_deref() == Some("online")));
    assert!(at(0).count() > 0 && at(0).chain(at(2)).all(|(arm, _)| arm.is_none()));
    let in_force = world.arms.status(&world.engine).in_force;
    let names: Vec<(&str, &str)> = in_force.iter().map(|(node, arm)| (&**node, &**arm)).collect();
    assert_eq!(names, [("asia", "nearcast"), ("eu", "nearcast"), ("us", "online")]);
    let refused = world.arms.drop_arm(&rival).unwrap_err();
    assert!(refused.to_string().contains("in force at us"), "{refused}");
    assert_eq!(world.assign(1, None), Ok(true));
    assert_eq!(world.arms.drop_arm(&rival), Ok(()));
    world.sent.clear();
    world.play(20_000);
    assert!(world.sent.iter().all(|(arm, _)| arm.is_none()));
}

#[test]
fn arms_that_cannot_be_are_refused_by_name() {
    let mut world = World::new(0.5, 100, 10);
    world.add(online());
    let add = |world: &mut World, spec| world.arms.add(Timestamp::default(), spec, None, &world.engine);
    assert_eq!(add(&mut world, online()), Err(ArmRefused::Taken("online".into())));
    world.add(ArmSpec::none());
    let fixed = ArmSpec { learning: false, ..online() };
    assert_eq!(add(&mut world, fixed), Err(ArmRefused::TooMany { arms_max: 2 }));
    assert_eq!(world.assign(0, Some("nobody")), Err(ArmRefused::Unknown("nobody".into())));
    assert_eq!(world.arms.drop_arm("nobody"), Err(ArmRefused::Unknown("nobody".into())));
}

#[test]
fn an_arm_that_is_crowned_stays_in_force_where_it_was() {
    let mut world = World::new(0.5, 2_000, 40_000);
    let rival = world.add(online());
    world.play(5_000);
    world.assign(0, Some(&rival)).unwrap();
    world.arms.crown(&rival, &"retired".into(), &mut world.engine).unwrap();
    let status = world.arms.status(&world.engine);
    let names: Vec<&str> = status.in_force.values().map(|arm| &**arm).collect();
    assert_eq!(names, ["retired", "nearcast", "retired"], "asia, eu, us: the old champion has another name");
    world.sent.clear();
    world.play(20_000);
    assert!(world.sent.iter().all(|(arm, node)| arm.is_none() == (node.0 == 0)));
    world.arms.crown("retired", &rival, &mut world.engine).unwrap();
    let status = world.arms.status(&world.engine);
    let names: Vec<&str> = status.in_force.values().map(|arm| &**arm).collect();
    assert_eq!(names, ["nearcast", "online", "nearcast"], "as it was");
    let unknown = world.arms.crown("retired", &rival, &mut world.engine).unwrap_err();
    assert_eq!(unknown, ArmRefused::Unknown("retired".into()));
}

/// The champion is in force everywhere, so that the nodes themselves are the full simulation of it; that of *none* is
/// *none* in force in a world of its own.
#[test]
fn a_tenth_of_the_keys_tells_hit_ratios_to_half_a_point() {
    let (keys, requests) = (60_000, 300_000);
    let mut world = World::new(0.1, keys, requests);
    world.play(requests);
    let (none, champion) = (world.shadow("none"), world.shadow("nearcast"));
    let with = world.real.tally(1.0).account(1.0).hit_ratio.estimate;
    let mut world = World::new(1.0, keys, requests);
    world.engine.set_arm(crate::engine::Arm::None, false);
    world.play(requests);
    let without = world.real.tally(1.0).account(1.0).hit_ratio.estimate;
    assert_eq!(world.sent, [], "*none* orders nothing");
    assert!((world.shadow("none").account.hit_ratio.estimate - without).abs() < 1e-9, "the miniature of all keys");
    assert!(with - without > 0.01, "no effect to see: {with} against {without}");
    let check = |whole: f64, sampled: Sampled, what: &str| {
        let off = sampled.estimate - whole;
        assert!(off.abs() <= 0.005, "{what}: {sampled:?} against {whole}");
        assert!(off.abs() <= 2.0 * sampled.error, "{what}: further off than stated: {sampled:?} against {whole}");
    };
    check(without, none.account.hit_ratio, "none");
    check(with, champion.account.hit_ratio, "nearcast");
    check(with - without, champion.hit_ratio_over_none, "nearcast over none");
}

#[test]
fn an_arm_that_does_not_learn_has_no_labels_to_go_by() {
    let mut world = World::new(1.0, 2_000, 20_000);
    let fixed = world.add(ArmSpec { learning: false, ..online() });
    world.play(20_000);
    let engine = &world.arms.rivals[0].engine;
    assert_eq!(engine.gate().learned_count(), 0, "{fixed}");
    assert!(world.engine.gate().learned_count() > 1_000);
    let used = world.shadow(&fixed).account.used_ratio;
    assert!(used.abs() < f64::EPSILON, "a gate that knows nothing orders nothing: {used}");
}
