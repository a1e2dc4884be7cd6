//! Placement as the event task drives it, with nodes that say what a test wants, in virtual time.

use std::{path::Path, sync::Arc, time::Duration};

use nearcast_datasets::{ServedFrom, Timestamp};
use nearcast_proto::message::{Action, CommandStatus, PlacementPosition, Request, SegmentSet};

use super::{
    planning::{Planned, WholePlan},
    *,
};
use crate::placement::{GuardChoice, Move, MoveKind, PlannedKey, Waits};

struct World {
    placing: Placing,
    threads: PlacingThreads,
    now: Timestamp,
}

impl World {
    /// Takes up what is in a folder.
    fn open(folder: &Path) -> Self {
        Self::open_with(folder, |_| ())
    }

    fn open_with(folder: &Path, set: impl FnOnce(&mut RawPlacement)) -> Self {
        Self::open_in(folder, "", set)
    }

    fn open_in(folder: &Path, topology: &str, set: impl FnOnce(&mut RawPlacement)) -> Self {
        let topology = toml::from_str(topology).expect("a topology");
        let kind = PlacementKind::Gapa;
        let mut raw = RawPlacement { kind, hot_requests_per_second: 10.0, ..RawPlacement::default() };
        set(&mut raw);
        let now = Timestamp::from_micros(1_000_000_000);
        let settings = raw.try_into().expect("valid");
        let (placing, threads) = Placing::open(settings, topology, folder, now).expect("a writable folder");
        Self { placing, threads, now }
    }

    /// Nodes that hold nothing join.
    fn join(&mut self, names: &[&str]) -> Vec<usize> {
        names.iter().map(|name| self.join_holding(name, &[])).collect()
    }

    fn join_holding(&mut self, name: &str, keys: &[&str]) -> usize {
        let descriptor = NodeDescriptor {
            name: NodeName::from(name),
            region: Arc::from(name),
            url: Arc::from(""),
            capacity_bytes: 1_000,
            segment_bytes: 100,
        };
        let position = self.placing.handle_join(&descriptor).expect("room");
        let held: Vec<_> = keys.iter().map(|key| object(key)).collect();
        self.placing.handle_inventory(self.now, position, &held, true, true);
        position
    }

    /// A plan to hold keys of 100 bytes at nodes comes.
    fn plan(&mut self, keys: &[(&str, &[usize])]) {
        let plan = self.planned(keys);
        self.placing.handle_planned(self.now, &plan);
    }

    /// Such a plan, still on its way.
    fn planned(&self, keys: &[(&str, &[usize])]) -> Planned {
        let forgettable = self.placing.forgettable(self.now);
        let planned = |(key, nodes): &(&str, &[usize])| {
            let key = self.placing.known.lock().intern(&Arc::from(*key), forgettable, |_| false).expect("room");
            self.placing.known.lock().note_asked(self.now, key, 100);
            let nodes = nodes.iter().copied().collect();
            (key, PlannedKey { nodes, bytes: 100, saved_seconds: 1.0, ..PlannedKey::default() })
        };
        Planned::Whole(WholePlan {
            keys: keys.iter().map(planned).collect(),
            guard: Some((GuardChoice::Forecast, 0)),
            waits: Map::default(),
            load_bytes: Vec::new(),
            transfer_bytes: 0,
            saved_seconds: 1.0,
            took: Duration::from_millis(1),
            reuses: self.placing.reuses,
        })
    }

    /// Time passes.
    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.placing.handle_timeout(self.now);
    }

    /// Nodes carry out everything that they are told, and say so; returns what they were told.
    fn obey(&mut self) -> Vec<(String, Action, String)> {
        let mut told = Vec::new();
        while let Some(order) = self.placing.poll_order(self.now) {
            let position = self.placing.nodes.position(&order.node).expect("it has joined");
            if order.action == Action::Replicate {
                self.placing.handle_delta(self.now, position, &[object(&order.target.key)], &[]);
            }
            self.placing.handle_result(self.now, order.id, CommandStatus::Done);
            told.push((order.node.0.to_string(), order.action, order.target.key.to_string()));
        }
        self.pass(Duration::from_secs(1));
        told
    }

    /// Who is asked for a key, by name.
    fn holders(&self, key: &str) -> Vec<String> {
        let Some(key) = self.placing.known.lock().find(key) else { return Vec::new() };
        let name = |node: usize| self.placing.nodes.get(node).map(|slot| slot.name.0.to_string());
        self.placing.board.holders(key).iter().filter_map(name).collect()
    }

    /// The capacities that the planning thread was told last; none when it was told nothing.
    fn told_capacities(&self) -> Option<Vec<u64>> {
        let sites = self.threads.told.try_iter().filter_map(|told| match told {
            Told::Sites(sites, _) => Some((0..sites.nodes()).map(|node| sites.capacity(node)).collect()),
            Told::Request { .. } | Told::Reused(_) | Told::Model(_) => None,
        });
        sites.last()
    }

    /// Ends in order, having written everything down, or as a crash does.
    fn end(self, folder: &Path, in_order: bool) {
        let Self { mut placing, threads, now } = self;
        // Former versions, which nobody has written.
        threads.maps.try_iter().for_each(drop);
        if in_order {
            placing.close();
        } else {
            placing.save(now);
        }
        drop(placing);
        file::write_all(folder, &threads.maps);
    }
}

