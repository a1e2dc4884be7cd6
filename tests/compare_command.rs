//! `nearcast compare` and `nearcast evaluate --report` as processes, on two small versions of the bundled log.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn nearcast(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nearcast")).args(arguments).output().expect("the command starts")
}

/// What a command that must succeed prints.
fn succeed(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = nearcast(arguments);
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8")
}

fn sample() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/samples/web-1995.parquet").display().to_string()
}

/// Publishes v0001, whose network is too narrow to learn much, and v0002.
fn publish_two(registry: &str) {
    let log = sample();
    for width in ["2", "16"] {
        let embedding = format!("model.sequence.embedding_width={width}");
        let hidden = format!("model.sequence.hidden_width={width}");
        let settings = [&embedding, &hidden, "gate.requests_max=0", "blend.examples_max=500", FEW];
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        let train = ["train", &log, "--registry", registry, "--epochs", "4", "--no-checkpoints"];
        succeed(&train.into_iter().chain(settings).collect::<Vec<_>>());
    }
}

/// The measured metric of this name.
fn metric<'a>(comparison: &'a Value, method: &str, name: &str) -> &'a Value {
    let metrics = comparison["measured"]["metrics"].as_array().expect("a list");
    let found = metrics.iter().find(|found| {
        (&found["method"], &found["metric"], &found["with_repeats"]) == (&method.into(), &name.into(), &false.into())
    });
    found.expect("it is there")
}

#[test]
fn two_versions_are_compared_on_the_same_requests_with_intervals() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = folder.path().display().to_string();
    publish_two(&registry);
    let both = ["compare", "v0001", "v0002", "--registry", &registry, "--set", FEW];
    let compare = |more: &[&str]| succeed(&[&both, more].concat());

    let json = compare(&[&sample(), "--json"]);
    let found: Value = serde_json::from_str(&json).expect("one JSON document");
    assert_eq!(found["schema"], "nearcast.compare/1");
    let settings: Vec<_> = found["config"].as_array().expect("a list").iter().map(|found| &found["name"]).collect();
    assert_eq!(settings, ["model.sequence.embedding_width", "model.sequence.hidden_width"]);
    assert_eq!(found["recorded_on_the_same"], true);
    let mrr = metric(&found, "sequence", "mrr_20");
    assert!(mrr["low"].as_f64() > Some(0.0), "the wider network is clearly better: {mrr}");
    assert!(mrr["low"].as_f64() < mrr["difference"].as_f64() && mrr["difference"].as_f64() < mrr["high"].as_f64());
    let recorded = &found["recorded"].as_array().expect("a list");
    let of = "evaluation/next_key/methods/sequence/without_repeats/mrr_20";
    let recorded = recorded.iter().find(|found| found["name"] == of).expect("it is there");
    for side in ["a", "b"] {
        let (measured, told) = (mrr[side].as_f64().expect("a number"), recorded[side].as_f64().expect("a number"));
        assert!((measured - told).abs() < 1e-9, "{side}: measured {measured}, recorded {told}");
    }
    assert_eq!(json, compare(&[&sample(), "--json"]), "the seed decides the draws");
    let by_client: Value = serde_json::from_str(&compare(&[&sample(), "--blocks", "client", "--json"])).expect("JSON");
    assert!(by_client["measured"]["block_count"].as_u64() > found["measured"]["block_count"].as_u64());

    let text = compare(&[&sample()]);
    assert!(text.contains("v0002 is better") && text.contains("paired bootstrap of"), "{text}");
    assert!(compare(&[]).contains("no intervals: give a log"));
    let log = sample();
    let same = ["compare", "v0002", "champion", &log, "--registry", &registry, "--json", "--set", FEW];
    let same = succeed(&same);
    let same: Value = serde_json::from_str(&same).expect("JSON");
    assert_eq!(metric(&same, "model", "hit_rate_20")["a"], metric(&found, "model", "hit_rate_20")["b"]);

    let place = |version: &str| folder.path().join("versions").join(version).display().to_string();
    let by_folder = succeed(&["compare", &place("v0002"), &place("v0002"), &sample(), "--set", FEW]);
    assert!(by_folder.contains("made with the same settings") && !by_folder.contains("is better"), "{by_folder}");
    let refused = nearcast(&["compare", "v0001", "v0009", "--registry", &registry]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no version or alias `v0009`"));
    let refused = nearcast(&["compare", "v0001", "v0002", "--registry", &registry, "--level", "1"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--level is 1, but must be between 0 and 1"));
}

#[test]
fn a_report_shows_curves_regions_hours_and_what_is_known_of_a_key() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = folder.path().join("models").display().to_string();
    let log = sample();
    let quick = ["--set", "gate.requests_max=0", "--set", "blend.examples_max=500", "--set", FEW];
    succeed(&[&["train", &log, "--registry", &registry, "--epochs", "2"][..], &quick].concat());
    let own = fs::read_to_string(folder.path().join("models/versions/v0001/report.html")).expect("a report");
    let path = folder.path().join("report.html").display().to_string();
    let key = "/shuttle/missions/missions.html";
    succeed(&["evaluate", "champion", &log, "--registry", &registry, "--report", &path, "--key", key, "--set", FEW]);
    let page = fs::read_to_string(&path).expect("a report");
    for report in [&own, &page] {
        for title in ["Learning curves", "Reliability", "By region", "By hour", "What it knows about keys"] {
            assert!(report.contains(&format!("<h2>{title}</h2>")), "{title}");
        }
        assert!(!report.contains("<script") && !report.contains("src=") && !report.contains("NaN"));
    }
    assert!(page.contains(&format!("<h3>{key}</h3>")) && page.matches("<h3>").count() == 1);
    assert!(page.contains("next by the same client</td><td>/"), "a frequent key has successors");
    let refused = nearcast(&["evaluate", "champion", &log, "--registry", &registry, "--key", key]);
    assert_eq!(refused.status.code(), Some(2), "a key is for the report");
}

/// As few predictions as still tell the two apart.
const FEW: &str = "evaluate.predictions_max=2000";
