//! What goes up and down an open stream.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nearcast_proto::{
    message::{Action, Command, CommandResult, CommandStatus, NodeReport, Outcome, OutcomeKind, Source},
    wire,
};
use tonic::Code;

use crate::harness::{TestNode, TestPredictor, eventually};

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

/// A predictor for which transfers take no time, so that demand that follows at once is not too late to be foreseen.
async fn eager_predictor() -> TestPredictor {
    let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
    let topology = near_topology(folder.path());
    TestPredictor::start_in(folder, &format!("topology = {topology:?}\n{EAGER}")).await
}

/// The file of a topology in which everything is near.
pub(crate) fn near_topology(folder: &Path) -> PathBuf {
    let topology = folder.join("topology.toml");
    let near = "[default]\nrtt_ms = 0.001\norigin_rtt_ms = 2.0\nlocal_rtt_ms = 0.0\n";
    std::fs::write(&topology, near).expect("writable");
    topology
}

/// An engine that minds no bytes.
pub(crate) const EAGER: &str =
    "[engine]\nprice_seconds_per_mebibyte = 0.0\nbudget_share = 100.0\nsample_share = 1.0\nstay_requests = 24.0\n";

/// What one region asks for, the other asks for a few requests later: about as foreseeable as demand can be.
pub(crate) async fn foreseeable_demand(
    eu: &mut TestNode,
    us: &mut TestNode,
    rounds: std::ops::Range<u32>,
) -> Vec<Command> {
    let mut commands = Vec::new();
    for round in rounds {
        for (node, region, page) in [(&mut *eu, "eu", round + 5), (&mut *us, "us", round)] {
            for part in ["index.html", "style.css", "photo.jpg"] {
                node.request(&format!("{region}-{round}"), region, &format!("/{page}/{part}")).await;
                commands.extend(node.settle().await);
            }
        }
    }
    commands
}

#[tokio::test]
async fn requests_lead_to_commands_until_the_arm_is_none() {
    let predictor = eager_predictor().await;
    let mut eu = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    let mut us = TestNode::join(&predictor, "us-1", "us").await.unwrap();
    let commands = foreseeable_demand(&mut eu, &mut us, 0..200).await;
    assert!(!commands.is_empty(), "foreseeable demand led to no command: {}", predictor.status().await);
    for command in &commands {
        assert_eq!((command.action, &*command.arm), (Action::Replicate, "nearcast"));
        assert_eq!(command.sources.last(), Some(&Source::Origin), "the origin is the last resort");
        assert!(command.target.size_bytes == 10_000 && command.target.segments == [0], "{command:?}");
    }
    assert_eq!(predictor.set_arm("none").await.unwrap(), "none");
    // What was issued before may still be under way.
    eu.settle_silently().await;
    us.settle_silently().await;
    let after = foreseeable_demand(&mut eu, &mut us, 200..260).await;
    assert_eq!(after, [], "the arm `none` issues nothing");
    let refused = predictor.set_arm("nearcats").await.unwrap_err();
    assert!(refused.message().contains("did you mean `nearcast`?"), "{}", refused.message());
}

#[tokio::test]
async fn results_and_outcomes_reach_the_account_and_those_of_an_earlier_life_do_not() {
    let predictor = eager_predictor().await;
    let mut eu = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    let mut us = TestNode::join(&predictor, "us-1", "us").await.unwrap();
    let commands = foreseeable_demand(&mut eu, &mut us, 0..200).await;
    let command = commands.last().expect("foreseeable demand leads to commands").clone();
    let outcome = |id| Outcome {
        command: id,
        key: command.target.key.clone(),
        segment: 0,
        kind: OutcomeKind::Used,
        at: command.deadline,
        residence: Duration::from_secs(1),
    };
    let done = CommandResult { id: command.id, status: CommandStatus::Done, bytes: 10_000, detail: String::new() };
    eu.say(NodeReport::Results(vec![done])).await;
    let foreign = nearcast_proto::message::CommandId(command.id.0 ^ (1 << 50));
    eu.say(NodeReport::Outcomes(vec![outcome(command.id), outcome(foreign)])).await;
    eventually("the outcomes", async || predictor.get("/metrics").await.1.contains("outcome=\"used\"} 2")).await;
    assert!(predictor.get("/metrics").await.1.contains("nearcast_predictor_foreign_commands_total 1"));
    assert_eq!(predictor.status().await["account"]["used"], 1);
    let told = predictor.get(&format!("/api/key?key={}", command.target.key)).await.1;
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let mut entries = told["commands"].as_array().expect("a list").iter();
    let entry = entries.find(|entry| entry["command"] == command.id.0).expect("the command is remembered");
    assert_eq!((&entry["status"], &entry["transferred_bytes"]), (&"done".into(), &10_000.into()), "{told}");
    assert_eq!((&entry["outcomes"]["used"], &entry["outcomes"]["late"]), (&1.into(), &0.into()), "{told}");
}

#[tokio::test]
async fn a_second_hello_is_refused() {
    let predictor = TestPredictor::start().await;
    let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    node.say(wire::NodeMessage::from(crate::harness::hello("eu-1", "eu"))).await;
    assert_eq!(node.end().await.0, Code::InvalidArgument);
}
