//! Reading what deploy/ ships, without understanding more of its languages than that takes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::Table;

/// Everything below deploy/, or an error of this test.
pub(crate) fn deploy(file: &str) -> PathBuf {
    root().join("deploy").join(file)
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(file: &str) -> String {
    fs::read_to_string(deploy(file)).unwrap_or_else(|error| panic!("deploy/{file}: {error}"))
}

/// A shipped configuration as a table.
pub(crate) fn table(file: &str) -> Table {
    toml::from_str(&read(file)).unwrap_or_else(|error| panic!("deploy/{file}: {error}"))
}

/// Every `KEY value` or `KEY: value` of a text, the value up to white space, a comma or a bracket, comments left out.
pub(crate) fn values(text: &str, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in
        text.lines().map(|line| line.split(" #").next().unwrap_or(line)).filter(|line| !line.trim().starts_with('#'))
    {
        for (at, _) in line.match_indices(key) {
            let starts_a_word =
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/' | '.'));
            let rest = line[at + key.len()..].trim_start();
            let value = rest.split([' ', ',', '}', ']', '"']).find(|part| !part.is_empty());
            if let (true, Some(value)) = (starts_a_word, value) {
                found.push(value.to_owned());
            }
        }
    }
    found
}

/// The one value of a key.
pub(crate) fn value(text: &str, key: &str) -> String {
    let found = values(text, key);
    assert!(found.len() == 1, "{key} is said {} times: {found:?}", found.len());
    found.into_iter().next().unwrap_or_default()
}

/// The port of an address.
pub(crate) fn port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(_, port)| port)
}

/// The words of a JSON or YAML list of strings.
pub(crate) fn words(list: &str) -> Vec<String> {
    let inner = list.trim().trim_start_matches('[').trim_end_matches(']');
    inner.split(',').map(|word| word.trim().trim_matches('"').to_owned()).filter(|word| !word.is_empty()).collect()
}
