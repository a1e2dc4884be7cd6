//! The page of a predictor that shares its work with others.

use std::fs;

use serde_json::{Value, json};

use crate::{
    browser::{SKIPPED, Tab, chromium},
    front::Front,
    http::{Http, eventually},
    page::complaints,
    service::Service,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_tells_who_shares_the_work_and_who_lacks_what() {
    let Some(chromium) = chromium() else {
        println!("{SKIPPED}");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("predictor.toml");
    let text = "listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\ndata_dir = \"data\"\n[page]\nsample_seconds = 0.5\n\
                [bus]\nurl = \"embedded\"\nname = \"p-1\"\npartitions = 4\nlog_bytes_max = 16777216\n";
    fs::write(&config, text).expect("writable");
    let predictor = Service::start(&["predictor", "-c", config.to_str().expect("UTF-8")]);
    let (url, http) = (predictor.addresses().0.trim_end_matches('/'), Http::new());
    eventually("its partitions and offices", async || {
        let fleet = http.json(&format!("{url}/api/status")).await["status"]["fleet"].clone();
        fleet["members"]["p-1"] == 4 && fleet["conducts_experiments"] == "p-1"
    })
    .await;
    let tab = Tab::open(&chromium, &format!("{url}/")).await;
    tab.until("the table", "document.querySelector('#predictor-list tbody tr')").await;
    assert_eq!(rows(&tab).await, [["p-1 (this one)", "4", "conducts experiments", "–"]]);
    let experiments = "document.querySelector('#experiment-list').textContent";
    assert!(tab.value::<String>(experiments).await.contains("No experiment is running"));
    assert_eq!(tab.problems(), [""; 0]);
    tab.close().await;

    let front = Front::start(url, with_others).await;
    let tab = Tab::open(&chromium, &format!("{}/", front.url)).await;
    tab.until("all of them", "document.querySelectorAll('#predictor-list tbody tr').length === 3").await;
    let expected = [
        [NAME, "2", "places keys, conducts experiments", "–"],
        ["p-1 (this one)", "1", "–", "–"],
        ["p-3", "1", "–", "v0004: the registry does not answer"],
    ];
    assert_eq!(rows(&tab).await, expected);
    let said: String = tab.value("document.querySelector('#predictor-list').textContent").await;
    assert!(said.contains("no block of its experiment counts"), "{said}");
    let said: String = tab.value(experiments).await;
    assert!(said.contains(&format!("Experiments are conducted by predictor {NAME}: its page shows them")), "{said}");
    assert_eq!(complaints(&tab, "predictors").await, [""; 0]);
    assert_eq!(tab.problems(), [""; 0]);
    tab.close().await;
}

async fn rows(tab: &Tab) -> Vec<Vec<String>> {
    let rows = "[...document.querySelectorAll('#predictor-list tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))";
    tab.value(rows).await
}

fn with_others(document: &mut Value) {
    let fleet = &mut document["status"]["fleet"];
    fleet["members"] = json!({ NAME: 2, "p-1": 1, "p-3": 1 });
    (fleet["places_keys"], fleet["conducts_experiments"]) = (NAME.into(), NAME.into());
    fleet["arms_lacking"] = json!({ "p-3": { "v0004": "the registry does not answer" } });
}

/// A name that must stay text.
const NAME: &str = "a <b>wide</b> name";
