//! Experiments in a fleet: whoever is asked, one conducts them for the nodes of all, and another goes on where it was.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nearcast_datasets::{ServedFrom, Timestamp};
use nearcast_models::Registry;
use nearcast_predictor::{
    arms::ArmSpec,
    experiments::{Deed, NodeHistory, Question, Slot},
};
use nearcast_proto::message::{NodeReport, PredictorNotice, Request};
use serde_json::Value;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    experiments::deed,
    harness::{TestNode, TestPredictor, eventually, hello},
    models::publish,
    nats::NatsServer,
};

const NODES: [&str; 4] = ["a", "b", "c", "d"];

async fn member(bus: &str, name: &str, more: &str) -> TestPredictor {
    let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
    member_in(folder, bus, name, more).await
}

async fn member_in(folder: Arc<tempfile::TempDir>, bus: &str, name: &str, more: &str) -> TestPredictor {
    let bus = format!(
        "{more}\n[bus]\nurl = {bus:?}\nname = {name:?}\npartitions = 4\nlease_seconds = 1.0\ncheckpoint_seconds = 0.5\n\
         log_bytes_max = 16777216\n"
    );
    TestPredictor::start_in(folder, &bus).await
}

/// The member that conducts experiments, as another sees it.
async fn conductor(predictor: &TestPredictor) -> Option<String> {
    predictor.status().await["fleet"]["conducts_experiments"].as_str().map(str::to_owned)
}

/// Half a minute in which pairs of nodes go up and down together.
fn history() -> Vec<NodeHistory> {
    let node = |place: usize| {
        let slot = |number: u64| {
            let hits = 5 + (number * (1 + place as u64 / 2)) % 5;
            Slot { requests: 20, hits, bytes: 1_000, wait_seconds: 0.2 + number as f64 * 0.001, ..Slot::default() }
        };
        let slots = (0..60).map(slot).collect();
        NodeHistory { node: NODES[place].into(), first_micros: 0, slot_seconds: 0.5, slots }
    };
    (0..NODES.len()).map(node).collect()
}

/// Blocks of a second and a half, of which the first half second is left out.
fn question(name: &str, challenger: ArmSpec) -> Question {
    let mut question = Question::new(name, challenger);
    question.history = Some(history());
    question.turnover_seconds = Some(0.16);
    question.block_seconds = Some(1.5);
    question.span_seconds = 200.0 * 1.5;
    question.effect = 0.5;
    question.shadow_seconds = 0.5;
    question.canary_blocks = 1;
    question.season_blocks = Some(1_000);
    question
}

fn named(name: &str) -> Deed {
    Deed { name: Some(name.to_owned()), ..deed(None) }
}

async fn report(predictor: &TestPredictor, name: &str) -> Value {
    // While nobody conducts, nobody answers.
    predictor.experiment("report", &named(name)).await.unwrap_or_default()
}

/// Nodes that log and confirm what they are told, at whichever predictor they reach.
struct Nodes {
    arms: Arc<Mutex<BTreeMap<&'static str, String>>>,
    tasks: JoinSet<()>,
}

impl Nodes {
    fn start(predictors: &[SocketAddr]) -> Self {
        let (arms, mut tasks) = (Arc::new(Mutex::new(BTreeMap::new())), JoinSet::new());
        for (place, name) in NODES.into_iter().enumerate() {
            let mut addresses = predictors.to_vec();
            addresses.rotate_left(place % predictors.len());
            let arms = Arc::clone(&arms);
            tasks.spawn(async move {
                for address in addresses.iter().cycle() {
                    let Ok(node) = TestNode::connect_at(*address, hello(name, "eu").into()).await else {
                        sleep(Duration::from_millis(20)).await;
                        continue;
                    };
                    serve(node, name, &arms).await;
                }
            });
        }
        Self { arms, tasks }
    }

    /// How many nodes serve an arm.
    fn serving(&self, arm: &str) -> usize {
        self.arms.lock().expect("no panic").values().filter(|serving| *serving == arm).count()
    }
}

/// Logs requests and confirms assignments until the stream ends.
async fn serve(mut node: TestNode, name: &'static str, arms: &Mutex<BTreeMap<&'static str, String>>) {
    let mut pace = tokio::time::interval(Duration::from_millis(25));
    let mut client = 0_u64;
    loop {
        let is_open = tokio::select! {
            _ = pace.tick() => {
                client += 1;
                node.log(vec![request(client)]).await
            }
            notice = node.next() => match notice {
                Ok(PredictorNotice::Welcome { arm, assignment, .. }) => {
                    arms.lock().expect("no panic").insert(name, arm.to_string());
                    node.try_say(NodeReport::Assigned { assignment, arm, clock: now() }).await
                }
                notice => notice.is_ok(),
            },
        };
        if !is_open {
            return;
        }
    }
}

