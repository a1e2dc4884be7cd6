//! Metrics, rules and the dashboard hold together.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    http::{Http, eventually},
    r#loop::Loop,
    promtool::{SKIPPED, check_metrics, promtool},
    series::{OF_EXPERIMENTS, Series, check, of_dashboard, scraped},
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
    let mut expressions = rule_expressions(&rules);
    let of_rules = expressions.len();
    expressions.extend(of_dashboard());
    assert!(of_rules > 15 && expressions.len() > of_rules + 25, "{} of {of_rules}", expressions.len());
    // tests/experiment.rs holds those of experiments against a predictor that has one.
    for expression in expressions.iter().filter(|expression| !expression.contains(OF_EXPERIMENTS)) {
        check(expression, &there);
    }
    assert!(Service::terminate(cluster.nodes.remove(1)).success());
    eventually("the node that left", async || {
        read(&predictor).await.contains("nearcast_predictor_node_up{node=\"edu-1\"} 0\n")
    })
    .await;
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
