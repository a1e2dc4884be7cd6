//! Placement over the wire: plans become commands, results and inventories become the map, and nodes get what they miss.

use std::sync::Arc;

use nearcast_proto::{
    message::{
        Action, Command, CommandResult, CommandStatus, Epoch, NodeReport, PlacementPosition, PlacementUpdate,
        PredictorNotice, SegmentSet,
    },
    wire,
};
use tempfile::TempDir;
use tonic::Code;

use crate::harness::{TestNode, TestPredictor, eventually, held, hello};

/// All but how long nodes may be away.
pub(crate) const PLACEMENT: &str = "arm = \"none\"\n[placement]\nkind = \"gapa\"\ninterval_seconds = 0.2\nrequests_min = 40\n\
                         replicas_min = 2\n";

/// A predictor that soon gives up a node that is away.
async fn start(folder: Arc<TempDir>) -> TestPredictor {
    TestPredictor::start_in(folder, &format!("{PLACEMENT}grace_seconds = 0.2\n")).await
}

/// A node that says that it holds nothing.
pub(crate) async fn empty(predictor: &TestPredictor, name: &str) -> TestNode {
    let node = TestNode::join(predictor, name, name).await.expect("it may join");
    node.say(NodeReport::Inventory { held: Vec::new(), last: true }).await;
    node
}

/// Carries out a command, and says so.
pub(crate) async fn obey(node: &TestNode, command: &Command) {
    let SegmentSet { key, .. } = &command.target;
    if command.action == Action::Replicate {
        node.say(NodeReport::Delta { gained: vec![held(key)], lost: Vec::new() }).await;
    }
    let result = CommandResult { id: command.id, status: CommandStatus::Done, bytes: 0, detail: String::new() };
    node.say(NodeReport::Results(vec![result])).await;
}

