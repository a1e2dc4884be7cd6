//! Metrics, rules and the dashboard hold together.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    http::{Http, eventually},
    r#loop::Loop,
    promtool::{SKIPPED, check_metrics, promtool},
    series::{Series, asked, grouped, scraped},
    service::Service,
};

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

#[test]
fn promtool_takes_the_rules_and_their_tests_pass() {
    let Some(promtool) = promtool() else {
        println!("{SKIPPED}");
        return;
    };
    for (what, file) in [("check", "prometheus/nearcast.rules.yml"), ("test", "prometheus/nearcast.test.yml")] {
        let output = Command::new(&promtool).args([what, "rules"]).arg(deploy(file)).output().expect("it runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{what} {file}: {said}");
    }
}

/// Every alert of the rules is made to fire by their tests.
#[test]
fn no_alert_is_untested() {
    let read = |file| fs::read_to_string(deploy(file)).expect("it is there");
    let (rules, tests) = (read("prometheus/nearcast.rules.yml"), read("prometheus/nearcast.test.yml"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} is not in the tests");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_dashboard_ask_only_for_series_that_running_processes_have() {
    let (mut cluster, http) = (Loop::start(), Http::new());
    cluster.play(3_000);
    let predictor = format!("{}/metrics", cluster.http);
    let read = async |url: &str| {
        String::from_utf8(http.get(url, "test").await.expect("an answer").body.to_vec()).expect("text")
    };
    eventually("outcomes", async || {
        let text = read(&predictor).await;
        text.lines()
            .any(|line| line.starts_with("nearcast_prefetch_outcomes_total{outcome=\"used\"}") && !line.ends_with(" 0"))
    })
    .await;
    let documents = [read(&predictor).await, read(&format!("{}/_nearcast/metrics", cluster.nodes[0].ready)).await];
    match promtool() {
        Some(promtool) => documents.iter().for_each(|document| check_metrics(&promtool, document.as_bytes())),
        None => println!("{SKIPPED}"),
    }
    let mut there = Series::new();
    for (name, labels) in documents.iter().flat_map(|document| scraped(document)) {
        there.entry(name).or_default().extend(labels);
    }
    let rules = fs::read_to_string(deploy("prometheus/nearcast.rules.yml")).expect("it is there");
    for line in rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")) {
        there.insert(line.to_owned(), BTreeSet::from(["arm".to_owned()]));
    }
    let dashboard: Value =
        serde_json::from_slice(&fs::read(deploy("grafana/nearcast.json")).expect("it is there")).expect("JSON");
    let mut expressions = rule_expressions(&rules);
    let of_rules = expressions.len();
    strings(&dashboard, &["expr", "query", "definition"], &mut expressions);
    assert!(of_rules > 15 && expressions.len() > of_rules + 25, "{} of {of_rules}", expressions.len());
    for expression in &expressions {
        check(expression, &there);
    }
    assert!(Service::terminate(cluster.nodes.remove(1)).success());
    eventually("the node that left", async || {
        read(&predictor).await.contains("nearcast_predictor_node_up{node=\"edu-1\"} 0\n")
    })
    .await;
}

/// Holds an expression against what there is; `instance` and `job` are Prometheus's own.
fn check(expression: &str, there: &Series) {
    let own = ["instance", "job"].map(str::to_owned);
    let mut known: BTreeSet<String> = own.clone().into();
    for (name, labels) in asked(expression) {
        let Some(has) = there.get(&name) else { panic!("there is no series {name}, which `{expression}` asks for") };
        for label in labels.iter().filter(|label| !own.contains(label)) {
            // Asking for its absence tells a node's own count from the predictor's.
            let is_absence = expression.contains(&format!("{label}=\"\""));
            assert!(has.contains(label) || is_absence, "{name} has no label {label}, which `{expression}` asks for");
        }
        known.extend(has.iter().cloned());
    }
    for label in grouped(expression) {
        assert!(known.contains(&label), "no series in `{expression}` has the label {label}");
    }
}

/// The expressions of a rules file: on the line of `expr:`, or indented below it.
fn rule_expressions(rules: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = rules.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(first) = line.trim().strip_prefix("expr: ") else { continue };
        let indent = line.len() - line.trim_start().len();
        let mut expression = if first == "|" { String::new() } else { first.to_owned() };
        while let Some(more) = lines.next_if(|more| first == "|" && more.len() - more.trim_start().len() > indent) {
            expression = format!("{expression} {}", more.trim());
        }
        found.push(expression);
    }
    found
}

/// The texts under any of these names that ask for something.
fn strings(value: &Value, names: &[&str], found: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| strings(value, names, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if names.contains(&name.as_str()) && text.contains("nearcast") => {
                        found.push(text.clone())
                    }
                    _ => strings(value, names, found),
                }
            }
        }
        _ => {}
    }
}
