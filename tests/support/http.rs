//! HTTP from the client's side.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::time::{sleep, timeout};

/// A pool of connections.
#[derive(Clone)]
pub(crate) struct Http(Client<HttpConnector, Empty<Bytes>>);

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Http {
    pub(crate) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    /// Asks as `client`; a broken connection is told in words.
    pub(crate) async fn get(&self, url: &str, client: &str) -> Result<Answer, String> {
        let request = Request::get(url).header("nearcast-client", client).body(Empty::new());
        let request = request.map_err(|error| format!("{url}: {error}"))?;
        let answer = async {
            let (head, body) = self.0.request(request).await.map_err(|error| format!("{url}: {error}"))?.into_parts();
            let body = body.collect().await.map_err(|error| format!("{url}: {error}"))?.to_bytes();
            Ok(Answer { status: head.status, body })
        };
        timeout(PATIENCE, answer).await.map_err(|_| format!("{url}: no answer"))?
    }

    /// Reads a JSON document.
    pub(crate) async fn json(&self, url: &str) -> Value {
        let answer = self.get(url, "test").await.expect("it answers");
        assert_eq!(answer.status, StatusCode::OK, "{url}");
        serde_json::from_slice(&answer.body).expect("JSON")
    }
}

/// Waits until something holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} was awaited in vain"));
}

/// Generous, so that a loaded machine does not fail a test that would pass.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
