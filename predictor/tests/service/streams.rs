//! What goes up and down an open stream.

use nearcast_proto::wire;
use tonic::Code;

use crate::harness::{TestNode, TestPredictor};

#[tokio::test]
async fn batches_are_acknowledged_and_counted() {
    let predictor = TestPredictor::start().await;
    let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    for key in ["/a", "/b", "/c"] {
        node.request("c1", "eu", key).await;
    }
    node.settle().await;
    assert_eq!(predictor.status().await["account"]["requests"], 3);
    let metrics = predictor.get("/metrics").await.1;
    assert!(metrics.contains("nearcast_log_records_total{node=\"eu-1\"} 3"), "{metrics}");
}

#[tokio::test]
async fn a_malformed_message_ends_its_stream_and_no_other() {
    let predictor = TestPredictor::start().await;
    let mut good = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    let mut bad = TestNode::join(&predictor, "us-1", "us").await.unwrap();
    bad.request("c", "us", &"k".repeat(2_049)).await;
    let (code, message) = bad.end().await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("`key` has 2049 bytes"), "{message}");
    good.find_map(|map| map.members.iter().any(|member| !member.alive)).await;
    good.request("c", "eu", "/a").await;
    good.settle().await;
}

#[tokio::test]
async fn a_second_hello_is_refused() {
    let predictor = TestPredictor::start().await;
    let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    node.say(wire::NodeMessage::from(crate::harness::hello("eu-1", "eu"))).await;
    assert_eq!(node.end().await.0, Code::InvalidArgument);
}