fn object(key: &str) -> SegmentSet {
    SegmentSet { key: Arc::from(key), size_bytes: 100, segments: vec![0] }
}

fn request(key: &str, served: ServedFrom) -> Request {
    Request {
        timestamp: Timestamp::MIN,
        client: Arc::from("c"),
        region: Arc::from("r"),
        key: Arc::from(key),
        size_bytes: 100,
        range: None,
        served,
        latency: Duration::ZERO,
    }
}

fn told(node: &str, action: Action, key: &str) -> (String, Action, String) {
    (node.to_owned(), action, key.to_owned())
}

#[test]
fn a_plan_is_carried_out_and_the_map_follows_what_nodes_say_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path());
    let nodes = world.join(&["a", "b", "c"]);
    world.plan(&[("/x", &nodes[..2])]);
    assert_eq!(world.holders("/x"), [""; 0], "nobody has it yet");
    let mut sorted = world.obey();
    let expected = ["a", "b"].map(|node| [told(node, Action::Replicate, "/x"), told(node, Action::Pin, "/x")]);
    sorted.sort_by(|x, y| x.0.cmp(&y.0));
    assert_eq!(sorted, expected.concat());
    assert_eq!(world.holders("/x"), ["a", "b"]);

    // It moves: until the new holder has it, an old one that still does is asked.
    world.plan(&[("/x", &nodes[2..])]);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.holders("/x"), ["a", "b"]);
    assert_eq!(world.obey().len(), 4, "two releases, a fetch and a pin");
    assert_eq!(world.holders("/x"), ["c"]);

    // It is lost, and fetched again.
    world.placing.handle_delta(world.now, nodes[2], &[], &[object("/x")]);
    assert_eq!(world.obey(), [told("c", Action::Replicate, "/x"), told("c", Action::Pin, "/x")]);
    world.plan(&[]);
    assert_eq!(world.obey(), [told("c", Action::Unpin, "/x")]);
    assert_eq!(world.holders("/x"), [""; 0], "it is left to hashing");
}

#[test]
fn a_restart_moves_nothing_and_a_node_that_comes_back_without_its_copy_gets_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path());
    let nodes = world.join(&["a", "b"]);
    world.plan(&[("/x", &nodes[..])]);
    world.obey();
    let (id, epoch) = (world.placing.board.id(), world.placing.board.epoch());
    world.end(folder.path(), true);

    let mut world = World::open(folder.path());
    assert_eq!((world.placing.board.id(), world.placing.board.epoch()), (Arc::clone(&id), epoch));
    assert_eq!(world.holders("/x"), ["a", "b"]);
    assert_eq!(world.obey(), [], "nothing is asked of nodes that are not there");
    world.join_holding("b", &["/x"]);
    assert_eq!(world.obey(), [told("b", Action::Pin, "/x")], "what is there is not fetched");
    assert_eq!(world.placing.board.epoch(), epoch);
    world.join_holding("a", &[]);
    assert_eq!(world.obey(), [told("a", Action::Replicate, "/x"), told("a", Action::Pin, "/x")]);
    assert_eq!(world.holders("/x"), ["a", "b"]);
    world.end(folder.path(), false);

    let world = World::open(folder.path());
    assert_eq!(world.placing.board.id(), id);
    assert!(world.placing.board.epoch().0 > epoch.0 + (1 << 31), "it may have told of more than it wrote down");
}

#[test]
fn a_lost_map_is_begun_anew_from_what_nodes_hold() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path());
    let nodes = world.join(&["a", "b"]);
    world.plan(&[("/x", &nodes[..])]);
    world.obey();
    let id = world.placing.board.id();
    world.end(folder.path(), true);
    std::fs::remove_file(folder.path().join("placement.jsonl")).unwrap();

    let mut world = World::open(folder.path());
    assert_ne!(world.placing.board.id(), id);
    let nodes = [world.join_holding("b", &["/x"]), world.join_holding("a", &["/x"])];
    world.plan(&[("/x", &nodes)]);
    let expected = [told("b", Action::Pin, "/x"), told("a", Action::Pin, "/x")];
    assert_eq!(world.obey(), expected, "no byte is moved");
}

