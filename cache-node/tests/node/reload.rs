//! A configuration that changes while the node runs.

use std::{
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hyper::{Method, StatusCode};
use nearcast_cache_node::NodeConfig;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    origin::{Behaviour, Origin},
    pki::Ca,
    process::{Process, write_config},
    running::{Node, get, metric},
};

/// A node whose configuration is in a file.
async fn start(dir: &Path, origin: &Origin, more: &str) -> (Node, PathBuf) {
    let path = write_config(dir, &origin.url(), more);
    (Node::start(NodeConfig::load(&path).expect("a valid configuration")).await, path)
}

async fn reload(node: &Node) -> (StatusCode, Value) {
    let answer = node.send(Method::POST, "/_nearcast/reload", &[]).await;
    (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
}

#[tokio::test]
async fn what_may_change_is_applied_and_what_needs_a_restart_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let (node, path) = start(dir.path(), &origin, "").await;
    assert_eq!(node.post("/form", &[], &"x".repeat(2_000)).await.status, StatusCode::OK);
    let text = std::fs::read_to_string(&path).unwrap().replace("4MiB", "8MiB");
    std::fs::write(&path, format!("{text}\n[front]\nrequest_body_max = \"1KiB\"\n[log]\nrows_max = 5")).unwrap();
    let (status, report) = reload(&node).await;
    assert_eq!((status, &report["error"]), (StatusCode::OK, &Value::Null));
    assert_eq!(report["applied"], json!(["front.request_body_max", "log.rows_max"]));
    let fixed = report["needs_restart"].as_array().unwrap();
    assert!(fixed.contains(&json!("capacity")), "{report}");
    assert_eq!(node.post("/form", &[], &"x".repeat(2_000)).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(node.status().await["held"]["capacity_bytes"], 4 << 20);
}

#[tokio::test]
async fn a_file_with_an_error_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let (node, path) = start(dir.path(), &origin, "").await;
    let good = std::fs::read_to_string(&path).unwrap();
    let name = "config_last_reload_successful";
    assert_eq!(node.metric(name).await, Some(1.0));
    let check = async |more: &str, expected: &str| {
        std::fs::write(&path, format!("{good}\n[front]\nrequest_body_max = \"1KiB\"\n{more}")).unwrap();
        let (status, report) = reload(&node).await;
        let error = report["error"].as_str().unwrap_or_default();
        assert!(status == StatusCode::UNPROCESSABLE_ENTITY && error.contains(expected), "{status} {report}");
        assert_eq!(node.metric(name).await, Some(0.0));
        assert_eq!(node.post("/form", &[], &"x".repeat(2_000)).await.status, StatusCode::OK);
    };
    check("read_ahed_max = 5", "did you mean `read_ahead_max`?").await;
    check("[log]\nrows_max = 0", "`log.rows_max`").await;
    check("admin_token_file = \"absent.token\"", "absent.token").await;
    std::fs::write(&path, good).unwrap();
    assert_eq!(reload(&node).await.0, StatusCode::OK);
    assert_eq!(node.metric(name).await, Some(1.0));
}

#[tokio::test]
async fn a_new_admin_token_replaces_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    std::fs::write(dir.path().join("token"), "old").unwrap();
    let (node, _path) = start(dir.path(), &origin, "[front]\nadmin_token_file = \"token\"").await;
    let clear = async |token: &str| {
        let bearer = format!("Bearer {token}");
        node.send(Method::POST, "/_nearcast/clear", &[("authorization", &*bearer)]).await.status
    };
    assert_eq!((clear("old").await, clear("new").await), (StatusCode::OK, StatusCode::UNAUTHORIZED));
    std::fs::write(dir.path().join("token"), "new").unwrap();
    let without = node.send(Method::POST, "/_nearcast/reload", &[]).await;
    assert_eq!(without.status, StatusCode::UNAUTHORIZED);
    let with = node.send(Method::POST, "/_nearcast/reload", &[("authorization", "Bearer old")]).await;
    assert_eq!(with.status, StatusCode::OK);
    assert_eq!((clear("old").await, clear("new").await), (StatusCode::UNAUTHORIZED, StatusCode::OK));
}

#[tokio::test]
async fn the_bound_on_connections_follows_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let (node, path) = start(dir.path(), &origin, "[front]\nconnections_max = 4").await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(b"GET /_nearcast/livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        open.push(stream);
    }
    node.wait_for_metric("connections", 4.0).await;
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("connections_max = 4", "connections_max = 2")).unwrap();
    assert_eq!(reload(&node).await.1["applied"], json!(["front.connections_max"]));
    // Two too many are open; they stay, and the next is served once enough of them have gone.
    let url = node.url();
    let mut late = Box::pin(get(&url, "/x"));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut late).await.is_err());
    open.clear();
    let late = tokio::time::timeout(Duration::from_secs(20), late).await.expect("served in the end");
    assert_eq!(late.body, origin.content("/x"));
}

#[tokio::test]
async fn sighup_reloads_the_real_process_and_systemd_is_told() {
    let (dir, old, new) = (tempfile::tempdir().unwrap(), Ca::new(), Ca::new());
    let origin = Origin::start(Behaviour::default()).await;
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let pair = old.issue(dir.path(), "node");
    // The files are not looked at by themselves before the test is long over.
    let section = format!("{}listen = \"127.0.0.1:0\"", pair.section().replace("20ms", "1h"));
    let path = write_config(dir.path(), &origin.url(), &section);
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast-node"));
    let process = Process::start_by(command.env("NOTIFY_SOCKET", dir.path().join("notify")), &path);
    let told = || {
        let mut message = [0; 128];
        let length = socket.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    assert_eq!(told().trim(), "READY=1");
    let end =
        async || metric(&get(&process.url, "/_nearcast/metrics").await, "tls_certificate_not_after_timestamp_seconds");
    let before = end().await;
    new.issue_until(dir.path(), "renewed", 2_500).replace(&pair);
    std::fs::write(&path, format!("{}\nhandshake_timeout = \"7s\"", std::fs::read_to_string(&path).unwrap())).unwrap();
    process.signal("-HUP");
    let reloading = told();
    assert!(reloading.contains("RELOADING=1\n") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert_eq!(told().trim(), "READY=1");
    assert_ne!(end().await, before);

    std::fs::write(&path, "nonsense").unwrap();
    process.signal("-HUP");
    assert!(told().contains("RELOADING=1") && told().trim() == "READY=1");
    let metrics = get(&process.url, "/_nearcast/metrics").await;
    assert_eq!(metric(&metrics, "config_last_reload_successful"), Some(0.0));
    assert_eq!(get(&process.url, "/x").await.body, origin.content("/x"), "it serves on");
}
