//! Probes, status, events, shutdown and what keeps it from starting.

use std::sync::Arc;

use nearcast_predictor::{Error, PredictorConfig, listen};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::harness::{TestNode, TestPredictor};

#[tokio::test]
async fn probes_and_metrics_answer() {
    let predictor = TestPredictor::start().await;
    assert_eq!(predictor.get("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(predictor.get("/readyz").await.0, 200);
    let metrics = predictor.get("/metrics").await.1;
    assert!(metrics.contains("nearcast_build_info{version=") && !metrics.contains("# EOF"), "{metrics}");
    let accept = "accept: application/openmetrics-text; version=1.0.0";
    let (_, open) = predictor.send(&format!("GET /metrics HTTP/1.1\r\n{accept}"), "").await;
    assert!(open.contains("content-type: application/openmetrics-text") && open.ends_with("# EOF\n"), "{open}");
    let mut health = HealthClient::new(predictor.channel().await);
    for service in ["", "nearcast.v1.Predictor"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status, i32::from(ServingStatus::Serving), "{service}");
    }
}

#[tokio::test]
async fn status_names_nodes_arm_and_account() {
    let predictor = TestPredictor::start_in(Arc::new(tempfile::tempdir().unwrap()), "arm = \"none\"").await;
    let _node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    let status = predictor.status().await;
    assert_eq!(status["schema"], "nearcast.status/1");
    assert_eq!((&status["arm"], &status["model"]), (&"none".into(), &serde_json::Value::Null));
    assert_eq!((&status["nodes"][0]["name"], &status["nodes"][0]["alive"]), (&"eu-1".into(), &true.into()));
    let reply = predictor.control().await.status(nearcast_proto::wire::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((reply.arm.as_str(), reply.nodes.len()), ("none", 1));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&reply.json).unwrap(), status);
}

#[tokio::test]
async fn the_arm_can_be_set_to_a_known_one_only() {
    let predictor = TestPredictor::start().await;
    assert_eq!(predictor.set_arm("none").await.unwrap(), "none");
    assert_eq!(predictor.status().await["arm"], "none");
    let refused = predictor.set_arm("nearcats").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("did you mean `nearcast`?"), "{}", refused.message());
    assert_eq!(predictor.status().await["arm"], "none");
}

#[tokio::test]
async fn shutdown_tells_nodes_returns_and_leaves_the_events_on_disk() {
    let predictor = TestPredictor::start().await;
    let folder = Arc::clone(&predictor.folder);
    let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    let stopping = tokio::spawn(predictor.stop());
    assert_eq!(node.end().await, (Code::Unavailable, "the predictor is shutting down".to_owned()));
    stopping.await.unwrap().unwrap();
    let events = std::fs::read_to_string(folder.path().join("data/events.jsonl")).unwrap();
    let kinds: Vec<String> = events
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["dev.nearcast.node.joined", "dev.nearcast.node.left"]);
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_setting_that_chose_it() {
    let predictor = TestPredictor::start().await;
    let file = predictor.folder.path().join("p.toml");
    std::fs::write(&file, format!("data_dir = \"d\"\nlisten = \"{}\"", predictor.grpc)).unwrap();
    let error = listen(&PredictorConfig::load(&file).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Listen { key: "listen", .. }), "{error}");
    assert!(error.to_string().contains(&predictor.grpc.to_string()), "{error}");
}
