//! HTTP from the client's side.

use std::time::Duration;

use anyhow::{Context, ensure};
use axum::body::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::de::DeserializeOwned;

/// A pool of connections. Plain HTTP: it is for clusters on machines and networks of one's own.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Http {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self { client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Sends a request without a body; the answer's body is still to be read.
    pub(super) async fn send(
        &self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        self.client.request(request).await
    }

    /// Reads a JSON document.
    pub(crate) async fn json<T: DeserializeOwned>(&self, url: &str) -> anyhow::Result<T> {
        let bytes = self.ask(Method::GET, url).await?;
        serde_json::from_slice(&bytes).with_context(|| format!("{url} does not answer with the document expected"))
    }

    /// Makes something happen.
    pub(super) async fn post(&self, url: &str) -> anyhow::Result<()> {
        self.ask(Method::POST, url).await.map(drop)
    }

    async fn ask(&self, method: Method, url: &str) -> anyhow::Result<Bytes> {
        let request = Request::builder().method(method).uri(url).body(Empty::new());
        let request = request.with_context(|| format!("{url} is no URL"))?;
        let answer = async {
            let response = self.send(request).await?;
            let status = response.status();
            ensure!(status.is_success(), "it answers {status}");
            let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX).collect().await;
            Ok(body.map_err(|error| anyhow::anyhow!(error))?.to_bytes())
        };
        let answer = tokio::time::timeout(DOCUMENT_TIMEOUT, answer).await.context("it does not answer in time");
        answer.and_then(|answer| answer).with_context(|| format!("cannot ask {url}"))
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(30);
const DOCUMENT_BYTES_MAX: usize = 16 << 20;