/// Reads on, doing what it is told, until the map names holders of a key that are as wanted.
pub(crate) async fn obey_until(
    node: &mut TestNode,
    key: &str,
    wanted: impl Fn(&PlacementUpdate, &[String]) -> bool,
) -> PlacementUpdate {
    loop {
        match node.next().await.expect("the stream is open") {
            PredictorNotice::Commands(commands) => {
                for command in &commands {
                    obey(node, command).await;
                }
            }
            PredictorNotice::Placement(update) => {
                let entry = update.placed.iter().find(|(placed, _)| &**placed == key);
                let nodes: Vec<String> =
                    entry.into_iter().flat_map(|(_, nodes)| nodes).map(ToString::to_string).collect();
                if wanted(&update, &nodes) {
                    return update;
                }
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn what_is_asked_for_is_placed_and_a_restart_goes_on_from_there() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let predictor = start(Arc::clone(&folder)).await;
    let (mut a, mut b) = (empty(&predictor, "a").await, empty(&predictor, "b").await);
    eventually("both inventories", async || {
        let status = predictor.status().await;
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().filter(|node| node["inventory_complete"] == true).count() == 2
    })
    .await;
    for number in 0..60 {
        let node = if number % 2 == 0 { &mut a } else { &mut b };
        node.request("c", "a", "/popular").await;
    }
    let both = |_: &PlacementUpdate, nodes: &[String]| nodes.len() == 2;
    let (update, _) = tokio::join!(obey_until(&mut a, "/popular", both), obey_until(&mut b, "/popular", both));
    let position = PlacementPosition { map: Arc::clone(&update.map), epoch: update.epoch };
    for node in [&a, &b] {
        node.say(NodeReport::Placement { position: Some(position.clone()), has_gap: false }).await;
    }
    eventually("nodes that have caught up", async || {
        let placement = predictor.status().await["placement"].clone();
        let nodes = placement["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().all(|node| node["epoch"] == placement["epoch"] && node["caught_up_seconds"].is_number())
    })
    .await;
    let explained = explain(&predictor, "/popular").await;
    assert_eq!(explained["how"], "placed", "{explained}");
    let reasons: Vec<_> = explained["placement"]["nodes"].as_array().unwrap().iter().map(|it| &it["reason"]).collect();
    assert_eq!(reasons, ["plan", "plan"]);
    assert_eq!(explain(&predictor, "/other").await["how"], "hashed");

    // A gap is mended by all there is.
    a.say(NodeReport::Placement { position: None, has_gap: true }).await;
    let whole = obey_until(&mut a, "/popular", |update, _| update.full).await;
    assert!(whole.last && whole.placed.len() == 1, "{whole:?}");
    drop((a, b));
    predictor.stop().await.unwrap();

    let predictor = start(folder).await;
    let placement = predictor.status().await["placement"].clone();
    assert_eq!((&placement["epoch"], &placement["map"]), (&update.epoch.0.into(), &(&*update.map).into()));
    let NodeReport::Hello { node, code_version, purges, .. } = hello("a", "a") else { unreachable!() };
    let hello = NodeReport::Hello { node, code_version, purges, placement: Some(position), stream: 0 };
    let mut a = TestNode::connect(&predictor, hello.into()).await.unwrap();
    a.say(NodeReport::Inventory { held: vec![held("/popular")], last: true }).await;
    let commands = a.find(|notice| match notice {
        PredictorNotice::Commands(commands) => Some(commands),
        PredictorNotice::Placement(update) => panic!("it holds this already: {update:?}"),
        _ => None,
    });
    let actions: Vec<Action> = commands.await.iter().map(|command| command.action).collect();
    assert_eq!(actions, [Action::Pin], "nothing is moved");
}

#[tokio::test]
async fn a_node_that_leaves_or_is_drained_is_asked_by_nobody() {
    let predictor = start(Arc::new(tempfile::tempdir().unwrap())).await;
    let (mut a, mut b) = (empty(&predictor, "a").await, empty(&predictor, "b").await);
    let alive = |map: &nearcast_proto::message::CacheMap| -> Vec<bool> {
        map.members.iter().map(|member| member.alive).collect()
    };
    a.find_map(|map| alive(map) == [true, true]).await;
    let drain = async |node: &str, undo| {
        let request = wire::DrainRequest { node: node.to_owned(), undo };
        predictor.control().await.drain(request).await.map(|reply| reply.into_inner().keys)
    };
    assert_eq!(drain("b", false).await.unwrap(), 0);
    a.find_map(|map| alive(map) == [true, false]).await;
    assert_eq!(predictor.status().await["nodes"][1]["draining"], true);
    b.settle_silently().await;
    let refused = TestNode::join(&predictor, "b", "b").await.err().unwrap();
    assert_eq!(refused.code(), Code::AlreadyExists, "it is still there");
    assert_eq!(drain("b", true).await.unwrap(), 0);
    a.find_map(|map| alive(map) == [true, true]).await;
    assert_eq!(drain("nobody", false).await.unwrap_err().code(), Code::NotFound);
    b.say(NodeReport::Leaving).await;
    a.find_map(|map| alive(map) == [true, false]).await;
}

#[tokio::test]
async fn without_placement_a_node_that_followed_one_is_told_that_there_is_nothing() {
    let predictor = TestPredictor::start().await;
    assert!(predictor.status().await["placement"].is_null());
    let NodeReport::Hello { node, code_version, purges, .. } = hello("a", "a") else { unreachable!() };
    let placement = Some(PlacementPosition { map: Arc::from("old"), epoch: Epoch(9) });
    let mut a =
        TestNode::connect(&predictor, NodeReport::Hello { node, code_version, purges, placement, stream: 0 }.into())
            .await
            .unwrap();
    let update = a.find(|notice| match notice {
        PredictorNotice::Placement(update) => Some(update),
        _ => None,
    });
    let update = update.await;
    assert!(update.full && update.last && update.placed.is_empty() && &*update.map != "old", "{update:?}");
    let explained = explain(&predictor, "/x").await;
    assert_eq!((&explained["how"], &explained["home"]), (&"hashed".into(), &"a".into()));
}

pub(crate) async fn explain(predictor: &TestPredictor, key: &str) -> serde_json::Value {
    let reply = predictor.control().await.explain(wire::ExplainRequest { key: key.to_owned() }).await;
    serde_json::from_str(&reply.expect("an answer").into_inner().json).expect("JSON")
}
