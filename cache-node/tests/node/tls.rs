//! The node's listener over TLS: protocols, renewal, and clients that misbehave.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::{
    origin::{Behaviour, Origin},
    pki::{Ca, HttpsClient},
    process::{run, write_config},
    running::{Answer, Node, config, exchange},
};

async fn get(client: &HttpsClient, node: &Node, target: &str) -> Result<Answer, String> {
    let url = format!("https://{}{target}", node.tls_address.unwrap_or(node.address));
    exchange(client, Method::GET, &url, &[], Bytes::new()).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_client_gets_http_2_or_http_1_over_tls_as_it_prefers() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let origin = Origin::start(Behaviour::default()).await;
    let section = ca.issue(dir.path(), "node").section();
    let node = Node::start(config("n1", &dir.path().join("data"), &origin.url(), &section)).await;
    for (client, version) in [(ca.client(None), Version::HTTP_2), (ca.http1_client(), Version::HTTP_11)] {
        let answer = get(&client, &node, "/x").await.unwrap();
        assert_eq!((answer.version, &answer.body), (version, &origin.content("/x")));
    }
    let stranger = get(&Ca::new().client(None), &node, "/x").await;
    assert!(stranger.is_err(), "a client that does not know the CA must not be served: {stranger:?}");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_while_open_ones_go_on() {
    let (dir, old, new) = (tempfile::tempdir().unwrap(), Ca::new(), Ca::new());
    let origin = Origin::start(Behaviour::default()).await;
    let pair = old.issue(dir.path(), "node");
    let section = format!("{}listen = \"127.0.0.1:0\"", pair.section());
    let node = Node::start(config("n1", &dir.path().join("data"), &origin.url(), &section)).await;
    let stream = TcpStream::connect(node.tls_address.unwrap()).await.unwrap();
    let connector = TlsConnector::from(Arc::new(old.client_config(None)));
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let (mut open, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    let mut ask = async || {
        let request = Request::get("/x").header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
        let response = open.send_request(request).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes()
    };
    assert_eq!(ask().await, origin.content("/x"));

    new.issue(dir.path(), "renewed").replace(&pair);
    node.wait_for_metric("tls_reloads_total", 1.0).await;
    assert_eq!(get(&new.client(None), &node, "/x").await.unwrap().status, StatusCode::OK);
    assert!(get(&old.client(None), &node, "/x").await.is_err(), "new connections see the new certificate");
    assert_eq!(ask().await, origin.content("/x"), "the connection that was open goes on");
    let end = node.metric("tls_certificate_not_after_timestamp_seconds").await;
    assert_eq!(end, Some(32_472_144_000.0), "2999-01-01");
}

#[tokio::test]
async fn a_broken_new_pair_leaves_the_old_one_in_use_until_it_is_repaired() {
    let (dir, old, new) = (tempfile::tempdir().unwrap(), Ca::new(), Ca::new());
    let origin = Origin::start(Behaviour::default()).await;
    let pair = old.issue(dir.path(), "node");
    let section = format!("{}listen = \"127.0.0.1:0\"", pair.section());
    let node = Node::start(config("n1", &dir.path().join("data"), &origin.url(), &section)).await;
    assert_eq!(node.get("/x").await.body, origin.content("/x"));
    let renewed = new.issue(dir.path(), "renewed");
    // Half of the new pair: its key does not come before the failure was noticed.
    std::fs::copy(&renewed.certificate, &pair.certificate).unwrap();
    node.wait_for_metric("tls_reload_failures_total", 1.0).await;
    assert_eq!(get(&old.client(None), &node, "/x").await.unwrap().status, StatusCode::OK);
    std::fs::write(&pair.certificate, "no certificate").unwrap();
    node.wait_for_metric("tls_reload_failures_total", 2.0).await;
    std::fs::remove_file(&pair.key).unwrap();
    node.wait_for_metric("tls_reload_failures_total", 3.0).await;
    assert_eq!(get(&old.client(None), &node, "/x").await.unwrap().status, StatusCode::OK);
    renewed.replace(&pair);
    node.wait_for_metric("tls_reloads_total", 1.0).await;
    assert_eq!(get(&new.client(None), &node, "/x").await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so_and_disturbs_nobody() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let origin = Origin::start(Behaviour::default()).await;
    let section = format!("{}listen = \"127.0.0.1:0\"", ca.issue(dir.path(), "node").section());
    let node = Node::start(config("n1", &dir.path().join("data"), &origin.url(), &section)).await;
    let client = ca.client(None);
    get(&client, &node, "/x").await.unwrap();
    let plain = crate::running::get(&format!("http://{}", node.tls_address.unwrap()), "/x").await;
    assert_eq!(plain.status, StatusCode::BAD_REQUEST);
    assert_eq!(&plain.body[..], b"this port speaks TLS: ask by https://\n");
    // Neither HTTP nor TLS, then a handshake that is none, then a client that goes away at once.
    for (bytes, reason) in
        [(&b"\x00\x01\x02"[..], "plain"), (&[0x16, 3, 1, 0, 4, 9, 9, 9, 9], "failed"), (&[], "closed")]
    {
        let before = node.metric(&format!("tls_handshake_failures_total{{reason=\"{reason}\"}}")).await.unwrap_or(0.0);
        let mut stream = TcpStream::connect(node.tls_address.unwrap()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        node.wait_for_metric(&format!("tls_handshake_failures_total{{reason=\"{reason}\"}}"), before + 1.0).await;
    }
    assert_eq!(get(&client, &node, "/x").await.unwrap().body, origin.content("/x"));
    // What is beside it goes on in plain.
    assert_eq!(node.get("/x").await.body, origin.content("/x"));
}

#[tokio::test]
async fn a_slow_handshake_takes_a_connection_for_a_bounded_time() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let origin = Origin::start(Behaviour::default()).await;
    let section = format!(
        "[front]\nconnections_max = 1\n{}handshake_timeout = \"300ms\"",
        ca.issue(dir.path(), "node").section()
    );
    let node = Node::start(config("n1", &dir.path().join("data"), &origin.url(), &section)).await;
    for bytes in [&b""[..], b"\x16\x03\x01"] {
        let mut slow = TcpStream::connect(node.address).await.unwrap();
        slow.write_all(bytes).await.unwrap();
        // The only connection is taken until its handshake has run out of time.
        let served = tokio::time::timeout(Duration::from_secs(20), get(&ca.http1_client(), &node, "/x")).await;
        assert_eq!(served.expect("served in the end").unwrap().body, origin.content("/x"));
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut rest)).await;
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "{closed:?}");
    }
    let metrics = get(&ca.http1_client(), &node, "/_nearcast/metrics").await.unwrap();
    assert_eq!(crate::running::metric(&metrics, "tls_handshake_failures_total{reason=\"timeout\"}"), Some(2.0));
}

