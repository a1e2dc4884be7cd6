//! Nodes that know each other by certificates.

use std::path::Path;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use nearcast_proto::message::{
    CacheMap, CommandStatus, Epoch, Member, NodeDescriptor, NodeName, PredictorNotice, Source,
};

use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::{
    cluster::{PATIENT_PEERS, last_page, replicate, result},
    origin::{Behaviour, Origin},
    pki::{Ca, HttpsClient},
    predictor::Predictor,
    running::{Answer, Node, config, exchange},
};

/// The sections of a node that other nodes reach by mutual TLS only, beside its plain listener.
fn sections(ca: &Ca, dir: &Path, name: &str) -> String {
    let (pair, ca) = (ca.issue(dir, name), ca.write(dir, "peers-ca.crt"));
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    format!(
        "[peers.tls]\nca = \"{}\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n{}listen = \"127.0.0.1:0\"\n",
        ca.display(),
        pair.section()
    )
}

async fn joined(predictor: &Predictor, origin: &Origin, ca: &Ca, name: &str, dir: &Path) -> Node {
    let more = format!("{PATIENT_PEERS}{}{}", sections(ca, dir, name), predictor.section());
    let node = Node::start(config(name, &dir.join(name), &origin.url(), &more)).await;
    predictor.wait_for(name, "the last page of its inventory", last_page).await;
    node.wait_until("the link is up", |status| status["link"]["connects"] != 0).await;
    node
}

async fn send(client: &HttpsClient, node: &Node, method: Method, target: &str) -> Result<Answer, String> {
    let url = format!("https://{}{target}", node.tls_address.expect("it speaks TLS"));
    exchange(client, method, &url, &[], Bytes::new()).await.map_err(|error| error.to_string())
}

const SEGMENT: &str = "/_nearcast/segment?key=%2Fx&index=0&segment_bytes=4096";

#[tokio::test]
async fn a_segment_travels_between_nodes_that_show_their_certificates() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let (predictor, origin) = (Predictor::start().await, Origin::start(Behaviour::default()).await);
    let holder = joined(&predictor, &origin, &ca, "n1", dir.path()).await;
    let other = joined(&predictor, &origin, &ca, "n2", dir.path()).await;
    holder.get("/x").await;
    let asked = origin.seen().len();
    predictor.share_map(2).await;
    let before = holder.metric("tls_handshakes_total").await.unwrap();
    predictor.tell("n2", replicate(1, "/x", &[0, 1, 2], vec![Source::Peer(NodeName::from("n1"))])).await;
    let ended = predictor.wait_for("n2", "the command's end", |report| result(report, 1)).await;
    assert_eq!(ended, (CommandStatus::Done, 10_000));
    let answer = other.get("/x").await;
    assert_eq!((answer.cache(), &answer.body), ("hit; detail=prefetched", &origin.content("/x")));
    assert_eq!(origin.seen().len(), asked);
    assert!(holder.metric("tls_handshakes_total").await.unwrap() > before, "it went over TLS");
    assert_eq!(holder.metric("peer_segments_sent_total").await, Some(3.0));

    // Certificates of both sides are renewed under another CA: first what is known, then what is shown.
    let renewed = Ca::new();
    sections(&renewed, dir.path(), "n1");
    sections(&renewed, dir.path(), "n2");
    for node in [&holder, &other] {
        node.wait_for_metric("tls_reloads_total", 2.0).await;
    }
    predictor.tell("n1", replicate(2, "/y", &[0], vec![Source::Origin])).await;
    predictor.wait_for("n1", "the command's end", |report| result(report, 2)).await;
    predictor.tell("n2", replicate(3, "/y", &[0], vec![Source::Peer(NodeName::from("n1"))])).await;
    let ended = predictor.wait_for("n2", "the command's end", |report| result(report, 3)).await;
    assert_eq!(ended, (CommandStatus::Done, 4_096));
    assert!(send(&ca.client(None), &holder, Method::GET, "/x").await.is_err());
}

