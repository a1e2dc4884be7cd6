//! The origin over its HTTP interface, without a port.

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode},
};
use http_body_util::BodyExt;
use nearcast_datasets::{LogSource, LogWriter, RequestEvent, Timestamp, WriteOptions};
use tower::ServiceExt;

use super::{
    Objects, content,
    server::{Status, app},
};

fn origin(folder: &std::path::Path, rows: &[(&str, u64)]) -> Router {
    let path = folder.join("log.parquet");
    let mut writer = LogWriter::create(&path, WriteOptions::default()).expect("writable");
    for (key, size_bytes) in rows {
        let row = RequestEvent {
            timestamp: Timestamp::from_micros(784_111_777_500_000),
            client: "c".into(),
            region: "eu".into(),
            key: (*key).into(),
            size_bytes: *size_bytes,
            range: None,
            node: None,
            outcome: None,
            latency_us: None,
            arm: None,
            model_version: None,
        };
        writer.push(&row).expect("valid");
    }
    writer.finish().expect("written");
    app(Objects::of_log(&LogSource::from(path)).expect("readable"), 8)
}

async fn ask(app: &Router, method: &str, target: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let request = Request::builder().method(method).uri(target);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    app.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("infallible")
}

async fn bytes(response: Response<Body>) -> Vec<u8> {
    response.into_body().collect().await.expect("a whole body").to_bytes().to_vec()
}

#[tokio::test]
async fn objects_have_the_content_of_their_key_and_the_size_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let app = origin(
        folder.path(),
        &[("/a b?q=1", 200_000), ("block/12", 4_096), ("/empty", 0), ("/grows", 5), ("/grows", 9)],
    );
    for (target, key, size) in [
        ("/a%20b?q=1", "/a b?q=1", 200_000),
        ("/block/12", "/block/12", 4_096),
        ("/empty", "/empty", 0),
        ("/grows", "/grows", 9),
    ] {
        let response = ask(&app, "GET", target, &[]).await;
        assert_eq!(response.status(), StatusCode::OK, "{target}");
        assert_eq!(response.headers()["content-length"], size.to_string());
        assert_eq!(response.headers()["cache-control"], "max-age=86400");
        assert_eq!(response.headers()["last-modified"], "Sun, 06 Nov 1994 08:49:37 GMT");
        let body = bytes(response).await;
        assert_eq!(body.len(), size);
        assert!(content(key, 0).continues_with(&body), "{key}");
    }
}

#[tokio::test]
async fn parts_heads_and_known_states_are_answered_without_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let app = origin(folder.path(), &[("/a", 100_000)]);
    let whole = ask(&app, "GET", "/a", &[]).await;
    let etag = whole.headers()["etag"].to_str().unwrap().to_owned();
    let whole = bytes(whole).await;

    let part = ask(&app, "GET", "/a", &[("range", "bytes=65530-70000")]).await;
    assert_eq!(
        (part.status(), &part.headers()["content-range"]),
        (StatusCode::PARTIAL_CONTENT, &"bytes 65530-70000/100000".parse().unwrap())
    );
    assert_eq!(bytes(part).await, whole[65_530..70_001]);

    let past = ask(&app, "GET", "/a", &[("range", "bytes=100000-")]).await;
    assert_eq!(
        (past.status(), &past.headers()["content-range"]),
        (StatusCode::RANGE_NOT_SATISFIABLE, &"bytes */100000".parse().unwrap())
    );
    assert!(bytes(past).await.is_empty());

    let known = ask(&app, "GET", "/a", &[("if-none-match", &etag)]).await;
    assert_eq!((known.status(), known.headers().contains_key("etag")), (StatusCode::NOT_MODIFIED, true));
    assert!(bytes(known).await.is_empty());

    let stale_part = ask(&app, "GET", "/a", &[("range", "bytes=0-9"), ("if-range", "\"old\"")]).await;
    assert_eq!(stale_part.status(), StatusCode::OK);

    let head = ask(&app, "HEAD", "/a", &[]).await;
    assert_eq!((head.status(), &head.headers()["content-length"]), (StatusCode::OK, &"100000".parse().unwrap()));
    assert!(bytes(head).await.is_empty());
}

#[tokio::test]
async fn unknown_keys_and_methods_are_refused_and_all_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let app = origin(folder.path(), &[("/a", 10)]);
    assert_eq!(ask(&app, "GET", "/b", &[]).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(ask(&app, "GET", "/%ff", &[]).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(ask(&app, "PUT", "/a", &[]).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(bytes(ask(&app, "GET", "/a", &[]).await).await.len(), 10);
    let status: Status =
        serde_json::from_slice(&bytes(ask(&app, "GET", "/_nearcast/status", &[]).await).await).unwrap();
    assert_eq!((status.objects, status.served.requests, status.served.bytes, status.served.not_found), (1, 4, 10, 2));
    let metrics = String::from_utf8(bytes(ask(&app, "GET", "/_nearcast/metrics", &[]).await).await).unwrap();
    assert!(metrics.contains("\nnearcast_origin_sent_bytes_total 10\n"), "{metrics}");
}
