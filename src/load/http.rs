//! HTTP from the client's side.

use std::time::Duration;

use anyhow::{Context, ensure};
use axum::body::Bytes;
use http::{Method, Request, Response, header, request::Builder};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::de::DeserializeOwned;

/// A pool of connections. Plain HTTP: it is for clusters on machines and networks of one's own.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self { client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Sends a request; the answer's body is still to be read.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        self.client.request(request).await
    }

    /// Reads a JSON document.
    pub(crate) async fn json<T: DeserializeOwned>(&self, url: &str) -> anyhow::Result<T> {
        document(&self.ask(Method::GET, url).await?, url)
    }

    /// Makes something happen.
    pub(super) async fn post(&self, url: &str) -> anyhow::Result<()> {
        self.ask(Method::POST, url).await.map(drop)
    }

    /// Sends a JSON document, with an admin token if there is one, and reads the one that answers it.
    pub(crate) async fn post_json<T: DeserializeOwned>(
        &self,
        url: &str,
        body: Vec<u8>,
        token: Option<&str>,
    ) -> anyhow::Result<T> {
        self.post_json_within(url, body, token, DOCUMENT_TIMEOUT).await
    }

    /// As [`Self::post_json`], for answers that take their time.
    pub(crate) async fn post_json_within<T: DeserializeOwned>(
        &self,
        url: &str,
        body: Vec<u8>,
        token: Option<&str>,
        within: Duration,
    ) -> anyhow::Result<T> {
        let request = authorized(Request::post(url).header(header::CONTENT_TYPE, "application/json"), token);
        let request = request.body(body.into()).with_context(|| format!("{url} is no URL, or the token no word"))?;
        document(&self.answer_within(request, url, within).await?, url)
    }

    /// As [`Self::json`], with an admin token if there is one, and for answers that take their time.
    pub(crate) async fn json_within<T: DeserializeOwned>(
        &self,
        url: &str,
        token: Option<&str>,
        within: Duration,
    ) -> anyhow::Result<T> {
        let request = authorized(Request::get(url), token).body(Full::default());
        let request = request.with_context(|| format!("{url} is no URL, or the token no word"))?;
        document(&self.answer_within(request, url, within).await?, url)
    }

    /// Begins to read an answer that has no end.
    pub(crate) async fn open(&self, url: &str, token: Option<&str>) -> anyhow::Result<Incoming> {
        let request = authorized(Request::get(url), token).body(Full::default());
        let request = request.with_context(|| format!("{url} is no URL, or the token no word"))?;
        let head = async {
            let response = self.send(request).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response.into_body());
            }
            let said = Limited::new(response.into_body(), SAID_BYTES_MAX).collect().await;
            let said = said.map(|said| String::from_utf8_lossy(&said.to_bytes()).into_owned()).unwrap_or_default();
            anyhow::bail!("it answers {status}: {}", said.trim_end())
        };
        let answer = tokio::time::timeout(DOCUMENT_TIMEOUT, head).await.context("it does not answer in time");
        answer.and_then(|answer| answer).with_context(|| format!("cannot ask {url}"))
    }

    async fn ask(&self, method: Method, url: &str) -> anyhow::Result<Bytes> {
        let request = Request::builder().method(method).uri(url).body(Full::default());
        self.answer(request.with_context(|| format!("{url} is no URL"))?, url).await
    }

    async fn answer(&self, request: Request<Full<Bytes>>, url: &str) -> anyhow::Result<Bytes> {
        self.answer_within(request, url, DOCUMENT_TIMEOUT).await
    }

    async fn answer_within(&self, request: Request<Full<Bytes>>, url: &str, within: Duration) -> anyhow::Result<Bytes> {
        let answer = async {
            let response = self.send(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
            let said = String::from_utf8_lossy(&body[..body.len().min(SAID_BYTES_MAX)]);
            ensure!(status.is_success(), "it answers {status}: {}", said.trim_end());
            Ok(body)
        };
        let answer = tokio::time::timeout(within, answer).await.context("it does not answer in time");
        answer.and_then(|answer| answer).with_context(|| format!("cannot ask {url}"))
    }
}

fn authorized(request: Builder, token: Option<&str>) -> Builder {
    match token {
        Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    }
}

fn document<T: DeserializeOwned>(bytes: &[u8], url: &str) -> anyhow::Result<T> {
    serde_json::from_slice(bytes).with_context(|| format!("{url} does not answer with the document expected"))
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a refusal that are shown.
const SAID_BYTES_MAX: usize = 500;
const DOCUMENT_BYTES_MAX: usize = 16 << 20;
