//! How often something is found where there is nothing, looking fifty times: the method of `examples/false_alarms.rs` on
//! fewer runs.

#[path = "../examples/false_alarms/runs.rs"]
mod runs;

#[test]
fn nothing_is_found_where_there_is_nothing() {
    for (name, found, limit) in runs::all(300, 1) {
        // Six standard errors above the bar would be a defect and not bad luck; sequences that look for long are far
        // below it.
        assert!(found <= limit, "{name}: {found} of 300 runs raised a false alarm");
    }
}
