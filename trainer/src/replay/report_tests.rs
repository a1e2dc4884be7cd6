//! The report's promises: what is shown when, and that its parts agree with each other.

use super::{
    LogColumns, Part, PrefetchKind, ReplayConfig, ReplayReport, page, replay_columns,
    tests::{quiet, random_log},
};

fn report(config: &ReplayConfig) -> ReplayReport {
    let log = LogColumns::from_events(&random_log(3_000), config.read);
    replay_columns("log", &log, config, &|_| ()).unwrap()
}

#[test]
fn what_is_left_out_is_named() {
    let config = ReplayConfig { prefetchers: vec![PrefetchKind::Nearcast], ..quiet() };
    let without = |parts: &[Part]| {
        let mut config = config.clone();
        parts.iter().for_each(|part| config.leave_out(*part));
        let report = report(&config);
        let json = serde_json::to_value(&report).unwrap();
        (json["without"].to_string(), page(&report).unwrap())
    };
    let (none, page_with_all) = without(&[]);
    assert!(none == "[]" && !page_with_all.contains("; without"), "{none}");
    let (some, page) = without(&[Part::Probation, Part::from_name("habit").unwrap(), Part::Gate]);
    assert_eq!(some, r#"["habit","gate","probation"]"#);
    assert!(page.contains("; without habit, gate, probation"));
    let all: Vec<_> = Part::all().collect();
    let named = r#"["client","region","demand","sequence","stride","habit","gate","probation"]"#;
    assert_eq!(without(&all).0, named);
}
