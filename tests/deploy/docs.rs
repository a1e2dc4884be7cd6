//! docs/operations.md and docs/scale.md name alerts, settings, messages and files that exist.

use std::{collections::BTreeSet, fs, process::Command};

use crate::{
    files::{read, root},
    service::nearcast,
};

fn doc(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).expect("it is there")
}

/// What stands between single backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_alert_is_explained_and_no_other() {
    let rules = read("prometheus/nearcast.rules.yml");
    let alerts: BTreeSet<String> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect();
    let named = |name: &String| name.starts_with("Nearcast") && name.chars().all(char::is_alphanumeric);
    let explained: BTreeSet<String> = quoted(&doc("operations.md")).into_iter().filter(named).collect();
    assert_eq!(alerts, explained);
}

/// A word such as `engine.keys_max`, given a value of a kind that no setting has, is refused for its kind and not as unknown.
#[test]
fn every_setting_that_is_named_exists() {
    let sections = [
        ("predictor", &["engine", "placement", "queues", "shadow"][..]),
        ("node", &["front", "index", "log", "origin", "peers", "predictor", "prefetch", "store"]),
    ];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("config.toml");
    let mut checked = 0;
    for word in quoted(&doc("operations.md")).union(&quoted(&doc("scale.md"))) {
        let Some((section, key)) = word.split_once('.') else { continue };
        // Files of the data folders are none.
        let is_key = !["journal", "jsonl"].contains(&key) && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let Some((service, _)) = sections.iter().find(|(_, known)| known.contains(&section)).filter(|_| is_key) else {
            continue;
        };
        let rest = match *service {
            "node" if section != "origin" => {
                "name = \"n\"\nregion = \"eu\"\nlisten = \"127.0.0.1:0\"\ncapacity = \"8MiB\"\n[origin]\nurl = \"http://127.0.0.1:9\"\n"
            }
            "node" => "name = \"n\"\nregion = \"eu\"\nlisten = \"127.0.0.1:0\"\ncapacity = \"8MiB\"\n",
            _ => "",
        };
        let text = format!("data_dir = \"d\"\n{rest}[{section}]\n{key} = [[[]]]\n");
        fs::write(&path, text).expect("writable");
        let output = nearcast(&[service, "--check", "-c", path.to_str().expect("UTF-8")]).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !said.contains("unknown field"), "`{word}`: {said}");
        checked += 1;
    }
    assert!(checked >= 20, "only {checked} settings were found");
}

/// Messages, series and files of the tables stand in the sources, word by word.
#[test]
fn messages_and_series_are_ones_that_the_program_has() {
    let search = Command::new("git")
        .args(["grep", "-h", "-I", "", "--", "*/src/*.rs", "src/*.rs", "deploy"])
        .current_dir(root())
        .output();
    let sources = String::from_utf8_lossy(&search.expect("git is there").stdout).into_owned();
    assert!(sources.len() > 1 << 20, "the sources were not found");
    let mut checked = 0;
    for word in quoted(&doc("operations.md")) {
        let is_message = word.contains(' ')
            && !["nearcast", "systemctl", "python3", "cargo", "kubectl", "docker"]
                .iter()
                .any(|command| word.starts_with(command));
        if !word.starts_with("nearcast_") && !is_message {
            continue;
        }
        // A series stands there without its prefix, label and suffix.
        let name = word.split('{').next().unwrap_or(&word).trim_start_matches("nearcast_").trim_end_matches("_total");
        let name = name.strip_prefix("predictor_").filter(|_| !is_message).unwrap_or(name).trim_end_matches("_seconds");
        assert!(sources.contains(name), "`{word}` is nowhere in the sources");
        checked += 1;
    }
    assert!(checked >= 20, "only {checked} were found");
}

/// The tables in docs/scale.md are what the command beside them prints.
#[test]
fn the_capacity_model_prints_the_tables_of_its_page() {
    let Some(python) = ["python3.11", "python3"].into_iter().find(|python| {
        Command::new(python).args(["-c", "import tomllib"]).output().is_ok_and(|output| output.status.success())
    }) else {
        println!("skipped: no Python from 3.11 on");
        return;
    };
    let page = doc("scale.md");
    for command in ["model", "constants"] {
        let output = Command::new(python).arg(root().join("bench/scale.py")).arg(command).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        for line in printed.lines() {
            assert!(page.contains(line.trim()), "docs/scale.md lacks what `bench/scale.py {command}` prints: {line}");
        }
    }
}
