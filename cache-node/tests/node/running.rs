//! A node under test, and a client that talks to it.

use std::{net::SocketAddr, path::Path, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, Version, body::Incoming};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use nearcast_cache_node::NodeConfig;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::origin::{Behaviour, Origin};

/// A node that runs; it is told to stop when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    /// Where it speaks TLS, when that is elsewhere.
    pub(crate) tls_address: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<nearcast_cache_node::Result<()>>,
    client: TestClient,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) version: Version,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Who answered and why, for messages and comparisons.
    pub(crate) fn cache(&self) -> &str {
        self.header("cache-status").trim_start_matches("nearcast; ")
    }
}

/// The configuration of a node with segments of 4 KiB; `more` is added at its end.
pub(crate) fn config(name: &str, data_dir: &Path, origin_url: &str, more: &str) -> NodeConfig {
    let text = config_text(name, data_dir, origin_url, more);
    NodeConfig::parse(&text, Path::new("node.toml")).expect("a valid configuration")
}

/// As [`config`], as text.
pub(crate) fn config_text(name: &str, data_dir: &Path, origin_url: &str, more: &str) -> String {
    format!(
        r#"
        name = "{name}"
        region = "eu"
        listen = "127.0.0.1:0"
        data_dir = "{}"
        capacity = "4MiB"
        segment_size = "4KiB"
        [origin]
        url = "{origin_url}"
        connect_timeout = "1s"
        response_timeout = "5s"
        read_timeout = "1s"
        {more}
        "#,
        data_dir.display()
    )
}

/// An origin, a node before it, and the folder of its data.
pub(crate) async fn pair(behaviour: Behaviour) -> (Origin, Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let origin = Origin::start(behaviour).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    (origin, node, dir)
}

/// The value of a metric in the document of `/_nearcast/metrics`.
pub(crate) fn metric(document: &Answer, name: &str) -> Option<f64> {
    let text = String::from_utf8_lossy(&document.body);
    text.lines().find_map(|line| line.strip_prefix("nearcast_")?.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

type TestClient = Client<HttpConnector, Full<Bytes>>;

/// Asks whoever serves at `url`.
pub(crate) async fn get(url: &str, target: &str) -> Answer {
    try_get(url, target).await.expect("an answer")
}

/// As [`get`], where there may be nobody.
pub(crate) async fn try_get(url: &str, target: &str) -> Result<Answer, String> {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let answer = exchange(&client, Method::GET, &format!("{url}{target}"), &[], Bytes::new()).await;
    answer.map_err(|error| error.to_string())
}

/// As [`get`], by a client that may speak TLS.
pub(crate) async fn exchange<C: Connect + Clone + Send + Sync + 'static>(
    client: &Client<C, Full<Bytes>>,
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Answer, Box<dyn std::error::Error>> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answering = client.request(request.body(Full::new(body))?);
    let response = tokio::time::timeout(Duration::from_secs(30), answering).await??;
    let (head, body): (_, Incoming) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { version: head.version, status: head.status, headers: head.headers, body })
}

impl Node {
    pub(crate) async fn start(config: NodeConfig) -> Self {
        let listeners = nearcast_cache_node::bind(&config).await.expect("free ports");
        let address = listeners.main.local_addr().expect("a bound socket has an address");
        let tls_address = listeners.tls.as_ref().and_then(|listener| listener.local_addr().ok());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let ended = nearcast_cache_node::run(listeners, config, async {
                let _ = stopped.await;
            });
            let ended = ended.await;
            // Requests that find nobody would not say why.
            #[expect(clippy::print_stderr, reason = "a test that fails shows it")]
            if let Err(error) = &ended {
                eprintln!("the node at {address} ended: {error:?}");
            }
            ended
        });
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Self { address, tls_address, stop: Some(stop), task, client }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(Method::GET, target, &[]).await
    }

    pub(crate) async fn send(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_send(method, target, headers).await.expect("an answer")
    }

    pub(crate) async fn post(&self, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let url = format!("{}{target}", self.url());
        let body = Bytes::copy_from_slice(body.as_bytes());
        exchange(&self.client, Method::POST, &url, headers, body).await.expect("an answer")
    }

    pub(crate) async fn try_send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, Box<dyn std::error::Error>> {
        exchange(&self.client, method, &format!("{}{target}", self.url()), headers, Bytes::new()).await
    }

    /// The value of one of the node's metrics, by its name with labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        metric(&self.get("/_nearcast/metrics").await, name)
    }

    /// Waits until a metric has the wanted value.
    pub(crate) async fn wait_for_metric(&self, name: &str, wanted: f64) {
        for _ in 0..1_000 {
            if self.metric(name).await == Some(wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} never became {wanted}; it is {:?}", self.metric(name).await);
    }

    /// The node's status document.
    pub(crate) async fn status(&self) -> serde_json::Value {
        serde_json::from_slice(&self.get("/_nearcast/status").await.body).expect("JSON")
    }

    /// Waits until the status document says what is wanted.
    pub(crate) async fn wait_until(&self, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        for _ in 0..1_000 {
            let status = self.status().await;
            if is_so(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never came true: {what}; the status is {:#}", self.status().await);
    }

    /// Stops the node and waits until it has written everything out.
    pub(crate) async fn stop(mut self) {
        let stop = self.stop.take().expect("stopped once");
        let _ = stop.send(());
        let ended = tokio::time::timeout(Duration::from_secs(30), &mut self.task).await;
        ended.expect("the node drains").expect("no panic").expect("no error");
    }
}
