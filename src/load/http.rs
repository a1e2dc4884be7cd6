//! HTTP from the client's side.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use axum::body::Bytes;
use http::{Request, Response, header, request::Builder};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use nearcast_cache_node::tls::ClientTls;
use nearcast_proto::ControlClient;
use serde::de::DeserializeOwned;
use tonic::transport::{Channel, Endpoint};

/// How to be let in by nodes and by the predictor.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Access {
    /// The file with the admin token of the nodes, and of the predictor where it is asked.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificates (PEM) that those of https:// nodes and predictors must end in, instead of the public ones.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A certificate (PEM) to show: one of the CA that nodes know their peers by opens what the admin token opens.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

/// A pool of connections to nodes, origin and predictor. The admin token is sent with what only operators may ask.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    token: Option<Arc<str>>,
    tls: ClientTls,
}

impl Http {
    /// Nobody is asked yet.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub(crate) fn new(access: &Access) -> anyhow::Result<Self> {
        let Access { token_file, ca, client_certificate, client_key } = access.clone();
        let token = token_file.map(|file| {
            std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))
                .map(|token| Arc::from(token.trim()))
        });
        let tls = ClientTls { ca, identity: client_certificate.zip(client_key) };
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.for_http()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, token: token.transpose()?, tls })
    }

    /// Reaches the predictor's control service.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub(crate) async fn control(&self, predictor: &str) -> anyhow::Result<ControlClient<Channel>> {
        let mut endpoint = Endpoint::from_shared(predictor.to_owned())
            .with_context(|| format!("{predictor} is no URL"))?
            .connect_timeout(CONNECT_TIMEOUT);
        if predictor.starts_with("https:") {
            endpoint = endpoint.tls_config(self.tls.for_grpc()?)?;
        }
        let channel = endpoint.connect().await;
        Ok(ControlClient::new(channel.with_context(|| format!("cannot reach the predictor at {predictor}"))?))
    }

    /// A message for the control service, with the admin token if there is one.
    ///
    /// # Errors
    /// When the token cannot be sent.
    pub(crate) fn order<T>(&self, message: T) -> anyhow::Result<tonic::Request<T>> {
        let mut request = tonic::Request::new(message);
        if let Some(token) = &self.token {
            let value = format!("Bearer {token}").parse().context("the token is no word")?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
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
        let request = Request::get(url).body(Full::default()).with_context(|| format!("{url} is no URL"))?;
        document(&self.answer_within(request, url, DOCUMENT_TIMEOUT).await?, url)
    }

    /// Makes something happen that only operators may.
    pub(super) async fn post(&self, url: &str) -> anyhow::Result<()> {
        let request = self.authorized(Request::post(url), url, Full::default())?;
        self.answer_within(request, url, DOCUMENT_TIMEOUT).await.map(drop)
    }

    /// Sends a JSON document that only operators may, and reads the one that answers it.
    pub(crate) async fn post_json<T: DeserializeOwned>(&self, url: &str, body: Vec<u8>) -> anyhow::Result<T> {
        self.post_json_within(url, body, DOCUMENT_TIMEOUT).await
    }

    /// As [`Self::post_json`], for answers that take their time.
    pub(crate) async fn post_json_within<T: DeserializeOwned>(
        &self,
        url: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> anyhow::Result<T> {
        let request = Request::post(url).header(header::CONTENT_TYPE, "application/json");
        let request = self.authorized(request, url, body.into())?;
        document(&self.answer_within(request, url, within).await?, url)
    }

    /// As [`Self::json`], for what only operators may read, and for answers that take their time.
    pub(crate) async fn json_within<T: DeserializeOwned>(&self, url: &str, within: Duration) -> anyhow::Result<T> {
        let request = self.authorized(Request::get(url), url, Full::default())?;
        document(&self.answer_within(request, url, within).await?, url)
    }

    /// Begins to read an answer that has no end.
    pub(crate) async fn open(&self, url: &str) -> anyhow::Result<Incoming> {
        let request = self.authorized(Request::get(url), url, Full::default())?;
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

    fn authorized(&self, request: Builder, url: &str, body: Full<Bytes>) -> anyhow::Result<Request<Full<Bytes>>> {
        let request = match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        };
        request.body(body).with_context(|| format!("{url} is no URL, or the token no word"))
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

fn document<T: DeserializeOwned>(bytes: &[u8], url: &str) -> anyhow::Result<T> {
    serde_json::from_slice(bytes).with_context(|| format!("{url} does not answer with the document expected"))
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a refusal that are shown.
const SAID_BYTES_MAX: usize = 500;
const DOCUMENT_BYTES_MAX: usize = 16 << 20;
