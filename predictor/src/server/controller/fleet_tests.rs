//! The controller in a fleet, without network.

use std::{sync::Arc, time::Duration};

use nearcast_bus::{Token, claims::Resource, fleet::FleetView};
use nearcast_datasets::Timestamp;
use nearcast_proto::{
    config_file,
    message::{Action, Command, CommandId, Epoch, NodeDescriptor, NodeReport, SegmentSet},
};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::Controller;
use crate::{
    PredictorConfig, PredictorSettings,
    arms::ArmSpec,
    engine::{Arm, Engine},
    events::EventBus,
    metrics::Metrics,
    purges::PurgeLog,
    server::{
        fleet::{
            ConductorSeat, Home, Loaded, NodeRecord, OpenFleet, OrderRecord, Promoted, Regime, Said, Tidings, ToldArm,
            office,
        },
        input::{Arrival, Input, JoinRefused, Joined},
    },
};

struct World {
    controller: Controller,
    metrics: Metrics,
    now: Timestamp,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text =
            format!("data_dir = {:?}\n[bus]\nurl = \"embedded\"\nname = \"p\"\nlog_bytes_max = 4194304", folder.path());
        let settings: PredictorSettings = config_file::parse("p.toml".as_ref(), &text).unwrap();
        let config = PredictorConfig::try_from(settings).unwrap();
        let bus = config.bus.as_ref().unwrap();
        let (fleet, purges): (OpenFleet, Arc<PurgeLog>) = OpenFleet::open(&config, bus, "").await.unwrap();
        let (metrics, now) = (Metrics::new(), Timestamp::from_micros(1_000_000_000));
        let (answers, _) = tokio::sync::mpsc::channel(1);
        let (events, _) = EventBus::new(String::new(), 16, metrics.events_dropped.clone());
        let engine = Engine::new(config.engine.clone(), config.topology.clone()).divided(fleet.partitions());
        let controller = Controller::new(engine, None, fleet.generation(), purges, &config, events, metrics.clone())
            .with_fleet(Some(fleet.side(answers)));
        Self { controller, metrics, now, _folder: folder }
    }

    fn apply(&mut self, input: Input) {
        self.controller.apply(self.now, input);
    }

    fn join(&mut self, name: &str, stream: u64) -> Result<Joined, JoinRefused> {
        let (reply, mut answer) = oneshot::channel();
        let arrival = Arrival { node: node(name), stream, purges: None, placement: None };
        self.apply(Input::Join(Box::new(arrival), reply));
        answer.try_recv().unwrap()
    }

    fn hear(&mut self, home: Home, said: Said) {
        self.apply(Input::Heard(NodeRecord { home, said }));
    }

    fn order(&mut self, token: u64, deadline: Timestamp) {
        let command = Command {
            id: CommandId(7),
            epoch: Epoch(0),
            action: Action::Replicate,
            target: SegmentSet { key: "/a".into(), size_bytes: 1, segments: vec![0] },
            sources: Vec::new(),
            deadline,
            probability: 0.5,
            expected_value_seconds: 1.0,
            arm: "nearcast".into(),
            model_version: "".into(),
        };
        let resource = Resource::Partition(3);
        self.apply(Input::Order(OrderRecord { resource, token: Token(token), node: "eu-1".into(), command }));
    }

    fn view(&mut self, members: &[u32], tokens: &[(u32, u64)]) {
        let tokens = tokens.iter().map(|(partition, token)| (Resource::Partition(*partition), Token(*token))).collect();
        let members = members.iter().map(|member| (format!("p-{member}"), member.to_string())).collect();
        self.apply(Input::View(FleetView { tokens, members, ..FleetView::default() }, Some(Duration::from_secs(3))));
    }

    fn obey(&mut self, regime: Regime, models: Vec<(Arc<str>, Loaded)>) {
        self.apply(Input::Obey(Box::new(regime), models));
    }

    /// The nodes that are taken for connected, and whether they are elsewhere.
    fn alive(&self) -> Vec<(String, bool)> {
        let alive = self.controller.nodes().into_iter().filter(|node| node.alive);
        alive.map(|node| (node.name.as_ref().to_owned(), node.is_elsewhere)).collect()
    }
}

