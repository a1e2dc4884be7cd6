//! Another arm comes into force while prefetches are under way.

use std::sync::Arc;

use nearcast_proto::message::{CommandStatus, Epoch, PredictorNotice, Source};

use crate::{
    cluster::{joined, replicate, result},
    origin::{Behaviour, Origin},
    predictor::Predictor,
};

#[tokio::test]
async fn another_arm_breaks_off_transfers_that_nobody_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let (predictor, origin) = (Predictor::start().await, Origin::start(Behaviour::default()).await);
    let node = Arc::new(joined(&predictor, &origin, "n1", dir.path()).await);
    origin.close_gate();
    predictor.tell("n1", replicate(1, "/unwanted", &[0], vec![Source::Origin])).await;
    predictor.tell("n1", replicate(2, "/awaited", &[0], vec![Source::Origin])).await;
    node.wait_until("both are under way", |_| origin.seen().len() == 2).await;
    let reader = tokio::spawn({
        let node = Arc::clone(&node);
        async move { node.get("/awaited").await }
    });
    node.wait_until("the request waits", |status| status["segments"]["prefetch"]["late"] == 1).await;

    let welcome = PredictorNotice::Welcome {
        epoch: Epoch(1),
        arm: Arc::from("none"),
        model_version: Arc::from(""),
        assignment: 2,
    };
    predictor.tell("n1", welcome).await;
    // The origin has not answered yet, and cannot.
    let ended = predictor.wait_for("n1", "the command's end", |report| result(report, 1)).await;
    assert_eq!(ended, (CommandStatus::Expired, 0));
    node.wait_until("the queue is empty", |status| status["segments"]["prefetch"]["expired"] == 1).await;

    origin.open_gate();
    let answer = reader.await.expect("no panic");
    assert_eq!(answer.body, origin.content("/awaited"));
    let ended = predictor.wait_for("n1", "the command's end", |report| result(report, 2)).await;
    assert_eq!(ended.0, CommandStatus::Done);
    // What was broken off is fetched when it is asked for, and whole.
    assert_eq!(node.get("/unwanted").await.body, origin.content("/unwanted"));
}
