//! Several predictors: when one is lost, the next, and nothing that was asked for is forgotten.

use nearcast_proto::message::PredictorNotice;

use crate::{
    cluster::last_page,
    origin::{Behaviour, Origin},
    predictor::Predictor,
    running::{Node, config},
};

#[tokio::test]
async fn another_predictor_hears_of_every_request_that_the_lost_one_did_not_acknowledge() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let mut predictors = vec![Predictor::start().await, Predictor::start().await];
    let urls = predictors.iter().map(|predictor| format!("\"http://{}\"", predictor.address));
    let urls: Vec<String> = urls.collect();
    let section = format!("[predictor]\nurls = [{}]\nbackoff_min = \"10ms\"\nbackoff_max = \"50ms\"", urls.join(", "));
    let node = Node::start(config("n1", &dir.path().join("n1"), &origin.url(), &section)).await;
    node.wait_until("the link is up", |status| status["link"]["connected"] == true).await;
    // Which one is first depends on the node's name.
    let first = predictors.iter().position(|predictor| predictor.requests("n1").0 > 0).expect("it has joined one");
    let first = predictors.swap_remove(first);
    first.wait_for("n1", "the last page of its inventory", last_page).await;

    node.get("/acknowledged").await;
    let heard = |predictor: &Predictor| predictor.requests("n1").1.into_values().flatten().collect::<Vec<String>>();
    node.wait_until("it is told", |_| heard(&first) == ["/acknowledged"]).await;
    let (stream, batches) = first.requests("n1");
    let sequence = *batches.keys().next().expect("one batch");
    first.tell("n1", PredictorNotice::Ack { sequence }).await;
    node.wait_until("it is forgotten", |status| status["link"]["requests_unacknowledged"] == 0).await;
    node.get("/lost").await;
    node.wait_until("it is told", |_| heard(&first).len() == 2).await;
    drop(first);
    node.get("/meanwhile").await;

    let second = &predictors[0];
    node.wait_until("the other one hears", |_| heard(second).len() == 2).await;
    node.get("/later").await;
    node.wait_until("the other one hears", |_| heard(second).len() == 3).await;
    assert_eq!(heard(second), ["/lost", "/meanwhile", "/later"]);
    let (again, batches) = second.requests("n1");
    assert_eq!(again, stream, "the same start of the node");
    assert_eq!(batches.keys().next(), Some(&(sequence + 1)), "numbers go on");
}
