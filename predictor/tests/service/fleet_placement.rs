//! Placement in a fleet: one member does it for the nodes of all, and another goes on where it was.

use std::sync::Arc;

use nearcast_proto::message::{Action, PlacementUpdate, PredictorNotice};

use crate::{
    harness::{TestNode, TestPredictor, eventually, hello},
    nats::NatsServer,
    placement::{PLACEMENT, empty, explain, obey_until},
};

async fn member(bus: &str, name: &str) -> TestPredictor {
    let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
    let bus = format!(
        "[bus]\nurl = {bus:?}\nname = {name:?}\npartitions = 4\nlease_seconds = 1.0\ncheckpoint_seconds = 0.5\n\
         log_bytes_max = 16777216\n"
    );
    // However slow the machine, nodes are back at a successor before they are given up.
    TestPredictor::start_in(folder, &format!("{PLACEMENT}grace_seconds = 20.0\n{bus}")).await
}

/// The member that places keys, as another sees it.
async fn leader(predictor: &TestPredictor) -> Option<String> {
    predictor.status().await["fleet"]["places_keys"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_places_keys_for_the_nodes_of_all_and_its_successor_moves_nothing() {
    let Some(server) = NatsServer::start() else { return };
    let url = server.url();
    let (a, b) = tokio::join!(member(&url, "a"), member(&url, "b"));
    eventually("somebody who places keys", async || leader(&a).await.is_some() && leader(&a).await == leader(&b).await)
        .await;
    let first = leader(&a).await.expect("there is one");
    let (holder, other) = if first == "a" { (a, b) } else { (b, a) };
    let (mut here, mut there) = (empty(&holder, "a").await, empty(&other, "b").await);
    eventually("both nodes' inventories where keys are placed", async || {
        let status = holder.status().await;
        let all = |nodes: &serde_json::Value, field: &str| {
            nodes.as_array().is_some_and(|nodes| nodes.iter().filter(|node| node[field] == true).count() == 2)
        };
        all(&status["nodes"], "inventory_complete") && all(&status["placement"]["nodes"], "connected")
    })
    .await;
    assert!(other.status().await["placement"].is_null());
    for number in 0..60 {
        let node = if number % 2 == 0 { &mut here } else { &mut there };
        node.request("c", "a", "/popular").await;
    }
    let both = |_: &PlacementUpdate, nodes: &[String]| nodes.len() == 2;
    let (one, two) = tokio::join!(obey_until(&mut here, "/popular", both), obey_until(&mut there, "/popular", both));
    assert_eq!((&one.map, one.epoch), (&two.map, two.epoch), "members tell the same map");
    assert_eq!(explain(&other, "/popular").await["how"], "placed");

    // Somebody who comes later has the map as well.
    let third = member(&url, "c").await;
    eventually("the map", async || third.status().await["fleet"]["map_keys"] == 1).await;
    let mut late = TestNode::connect(&third, hello("c", "a").into()).await.unwrap();
    let told = late.find(|notice| match notice {
        PredictorNotice::Placement(update) => Some(update),
        _ => None,
    });
    assert_eq!(told.await.placed.len(), 1);
    drop(late);

    holder.stop().await.unwrap();
    eventually("a successor", async || leader(&other).await.is_some_and(|leader| leader != first)).await;
    let again = TestNode::join(&other, "a", "a").await.unwrap();
    again
        .say(nearcast_proto::message::NodeReport::Inventory {
            held: vec![crate::harness::held("/popular")],
            last: true,
        })
        .await;
    let mut actions = Vec::new();
    let whole = loop {
        match there.next().await.expect("the stream is open") {
            PredictorNotice::Commands(commands) => actions.extend(commands.iter().map(|command| command.action)),
            PredictorNotice::Placement(update) if update.epoch > one.epoch => break update,
            _ => {}
        }
    };
    assert_eq!(whole.map, one.map, "it is the same map");
    let (key, holders) = &whole.placed[0];
    assert_eq!((&**key, holders.len()), ("/popular", 2), "{whole:?}");
    assert!(actions.iter().all(|action| *action == Action::Pin), "nothing is moved: {actions:?}");
    other.stop().await.unwrap();
    third.stop().await.unwrap();
}
