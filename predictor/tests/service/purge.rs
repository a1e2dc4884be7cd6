//! Purges: written down, told to every node, and waited for.

use std::{fs, sync::Arc};

use nearcast_proto::{
    message::{NodeReport, PredictorNotice, PurgeUpdate},
    wire::{Purge, PurgeReply, PurgeRequest},
};
use tonic::{Code, Request, Status};

use crate::harness::{PATIENCE, TestNode, TestPredictor, eventually, hello};

async fn purge(predictor: &TestPredictor, key: &str, wait_ms: u32, token: &str) -> Result<PurgeReply, Status> {
    let purge = Purge { keys: vec![key.to_owned()], ..Purge::default() };
    let mut request = Request::new(PurgeRequest { purge: Some(purge), wait_ms });
    if !token.is_empty() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header value"));
    }
    Ok(predictor.control().await.purge(request).await?.into_inner())
}

async fn next_purges(node: &mut TestNode) -> PurgeUpdate {
    loop {
        if let PredictorNotice::Purges(update) = node.next().await.expect("the stream goes on") {
            return update;
        }
    }
}

#[tokio::test]
async fn nodes_hear_of_purges_in_order_and_the_order_waits_until_they_are_carried_out() {
    let predictor = Arc::new(TestPredictor::start().await);
    let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    let update = next_purges(&mut node).await;
    assert_eq!((update.purges.len(), update.upto, update.latest, update.has_gap), (0, 0, 0, false), "nothing yet");
    let ordering = tokio::spawn({
        let predictor = Arc::clone(&predictor);
        async move { purge(&predictor, "/a", 60_000, "").await.unwrap() }
    });
    let update = next_purges(&mut node).await;
    assert_eq!((update.purges[0].keys[0].as_str(), update.upto), ("/a", 1));
    node.say(NodeReport::Purged { epoch: 1, objects: 3 }).await;
    let reply = tokio::time::timeout(PATIENCE, ordering).await.unwrap().unwrap();
    assert_eq!((reply.epoch, reply.nodes.len(), reply.nodes[0].objects), (1, 1, Some(3)));
    assert_eq!(predictor.status().await["nodes"][0]["purge_epoch"], 1);
    let reply = purge(&predictor, "/b", 0, "").await.unwrap();
    assert_eq!((reply.epoch, reply.nodes[0].objects), (2, None), "it has not said so yet");
}

#[tokio::test]
async fn a_node_that_was_away_hears_first_of_what_it_missed_also_from_a_predictor_that_was_restarted() {
    let predictor = TestPredictor::start().await;
    let folder = Arc::clone(&predictor.folder);
    let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    let log = next_purges(&mut node).await.log;
    drop(node);
    eventually("the node's leaving", async || predictor.status().await["nodes"][0]["alive"] == false).await;
    // Nobody is there to wait for.
    let reply = purge(&predictor, "/a", 60_000, "").await.unwrap();
    assert_eq!((reply.nodes.len(), reply.nodes[0].objects), (1, None));
    purge(&predictor, "/b", 0, "").await.unwrap();
    predictor.stop().await.unwrap();
    let predictor = TestPredictor::start_in(folder, "").await;
    let NodeReport::Hello { node, code_version, .. } = hello("eu-1", "eu") else { unreachable!() };
    let purges = Some(nearcast_proto::message::PurgePosition { log: Arc::clone(&log), epoch: 1 });
    let hello = NodeReport::Hello { node, code_version, purges, placement: None, stream: 0 };
    let mut node = TestNode::connect(&predictor, hello.into()).await.unwrap();
    let first = [node.next().await.unwrap(), node.next().await.unwrap()];
    let [PredictorNotice::Welcome { .. }, PredictorNotice::Purges(update)] = first else { panic!("{first:?}") };
    assert_eq!((update.log, update.purges.len(), update.upto, update.has_gap), (log, 1, 2, false));
    assert_eq!(update.purges[0].keys, ["/b"]);
}

#[tokio::test]
async fn bad_orders_and_strangers_are_refused() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let token = folder.path().join("token");
    fs::write(&token, "sesame\n").unwrap();
    let setting = format!("admin_token_file = {token:?}");
    let predictor = TestPredictor::start_in(folder, &setting).await;
    for token in ["", "open"] {
        assert_eq!(purge(&predictor, "/a", 0, token).await.unwrap_err().code(), Code::Unauthenticated);
    }
    assert_eq!(predictor.set_arm("none").await.unwrap_err().code(), Code::Unauthenticated);
    let empty = purge(&predictor, "", 0, "sesame").await.unwrap_err();
    assert_eq!((empty.code(), empty.message()), (Code::InvalidArgument, "`key` is empty"));
    let long = purge(&predictor, &"k".repeat(2_049), 0, "sesame").await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
    assert_eq!(purge(&predictor, "/a", 0, "sesame").await.unwrap().epoch, 1);
}
