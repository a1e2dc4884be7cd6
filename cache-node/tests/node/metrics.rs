//! Metrics as monitoring reads them, and the status document as people do.

use hyper::Method;

use crate::{
    origin::Behaviour,
    promtool::{SKIPPED, check_metrics, promtool},
    running::pair,
};

#[tokio::test]
async fn promtool_finds_nothing_to_complain_of() {
    let Some(promtool) = promtool() else {
        println!("{SKIPPED}");
        return;
    };
    let (_origin, node, _dir) = pair(Behaviour::default()).await;
    node.get("/a").await;
    node.get("/a").await;
    let document = node.get("/_nearcast/metrics").await;
    assert_eq!(document.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    check_metrics(&promtool, &document.body);
    node.stop().await;
}

#[tokio::test]
async fn both_formats_tell_the_same() {
    let (_origin, node, _dir) = pair(Behaviour::default()).await;
    node.get("/a").await;
    node.get("/a").await;
    let accept = [("accept", "application/openmetrics-text; version=1.0.0, text/plain;q=0.5")];
    let open = node.send(Method::GET, "/_nearcast/metrics", &accept).await;
    assert!(open.header("content-type").starts_with("application/openmetrics-text"));
    let open = String::from_utf8_lossy(&open.body).into_owned();
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE nearcast_requests counter\n"), "{open}");
    let plain = String::from_utf8_lossy(&node.get("/_nearcast/metrics").await.body).into_owned();
    for line in [
        "# TYPE nearcast_requests_total counter",
        "nearcast_requests_total{served=\"origin\"} 1",
        "nearcast_requests_total{served=\"memory\"} 1",
        "nearcast_responses_total{class=\"2xx\"} 2",
        "nearcast_sent_bytes_total{served=\"memory\"} 10000",
        "# TYPE nearcast_request_duration_seconds histogram",
        "nearcast_request_duration_seconds_bucket{le=\"+Inf\",served=\"memory\"} 1",
        "nearcast_request_duration_seconds_count{served=\"origin\"} 1",
        "nearcast_origin_failures_total 0",
    ] {
        assert!(plain.contains(&format!("{line}\n")), "{line} is missing in {plain}");
    }
    let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(samples(&open), samples(&plain));
    node.stop().await;
}

#[tokio::test]
async fn the_status_tells_latency_bytes_and_statuses_apart() {
    let (origin, node, _dir) = pair(Behaviour::default()).await;
    node.get("/a").await;
    node.get("/a").await;
    node.get("/a").await;
    let status = node.status().await;
    assert_eq!(status["latency"]["memory"]["count"], 2);
    assert_eq!(status["latency"]["origin"]["count"], 1);
    assert!(status["latency"]["origin"]["buckets"][0][0].as_u64().is_some_and(|edge| edge > 0), "{status:#}");
    assert_eq!((&status["bytes"]["sent_by"]["memory"], &status["bytes"]["sent"]), (&20_000.into(), &30_000.into()));
    assert_eq!(status["responses"]["2xx"], 3);
    assert!(status["origin"]["requests"].as_u64() >= Some(1) && status["origin"]["failures"] == 0);
    assert!(status["uptime_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    origin.stop().await;
    assert_eq!(node.get("/b").await.status, 502);
    let status = node.status().await;
    assert_eq!((&status["responses"]["5xx"], &status["served"]["error"]), (&1.into(), &1.into()));
    assert!(status["origin"]["failures"].as_u64() >= Some(1), "{status:#}");
    node.stop().await;
}