fn node(name: &str) -> NodeDescriptor {
    NodeDescriptor {
        name: name.into(),
        region: "eu".into(),
        url: "http://n".into(),
        capacity_bytes: 1 << 20,
        segment_bytes: 1 << 16,
    }
}

fn joined(name: &str, stream: u64) -> Said {
    let hello =
        NodeReport::Hello { node: node(name), code_version: String::new(), purges: None, placement: None, stream: 0 };
    Said::Joined { stream, hello: Box::new(hello) }
}

fn treating(number: u64, node: &str) -> Regime {
    let challengers = [("trial".to_owned(), ArmSpec::none())].into();
    Regime { number, challengers, treated: [(node.into(), "none".into())].into(), ..Regime::default() }
}

const fn home(generation: u32, session: u64) -> Home {
    Home { generation, session }
}

#[tokio::test]
async fn who_places_keys_gives_no_orders_once_its_membership_is_over_or_another_does() {
    let mut world = World::new().await;
    let token = Token(5);
    let may_give = |world: &mut World, after: u64| {
        let fleet = world.controller.fleet.as_mut().unwrap();
        fleet.give(Some((office(), token)));
        let may_give = fleet.may_give(world.now.after(Duration::from_secs(after)));
        fleet.give(None);
        may_give
    };
    assert!(!may_give(&mut world, 0), "it is not a member yet");
    world.view(&[1], &[]);
    assert!(may_give(&mut world, 2) && !may_give(&mut world, 3), "cut off from the bus it cannot know");
    let tokens = [(office(), Token(6))].into();
    let view = FleetView { tokens, ..FleetView::default() };
    world.apply(Input::View(view, Some(Duration::from_secs(3))));
    assert!(!may_give(&mut world, 0));
}

#[tokio::test]
async fn orders_are_carried_out_for_owners_in_time_and_refused_from_those_before_them() {
    let mut world = World::new().await;
    let mut eu = world.join("eu-1", 1).unwrap();
    let later = world.now.after(Duration::from_secs(5));
    world.order(5, later);
    let command = eu.commands.try_recv().unwrap();
    assert_eq!(command.epoch, eu.map.borrow().epoch, "as nodes compare it with the map that they have");
    world.order(4, later);
    assert!(eu.commands.try_recv().is_err(), "another owns the partition since");
    // As it is heard that it has been claimed again.
    world.view(&[1], &[(3, 9)]);
    world.order(5, later);
    assert!(eu.commands.try_recv().is_err());
    assert_eq!(world.metrics.fleet.orders_refused.get(), 2);
    world.order(9, world.now.before(Duration::from_secs(1)));
    assert_eq!((eu.commands.try_recv().is_err(), world.metrics.fleet.orders_late.get()), (true, 1));
    world.order(9, later);
    assert!(eu.commands.try_recv().is_ok());
}

#[tokio::test]
async fn nodes_of_others_are_followed_until_they_leave_move_or_their_member_is_gone() {
    let mut world = World::new().await;
    let own = world.controller.generation.number();
    world.hear(home(own, 1), joined("own", 1));
    assert_eq!(world.alive(), [], "what one said oneself says nothing new");
    world.view(&[own, 7, 8], &[]);
    world.hear(home(7, 1), joined("eu-1", 10));
    world.hear(home(7, 2), joined("us-1", 10));
    assert_eq!(world.alive(), [("eu-1".to_owned(), true), ("us-1".to_owned(), true)]);
    // Held is what its inventory says, once more after it is told of anew.
    let page = |keys: &[&str]| {
        let set = |key: &&str| SegmentSet { key: (*key).into(), size_bytes: 10, segments: vec![0] };
        Said::Told(NodeReport::Inventory { held: keys.iter().map(set).collect(), last: true })
    };
    world.hear(home(7, 1), page(&["/a", "/b"]));
    world.hear(home(7, 1), joined("eu-1", 10));
    world.hear(home(7, 1), page(&["/b"]));
    assert_eq!((world.controller.locate("/a").len(), world.controller.locate("/b").len()), (0, 1));

    world.hear(home(8, 1), joined("eu-1", 9));
    world.hear(home(8, 1), Said::Left);
    assert_eq!(world.alive().len(), 2, "an older start of it is no news");
    assert!(matches!(world.join("eu-1", 9), Err(JoinRefused::NameTaken { .. })));
    let mut eu = world.join("eu-1", 10).unwrap();
    assert_eq!(world.alive()[0], ("eu-1".to_owned(), false), "it has come here");
    world.hear(home(7, 1), Said::Left);
    assert_eq!(world.alive().len(), 2, "that it has left there is old");
    world.hear(home(8, 2), joined("eu-1", 10));
    assert_eq!(world.alive()[0], ("eu-1".to_owned(), true), "it has gone on");
    assert!(eu.commands.recv().await.is_none(), "its stream ends here");

    world.view(&[own, 8], &[]);
    assert_eq!(world.alive().len(), 2, "its member may come back");
    world.now = world.now.after(Duration::from_secs(3));
    world.view(&[own, 8], &[]);
    assert_eq!(world.alive(), [("eu-1".to_owned(), true)]);
}

