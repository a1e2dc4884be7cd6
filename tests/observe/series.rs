//! Which series an expression asks for, and which there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

/// Names of series, and the labels that each has.
pub(crate) type Series = BTreeMap<String, BTreeSet<String>>;

/// What a document of metrics, in the Prometheus text format, has.
pub(crate) fn scraped(document: &str) -> Series {
    let mut series = Series::new();
    for line in document.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, labels) = asked(line).into_iter().next().unwrap_or_default();
        series.entry(name).or_default().extend(labels);
    }
    series
}

/// What an expression selects: names that begin with `nearcast`, with the labels in braces after them.
pub(crate) fn asked(expression: &str) -> Vec<(String, BTreeSet<String>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find("nearcast") {
        let is_inside_word = rest[..start].chars().next_back().is_some_and(is_name);
        let name: String = rest[start..].chars().take_while(|c| is_name(*c)).collect();
        rest = &rest[start + name.len()..];
        let braces = rest.strip_prefix('{').and_then(|labels| labels.split_once('}')).map(|(labels, _)| labels);
        if !is_inside_word && name.len() > "nearcast_".len() {
            found.push((name, braces.map(labels).unwrap_or_default()));
        }
    }
    found
}

/// The labels of `a="x",b=~"y"`; values may hold anything but quotes.
fn labels(braces: &str) -> BTreeSet<String> {
    let outside = braces.split('"').step_by(2);
    let words = outside.flat_map(|part| part.split(['=', '!', '~', ',', ' ']));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The labels that an expression groups by or leaves out.
pub(crate) fn grouped(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for word in ["by", "without", "ignoring", "on"] {
        for (at, _) in expression.match_indices(&format!("{word} (")) {
            let list =
                expression[at..].split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(list, _)| list);
            found.extend(list.unwrap_or_default().split(',').map(|label| label.trim().to_owned()));
        }
    }
    found.remove("");
    found
}

/// Holds an expression against what there is; `instance` and `job` are Prometheus's own.
pub(crate) fn check(expression: &str, there: &Series) {
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

/// What the dashboard asks for.
pub(crate) fn of_dashboard() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/nearcast.json");
    let dashboard: Value = serde_json::from_slice(&fs::read(path).expect("it is there")).expect("JSON");
    let mut found = Vec::new();
    strings(&dashboard, &["expr", "query", "definition"], &mut found);
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

/// What series of experiments begin with: they are there while an experiment is.
pub(crate) const OF_EXPERIMENTS: &str = "nearcast_experiment_";

#[test]
fn names_and_labels_are_found_in_expressions() {
    let expression =
        "sum by (served, le) (rate(nearcast_a_total{served!=\"error\",instance=~\"$i\"}[5m])) / on (x) nearcast:b:c";
    let expected = [
        ("nearcast_a_total".to_owned(), BTreeSet::from(["served".to_owned(), "instance".to_owned()])),
        ("nearcast:b:c".to_owned(), BTreeSet::new()),
    ];
    assert_eq!(asked(expression), expected);
    assert_eq!(grouped(expression), ["le", "served", "x"].map(str::to_owned).into());
    let there = scraped("# TYPE nearcast_a_total counter\nnearcast_a_total{served=\"memory\"} 1\nnearcast_d 2\n");
    assert_eq!(there.keys().collect::<Vec<_>>(), ["nearcast_a_total", "nearcast_d"]);
    assert!(there["nearcast_a_total"].contains("served"));
}