fn request(client: u64) -> Request {
    Request {
        timestamp: now(),
        client: format!("c{}", client % 40).into(),
        region: "eu".into(),
        key: format!("/{}", client % 7).into(),
        size_bytes: 10_000,
        range: None,
        served: if client.is_multiple_of(3) { ServedFrom::Memory } else { ServedFrom::Origin },
        latency: Duration::from_millis(10),
    }
}

#[expect(clippy::disallowed_methods, reason = "nodes have clocks")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp::from_micros(since.as_micros() as i64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_started_anywhere_reaches_all_nodes_and_a_successor_goes_on_with_it() {
    let Some(server) = NatsServer::start() else { return };
    let url = server.url();
    let (a, b, c) = tokio::join!(member(&url, "a", ""), member(&url, "b", ""), member(&url, "c", ""));
    let mut members: BTreeMap<String, TestPredictor> =
        [("a", a), ("b", b), ("c", c)].map(|(n, p)| (n.to_owned(), p)).into();
    let addresses: Vec<SocketAddr> = members.values().map(|member| member.grpc).collect();
    let nodes = Nodes::start(&addresses);
    for member in members.values() {
        eventually("somebody who conducts", async || conductor(member).await.is_some()).await;
        eventually("all nodes", async || {
            let status = member.status().await;
            let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
            nodes.iter().filter(|node| node["alive"] == true && node["is_confirmed"] == true).count() == NODES.len()
        })
        .await;
    }
    let first = conductor(&members["a"]).await.expect("there is one");
    let other = members.keys().find(|name| **name != first).expect("there are others").clone();
    let started = members[&other].experiment("start", &deed(Some(question("trial", ArmSpec::none())))).await;
    assert_eq!(started.expect("it is started")["arm"], "none");
    for member in members.values() {
        eventually("the arm at every member", async || {
            let status = member.status().await;
            let lacking = status["fleet"]["arms_lacking"].as_object().is_none_or(serde_json::Map::is_empty);
            lacking && status["arms"]["in_force"].as_object().is_some_and(|arms| arms.values().any(|arm| arm == "none"))
        })
        .await;
    }
    eventually("nodes that serve it", async || nodes.serving("none") > 0 && nodes.serving("nearcast") > 0).await;
    eventually("two blocks", async || report(&members[&other], "trial").await["blocks_counted"].as_u64() >= Some(2))
        .await;

    // Nothing flaps while nobody conducts.
    let before = report(&members[&other], "trial").await;
    members.remove(&first).expect("it runs").stop().await.expect("it ends in order");
    eventually("a successor", async || conductor(&members[&other]).await.is_some_and(|next| next != first)).await;
    let counted = before["blocks_counted"].as_u64().expect("a number");
    eventually("further blocks", async || {
        report(&members[&other], "trial").await["blocks_counted"].as_u64() >= Some(counted + 2)
    })
    .await;
    let after = report(&members[&other], "trial").await;
    let flaws = after["flaws"].as_array().cloned().unwrap_or_default();
    assert!(flaws.is_empty(), "{after:#}");
    let (old, new) = (before["changes"].as_array().expect("a list"), after["changes"].as_array().expect("a list"));
    assert_eq!(&new[..old.len()], &old[..], "it is the same record");
    let looks = |report: &Value| report["looks"].as_array().cloned().unwrap_or_default();
    assert_eq!(looks(&after)[..looks(&before).len()], looks(&before)[..], "and the same measurements");

    let last = conductor(&members[&other]).await.expect("there is one");
    let asked = members.keys().find(|name| **name != last).expect("there is another");
    let asked = &members[asked];
    asked.experiment("promote", &named("trial")).await.expect("it is promoted");
    eventually("a holdback", async || report(asked, "trial").await["stage"] == "holdback").await;
    asked.experiment("finish", &named("trial")).await.expect("it is finished");
    for member in members.values() {
        eventually("the champion", async || member.status().await["arm"] == "none").await;
    }
    eventually("nodes of the champion", async || nodes.serving("none") == NODES.len()).await;
    asked.experiment("undo", &named("trial")).await.expect("it is undone");
    for member in members.values() {
        eventually("the champion before", async || member.status().await["arm"] == "nearcast").await;
    }
    eventually("nodes of the champion", async || nodes.serving("nearcast") == NODES.len()).await;
    eventually("confirmations", async || report(asked, "trial").await["stage"] == "rolled_back").await;
    let refused = asked.experiment("promote", &named("trail")).await.expect_err("there is none");
    assert!(refused.message().contains("trial"), "{refused}");
    drop(nodes.tasks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lacks_the_version_is_named_and_no_block_counts_until_it_has_it() {
    let Some(server) = NatsServer::start() else { return };
    let url = server.url();
    let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
    let place = folder.path().join("models");
    let registry = Registry::open(place.to_str().expect("UTF-8")).expect("a folder");
    publish(&registry, 1).expect("a version");
    let a = member_in(Arc::clone(&folder), &url, "a", &format!("registry = {place:?}")).await;
    eventually("somebody who conducts", async || conductor(&a).await.as_deref() == Some("a")).await;
    let elsewhere = folder.path().join("elsewhere");
    let b = member(&url, "b", &format!("registry = {elsewhere:?}")).await;
    let nodes = Nodes::start(&[a.grpc, b.grpc]);
    eventually("all nodes", async || nodes.serving("nearcast") == NODES.len()).await;
    eventually("a conductor for all", async || conductor(&b).await.as_deref() == Some("a")).await;
    eventually("all nodes", async || {
        let status = a.status().await;
        status["nodes"].as_array().is_some_and(|nodes| nodes.iter().filter(|node| node["alive"] == true).count() == 4)
    })
    .await;
    let challenger = ArmSpec { version: Some("v0001".into()), learning: true, orders: true };
    b.experiment("start", &deed(Some(question("trial", challenger)))).await.expect("who conducts has it");
    for member in [&a, &b] {
        eventually("its name", async || {
            let lacking = member.status().await["fleet"]["arms_lacking"].clone();
            lacking["a"].is_null() && lacking["b"]["v0001"].as_str().is_some_and(|why| why.contains("v0001"))
        })
        .await;
    }
    eventually("blocks that have passed", async || report(&a, "trial").await["block"].as_u64() >= Some(3)).await;
    let lacking = report(&a, "trial").await;
    assert_eq!((&lacking["blocks_counted"], &lacking["verdict"]), (&0.into(), &"INCONCLUSIVE".into()), "{lacking:#}");

    let late = Registry::open(elsewhere.to_str().expect("UTF-8")).expect("a folder");
    publish(&late, 1).expect("a version");
    eventually("blocks that count", async || report(&b, "trial").await["blocks_counted"].as_u64() >= Some(1)).await;
    assert!(b.status().await["fleet"]["arms_lacking"].as_object().is_some_and(serde_json::Map::is_empty));
    drop(nodes.tasks);
}

#[tokio::test]
async fn on_an_embedded_bus_an_experiment_and_the_arm_outlive_a_restart() {
    let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
    let predictor = member_in(Arc::clone(&folder), "embedded", "a", "").await;
    eventually("a conductor", async || predictor.experiment("status", &deed(None)).await.is_ok()).await;
    let nodes = Nodes::start(&[predictor.grpc]);
    eventually("all nodes", async || {
        let status = predictor.status().await;
        status["nodes"]
            .as_array()
            .is_some_and(|nodes| nodes.iter().filter(|node| node["is_confirmed"] == true).count() == 4)
    })
    .await;
    let unmeasured = Question { turnover_seconds: None, ..question("trial", ArmSpec::none()) };
    let refused = predictor.experiment("plan", &deed(Some(unmeasured))).await.expect_err("without miniatures");
    assert!(refused.message().contains("turnover"), "{refused}");
    let long = Question { shadow_seconds: 600.0, ..question("trial", ArmSpec::none()) };
    predictor.experiment("start", &deed(Some(long))).await.expect("it is started");
    let refused = predictor.set_arm("none").await.expect_err("it is compared");
    assert!(refused.message().contains("\"trial\" is under way"), "{refused}");
    predictor.experiment("advance", &deed(None)).await.expect("it goes on");
    drop(nodes.tasks);
    predictor.stop().await.expect("it ends in order");

    let predictor = member_in(Arc::clone(&folder), "embedded", "a", "").await;
    eventually("the record", async || report(&predictor, "trial").await["stage"] == "canary").await;
    let nodes = Nodes::start(&[predictor.grpc]);
    predictor.experiment("abort", &named("trial")).await.expect("it is aborted");
    eventually("the end", async || report(&predictor, "trial").await["stage"] == "rolled_back").await;
    predictor.set_arm("none").await.expect("nothing is under way");
    eventually("the arm at nodes", async || nodes.serving("none") == NODES.len()).await;
    drop(nodes.tasks);
    predictor.stop().await.expect("it ends in order");
    let predictor = member_in(folder, "embedded", "a", "").await;
    eventually("the arm", async || predictor.status().await["arm"] == "none").await;
    predictor.stop().await.expect("it ends in order");
}