#[tokio::test]
async fn an_origin_behind_a_private_ca_is_asked_when_the_ca_is_named() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let origin = Origin::start(Behaviour::default()).await;
    let section = ca.issue(dir.path(), "node").section();
    // A node stands for an origin that speaks TLS.
    let behind = Node::start(config("n1", &dir.path().join("n1"), &origin.url(), &section)).await;
    let url = format!("https://localhost:{}", behind.address.port());
    let named = format!("ca = \"{}\"", ca.write(dir.path(), "ca.crt").display());
    let node = Node::start(config("n2", &dir.path().join("n2"), &url, &named)).await;
    assert_eq!(node.get("/x").await.body, origin.content("/x"));
    let distrustful = Node::start(config("n3", &dir.path().join("n3"), &url, "")).await;
    assert_eq!(distrustful.get("/x").await.status, StatusCode::BAD_GATEWAY);
}

#[test]
fn check_config_reads_certificates_too_and_warns_of_an_expired_one() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let check = |section: &str| {
        let path = write_config(dir.path(), "http://127.0.0.1:9", section);
        run(&["-c", path.to_str().unwrap(), "--check-config"])
    };
    let pair = ca.issue(dir.path(), "node");
    assert!(check(&pair.section()).0.status.success());
    let (output, said) = check(&ca.issue_until(dir.path(), "late", 2_001).section());
    assert!(output.status.success() && said.contains("expired") && said.contains("2001-01-01"), "{said}");
    std::fs::copy(ca.issue(dir.path(), "other").key, &pair.key).unwrap();
    let (output, said) = check(&pair.section());
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("node.key") && said.contains("not the key of the first certificate"), "{said}");
}
