//! Joining, leaving and coming back.

use std::sync::Arc;

use nearcast_proto::{
    message::{NodeName, NodeReport, PredictorNotice},
    wire,
};
use tonic::Code;

use crate::harness::{TestNode, TestPredictor, eventually, held, hello};

#[tokio::test]
async fn hello_is_answered_with_welcome_then_purges_and_then_the_map() {
    let predictor = TestPredictor::start().await;
    let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    let PredictorNotice::Welcome { arm, model_version, .. } = node.next().await.unwrap() else {
        panic!("the first answer is no welcome");
    };
    assert_eq!((&*arm, &*model_version), ("nearcast", ""));
    let PredictorNotice::Purges(_) = node.next().await.unwrap() else { panic!("the second answer is no purges") };
    let PredictorNotice::Map(map) = node.next().await.unwrap() else { panic!("the third answer is no map") };
    let [member] = map.members.as_slice() else { panic!("{map:?}") };
    assert_eq!((member.node.name.clone(), member.alive), (NodeName::from("eu-1"), true));
    assert_eq!((&*member.node.url, member.node.segment_bytes), ("http://eu-1.test", 1 << 20));
}

#[tokio::test]
async fn nodes_learn_of_each_other_and_of_who_is_gone() {
    let predictor = TestPredictor::start().await;
    let mut eu = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    let us = TestNode::join(&predictor, "us-1", "us").await.unwrap();
    let both = eu.find_map(|map| map.members.len() == 2).await;
    assert!(both.members.iter().all(|member| member.alive));
    drop(us);
    let after = eu.find_map(|map| map.epoch > both.epoch).await;
    let alive: Vec<bool> = after.members.iter().map(|member| member.alive).collect();
    assert_eq!(alive, [true, false], "{after:?}");
}

#[tokio::test]
async fn a_name_that_is_connected_is_refused_until_its_stream_ends() {
    let predictor = TestPredictor::start().await;
    let first = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    let refused = TestNode::join(&predictor, "eu-1", "us").await.err().unwrap();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("`eu-1` of region `eu` is already connected"), "{}", refused.message());
    drop(first);
    eventually("the name", async || TestNode::join(&predictor, "eu-1", "eu").await.is_ok()).await;
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_a_hello_is_refused() {
    let predictor = TestPredictor::start().await;
    let empty = wire::NodeMessage { body: None };
    let mut nameless = wire::NodeMessage::from(hello("x", "eu"));
    if let Some(wire::node_message::Body::Hello(hello)) = &mut nameless.body {
        hello.node.clear();
    }
    for (first, part) in [
        (NodeReport::Outcomes(Vec::new()).into(), "first message must be the hello"),
        (empty, "lacks `body`"),
        (nameless, "`node` is empty"),
    ] {
        let refused = TestNode::connect(&predictor, first).await.err().unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(part), "{}", refused.message());
    }
    assert!(predictor.get("/metrics").await.1.contains("streams_refused_total{reason=\"malformed\"} 2"));
}

#[tokio::test]
async fn a_region_outside_of_the_topology_is_refused_with_the_nearest_name() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let file = folder.path().join("topology.toml");
    std::fs::write(&file, "[regions.frankfurt]\n[regions.tokyo]\n").unwrap();
    let predictor = TestPredictor::start_in(folder, &format!("topology = {file:?}")).await;
    let refused = TestNode::join(&predictor, "f-1", "frankfrut").await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("did you mean `frankfurt`"), "{}", refused.message());
    TestNode::join(&predictor, "f-1", "frankfurt").await.unwrap();
}

#[tokio::test]
async fn an_inventory_rebuilds_the_cache_map_after_a_reconnect_and_after_a_restart() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let mut newest_epoch = None;
    for _ in 0..2 {
        let predictor = TestPredictor::start_in(Arc::clone(&folder), "").await;
        for _ in 0..2 {
            let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
            let epoch = node.find_map(|_| true).await.epoch;
            assert!(Some(epoch) > newest_epoch, "epochs only rise, over restarts too");
            newest_epoch = Some(epoch);
            assert!(predictor.locate("/a").await.is_empty());
            node.say(NodeReport::Inventory { held: vec![held("/a")], last: false }).await;
            node.say(NodeReport::Inventory { held: vec![held("/b")], last: true }).await;
            eventually("the inventory", async || predictor.locate("/b").await == ["eu-1"]).await;
            assert_eq!(predictor.locate("/a").await, ["eu-1"]);
            node.say(NodeReport::Delta { gained: vec![held("/c")], lost: vec![held("/a")] }).await;
            eventually("the gain", async || predictor.locate("/c").await == ["eu-1"]).await;
            assert!(predictor.locate("/a").await.is_empty());
            drop(node);
            eventually("the leaving", async || predictor.locate("/b").await.is_empty()).await;
        }
        predictor.stop().await.unwrap();
    }
}
