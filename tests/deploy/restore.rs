//! What docs/operations.md says of backup and restore, done: everything but what was backed up is lost, and what comes back
//! is what it says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nearcast_datasets::{LogSource, read_events};
use nearcast_models::Registry;
use serde_json::Value;

use crate::{
    containers::is_healthy,
    http::{Http, eventually},
    service::{LOG, Service, nearcast},
    version,
};

/// Where everything of the deployment is.
struct Site {
    folder: tempfile::TempDir,
    origin: Service,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let origin = Service::start(&["origin", LOG, "--listen", "127.0.0.1:0"]);
        version::save(&folder.path().join("version"), 7).expect("a version");
        let registry = Registry::open(&folder.path().join("models").to_string_lossy()).expect("a registry");
        let name = registry.publish(&folder.path().join("version")).expect("published");
        registry.alias("champion", name).expect("an alias");
        Self { folder, origin }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn predictor(&self) -> Service {
        let config = self.path("predictor.toml");
        let text = "listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\ndata_dir = \"predictor\"\n\
                    registry = \"models\"\nregistry_poll_seconds = 0.1\n";
        fs::write(&config, text).expect("writable");
        Service::start(&["predictor", "-c", config.to_str().expect("UTF-8")])
    }

    fn node(&self, name: &str, predictor: &Service) -> Service {
        let config = self.path(&format!("{name}.toml"));
        let text = format!(
            "name = \"{name}\"\nregion = \"eu\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"{name}\"\ncapacity = \"16MiB\"\n\
             [origin]\nurl = \"{}\"\n[peers]\nhash_homes = false\n[predictor]\nurl = \"{}\"\n",
            self.origin.ready,
            predictor.addresses().1
        );
        fs::write(&config, text).expect("writable");
        Service::start(&["node", "-c", config.to_str().expect("UTF-8")])
    }

    /// Who asked for [`KEY`], by the request log of a node that has ended.
    fn clients(&self, node: &str) -> Vec<String> {
        let logs = self.path(node).join("logs").display().to_string();
        let events = read_events(&LogSource::parse(&logs).expect("a place")).expect("a log");
        let events = events.map(|event| event.expect("a row"));
        events.filter(|event| event.key == KEY).map(|event| event.client).collect()
    }
}

/// Copies what docs/operations.md lists, and nothing else.
fn back_up(site: &Path, backup: &Path) {
    for file in ["models/aliases/champion", "lost/client.key", "predictor.toml", "lost.toml", "stays.toml"] {
        copy(&site.join(file), &backup.join(file));
    }
    for folder in ["models/versions", "models/claims", "predictor/experiments"] {
        copy_all(&site.join(folder), &backup.join(folder));
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("readable").path();
        let place = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() { copy_all(&entry, &place) } else { copy(&entry, &place) }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a folder")).expect("made");
    fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

async fn await_node(http: &Http, predictor: &Service, name: &str) -> Value {
    let url = format!("{}/status", predictor.addresses().0);
    let is_there = |status: &Value| {
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        let is_connected = nodes.iter().any(|node| node["name"] == name && node["alive"] == true);
        is_connected && !status["model"].is_null()
    };
    eventually("a connected node and a model", async || is_there(&http.json(&url).await)).await;
    http.json(&url).await
}

async fn asked_of_the_origin(site: &Site, http: &Http) -> u64 {
    http.json(&format!("{}/_nearcast/status", site.origin.ready)).await["requests"].as_u64().expect("a count")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_backed_up_brings_a_lost_site_back() {
    let (site, backup, http) = (Site::new(), tempfile::tempdir().expect("a temporary folder"), Http::new());
    let predictor = site.predictor();
    let (lost, stays) = (site.node("lost", &predictor), site.node("stays", &predictor));
    await_node(&http, &predictor, "lost").await;
    await_node(&http, &predictor, "stays").await;
    assert!(is_healthy(&lost.ready, KEY) && is_healthy(&stays.ready, KEY));
    let purge =
        nearcast(&["purge", "--to", &stays.ready, &lost.ready, "--predictor", predictor.addresses().1, "--key", OTHER]);
    assert!({ purge }.status().expect("it runs").success());
    back_up(site.folder.path(), backup.path());

    // The predictor's machine and that of one node are gone, without a word; the other node's goes on.
    predictor.kill();
    assert!(lost.terminate().success());
    let before = site.clients("lost");
    for folder in ["predictor", "models", "lost"] {
        fs::remove_dir_all(site.path(folder)).expect("removed");
    }
    assert!(is_healthy(&stays.ready, KEY), "a node without a predictor serves");
    assert!(stays.terminate().success());
    copy_all(backup.path(), site.folder.path());

    let predictor = site.predictor();
    let (lost, stays) = (site.node("lost", &predictor), site.node("stays", &predictor));
    await_node(&http, &predictor, "stays").await;
    let status = await_node(&http, &predictor, "lost").await;
    assert_eq!(status["model"]["version"], "v0001", "{status}");
    // The log of purges is another one, so what the node held is served once the origin has confirmed it, and then as ever.
    let asked = asked_of_the_origin(&site, &http).await;
    assert!(is_healthy(&stays.ready, KEY) && is_healthy(&stays.ready, KEY));
    assert_eq!(asked_of_the_origin(&site, &http).await, asked + 1, "the origin is asked once");
    // Clients keep their pseudonyms, and sessions of before and after are one.
    assert!(is_healthy(&lost.ready, KEY) && lost.terminate().success());
    assert_eq!((before.len(), site.clients("lost")), (1, before));
    assert!(stays.terminate().success() && predictor.terminate().success());
}

const KEY: &str = "/history/apollo/apollo-13/apollo-13.html";
const OTHER: &str = "/images/launch-logo.gif";
