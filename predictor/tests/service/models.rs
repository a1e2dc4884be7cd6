//! Model versions come and go under an open stream.

use std::{path::Path, sync::Arc};

use nearcast_datasets::Timestamp;
use nearcast_models::{
    ItemCatalogue, Manifest, Model, ModelConfig, PlacementTrainer, Registry, Result, SequenceTrainer, TrainedBlend,
    TrainedCoAccess, TrainingRange, VersionName, Vocabulary,
};
use nearcast_proto::message::PredictorNotice;
use tempfile::TempDir;

use crate::harness::{TestNode, TestPredictor, eventually};

/// Publishes an untrained version; the seed makes each one different.
pub(crate) fn publish(registry: &Registry, seed: u64) -> Result<VersionName> {
    let config = ModelConfig::default();
    let names = ["/a", "/b", "/c"];
    let vocabulary = Vocabulary::build(names.map(|name| (name, 3)), &config.vocabulary)?;
    let items = names.iter().map(|name| vocabulary.item(name)).collect();
    let catalogue = ItemCatalogue { items, counts: vec![3; 3] };
    let sequence = SequenceTrainer::new(&config.sequence, &vocabulary, catalogue, seed)?.finish()?;
    let placement = PlacementTrainer::new(&config.placement, &sequence, 1, &[], seed)?.finish();
    let model = Model {
        vocabulary,
        sequence,
        coaccess: TrainedCoAccess::default(),
        blend: TrainedBlend::default(),
        placement,
        regions: vec!["eu".to_owned()],
        gate: None,
        manifest: Manifest::new(Timestamp::from_micros(1), seed, TrainingRange::default()),
        config,
        metrics: serde_json::json!({}),
        card: "# Untrained\n".to_owned(),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    model.save(&folder.path().join("model"))?;
    registry.publish(&folder.path().join("model"))
}

/// Flips one bit of the last weight of a version.
fn damage(registry: &Path, version: VersionName) {
    let path = registry.join("versions").join(version.to_string()).join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("the weights are there");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).expect("writable");
}

async fn predictor_of(folder: Arc<TempDir>, registry: &Path) -> TestPredictor {
    TestPredictor::start_in(folder, &format!("registry = {registry:?}")).await
}

async fn await_version(predictor: &TestPredictor, version: &str) {
    eventually("the version", async || predictor.status().await["model"]["version"] == version).await;
}

#[tokio::test]
async fn versions_are_swapped_under_an_open_stream_and_a_damaged_one_is_refused() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let place = folder.path().join("models");
    let registry = Registry::open(place.to_str().unwrap()).unwrap();
    // An installation begins with an empty registry.
    let predictor = predictor_of(Arc::clone(&folder), &place).await;
    let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    assert!(predictor.status().await["model"].is_null());

    for seed in [1, 2] {
        let version = publish(&registry, seed).unwrap();
        registry.alias("champion", version).unwrap();
        await_version(&predictor, &version.to_string()).await;
        node.request("c", "eu", "/a").await;
        node.settle().await;
    }

    let damaged = publish(&registry, 3).unwrap();
    damage(&place, damaged);
    registry.alias("champion", damaged).unwrap();
    eventually("the refusal", async || predictor.status().await["model_refused"]["version"] == "v0003").await;
    let status = predictor.status().await;
    assert_eq!(status["model"]["version"], "v0002", "the running version keeps running");
    let reason = status["model_refused"]["reason"].as_str().unwrap();
    assert!(reason.contains("model.safetensors") && reason.contains("damaged"), "{reason}");
    assert!(predictor.get("/metrics").await.1.contains("nearcast_predictor_model_refusals_total 1"));
    node.request("c", "eu", "/b").await;
    node.settle().await;

    registry.alias("champion", VersionName(1)).unwrap();
    await_version(&predictor, "v0001").await;
    assert!(predictor.status().await["model_refused"].is_null());
    // The stream that was opened before all of this is still the same.
    assert_eq!(predictor.status().await["account"]["requests"], 3);
}

#[tokio::test]
async fn a_version_that_is_there_at_the_start_is_in_service_before_readiness() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let place = folder.path().join("models");
    let registry = Registry::open(place.to_str().unwrap()).unwrap();
    let version = publish(&registry, 1).unwrap();
    registry.alias("champion", version).unwrap();
    let predictor = predictor_of(folder, &place).await;
    let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    let PredictorNotice::Welcome { model_version, .. } = node.next().await.unwrap() else { panic!("no welcome") };
    assert_eq!(&*model_version, "v0001");
}

#[tokio::test]
async fn a_node_that_asks_nothing_is_told_of_another_version_and_arm() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let place = folder.path().join("models");
    let registry = Registry::open(place.to_str().unwrap()).unwrap();
    let predictor = predictor_of(folder, &place).await;
    let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    assert_eq!(in_force(&mut node).await, ("nearcast".to_owned(), String::new()));

    registry.alias("champion", publish(&registry, 1).unwrap()).unwrap();
    assert_eq!(in_force(&mut node).await, ("nearcast".to_owned(), "v0001".to_owned()));
    predictor.set_arm("none").await.unwrap();
    assert_eq!(in_force(&mut node).await, ("none".to_owned(), "v0001".to_owned()));
}

/// The arm and the version that the node is told of next; the map may come before.
async fn in_force(node: &mut TestNode) -> (String, String) {
    loop {
        if let PredictorNotice::Welcome { arm, model_version, .. } = node.next().await.expect("the stream is open") {
            return (arm.to_string(), model_version.to_string());
        }
    }
}