#[test]
fn what_cannot_be_is_counted_and_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path());
    let [a, b] = world.join(&["a", "b"])[..] else { unreachable!() };
    let claims: Vec<_> = (0..20).map(|number| object(&format!("/{number}"))).collect();
    world.placing.handle_delta(world.now, a, &claims, &[]);
    let slot = world.placing.nodes.get(a).unwrap();
    assert_eq!((slot.held_bytes, slot.lies.claims_beyond_capacity), (1_100, 9), "1,000 bytes and an eighth");

    world.plan(&[("/x", &[b])]);
    let order = world.placing.poll_order(world.now).unwrap();
    world.placing.handle_result(world.now, order.id, CommandStatus::Done);
    assert_eq!(world.placing.nodes.get(b).unwrap().lies.results_not_verified, 1);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.holders("/x"), [""; 0]);
    assert_eq!(world.placing.poll_order(world.now).map(|order| order.action), Some(Action::Replicate), "once more");

    let position = |epoch| PlacementPosition { map: world.placing.board.id(), epoch };
    let future = position(Epoch(99));
    world.placing.handle_position(world.now, b, Some(&future));
    let slot = world.placing.nodes.get(b).unwrap();
    assert_eq!((slot.epoch, slot.lies.epochs_from_the_future), (None, 1));
}

#[test]
fn keys_of_a_node_that_leaves_are_placed_anew_at_once_and_of_one_that_vanishes_after_its_grace() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path());
    let [_, b, c] = world.join(&["a", "b", "c"])[..] else { unreachable!() };
    world.pass(Duration::from_secs(1));
    assert_eq!(world.told_capacities(), Some(vec![450, 450, 450]));
    world.placing.handle_leaving(b);
    world.placing.handle_leave(world.now, b);
    world.pass(Duration::ZERO);
    assert_eq!(world.told_capacities(), Some(vec![450, 0, 450]));
    world.placing.handle_leave(world.now, c);
    world.pass(Duration::from_secs(4));
    assert_eq!(world.told_capacities(), None, "it may be back in a moment");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.told_capacities(), Some(vec![450, 0, 0]));
    world.join_holding("c", &[]);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.told_capacities(), Some(vec![450, 0, 450]));
    assert_eq!(world.placing.handle_drain(world.now, &NodeName::from("c"), false), Some(0));
    world.pass(Duration::ZERO);
    assert_eq!(world.told_capacities(), Some(vec![450, 0, 0]));
    assert_eq!(world.placing.handle_drain(world.now, &NodeName::from("nobody"), false), None);
}

#[test]
fn a_hot_key_gets_another_holder_where_it_is_asked_for_and_the_account_says_what_a_replica_earned() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path());
    let [a, b] = world.join(&["a", "b"])[..] else { unreachable!() };
    world.plan(&[("/x", &[a])]);
    world.obey();
    (0..30).for_each(|_| world.placing.handle_request(world.now, b, &request("/x", ServedFrom::Peer)));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.obey(), [told("b", Action::Replicate, "/x"), told("b", Action::Pin, "/x")]);
    assert_eq!(world.holders("/x"), ["a", "b"]);
    world.placing.handle_request(world.now, b, &request("/x", ServedFrom::Memory));
    let explained = serde_json::to_value(world.placing.explain("/x")).unwrap();
    assert_eq!((&explained["uses"], &explained["nodes"][1]["reason"]), (&1.into(), &"hot".into()), "{explained}");
    let earned = explained["earned_seconds_at_most"].as_f64().unwrap();
    assert!((earned - 0.12).abs() < 0.001, "{earned}: the origin is 120 ms away");
    assert!(!world.placing.explain("/nothing").is_placed());
    world.plan(&[("/x", &[a])]);
    assert_eq!(world.obey(), [told("b", Action::Unpin, "/x")], "a plan takes everything into account");
}

