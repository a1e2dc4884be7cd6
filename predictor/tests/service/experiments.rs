//! Experiments over gRPC, with nodes that say what a test wants.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nearcast_datasets::Timestamp;
use nearcast_predictor::{
    arms::ArmSpec,
    experiments::{Deed, NodeHistory, Question, Slot},
};
use nearcast_proto::{
    message::{NodeReport, PredictorNotice},
    wire,
};
use serde_json::Value;
use tonic::{Code, Status};

use crate::harness::{TestNode, TestPredictor};

const NODES: [&str; 4] = ["a", "b", "c", "d"];

impl TestPredictor {
    pub(crate) async fn experiment(&self, action: &str, deed: &Deed) -> Result<Value, Status> {
        let json = serde_json::to_string(deed).expect("a document");
        let mut request = tonic::Request::new(wire::ExperimentRequest { action: action.to_owned(), json });
        // Where no token is configured nobody looks at it.
        request.metadata_mut().insert("authorization", "Bearer word".parse().expect("a header"));
        let reply = self.control().await.experiment(request).await?.into_inner();
        Ok(serde_json::from_str(&reply.json).expect("a document"))
    }
}

pub(crate) fn deed(question: Option<Question>) -> Deed {
    Deed { name: None, who: "ops".to_owned(), why: "to see".to_owned(), full: true, question }
}

/// What the nodes are said to have measured: 30 blocks of ten minutes in which pairs go up and down together.
fn history() -> Vec<NodeHistory> {
    let node = |place: usize| {
        let slot = |number: u64| {
            let hits = 500 + 40 * ((number * (1 + place as u64 / 2)) % 5) + (number * 7 + place as u64 * 3) % 4;
            Slot {
                requests: 1_000,
                hits,
                bytes: 1_000_000,
                wait_seconds: 20.0 + number as f64 % 3.0,
                ..Slot::default()
            }
        };
        let slots = (0..30).map(slot).collect();
        NodeHistory { node: NODES[place].into(), first_micros: 0, slot_seconds: 600.0, slots }
    };
    (0..NODES.len()).map(node).collect()
}

/// An experiment that is in its canary stage at once.
pub(crate) fn question(name: &str) -> Question {
    let mut question = Question::new(name, ArmSpec::none());
    question.history = Some(history());
    question.turnover_seconds = Some(66.0);
    question.block_seconds = Some(600.0);
    question.span_seconds = 100.0 * 600.0;
    question.effect = 0.2;
    question.shadow_seconds = 0.0;
    question.season_blocks = Some(1_000);
    question
}

pub(crate) async fn join(predictor: &TestPredictor) -> BTreeMap<&'static str, TestNode> {
    let mut nodes = BTreeMap::new();
    for name in NODES {
        nodes.insert(name, TestNode::join(predictor, name, "eu").await.expect("it joins"));
    }
    nodes
}

/// Reads on until a node is told an arm, and has it confirm.
async fn serve(node: &mut TestNode, wanted: &str) {
    let assignment = node.find(|notice| match notice {
        PredictorNotice::Welcome { arm, assignment, .. } => (*arm == *wanted).then_some(assignment),
        _ => None,
    });
    let assignment = assignment.await;
    let clock = Timestamp::from_micros(0);
    node.say(NodeReport::Assigned { assignment, arm: wanted.into(), clock }).await;
}

async fn stage(predictor: &TestPredictor, name: &str) -> Value {
    let named = Deed { name: Some(name.to_owned()), ..deed(None) };
    predictor.experiment("report", &named).await.expect("a report")["stage"].clone()
}

async fn await_stage(predictor: &TestPredictor, name: &str, wanted: &str) {
    for _ in 0..500 {
        if stage(predictor, name).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} is {}, not {wanted}", stage(predictor, name).await);
}

#[tokio::test]
async fn a_promote_reaches_every_node_outlives_a_crash_and_is_undone() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let predictor = TestPredictor::start_in(Arc::clone(&folder), "").await;
    let mut nodes = join(&predictor).await;
    for node in nodes.values_mut() {
        serve(node, "nearcast").await;
    }
    let started = predictor.experiment("start", &deed(Some(question("trial")))).await.unwrap();
    assert_eq!((&started["schema"], &started["arm"]), (&"nearcast.experiment-report/1".into(), &"none".into()));
    await_stage(&predictor, "trial", "canary").await;
    let status = predictor.status().await;
    let treated: Vec<&Value> = status["arms"]["in_force"].as_object().unwrap().values().collect();
    assert_eq!(treated.iter().filter(|arm| **arm == "none").count(), 1, "one cell of the first pair: {status}");

    predictor.experiment("advance", &deed(None)).await.unwrap();
    predictor.experiment("promote", &deed(None)).await.unwrap();
    serve(nodes.get_mut("a").unwrap(), "none").await;
    // It dies before the others have confirmed.
    predictor.stop().await.unwrap();
    let predictor = TestPredictor::start_in(folder, "").await;
    assert_eq!(stage(&predictor, "trial").await, "promoting");
    let mut nodes = join(&predictor).await;
    for node in nodes.values_mut() {
        serve(node, "none").await;
    }
    await_stage(&predictor, "trial", "holdback").await;

    let undone = predictor.experiment("undo", &deed(None)).await.unwrap();
    assert_eq!(undone["stage"], "rolling_back");
    for node in nodes.values_mut() {
        serve(node, "nearcast").await;
    }
    await_stage(&predictor, "trial", "rolled_back").await;
    let named = Deed { name: Some("trial".to_owned()), ..deed(None) };
    let history = predictor.experiment("history", &named).await.unwrap();
    let undo = history["changes"].as_array().unwrap().iter().find(|change| change["action"] == "undo").unwrap();
    assert_eq!((&undo["who"], &undo["why"]), (&"ops".into(), &"to see".into()));
    assert!(undo["evidence"]["hash"].as_str().is_some_and(|hash| hash.len() == 64), "{undo}");
}

