//! The chosen design sees what a challenger truly does and a split by client does not: the method of
//! `examples/cache_cells` on a few seeds.

#[path = "../examples/cache_cells/cells.rs"]
mod cells;
#[path = "../examples/cache_cells/trial.rs"]
mod trial;

use nearcast_experiment::verdict::Verdict;
use trial::Challenger;

fn check(challenger: Challenger, verdict: Verdict, by_client: impl Fn(f64) -> bool) {
    let design = trial::measure(challenger);
    for seed in 1_000..1_003 {
        let found = trial::trial(challenger, &design, seed);
        let share = |index: usize| {
            let design = trial::DESIGNS[index];
            let share = found.found[index].estimate / found.truth;
            (share, format!("seed {seed}, {design}: {share:.3} of the truth; {found:?}"))
        };
        let (chosen, say) = share(0);
        assert!((chosen - 1.0).abs() <= 0.1 && found.found[0].covers(found.truth), "{say}");
        assert!(found.reach < found.truth.abs() && found.control < 1.0, "{say}");
        assert_eq!(found.verdict, verdict, "{say}");
        let (clients, say) = share(2);
        assert!(by_client(clients), "{say}");
    }
}

#[test]
fn junk_is_seen_by_cells_and_hidden_from_clients() {
    check(Challenger::Junk, Verdict::Fail, |share| share.abs() < 0.25);
}

#[test]
fn a_better_one_is_seen_at_its_true_size() {
    check(Challenger::Better, Verdict::Pass, |share| share.is_finite());
}