#[test]
fn what_is_not_worth_fetching_is_kept_once_a_reader_has_brought_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path());
    let [a, b] = world.join(&["a", "b"])[..] else { unreachable!() };
    let mut plan = world.planned(&[("/x", &[a, b])]);
    let Planned::Whole(whole) = &mut plan else { unreachable!() };
    whole.waits.insert(whole.keys[0].0, Waits { awaited: NodeSet::EMPTY.with(b), ..Waits::default() });
    world.placing.handle_planned(world.now, &plan);
    assert_eq!(world.obey(), [told("a", Action::Replicate, "/x"), told("a", Action::Pin, "/x")]);
    assert_eq!(world.holders("/x"), ["a"]);
    world.placing.handle_delta(world.now, b, &[object("/x")], &[]);
    assert_eq!(world.obey(), [told("b", Action::Pin, "/x")]);
    assert_eq!(world.holders("/x"), ["a", "b"]);
}

#[test]
fn a_copy_for_later_comes_last_and_one_without_a_link_not_at_all_and_both_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path());
    let [a] = world.join(&["a"])[..] else { unreachable!() };
    let mut plan = world.planned(&[("/later", &[a]), ("/full", &[a]), ("/now", &[a])]);
    let Planned::Whole(whole) = &mut plan else { unreachable!() };
    let (later, full, at) = (whole.keys[0].0, whole.keys[1].0, NodeSet::EMPTY.with(a));
    whole.waits.insert(later, Waits { ahead: at, ..Waits::default() });
    whole.waits.insert(full, Waits { awaited: at, postponed: at, ..Waits::default() });
    world.placing.handle_planned(world.now, &plan);
    let reason =
        |world: &World, key| serde_json::to_value(world.placing.explain(key)).unwrap()["nodes"][0]["reason"].clone();
    assert_eq!([reason(&world, "/later"), reason(&world, "/full"), reason(&world, "/now")], ["ahead", "link", "plan"]);
    let fetched: Vec<_> = world.obey().into_iter().filter(|(_, action, _)| *action == Action::Replicate).collect();
    assert_eq!(fetched, [told("a", Action::Replicate, "/now"), told("a", Action::Replicate, "/later")]);
    assert_eq!(reason(&world, "/later"), "plan", "it is there");
}

#[test]
fn what_becomes_known_between_two_plans_is_held_until_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path());
    let [a, b] = world.join(&["a", "b"])[..] else { unreachable!() };
    world.plan(&[("/x", &[a])]);
    world.obey();
    let key = world.placing.known.lock().find("/x").unwrap();
    let step = Move { kind: MoveKind::Hold, key, bytes: 100, node: b, value_seconds: 1.0 };
    world.placing.handle_planned(world.now, &Planned::Between(vec![step], world.placing.reuses));
    assert_eq!(world.obey(), [told("b", Action::Replicate, "/x"), told("b", Action::Pin, "/x")]);
    assert_eq!(world.holders("/x"), ["a", "b"]);
    world.plan(&[("/x", &[a])]);
    assert_eq!(world.obey(), [told("b", Action::Unpin, "/x")]);
}

#[test]
fn a_slow_link_holds_up_nobody_elses_transfers() {
    let folder = tempfile::tempdir().unwrap();
    let topology =
        "[default]\nrtt_ms = 50.0\n[regions.slow]\norigin_bandwidth_bytes_per_second = 200.0\n[regions.fast]\n";
    let mut world = World::open_in(folder.path(), topology, |_| ());
    let [slow, fast] = world.join(&["slow", "fast"])[..] else { unreachable!() };
    let keys: Vec<String> = (0..8).map(|number| format!("/{number}")).collect();
    let at = |number: usize| if number < 4 { vec![slow] } else { vec![fast] };
    let nodes: Vec<Vec<usize>> = (0..8).map(at).collect();
    let plan: Vec<(&str, &[usize])> = keys.iter().zip(&nodes).map(|(key, nodes)| (key.as_str(), &nodes[..])).collect();
    world.plan(&plan);
    let fetches = |world: &mut World| -> Vec<String> {
        let orders = std::iter::from_fn(|| world.placing.poll_order(world.now));
        orders.filter(|it| it.action == Action::Replicate).map(|it| it.node.0.to_string()).collect()
    };
    // Half of 200 bytes a second is for placement: a second's worth, and what began within it.
    assert_eq!(fetches(&mut world), ["slow", "slow", "fast", "fast", "fast", "fast"]);
    assert!(world.placing.poll_timeout().unwrap() <= world.now.after(Duration::from_millis(20)));
    world.pass(Duration::from_millis(900));
    assert_eq!(fetches(&mut world), [""; 0]);
    world.pass(Duration::from_millis(200));
    assert_eq!(fetches(&mut world), ["slow"]);
}