#[tokio::test]
async fn an_experiment_disturbs_no_stream_and_its_arm_goes_with_it() {
    let predictor = TestPredictor::start().await;
    let mut nodes = join(&predictor).await;
    predictor.experiment("start", &deed(Some(question("trial")))).await.unwrap();
    let arms = |status: &Value| status["arms"]["shadow"]["arms"].as_array().map(Vec::len);
    assert_eq!(arms(&predictor.status().await), Some(2), "none and the champion");
    for node in nodes.values_mut() {
        node.request("c", "eu", "/k").await;
        node.settle().await;
    }
    predictor.experiment("abort", &deed(None)).await.unwrap();
    for node in nodes.values_mut() {
        node.request("c", "eu", "/k").await;
        node.settle().await;
    }
    let status = predictor.status().await;
    assert_eq!(status["account"]["requests"], 8, "the streams are the same");
    assert!(status["arms"]["in_force"].as_object().unwrap().values().all(|arm| arm == "nearcast"), "{status}");
    let online = ArmSpec { version: None, learning: true, orders: true };
    let next = Question { challenger: online, ..question("next") };
    let refused = predictor.experiment("start", &deed(Some(next.clone()))).await.unwrap_err();
    assert!(refused.message().contains("\"trial\" has a, b, c, d"), "not rolled back yet: {}", refused.message());
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_to_try() {
    let predictor = TestPredictor::start().await;
    let _nodes = join(&predictor).await;
    let check = async |action: &str, deed: Deed, code: Code, part: &str| {
        let refused = predictor.experiment(action, &deed).await.unwrap_err();
        assert!(refused.code() == code && refused.message().contains(part), "{action}: {refused:?}");
    };
    let versioned = ArmSpec { version: Some("v0009".into()), learning: true, orders: true };
    let versioned = Question { challenger: versioned, ..question("trial") };
    check("plan", deed(Some(versioned)), Code::NotFound, "no registry").await;
    let nobody = Question { nodes: vec!["x".to_owned()], ..question("trial") };
    check("start", deed(Some(nobody)), Code::NotFound, "connected are a, b, c, d").await;
    let unmeasured = Question { turnover_seconds: None, ..question("trial") };
    check("plan", deed(Some(unmeasured)), Code::FailedPrecondition, "turnover").await;
    check("promote", deed(None), Code::NotFound, "no experiment is under way").await;
    check("promte", deed(None), Code::InvalidArgument, "did you mean `promote`?").await;
    check("start", deed(None), Code::InvalidArgument, "no question").await;
    predictor.set_arm("none").await.unwrap();
    check("start", deed(Some(question("trial"))), Code::FailedPrecondition, "arm `none` is running already").await;
    predictor.set_arm("nearcast").await.unwrap();
    predictor.experiment("start", &deed(Some(question("trial")))).await.unwrap();
    let refused = predictor.set_arm("none").await.unwrap_err();
    assert!(
        refused.code() == Code::FailedPrecondition && refused.message().contains("\"trial\" is under way"),
        "{refused:?}"
    );
    check("finish", deed(None), Code::FailedPrecondition, "not possible while").await;
    let anonymous = Deed { who: " ".to_owned(), ..deed(None) };
    check("abort", anonymous, Code::FailedPrecondition, "who and why").await;
}

#[tokio::test]
async fn what_was_promoted_outlives_a_restart_and_can_be_undone_after_it() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let predictor = TestPredictor::start_in(Arc::clone(&folder), "").await;
    let mut nodes = join(&predictor).await;
    predictor.experiment("start", &deed(Some(question("trial")))).await.unwrap();
    await_stage(&predictor, "trial", "canary").await;
    predictor.experiment("advance", &deed(None)).await.unwrap();
    predictor.experiment("promote", &deed(None)).await.unwrap();
    for node in nodes.values_mut() {
        serve(node, "none").await;
    }
    await_stage(&predictor, "trial", "holdback").await;
    let named = Deed { name: Some("trial".to_owned()), ..deed(None) };
    predictor.experiment("finish", &named).await.unwrap();
    assert_eq!(predictor.status().await["arm"], "none", "the challenger is the champion");
    predictor.stop().await.unwrap();

    let predictor = TestPredictor::start_in(folder, "").await;
    assert_eq!(predictor.status().await["arm"], "none", "and stays so");
    predictor.experiment("undo", &named).await.unwrap();
    assert_eq!(predictor.status().await["arm"], "nearcast");
    let mut node = TestNode::join(&predictor, "a", "eu").await.unwrap();
    serve(&mut node, "nearcast").await;
}
