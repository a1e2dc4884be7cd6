//! The page's files and documents, and who may change what.

use std::sync::Arc;

use nearcast_proto::{message::NodeReport, wire};
use serde_json::{Value, json};

use crate::{
    experiments::{deed, join, question},
    harness::{TestNode, TestPredictor, eventually, held},
};

const FAST: &str = "[page]\nsample_seconds = 0.02\nsamples_max = 5";

async fn page(predictor: &TestPredictor) -> Value {
    serde_json::from_str(&predictor.get("/api/status").await.1).expect("JSON")
}

async fn with_token(more: &str) -> TestPredictor {
    let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
    let file = folder.path().join("token");
    std::fs::write(&file, "word\n").expect("writable");
    TestPredictor::start_in(folder, &format!("admin_token_file = {file:?}\n{more}")).await
}

#[tokio::test]
async fn files_come_with_a_strict_policy_and_are_not_sent_twice() {
    let predictor = TestPredictor::start().await;
    let (code, answer) = predictor.send("GET / HTTP/1.1", "").await;
    assert_eq!(code, 200);
    for header in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-cache",
        "x-content-type-options: nosniff",
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
    ] {
        assert!(answer.contains(header), "{header} is not in {answer}");
    }
    assert!(
        !answer.contains("unsafe-inline") && !answer.contains("http://") && !answer.contains("https://"),
        "{answer}"
    );
    let files: Vec<&str> = answer.split('"').filter(|part| part.starts_with("/page/")).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let (code, answer) = predictor.send(&format!("GET {file} HTTP/1.1"), "").await;
        let tag = answer.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag").to_owned();
        assert_eq!(code, 200, "{file}");
        let again = predictor.send(&format!("GET {file} HTTP/1.1\r\nif-none-match: {tag}"), "").await;
        assert_eq!(again.0, 304, "{file}: {}", again.1);
    }
    assert_eq!(predictor.send("GET /page/none.js HTTP/1.1", "").await.0, 404);
}