#[tokio::test]
async fn nothing_is_learnt_for_a_partition_that_is_not_owned() {
    let mut world = World::new().await;
    let bus_record = crate::fleet::LogRecord {
        at: world.now,
        node: node("eu-1"),
        stream: 1,
        sequence: 1,
        requests: vec![nearcast_proto::message::Request {
            timestamp: world.now,
            client: "c".into(),
            region: "eu".into(),
            key: "/a".into(),
            size_bytes: 10,
            range: None,
            served: nearcast_datasets::ServedFrom::Origin,
            latency: Duration::from_millis(1),
        }],
    };
    let learn = |token: u64| Input::Learn { partition: 0, token: Token(token), batches: vec![bus_record.clone()] };
    let begin = |token: u64| {
        let (reply, _) = oneshot::channel();
        Input::BeginPartition { partition: 0, token: Token(token), part: None, reply }
    };
    world.apply(learn(1));
    assert_eq!(world.metrics.fleet.learnt.get(), 0);
    world.apply(begin(2));
    world.apply(learn(1));
    assert_eq!(world.metrics.fleet.learnt.get(), 0);
    world.apply(learn(2));
    assert_eq!(world.metrics.fleet.learnt.get(), 1);
    // The end of earlier work on it comes late.
    world.apply(Input::EndPartition { partition: 0, token: Token(1) });
    world.apply(learn(2));
    world.apply(Input::EndPartition { partition: 0, token: Token(2) });
    world.apply(learn(2));
    assert_eq!(world.metrics.fleet.learnt.get(), 2);
}

#[tokio::test]
async fn what_is_in_force_is_obeyed_as_soon_as_the_arm_is_there() {
    let mut world = World::new().await;
    let eu = world.join("eu-1", 1).unwrap();
    world.view(&[1], &[]);
    let regime = treating(2, "eu-1");
    world.obey(regime.clone(), Vec::new());
    assert_eq!(&*eu.in_force.borrow().arm, "nearcast", "nobody could order for it");
    let lacking = world.controller.fleet_status().unwrap().arms_lacking;
    assert_eq!((lacking["p-1"]["none"].as_str(), world.metrics.fleet.arms_lacking.get()), ("it is being loaded", 1));
    world.obey(regime.clone(), vec![("none".into(), Err("it is gone".to_owned()))]);
    assert_eq!(world.controller.fleet_status().unwrap().arms_lacking["p-1"]["none"], "it is gone");
    world.obey(regime, vec![("none".into(), Ok(None))]);
    assert!(&*eu.in_force.borrow().arm == "none" && world.controller.fleet_status().unwrap().arms_lacking.is_empty());
    assert_eq!(world.metrics.fleet.arms_lacking.get(), 0);
    world.obey(Regime { number: 1, ..Regime::default() }, Vec::new());
    assert_eq!(&*eu.in_force.borrow().arm, "none", "what is older says nothing");
    let later = world.join("us-1", 1).unwrap();
    assert_eq!(&*later.in_force.borrow().arm, "nearcast");
    world.obey(Regime { number: 3, ..Regime::default() }, Vec::new());
    assert_eq!(&*eu.in_force.borrow().arm, "nearcast");
}