#[test]
fn a_number_is_given_out_again_only_when_nothing_is_placed_under_it_and_the_planner_hears_of_it_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open_with(folder.path(), |raw| raw.keys_max = 2);
    let [a] = world.join(&["a"])[..] else { unreachable!() };
    world.plan(&[("/kept", &[a])]);
    world.obey();
    let number = |world: &World, key: &str| world.placing.known.lock().find(key);
    world.placing.handle_delta(world.now, a, &[], &[object("/kept")]);
    let stale = world.planned(&[("/idle", &[a])]);
    let idle = number(&world, "/idle").unwrap();
    world.threads.told.try_iter().for_each(drop);
    world.pass(Duration::from_secs(30 * 86_400));
    world.placing.handle_request(world.now, a, &request("/new", ServedFrom::Origin));
    assert_eq!((number(&world, "/new"), number(&world, "/idle")), (Some(idle), None));
    assert!(number(&world, "/kept").is_some(), "it is meant to be held");
    let told: Vec<Told> = world.threads.told.try_iter().collect();
    assert!(matches!(told[..], [Told::Reused(key), Told::Request { .. }] if key == idle), "{told:?}");
    world.placing.handle_planned(world.now, &stale);
    assert!(!world.placing.explain("/new").is_placed(), "the plan meant the key that had the number before");
}

#[test]
fn nodes_are_told_to_fetch_no_faster_than_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path());
    let nodes = world.join(&["a"]);
    world.placing.settings.bytes_per_second = 150.0;
    world.pass(Duration::from_secs(10));
    let keys: Vec<String> = (0..4).map(|number| format!("/{number}")).collect();
    let plan: Vec<(&str, &[usize])> = keys.iter().map(|key| (key.as_str(), &nodes[..])).collect();
    world.plan(&plan);
    let fetches = |world: &mut World| {
        let orders = std::iter::from_fn(|| world.placing.poll_order(world.now));
        orders.filter(|order| order.action == Action::Replicate).count()
    };
    assert_eq!(fetches(&mut world), 2, "a second's worth, and what began within it");
    world.pass(Duration::from_millis(200));
    assert_eq!(fetches(&mut world), 0);
    let due = world.placing.poll_timeout().unwrap();
    assert!(due <= world.now.after(Duration::from_millis(20)), "it is looked at again soon");
    world.pass(Duration::from_millis(200));
    assert_eq!(fetches(&mut world), 1);
}

#[test]
fn plans_count_with_what_nodes_measured_and_an_explanation_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open_in(folder.path(), "[default]\nrtt_ms = 50.0\norigin_rtt_ms = 100.0\n", |_| ());
    let nodes = world.join(&["a", "b"]);
    world.plan(&[("/x", &nodes[..1])]);
    world.obey();
    let next = |world: &World, at: usize| {
        let said = serde_json::to_value(world.placing.explain("/x")).unwrap();
        let node = &said["nodes"][at];
        (
            node["next_source"].clone(),
            node["next_round_trip_ms"].as_f64().unwrap().round(),
            node["next_is_measured"].clone(),
        )
    };
    assert_eq!(next(&world, 0), ("origin".into(), 100.0, false.into()));
    world.threads.told.try_iter().for_each(drop);
    let trip =
        |to: Option<&str>, millis| RoundTrip { to: to.map(NodeName::from), round_trip: Duration::from_millis(millis) };
    world.placing.handle_round_trips(world.now, nodes[0], &[trip(Some("b"), 20), trip(None, 70)]);
    world.placing.handle_round_trips(world.now, nodes[1], &[trip(Some("a"), 22), trip(None, 150)]);
    world.pass(Duration::from_secs(3));
    let sites = world.threads.told.try_iter().filter_map(|told| match told {
        Told::Sites(sites, _) => Some(sites),
        Told::Request { .. } | Told::Reused(_) | Told::Model(_) => None,
    });
    let sites = sites.last().expect("the planning thread hears of it");
    let cost = |seconds: f32| (seconds * 1e3).round();
    assert_eq!((cost(sites.link(0, 1).round_trip), cost(sites.link(1, 0).round_trip)), (20.0, 20.0));
    assert_eq!((cost(sites.origin(0).round_trip), cost(sites.origin(1).round_trip)), (70.0, 150.0));
    assert_eq!(next(&world, 0), ("origin".into(), 70.0, true.into()));
    let quantities = world.placing.status().quantities();
    let count = |name: &str| quantities.iter().find(|(named, _)| *named == name).map(|(_, value)| *value);
    assert_eq!((count("links_measured"), count("measured_changes")), (Some(3.0), Some(3.0)));
    // Nobody says anything any more.
    for _ in 0..5 {
        world.pass(Duration::from_secs(60));
    }
    assert_eq!(next(&world, 0), ("origin".into(), 100.0, false.into()));
}
