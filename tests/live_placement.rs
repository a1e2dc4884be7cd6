//! Placement with real processes: nodes die, stall, come back and join while clients ask, and everything they ask for is
//! answered as the origin would.
//!
//! With `NEARCAST_BARS=1`, times are held against the bars that placement was built to; without it against ten times as
//! much, since CI's machines are slow and shared.
//!
//! `NEARCAST_CHAOS_EVENTS=100 NEARCAST_CHAOS_SEED=7 cargo nextest run -p nearcast --test live_placement` asks for more
//! events than CI does; what fails says how to repeat it.

mod support {
    pub(crate) mod http;
    pub(crate) mod placed;
    pub(crate) mod service;
}

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use support::{
    http::eventually,
    placed::{Load, Placed, Settings, key, percentile},
    service::nearcast,
};
use tokio::time::{Instant, sleep};

/// Plans each second; each node has room for a sixth of all objects, for placed ones a half of that.
const SETTINGS: Settings = Settings {
    keys: 400,
    object_bytes: 30_000,
    capacity: "2MiB",
    placement: "kind = \"gapa\"\ninterval_seconds = 1.0\nrequests_min = 50\ngrace_seconds = 0.5\nhalf_life_seconds = 900\n",
    node: "",
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_costs_no_client_an_error_and_a_new_one_takes_its_share() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut cluster = Placed::start(folder.path(), 5, SETTINGS).await;
    let load = Load::start(&cluster, 4, Duration::from_millis(60), 1);
    await_placed(&cluster).await;
    explains_and_shows(&cluster).await;
    sleep(Duration::from_secs(4)).await;

    // Death.
    let died = Instant::now();
    cluster.kill(2);
    sleep(Duration::from_secs(8)).await;
    let before = percentile(load.between(died - Duration::from_secs(4), died), 0.99);
    let at_once = percentile(load.between(died, died + Duration::from_secs(5)), 0.99);
    let after = percentile(load.between(died + Duration::from_secs(5), died + Duration::from_secs(8)), 0.99);
    say(&format!("p99 {before:.1?} before, {at_once:.1?} in the first 5 s, {after:.1?} from then on"));
    assert!(after <= bar(before.mul_f64(1.1)) + NOISE, "p99 was {before:?} and is {after:?} after 5 s");
    assert_replicas_restored(&cluster, "n2").await;

    // Birth.
    let before = homes(&cluster);
    let joined = Instant::now();
    cluster.add_node("n5");
    let share = |homes: &BTreeMap<String, String>| homes.values().filter(|home| *home == "n5").count();
    eventually("a share of the hashed keys", async || share(&homes(&cluster)) > 0).await;
    let hashed_after = joined.elapsed();
    eventually("a share of the placed keys", async || planned_bytes(&cluster, "n5").await > 0).await;
    say(&format!(
        "a new node had its hashed share after {hashed_after:.1?}, its placed one after {:.1?}",
        joined.elapsed()
    ));
    assert!(joined.elapsed() < bar(Duration::from_secs(10)));
    let after = homes(&cluster);
    let moved = before.iter().filter(|(key, home)| after.get(*key) != Some(*home)).count();
    let share = moved as f64 / before.len() as f64;
    say(&format!("{:.1} % of the keys have another home, of 5 nodes", 100.0 * share));
    assert!(share <= 1.0 / 5.0 + 0.05, "{moved} of {} keys moved", before.len());

    // Retirement.
    let drained = nearcast(&["--json", "drain", "n1", "--predictor", cluster.predictor_urls().1, "--wait", "30"]);
    let output = { drained }.output().expect("it runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.success(), "{report} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&report["draining"], &report["keys"]), (&true.into(), &0.into()));
    assert!(homes(&cluster).values().all(|home| home != "n1"));

    let (answered, faults) = load.stop().await;
    assert!(faults.is_empty(), "{} of {answered} requests failed: {faults:#?}", faults.len());
    cluster.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_die_stall_and_come_back_at_random_lose_nothing() {
    let count = number("NEARCAST_CHAOS_EVENTS").unwrap_or(12);
    let seed = number("NEARCAST_CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let repeat = format!(
        "NEARCAST_CHAOS_EVENTS={count} NEARCAST_CHAOS_SEED={seed} cargo nextest run -p nearcast --test live_placement"
    );
    say(&format!("repeat with {repeat}"));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut cluster = Placed::start(folder.path(), 5, SETTINGS).await;
    let load = Load::start(&cluster, 3, Duration::from_millis(60), seed);
    await_placed(&cluster).await;
    let mut log = Vec::new();
    for _ in 0..count {
        let event = shake(&mut cluster, &mut rng);
        log.push(event);
        sleep(Duration::from_millis(rng.random_range(100..1_200))).await;
    }
    for node in 0..cluster.nodes.len() {
        if cluster.is_stopped(node) {
            cluster.stall(node, false);
        } else if !cluster.is_running(node) {
            cluster.restart(node);
        }
    }
    let (answered, faults) = load.stop().await;
    assert!(faults.is_empty(), "{} of {answered} failed: {faults:#?}\nafter {log:?}\n{repeat}", faults.len());
    say(&format!("{answered} answers, each as the origin's, over {count} events: {log:?}"));
    cluster.await_links().await;
    for url in cluster.urls() {
        for (key, body) in cluster.bodies.iter() {
            let answer = cluster.http.get(&format!("{url}{key}"), "test").await.expect(&repeat);
            assert!(answer.status == 200 && answer.body == *body, "{url}{key}: {}\n{repeat}", answer.status);
        }
    }
    assert_map_is_true(&cluster).await;
    cluster.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_changes_reach_thirteen_nodes_within_a_second() {
    let settings = Settings {
        keys: 10_000,
        object_bytes: 100,
        capacity: "16MiB",
        // One plan when all has been asked for, after which nothing more is fetched.
        placement: "kind = \"reactive\"\ninterval_seconds = 3600\nrequests_min = 20000\nbytes_per_second = 1\n",
        node: "",
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cluster = Placed::start(folder.path(), 13, settings).await;
    let urls = cluster.urls();
    let asked = (0..10_000).flat_map(|number| urls[..2].iter().map(move |url| format!("{url}{}", key(number))));
    let http = &cluster.http;
    let answers = futures::stream::iter(asked).map(|url| async move { http.get(&url, "test").await });
    let bad = answers.buffer_unordered(64).filter(|answer| {
        let is_bad = answer.as_ref().map_or(true, |answer| answer.status != 200);
        async move { is_bad }
    });
    assert_eq!(bad.count().await, 0);
    eventually("a plan that has reached all nodes", async || {
        let placement = cluster.placement().await;
        let nodes = placement["nodes"].as_array().cloned().unwrap_or_default();
        placement["keys_placed"].as_u64() > Some(0) && nodes.iter().all(|node| node["epoch"] == placement["epoch"])
    })
    .await;
    let placement = cluster.placement().await;
    let changed = placement["keys_changed"].as_u64().unwrap_or(0);
    let nodes = placement["nodes"].as_array().cloned().unwrap_or_default();
    let took: Vec<f64> = nodes.iter().filter_map(|node| node["caught_up_seconds"].as_f64()).collect();
    let slowest = took.iter().copied().fold(0.0, f64::max);
    say(&format!("{changed} changes reached {} nodes in {slowest:.3} s", took.len()));
    assert!(changed >= 9_900 && took.len() == 13, "{placement}");
    assert!(slowest <= bar(Duration::from_secs(1)).as_secs_f64(), "{took:?}");
    for url in &urls {
        let status = cluster.http.json(&format!("{url}/_nearcast/status")).await;
        assert_eq!(status["link"]["placed_keys"].as_u64(), Some(changed), "{url}");
    }
    cluster.end();
}

/// Does something to a node; at least two are left alone.
fn shake(cluster: &mut Placed, rng: &mut ChaCha8Rng) -> String {
    let all = 0..cluster.nodes.len();
    let well: Vec<usize> = all.clone().filter(|node| cluster.is_running(*node) && !cluster.is_stopped(*node)).collect();
    let unwell: Vec<usize> = all.filter(|node| !well.contains(node)).collect();
    let is_to_heal = well.len() <= 2 || (!unwell.is_empty() && rng.random_bool(0.5));
    let node = *if is_to_heal { &unwell } else { &well }.choose(rng).expect("there is one");
    let name = cluster.nodes[node].name.clone();
    if !is_to_heal && rng.random_bool(0.5) {
        cluster.kill(node);
        return format!("kill {name}");
    }
    if !is_to_heal {
        cluster.stall(node, true);
        return format!("stall {name}");
    }
    if cluster.is_stopped(node) {
        cluster.stall(node, false);
        return format!("wake {name}");
    }
    cluster.restart(node);
    format!("rejoin {name}")
}

/// Waits until keys are placed and their holders are on the map.
async fn await_placed(cluster: &Placed) {
    eventually("placed keys", async || cluster.placement().await["keys_placed"].as_u64() > Some(20)).await;
}

/// `nearcast map`, the status, metrics and events tell of it.
async fn explains_and_shows(cluster: &Placed) {
    let (http, grpc) = cluster.predictor_urls();
    eventually("a popular key that is placed and held", async || {
        let report = map(grpc, &[key(0)]);
        let key = &report["keys"][0];
        let nodes = key["placement"]["nodes"].as_array().cloned().unwrap_or_default();
        let kept = nodes.iter().filter(|node| node["pinned"] == true && node["on_map"] == true);
        key["how"] == "placed" && kept.count() >= 2 && key["placement"]["uses"].as_u64() > Some(0)
    })
    .await;
    eventually("round trips as nodes measure them", async || {
        let placement = cluster.placement().await;
        let links = placement["measured_links"].as_array().cloned().unwrap_or_default();
        let is_measured = |link: &&Value| link["nodes"].as_u64() >= Some(2) && link["is_bounded"] == false;
        let key = map(grpc, &[key(0)])["keys"][0].clone();
        let nodes = key["placement"]["nodes"].as_array().cloned().unwrap_or_default();
        links.iter().filter(is_measured).count() >= 3 && nodes.iter().any(|node| node["next_is_measured"] == true)
    })
    .await;
    let metrics = cluster.http.get(&format!("{http}/metrics"), "test").await.expect("metrics");
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains("nearcast_placement{quantity=\"keys_placed\"}"), "{metrics}");
    let events = std::fs::read_to_string(cluster.folder.join("predictor/events.jsonl")).expect("events");
    let is_ours = |line: &&str| line.contains("dev.nearcast.command.issued") && line.contains("\"by\":\"placement\"");
    let event: Value = serde_json::from_str(events.lines().find(is_ours).expect("a command")).expect("JSON");
    assert!(event["data"]["epoch"].is_u64() && event["data"]["deadline_us"].is_i64() && event["specversion"] == "1.0");
}

/// Every placed key has two holders again, none of which is the dead node.
async fn assert_replicas_restored(cluster: &Placed, dead: &str) {
    let grpc = cluster.predictor_urls().1;
    let start = Instant::now();
    eventually("as many replicas as before", async || {
        let report = map(grpc, &(0..40).map(key).collect::<Vec<_>>());
        let keys = report["keys"].as_array().cloned().unwrap_or_default();
        let placed: Vec<_> = keys.iter().filter(|key| key["how"] == "placed").collect();
        let meant = |key: &Value| -> Vec<String> {
            let nodes = key["placement"]["nodes"].as_array().cloned().unwrap_or_default();
            let wanted = nodes.iter().filter(|node| node["reason"].is_string() && node["holds"] == true);
            wanted.map(|node| node["name"].as_str().unwrap_or_default().to_owned()).collect()
        };
        let has_enough = |key: &&Value| {
            let meant = meant(key);
            meant.len() >= 2 && !meant.iter().any(|name| name == dead)
        };
        !placed.is_empty() && placed.iter().filter(|key| has_enough(key)).count() * 10 >= placed.len() * 9
    })
    .await;
    say(&format!("replicas restored {:.1?} after they were looked for", start.elapsed()));
}

/// Whoever is on the map holds what it says; every node has the map.
async fn assert_map_is_true(cluster: &Placed) {
    eventually("nodes that follow the map", async || {
        let placement = cluster.placement().await;
        let nodes = placement["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().filter(|node| node["connected"] == true).all(|node| node["epoch"] == placement["epoch"])
    })
    .await;
    let grpc = cluster.predictor_urls().1;
    eventually("a map that is true", async || {
        let report = map(grpc, &(0..100).map(key).collect::<Vec<_>>());
        let nodes = report["keys"].as_array().cloned().unwrap_or_default();
        let mut nodes = nodes.iter().flat_map(|key| key["placement"]["nodes"].as_array().cloned().unwrap_or_default());
        nodes.all(|node| node["on_map"] == false || node["holds"] == true)
    })
    .await;
}

/// What `nearcast map` says.
fn map(predictor: &str, keys: &[String]) -> Value {
    let mut arguments = vec!["--json", "map", "--predictor", predictor];
    arguments.extend(keys.iter().map(String::as_str));
    let output = nearcast(&arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The home of every key.
fn homes(cluster: &Placed) -> BTreeMap<String, String> {
    let report = map(cluster.predictor_urls().1, &(0..SETTINGS.keys).map(key).collect::<Vec<_>>());
    let keys = report["keys"].as_array().expect("keys").iter();
    keys.map(|key| (text(&key["key"]), text(&key["home"]))).collect()
}

async fn planned_bytes(cluster: &Placed, name: &str) -> u64 {
    let placement = cluster.placement().await;
    let nodes = placement["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().find(|node| node["name"] == name).and_then(|node| node["planned_bytes"].as_u64()).unwrap_or(0)
}

/// A bar, or what stands for it where nobody asked for bars.
fn bar(bar: Duration) -> Duration {
    if number("NEARCAST_BARS").is_some() { bar } else { 10 * bar }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Figures, for who runs the test with `--no-capture`.
#[expect(clippy::print_stderr, reason = "a test that fails, or is asked to, shows it")]
fn say(figures: &str) {
    eprintln!("{figures}");
}

/// The objects of the bundled log are for other tests.
const _: &str = support::service::LOG;
/// What a shared machine adds to a percentile of a few seconds.
const NOISE: Duration = Duration::from_millis(25);
