//! The report's promises: what is shown when, and that its parts agree with each other.

use super::{
    CellReport, LogColumns, Part, PrefetchKind, ReplayConfig, ReplayReport, TimeSlice, page, replay_columns,
    tests::{quiet, random_log},
};

fn report(config: &ReplayConfig) -> ReplayReport {
    let log = LogColumns::from_events(&random_log(3_000), config.read);
    replay_columns("log", &log, config, &|_| ()).unwrap()
}

#[test]
fn slices_of_time_sum_to_the_totals_of_their_cell() {
    let prefetchers = vec![PrefetchKind::None, PrefetchKind::Nearcast, PrefetchKind::Obl];
    let cells = report(&ReplayConfig { prefetchers, warmup: 0.3, ..quiet() }).cells;
    let sum = |cell: &CellReport, of: fn(&TimeSlice) -> u64| cell.timeline.iter().map(of).sum::<u64>();
    for cell in &cells {
        let outcomes = cell.prefetch;
        let totals = [cell.requests, cell.misses, outcomes.used, outcomes.late, outcomes.unused, cell.fetched_bytes()];
        let counts: [fn(&TimeSlice) -> u64; 6] =
            [|it| it.requests, |it| it.misses, |it| it.used, |it| it.late, |it| it.unused, |it| it.fetched_bytes];
        assert_eq!(counts.map(|of| sum(cell, of)), totals);
        assert_eq!(sum(cell, |slice| slice.baseline_misses), cells[0].misses);
        // The log has a request every 40 ms; counting starts with the 900th.
        assert_eq!((cell.timeline.len(), cell.timeline[0].start_us), (40, 900 * 40_000));
        assert!(cell.timeline.iter().all(|slice| slice.requests.abs_diff(2_100 / 40) <= 1), "{:?}", cell.timeline);
    }
    let outcomes = cells[2].prefetch;
    assert!(outcomes.used > 0 && outcomes.late > 0 && outcomes.unused > 0, "{outcomes:?}");
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

#[test]
fn without_the_gate_orders_do_not_wait_for_labels() {
    let first_used = |part: Option<Part>| {
        let mut config = ReplayConfig { prefetchers: vec![PrefetchKind::Nearcast], instant: true, ..quiet() };
        part.into_iter().for_each(|part| config.leave_out(part));
        let cell = report(&config).cells.remove(0);
        (cell.timeline.iter().position(|slice| slice.used > 0), cell.calibration_error)
    };
    let (with, without) = (first_used(None), first_used(Some(Part::Gate)));
    assert!(without.0 < with.0 && without.1 > with.1, "{with:?} {without:?}");
}
