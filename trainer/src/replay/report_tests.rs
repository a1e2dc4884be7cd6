//! The report's promises: what is shown when, and that its parts agree with each other.

use super::{
    CacheSize, CellReport, LogColumns, Part, PrefetchKind, ReplayConfig, ReplayReport, TimeSlice, page, replay_columns,
    tests::{event, quiet, random_log},
};

fn report(config: &ReplayConfig) -> ReplayReport {
    let log = LogColumns::from_events(&random_log(3_000), config.read);
    replay_columns("log", &log, config, &|_| ()).unwrap()
}

/// What the sections of a page are called; all but the last, the numbers, have one chart each.
fn titles(report: &ReplayReport) -> Vec<String> {
    let html = page(report).unwrap();
    let titles = html.split("<h2>").skip(1).map(|section| section.split("</h2>").next().unwrap().to_owned());
    let titles: Vec<_> = titles.collect();
    assert_eq!(html.matches("<svg").count(), titles.len() - 1);
    titles
}

#[test]
fn each_chart_is_there_only_when_it_has_something_to_show() {
    let alone = ReplayConfig { caches: vec![CacheSize::Share(0.1)], ..quiet() };
    assert_eq!(titles(&report(&alone)), ["Miss ratio", "Latency", "Numbers"]);
    let caches = vec![CacheSize::Share(0.1), CacheSize::Share(0.3)];
    let sizes = titles(&report(&ReplayConfig { caches: caches.clone(), ..alone.clone() }));
    assert_eq!(sizes, ["Miss ratio", "Miss ratio and cache size", "Latency", "Numbers"]);
    let rival = titles(&report(&ReplayConfig { prefetchers: vec![PrefetchKind::Obl], ..alone.clone() }));
    let outcomes = ["Miss ratio and extra fetch", "Latency", "Prefetches", "Prefetches over time"];
    assert_eq!(rival, [&["Miss ratio"], &outcomes[..], &["Numbers"]].concat());
    let nearcast = titles(&report(&ReplayConfig { prefetchers: vec![PrefetchKind::Nearcast], caches, ..alone }));
    let all = [&["Miss ratio", "Miss ratio and cache size"], &outcomes[..], &["Reliability", "Numbers"]].concat();
    assert_eq!(nearcast, all);
}

#[test]
fn the_curve_of_extra_fetch_names_budgets_and_rivals_and_begins_without_prefetching() {
    let prefetchers = vec![PrefetchKind::Nearcast, PrefetchKind::Obl];
    let report = report(&ReplayConfig { prefetchers, budgets: vec![0.5, 0.05], ..quiet() });
    let html = page(&report).unwrap();
    let chart = html.split("<h2>").find(|section| section.starts_with("Miss ratio and extra fetch")).unwrap();
    let labels = ["\u{a0}≤50 %", "\u{a0}≤5 %", "\u{a0}obl"];
    assert!(labels.iter().all(|label| chart.matches(label).count() == 1), "{chart}");
    // Three circles for the line, for it has a point at no extra fetch beside its two budgets.
    assert_eq!((chart.matches("<circle").count(), chart.matches("<polygon").count()), (3, 1));
}

#[test]
fn what_is_too_much_to_draw_is_said_to_be_left_out() {
    let budgets = [0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3].to_vec();
    let html = page(&report(&ReplayConfig { prefetchers: vec![PrefetchKind::Nearcast], budgets, ..quiet() })).unwrap();
    assert_eq!(html.matches("The first 6 of 7 are shown.").count(), 2, "over time and reliability");
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
fn a_log_of_one_instant_has_one_slice_and_no_chart_over_time() {
    let config = ReplayConfig { prefetchers: vec![PrefetchKind::Obl], ..quiet() };
    let log = LogColumns::from_events(&[5, 5, 5].map(|at| event(at, "a", "/1", 10)), config.read);
    let report = replay_columns("log", &log, &config, &|_| ()).unwrap();
    let slices: Vec<_> = report.cells[0].timeline.iter().map(|slice| (slice.start_us, slice.requests)).collect();
    assert_eq!(slices, [(5_000, 3)]);
    assert!(!titles(&report).contains(&"Prefetches over time".to_owned()));
}

#[test]
fn the_calibration_error_is_that_of_the_account_and_only_the_engine_has_one() {
    let prefetchers = vec![PrefetchKind::None, PrefetchKind::Obl, PrefetchKind::Nearcast];
    let report = report(&ReplayConfig { prefetchers, ..quiet() });
    let [none, rival, nearcast] = &report.cells[..] else { panic!("three cells") };
    assert_eq!((none.calibration_error, rival.calibration_error), (None, None));
    let account = nearcast.account.as_ref().unwrap();
    assert_eq!(nearcast.calibration_error, Some(account.calibration.error()));
    let orders = account.used + account.late + account.unused;
    let html = page(&report).unwrap();
    assert!(html.contains(&format!("orders: {orders} claims, error {:.3}", account.calibration.error())), "{orders}");
    assert!(html.contains(&format!("all candidates: {} claims", account.labels)));
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
