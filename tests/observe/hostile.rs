//! A node whose names and keys would be markup and scripts, were they ever taken for such.

use std::time::Duration;

use futures::{StreamExt, channel::mpsc};
use nearcast_datasets::{ServedFrom, Timestamp};
use nearcast_proto::{
    PredictorClient,
    message::{NodeDescriptor, NodeName, NodeReport, PredictorNotice, Request, RequestBatch},
    wire,
};
use tonic::Streaming;

pub(crate) const NAME: &str = "\"><img src=x onerror=alert(1)>";
pub(crate) const REGION: &str = "<script>alert(2)</script>";
pub(crate) const KEY: &str = "/<svg onload=alert(3)>&amp;\"'</h3>";

/// Stays a member until it is dropped.
pub(crate) struct HostileNode {
    _reports: mpsc::Sender<wire::NodeMessage>,
    _notices: Streaming<wire::PredictorMessage>,
}

/// Joins, and reports one request.
pub(crate) async fn join(grpc: &str) -> HostileNode {
    let (mut reports, outgoing) = mpsc::channel(16);
    let node = NodeDescriptor {
        name: NodeName::from(NAME),
        region: REGION.into(),
        url: "javascript:alert(4)".into(),
        capacity_bytes: 1 << 20,
        segment_bytes: 1 << 20,
    };
    let hello = NodeReport::Hello { node, code_version: "test".to_owned(), purges: None, placement: None, stream: 0 };
    reports.try_send(hello.into()).expect("room for it");
    let mut client = PredictorClient::connect(grpc.to_owned()).await.expect("the predictor listens");
    let mut notices = client.join(outgoing).await.expect("it may join").into_inner();
    let request = Request {
        timestamp: Timestamp::from_micros(0),
        client: "c".into(),
        region: REGION.into(),
        key: KEY.into(),
        size_bytes: 10_000,
        range: None,
        served: ServedFrom::Origin,
        latency: Duration::from_millis(100),
    };
    let batch = RequestBatch { sequence: 1, requests: vec![request], dropped_count: 0 };
    reports.try_send(NodeReport::Requests(batch).into()).expect("room for it");
    loop {
        let message = notices.next().await.expect("the stream is open").expect("no error");
        if let Ok(PredictorNotice::Ack { sequence: 1 }) = PredictorNotice::try_from(message) {
            return HostileNode { _reports: reports, _notices: notices };
        }
    }
}