#[tokio::test]
async fn segments_and_administration_are_for_those_with_a_certificate_or_token() {
    let (dir, ca, strange) = (tempfile::tempdir().unwrap(), Ca::new(), Ca::new());
    let origin = Origin::start(Behaviour::default()).await;
    let node = Node::start(config("n1", &dir.path().join("n1"), &origin.url(), &sections(&ca, dir.path(), "n1"))).await;
    node.get("/x").await;
    let (anybody, peer) = (ca.client(None), ca.client(Some(&ca.issue(dir.path(), "peer"))));
    assert_eq!(send(&anybody, &node, Method::GET, "/x").await.unwrap().body, origin.content("/x"));
    assert_eq!(send(&anybody, &node, Method::GET, SEGMENT).await.unwrap().status, StatusCode::FORBIDDEN);
    assert_eq!(node.get(SEGMENT).await.status, StatusCode::FORBIDDEN, "in plain");
    assert_eq!(node.metric("peer_requests_refused_total").await, Some(2.0));
    // A certificate of somebody else is refused by the handshake.
    let impostor = ca.client(Some(&strange.issue(dir.path(), "impostor")));
    assert!(send(&impostor, &node, Method::GET, SEGMENT).await.is_err());
    assert_eq!(node.metric("tls_handshake_failures_total{reason=\"failed\"}").await, Some(1.0));
    assert_eq!(send(&peer, &node, Method::GET, SEGMENT).await.unwrap().status, StatusCode::OK);
    for target in ["/_nearcast/clear", "/_nearcast/reload"] {
        assert_eq!(send(&anybody, &node, Method::POST, target).await.unwrap().status, StatusCode::UNAUTHORIZED);
        assert_eq!(send(&peer, &node, Method::POST, target).await.unwrap().status, StatusCode::OK);
    }
}

#[tokio::test]
async fn peers_in_plain_are_counted_and_never_asked() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let (predictor, origin) = (Predictor::start().await, Origin::start(Behaviour::default()).await);
    let node = joined(&predictor, &origin, &ca, "n1", dir.path()).await;
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let descriptor = NodeDescriptor {
        name: NodeName::from("plain"),
        region: "eu".into(),
        url: format!("http://{}", plain.local_addr().unwrap()).into(),
        capacity_bytes: 1 << 40,
        segment_bytes: 4_096,
    };
    let map = CacheMap { epoch: Epoch(2), members: vec![Member { node: descriptor, alive: true }] };
    predictor.tell("n1", PredictorNotice::Map(map)).await;
    node.wait_for_metric("peers_refused_total", 1.0).await;
    assert_eq!(node.get("/x").await.body, origin.content("/x"));
    predictor.tell("n1", replicate(1, "/y", &[0], vec![Source::Peer(NodeName::from("plain"))])).await;
    let ended = predictor.wait_for("n1", "the command's end", |report| result(report, 1)).await;
    assert_ne!(ended.0, CommandStatus::Done);
    let asked = tokio::time::timeout(std::time::Duration::from_millis(100), plain.accept()).await;
    assert!(asked.is_err(), "nobody connects to it");
}

#[tokio::test]
async fn a_predictor_by_https_is_shown_the_nodes_certificate() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let origin = Origin::start(Behaviour::default()).await;
    let (pair, trusted) = (ca.issue(dir.path(), "predictor"), ca.write(dir.path(), "ca.crt"));
    let read = |path: &Path| std::fs::read(path).unwrap();
    let identity = Identity::from_pem(read(&pair.certificate), read(&pair.key));
    let tls = ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(read(&trusted)));
    let predictor = Predictor::start_tls(tls).await;
    let section = predictor.section().replace("http://127.0.0.1", "https://localhost");
    let more = format!("{}{section}", sections(&ca, dir.path(), "n1"));
    let node = Node::start(config("n1", &dir.path().join("n1"), &origin.url(), &more)).await;
    predictor.wait_for("n1", "the last page of its inventory", last_page).await;
    node.wait_until("the link is up", |status| status["link"]["connects"] == 1).await;
    // Without a certificate of its own, a node that trusts the predictor is not let in.
    let anybody = format!("{section}\nca = \"{}\"", trusted.display());
    let stranger = Node::start(config("n2", &dir.path().join("n2"), &origin.url(), &anybody)).await;
    assert_eq!(stranger.get("/x").await.body, origin.content("/x"), "it serves without");
    assert_eq!(stranger.status().await["link"]["connects"], 0);
}
