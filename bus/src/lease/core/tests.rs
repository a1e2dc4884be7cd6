//! Two that want one lease, their clocks and messages at the test's mercy.

use proptest::prelude::*;

use super::*;

const TTL: Duration = Duration::from_secs(3);

fn lease(name: &str) -> Lease {
    Lease::new(Holder { name: name.to_owned(), run: "1".to_owned() }, LeaseSettings::new(TTL))
}

/// The bus's one entry.
#[derive(Debug, Default)]
struct Store {
    last: u64,
    entry: Option<(Revision, LeaseRecord)>,
}

impl Store {
    fn write(&mut self, expected: Option<Revision>, record: LeaseRecord) -> Option<Revision> {
        if self.entry.as_ref().map(|(revision, _)| *revision) != expected {
            return None;
        }
        self.last += 1;
        self.entry = Some((Revision(self.last), record));
        Some(Revision(self.last))
    }

    /// Lets a process do what it wants to; with `is_heard`, it hears what came of it.
    fn serve(&mut self, now: Duration, lease: &mut Lease, is_heard: bool) {
        self.serve_over(now, lease, true, is_heard);
    }

    /// The same over a network on which what is sent may not arrive.
    fn serve_over(&mut self, now: Duration, lease: &mut Lease, arrives: bool, is_heard: bool) {
        let LeaseStep::Write { expected, record } = lease.poll(now) else { return };
        lease.handle_sending(now);
        if !arrives {
            return;
        }
        let written = self.write(expected, record.clone());
        match written {
            Some(revision) if is_heard => lease.handle_written(now, revision, record),
            None if is_heard => lease.handle_entry(now, self.entry.clone()),
            _ => {}
        }
    }
}

#[test]
fn a_free_lease_is_taken_and_kept_by_renewing_under_one_token() {
    let (mut store, mut a, mut b) = (Store::default(), lease("a"), lease("b"));
    store.serve(Duration::ZERO, &mut a, true);
    let token = a.held(Duration::ZERO).unwrap().token;
    for second in 0..20 {
        let now = Duration::from_secs(second);
        b.handle_entry(now, store.entry.clone());
        store.serve(now, &mut a, true);
        store.serve(now, &mut b, true);
        assert_eq!((a.held(now).map(|held| held.token), b.held(now)), (Some(token), None));
    }
    assert_eq!(b.holder().unwrap().name, "a");
}

#[test]
fn a_lease_whose_holder_is_silent_is_taken_over_with_a_greater_token() {
    let (mut store, mut a, mut b) = (Store::default(), lease("a"), lease("b"));
    store.serve(Duration::ZERO, &mut a, true);
    let first = a.held(Duration::ZERO).unwrap();
    b.handle_entry(Duration::ZERO, store.entry.clone());
    let LeaseStep::Wait { until } = b.poll(Duration::ZERO) else { panic!("b does not wait") };
    assert_eq!(until, TTL + TTL / 10);
    assert!(first.until < until && a.held(until).is_none());
    store.serve(until, &mut b, true);
    assert!(b.held(until).unwrap().token > first.token);
    // The first one wakes up and finds out.
    store.serve(until, &mut a, true);
    assert_eq!((a.held(until), a.holder().unwrap().name.as_str()), (None, "b"));
}

#[test]
fn another_run_of_the_same_process_waits_like_anybody_else() {
    let (mut store, mut a) = (Store::default(), lease("a"));
    store.serve(Duration::ZERO, &mut a, true);
    let mut again = Lease::new(Holder { name: "a".to_owned(), run: "2".to_owned() }, LeaseSettings::new(TTL));
    again.handle_entry(Duration::ZERO, store.entry.clone());
    assert!(matches!(again.poll(TTL), LeaseStep::Wait { .. }));
    assert!(matches!(again.poll(TTL * 2), LeaseStep::Write { .. }));
}

proptest! {
    /// However late and lossy what they hear is, and whatever their clocks show, two never hold it at once.
    #[test]
    fn never_two_at_once(
        offsets in (0u64..10_000, 0u64..10_000),
        steps in proptest::collection::vec((0u64..2_000, 0usize..2, any::<[bool; 3]>()), 1..300),
    ) {
        let mut store = Store::default();
        let mut leases = [lease("a"), lease("b")];
        let offsets = [offsets.0, offsets.1].map(Duration::from_millis);
        let (mut now, mut tokens) = (Duration::ZERO, Vec::new());
        for (pause, who, [looks, arrives, is_heard]) in steps {
            now += Duration::from_millis(pause);
            let by_its_clock = now + offsets[who];
            if looks {
                leases[who].handle_entry(by_its_clock, store.entry.clone());
            }
            store.serve_over(by_its_clock, &mut leases[who], arrives, is_heard);
            let held: Vec<Held> =
                leases.iter().zip(offsets).filter_map(|(lease, offset)| lease.held(now + offset)).collect();
            prop_assert!(held.len() <= 1, "both hold it");
            tokens.extend(held.first().map(|held| held.token));
        }
        prop_assert!(tokens.is_sorted(), "tokens {tokens:?}");
    }
}
