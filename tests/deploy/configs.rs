//! Every configuration that is shipped is one that the program takes.

use std::{fs, path::Path, process::Output};

use serde_json::Value;

use crate::{
    files::{deploy, read, table},
    service::nearcast,
};

/// The configurations that deploy/ ships, and whose they are.
pub(crate) const CONFIGS: [(&str, &str); 7] = [
    ("node", "config/node.toml"),
    ("predictor", "config/predictor.toml"),
    ("node", "container/node-eu.toml"),
    ("node", "container/node-us.toml"),
    ("predictor", "container/predictor.toml"),
    ("node", "kubernetes/node.toml"),
    ("predictor", "kubernetes/predictor.toml"),
];

/// Checks a configuration's text with the program itself. A file that only the deployment has, the admin token, is put into
/// `folder`.
pub(crate) fn check(folder: &Path, service: &str, text: &str) -> Output {
    fs::write(folder.join("admin.token"), "open sesame\n").expect("writable");
    let token = folder.join("admin.token").display().to_string();
    let replaced: Vec<String> = text
        .lines()
        .map(|line| {
            if line.starts_with("admin_token_file = ") {
                format!("admin_token_file = {token:?}")
            } else {
                line.to_owned()
            }
        })
        .collect();
    let path = folder.join("checked.toml");
    fs::write(&path, replaced.join("\n")).expect("writable");
    let path = path.to_str().expect("UTF-8");
    nearcast(&[service, "--check-config", "--json", "-c", path]).output().expect("it runs")
}

#[test]
fn every_shipped_configuration_is_taken_by_the_program() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (service, file) in CONFIGS {
        let text = read(file);
        let output = check(folder.path(), service, &text);
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&document["schema"], &document["valid"]), (&"nearcast.config-check/1".into(), &true.into()));
        assert!(document["would"].as_array().is_some_and(|lines| lines.len() > 4), "{document}");
        // And that is no matter of course.
        let output = check(folder.path(), service, &format!("surplus = 1\n{text}"));
        assert_eq!(output.status.code(), Some(1), "{file}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("unknown field `surplus`"), "{file}");
    }
}

#[test]
fn no_shipped_configuration_is_missing_from_this_test() {
    let mut there = Vec::new();
    for folder in ["config", "container", "kubernetes"] {
        for entry in fs::read_dir(deploy(folder)).expect("a folder") {
            let name = entry.expect("readable").file_name().into_string().expect("UTF-8");
            if name.ends_with(".toml") {
                there.push(format!("{folder}/{name}"));
            }
        }
    }
    there.sort_unstable();
    assert_eq!(there, CONFIGS.map(|(_, file)| file));
}

/// A node that listens everywhere and tells peers that address is reached by none of them.
#[test]
fn nodes_that_listen_everywhere_say_where_they_are_reached() {
    for (_, file) in CONFIGS.iter().filter(|(service, _)| *service == "node") {
        let config = table(file);
        let text = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
        assert!(text("listen").starts_with("0.0.0.0:"), "{file}");
        let (listens, told) = (text("listen"), text("advertise_url"));
        assert_eq!(crate::files::port(&listens), crate::files::port(&told), "{file}");
    }
}

#[test]
fn the_short_flag_says_in_words_what_a_service_would_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("predictor.toml");
    fs::write(&path, "data_dir = \"data\"\narm = \"none\"\n").expect("writable");
    let output = nearcast(&["predictor", "--check", "-c", path.to_str().expect("UTF-8")]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("is valid; with it, the service would"), "{said}");
    for words in ["plain gRPC on 127.0.0.1:7700", "no registry is named", "order nothing", "everybody who reaches gRPC"]
    {
        assert!(said.contains(words), "{said}");
    }
    assert!(!folder.path().join("data").exists(), "checking makes nothing");
}