#[tokio::test]
async fn the_document_holds_the_status_of_the_control_service_and_samples_within_their_bound() {
    let predictor = TestPredictor::start_in(Arc::new(tempfile::tempdir().unwrap()), FAST).await;
    let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    node.request("c", "eu", "/a").await;
    node.settle().await;
    let document = page(&predictor).await;
    let reply = predictor.control().await.status(wire::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(document["schema"], "nearcast.page/1");
    assert_eq!(document["status"], serde_json::from_str::<Value>(&reply.json).unwrap());
    assert_eq!((&document["nodes"][0]["name"], &document["nodes"][0]["origin"]), (&json!("eu-1"), &json!(1)));
    assert_eq!((&document["regions"]["names"], &document["registry"]), (&json!(["eu"]), &Value::Null));
    eventually("more samples than are kept", async || {
        page(&predictor).await["series"]["samples"][0]["number"].as_u64() > Some(1)
    })
    .await;
    let samples = page(&predictor).await["series"]["samples"].as_array().cloned().unwrap_or_default();
    assert_eq!(samples.len(), 5);
    let last = &samples[4];
    assert_eq!(last["arms"].as_array().map(Vec::len), Some(2), "{last}");
    assert_eq!((&last["arms"][0]["name"], &last["arms"][0]["requests"]), (&json!("nearcast"), &json!(1.0)));
    assert_eq!((&last["arms"][1]["name"], &last["arms"][1]["estimated"]), (&json!("none"), &json!(true)));
    let newest = last["number"].as_u64().unwrap();
    let later: Value = serde_json::from_str(&predictor.get(&format!("/api/status?after={newest}")).await.1).unwrap();
    let later = later["series"]["samples"].as_array().cloned().unwrap_or_default();
    assert!(later.iter().all(|sample| sample["number"].as_u64() > Some(newest)), "{later:?}");
}

#[tokio::test]
async fn a_keys_story_names_holders_and_requests_and_asking_teaches_nothing() {
    let predictor = TestPredictor::start().await;
    let mut node = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    node.say(NodeReport::Inventory { held: vec![held("/held & <b>")], last: true }).await;
    for _ in 0..3 {
        node.request("c", "eu", "/asked").await;
    }
    node.settle().await;
    let story = async |key: &str| -> Value {
        serde_json::from_str(&predictor.get(&format!("/api/key?key={key}")).await.1).unwrap()
    };
    let told = story("/held%20%26%20%3Cb%3E").await;
    assert_eq!((&told["key"], &told["known"]), (&json!("/held & <b>"), &json!(true)));
    assert_eq!(told["holders"], json!([{ "node": "eu-1", "region": "eu", "segments_held": 1, "segments": 1 }]));
    let told = story("/asked").await;
    assert_eq!((&told["requests"], &told["size_bytes"]), (&json!(3), &json!(10_000)), "{told}");
    assert!(told["first_at"].is_string() && told["last_at"].is_string(), "{told}");
    let keys = async || page(&predictor).await["status"]["account"]["bounds"]["keys"].clone();
    let before = keys().await;
    assert_eq!(story("/never").await["known"], false);
    assert_eq!(keys().await, before);
    let long = "k".repeat(2_049);
    assert_eq!(predictor.get(&format!("/api/key?key={long}")).await.0, 400);
    assert_eq!(predictor.get("/api/key?key=").await.0, 400);
}

#[tokio::test]
async fn only_who_knows_the_word_changes_the_arm_and_never_by_get() {
    let predictor = with_token("").await;
    let json_kind = "content-type: application/json";
    let word = "authorization: Bearer word";
    let post =
        async |headers: &str, body: &str| predictor.send(&format!("POST /api/arm HTTP/1.1{headers}"), body).await;
    let body = "{\"arm\":\"none\"}";
    for (headers, body, expected) in [
        (format!("\r\n{json_kind}"), body, 401),
        (format!("\r\n{json_kind}\r\nauthorization: Bearer wrong"), body, 401),
        (format!("\r\n{json_kind}\r\ncookie: authorization=Bearer word"), body, 401),
        (format!("\r\n{word}"), body, 415),
        (format!("\r\n{word}\r\ncontent-type: text/plain"), body, 415),
        (format!("\r\n{json_kind}\r\n{word}"), "{\"arm\":\"nearcats\"}", 400),
        (format!("\r\n{json_kind}\r\n{word}"), "{\"arm\":\"none\",\"to\":1}", 400),
        (format!("\r\n{json_kind}\r\n{word}"), &format!("{}{body}", " ".repeat(4_096)), 413),
    ] {
        let (code, answer) = post(&headers, body).await;
        assert_eq!(code, expected, "{headers} {answer}");
        assert!(expected != 401 || answer.contains("www-authenticate: Bearer"), "{answer}");
    }
    assert_eq!(predictor.send(&format!("GET /api/arm?arm=none HTTP/1.1\r\n{word}"), "").await.0, 405);
    assert_eq!(predictor.status().await["arm"], "nearcast");
    let (code, answer) = post(&format!("\r\n{json_kind}\r\n{word}"), body).await;
    assert!(code == 200 && answer.ends_with("{\"schema\":\"nearcast.arm/1\",\"arm\":\"none\"}"), "{answer}");
    assert_eq!(predictor.status().await["arm"], "none");
}

#[tokio::test]
async fn without_a_token_configured_nothing_can_be_changed_from_the_page() {
    let predictor = TestPredictor::start().await;
    let head = "POST /api/arm HTTP/1.1\r\ncontent-type: application/json\r\nauthorization: Bearer word";
    let (code, answer) = predictor.send(head, "{\"arm\":\"none\"}").await;
    assert!(code == 403 && answer.contains("admin_token_file"), "{answer}");
    assert_eq!(predictor.status().await["arm"], "nearcast");
    assert_eq!(page(&predictor).await["controls"]["set_arm"], Value::Null);
}

#[tokio::test]
async fn experiments_are_acted_on_with_the_word_only_and_only_those_that_there_are() {
    let predictor = with_token("").await;
    let path = page(&predictor).await["controls"]["experiment"].clone();
    assert_eq!(path, "/api/experiment");
    let head = "POST /api/experiment HTTP/1.1\r\ncontent-type: application/json";
    let word = format!("{head}\r\nauthorization: Bearer word");
    let abort = r#"{"name":"blend","action":"abort","why":"a test"}"#;
    for (head, body, expected, told) in [
        (head, abort, 401, "admin token"),
        (&*word, abort, 404, "blend"),
        (&*word, r#"{"name":"blend","action":"abrt","why":"a test"}"#, 400, "did you mean `abort`?"),
        (&*word, r#"{"name":"blend","action":"start","why":"a test"}"#, 400, "not done from the page"),
        (&*word, r#"{"name":"blend"}"#, 400, "action"),
    ] {
        let (code, answer) = predictor.send(head, body).await;
        assert!(code == expected && answer.contains(told), "{body}: {code} {answer}");
    }
}

#[tokio::test]
async fn an_experiment_is_shown_with_its_looks_and_aborted_from_the_page() {
    let predictor = with_token("").await;
    let _nodes = join(&predictor).await;
    predictor.experiment("start", &deed(Some(question("trial")))).await.unwrap();
    let shown = page(&predictor).await["experiments"][0].clone();
    assert_eq!((&shown["name"], &shown["arm"], &shown["looks"]), (&json!("trial"), &json!("none"), &json!([])));
    assert!(shown["actions"].as_array().is_some_and(|actions| actions.contains(&json!("abort"))), "{shown}");
    let head = "POST /api/experiment HTTP/1.1\r\ncontent-type: application/json\r\nauthorization: Bearer word";
    let early = r#"{"name":"trial","action":"finish","why":"a test"}"#;
    assert_eq!(predictor.send(head, early).await.0, 409);
    let (code, answer) = predictor.send(head, r#"{"name":"trial","action":"abort","why":"a test"}"#).await;
    assert!(code == 200 && answer.contains("nearcast.experiment-report/1"), "{code} {answer}");
    let changes = page(&predictor).await["experiments"][0]["changes"].clone();
    let abort = changes.as_array().and_then(|changes| changes.iter().find(|change| change["action"] == "abort"));
    assert_eq!(
        abort.map(|abort| (&abort["who"], &abort["why"])),
        Some((&json!("page"), &json!("a test"))),
        "{changes}"
    );
}
