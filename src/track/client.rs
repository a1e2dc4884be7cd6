//! A small JSON client with bounded patience.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// Why the server did not do what it was asked.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// It could not be reached, or not in time.
    Away { server: String, reason: String },
    /// It answered something else than it should.
    Answer(String),
    /// It answered with a status that is not success.
    Status { status: u16, said: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away { server, reason } => write!(f, "{server} cannot be reached: {reason}"),
            Self::Answer(problem) => write!(f, "{problem}"),
            Self::Status { status, said } => write!(f, "the server answered {status}: {said}"),
        }
    }
}

/// Asks one server; each question is tried a few times and each try ends in time.
#[derive(Debug)]
pub(super) struct Client {
    server: String,
    /// `None` where no thread or socket can be had: then the server counts as away.
    shell: Option<Shell>,
}

#[derive(Debug)]
struct Shell {
    runtime: Runtime,
    client: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    /// A client of the server at `scheme://host:port`.
    pub(super) fn new(server: &str) -> Self {
        let shell = Builder::new_current_thread().enable_all().build().ok().map(|runtime| {
            let connector = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
            Shell { runtime, client: legacy::Client::builder(TokioExecutor::new()).build(connector) }
        });
        Self { server: server.to_owned(), shell }
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Reads a document; `query` is percent-encoded here.
    pub(super) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Refusal> {
        let pairs: Vec<_> =
            query.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ESCAPED))).collect();
        self.ask(&Method::GET, &format!("{path}?{}", pairs.join("&")), &Bytes::new())
    }

    /// Posts a document and reads the answer.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.ask(&Method::POST, path, &Bytes::from(body.to_string()))
    }

    /// Puts a file.
    pub(super) fn put(&self, path: &str, body: Vec<u8>) -> Result<(), Refusal> {
        self.ask(&Method::PUT, path, &Bytes::from(body)).map(drop)
    }

    fn ask(&self, method: &Method, path: &str, body: &Bytes) -> Result<Value, Refusal> {
        let away = |reason: &str| Refusal::Away { server: self.server.clone(), reason: reason.to_owned() };
        let shell = self.shell.as_ref().ok_or_else(|| away("no thread or socket can be had"))?;
        shell.runtime.block_on(async {
            let mut refusal = away("it was not asked");
            for turn in 0..TRIES {
                if turn > 0 {
                    tokio::time::sleep(PAUSE * 4_u32.pow(turn - 1)).await;
                }
                let asked = self.once(shell, method.clone(), path, body.clone());
                refusal = match tokio::time::timeout(PATIENCE, asked).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(Refusal::Status { status, said })) if status < 500 && status != 429 => {
                        return Err(Refusal::Status { status, said });
                    }
                    Ok(Err(refusal)) => refusal,
                    Err(_) => away(&format!("no answer within {} s", PATIENCE.as_secs())),
                };
            }
            Err(refusal)
        })
    }

    async fn once(&self, shell: &Shell, method: Method, path: &str, body: Bytes) -> Result<Value, Refusal> {
        let away = |reason: String| Refusal::Away { server: self.server.clone(), reason };
        let kind = if method == Method::PUT { "application/octet-stream" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/2.0/{}{path}", self.server, if path.starts_with(ARTIFACTS) { "" } else { "mlflow/" }))
            .header(CONTENT_TYPE, kind)
            .body(Full::new(body))
            .map_err(|error| Refusal::Answer(format!("{} makes no URL: {error}", self.server)))?;
        let answer = shell.client.request(request).await;
        // With its causes, on one line.
        let answer = answer.map_err(|error| away(format!("{:#}", anyhow::Error::new(error))))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| away(error.to_string()))?.to_bytes();
        if status != StatusCode::OK {
            let said = String::from_utf8_lossy(&body).chars().take(SAID_CHARS_MAX).collect();
            return Err(Refusal::Status { status: status.as_u16(), said });
        }
        let empty = body.iter().all(u8::is_ascii_whitespace);
        if empty {
            Ok(Value::Null)
        } else {
            serde_json::from_slice(&body).map_err(|error| Refusal::Answer(error.to_string()))
        }
    }
}

/// Files go through another part of the server's interface.
const ARTIFACTS: &str = "mlflow-artifacts/";
/// Tries per question, and how long the first pause between two is.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 1 << 20;
const SAID_CHARS_MAX: usize = 200;
/// What has a meaning in a query.
const ESCAPED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'=').add(b'>').add(b'?');