#[tokio::test]
async fn whoever_has_a_node_refuses_orders_for_another_arm_than_it_serves() {
    let mut world = World::new().await;
    let mut eu = world.join("eu-1", 1).unwrap();
    let later = world.now.after(Duration::from_secs(5));
    world.order(5, later);
    assert!(eu.commands.try_recv().is_ok());
    world.obey(treating(1, "eu-1"), vec![("none".into(), Ok(None))]);
    world.order(5, later);
    assert!(eu.commands.try_recv().is_err() && world.metrics.fleet.orders_refused.get() == 1);
}

#[tokio::test]
async fn the_champion_is_who_was_promoted_and_does_what_it_was_told_since() {
    let mut world = World::new().await;
    let eu = world.join("eu-1", 1).unwrap();
    let arm = |world: &World| world.controller.engine.arm().name();
    world.obey(treating(1, "eu-1"), vec![("none".into(), Ok(None))]);
    let promoted = vec![Promoted { experiment: "trial".to_owned(), arm: ArmSpec::none() }];
    world.obey(Regime { number: 2, promoted: promoted.clone(), ..Regime::default() }, Vec::new());
    assert_eq!((arm(&world), &*eu.in_force.borrow().arm), ("none", "none"));
    assert!(!eu.in_force.has_changed().unwrap() || eu.in_force.borrow().assignment == 2, "it served that before");
    let told = Some(ToldArm { number: 3, arm: Arm::Nearcast, reset: false });
    world.obey(Regime { number: 3, promoted: promoted.clone(), told, ..Regime::default() }, Vec::new());
    assert_eq!(arm(&world), "nearcast");
    world.controller.engine.set_arm(Arm::None, false);
    world.obey(Regime { number: 4, promoted: promoted.clone(), told, ..Regime::default() }, Vec::new());
    assert_eq!(arm(&world), "none", "it is told once");
    world.obey(Regime { number: 5, ..Regime::default() }, Vec::new());
    assert_eq!(arm(&world), "nearcast", "as before the promotion");
    // A member that comes later.
    let mut other = World::new().await;
    other.obey(Regime { number: 9, promoted, ..Regime::default() }, Vec::new());
    assert_eq!(arm(&other), "none");
}

#[tokio::test]
async fn what_nodes_of_others_serve_is_known_and_told_to_whoever_conducts() {
    let mut world = World::new().await;
    let (tidings, mut told) = tokio::sync::mpsc::channel(16);
    let (_, shown) = tokio::sync::watch::channel(Arc::default());
    world.view(&[7], &[]);
    world.hear(home(7, 1), joined("eu-1", 10));
    let confirmed = |world: &World| world.controller.nodes()[0].is_confirmed;
    assert!(!confirmed(&world));
    world.hear(home(7, 1), Said::Serves { arm: "nearcast".into(), skew_micros: Some(4) });
    assert!(confirmed(&world));
    world.apply(Input::TakeExperiments { token: Token(3), seat: ConductorSeat { tidings, shown } });
    let mut next = || told.try_recv().unwrap();
    assert!(matches!(next(), Tidings::Members(members) if members[&7].is_empty()));
    assert!(matches!(next(), Tidings::Serves { node, skew_micros: None, .. } if &*node == "eu-1"), "from before");
    world.hear(home(7, 1), Said::Serves { arm: "none".into(), skew_micros: Some(4) });
    assert!(!confirmed(&world));
    assert!(matches!(next(), Tidings::Serves { arm, skew_micros: Some(4), .. } if &*arm == "none"));
    world.hear(home(7, 1), Said::Dropped { count: 3 });
    assert!(matches!(next(), Tidings::Dropped { count: 3, .. }));
    world.hear(home(7, 0), Said::Wasted { node: "eu-1".into(), bytes: 9 });
    assert!(matches!(next(), Tidings::Wasted { bytes: 9, .. }));
    world.hear(home(7, 0), Said::Arms { ready: ["none".into()].into(), refused: [].into() });
    assert!(matches!(next(), Tidings::Members(members) if members[&7].contains("none")));
    world.apply(Input::EndExperiments(Token(3)));
    assert!(told.try_recv().is_err());
}
