//! The index against naive references: a book of what it said it did, and a textbook LRU.

use std::collections::BTreeMap;

use nearcast_datasets::{KeyId, SegmentId, Timestamp};
use nearcast_proto::message::CommandId;
use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{Admission, Evicted, Index, IndexConfig, IndexConfigError, Pinned, PolicyKind};

#[derive(Clone, Copy, Debug)]
enum Step {
    Demand(u32, u64),
    Pin(u32),
    Prefetch(u32, u64),
    Remove(u32),
    Touch(u32),
    Unpin(u32),
}

/// Where the book believes a segment to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Main,
    Pinned,
    Probation,
}

fn segment(number: u32) -> SegmentId {
    SegmentId { key: KeyId(number / 3), index: number % 3 }
}

fn config(capacity_bytes: u64) -> IndexConfig {
    let defaults = IndexConfig::default();
    let (policy, probation_share, pinned_share) = (PolicyKind::Lru, 0.3, 0.4);
    IndexConfig { capacity_bytes, entries_max: 12, policy, probation_share, pinned_share, ..defaults }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = || 0..30_u32;
    // Sizes around the capacity of 100 on purpose: zero, one too many, and the largest there is.
    let bytes = || prop_oneof![8 => 1..40_u64, 1 => Just(0), 1 => 99..102_u64, 1 => Just(u64::MAX)];
    let step = prop_oneof![
        4 => (number(), bytes()).prop_map(|(number, bytes)| Step::Demand(number, bytes)),
        3 => (number(), bytes()).prop_map(|(number, bytes)| Step::Prefetch(number, bytes)),
        4 => number().prop_map(Step::Touch),
        1 => number().prop_map(Step::Pin),
        1 => number().prop_map(Step::Unpin),
        1 => number().prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 1..300)
}

/// Follows an index only by what it returns.
#[derive(Debug, Default)]
struct Book(BTreeMap<SegmentId, (u64, Place)>);

impl Book {
    fn bytes_in(&self, place: Place) -> u64 {
        self.0.values().filter(|entry| entry.1 == place).map(|entry| entry.0).sum()
    }

    fn strike(&mut self, evicted: &[Evicted]) {
        for entry in evicted {
            let (bytes, place) = self.0.remove(&entry.segment).expect("only what is held can be evicted");
            assert_eq!((bytes, place == Place::Probation), (entry.bytes, entry.unused.is_some()));
            assert_ne!(place, Place::Pinned, "a pinned segment was evicted");
        }
    }

    fn apply(&mut self, index: &mut Index, now: Timestamp, step: Step) {
        let mut evicted = Vec::new();
        match step {
            Step::Demand(number, bytes) => {
                // A segment is demanded only after a touch missed, so what is held keeps its size.
                if index.contains(segment(number)) {
                    return;
                }
                let is_held = index.insert(now, segment(number), bytes, Admission::Demand, &mut evicted);
                self.strike(&evicted);
                if is_held {
                    self.0.insert(segment(number), (bytes, Place::Main));
                }
            }
            Step::Prefetch(number, bytes) => {
                let admission = Admission::Prefetched(CommandId(u64::from(number)));
                let is_held = index.insert(now, segment(number), bytes, admission, &mut evicted);
                self.strike(&evicted);
                if is_held {
                    self.0.entry(segment(number)).or_insert((bytes, Place::Probation));
                }
            }
            Step::Touch(number) => {
                let touched = index.touch(now, segment(number));
                let known = self.0.get_mut(&segment(number));
                assert_eq!(touched.map(|touched| touched.bytes), known.as_ref().map(|entry| entry.0));
                if let (Some(touched), Some(entry)) = (touched, known)
                    && entry.1 == Place::Probation
                {
                    assert_eq!(touched.first_use.map(|unused| unused.command), Some(CommandId(u64::from(number))));
                    entry.1 = Place::Main;
                }
            }
            Step::Pin(number) => {
                if index.pin(segment(number)) == Pinned::Done {
                    self.0.get_mut(&segment(number)).expect("only what is held can be pinned").1 = Place::Pinned;
                }
            }
            Step::Unpin(number) => {
                if index.unpin(now, segment(number)) {
                    self.0.get_mut(&segment(number)).expect("only what is held can be unpinned").1 = Place::Main;
                }
            }
            Step::Remove(number) => {
                let removed = index.remove(now, segment(number)).map(|entry| entry.bytes);
                assert_eq!(removed, self.0.remove(&segment(number)).map(|entry| entry.0));
            }
        }
    }
}

proptest! {
    #[test]
    fn bytes_are_exact_and_bounds_hold_whatever_happens(
        steps in steps(),
        policy in prop::sample::select(&PolicyKind::ALL[..]),
        probation in prop::bool::ANY,
    ) {
        let mut index = Index::new(&IndexConfig { policy, probation, ..config(100) }).unwrap();
        let mut book = Book::default();
        for (micros, step) in (0..).zip(steps) {
            book.apply(&mut index, Timestamp::from_micros(micros), step);
            prop_assert_eq!(index.used_bytes(), book.0.values().map(|entry| entry.0).sum::<u64>());
            let on_probation = if probation { book.bytes_in(Place::Probation) } else { 0 };
            prop_assert_eq!(index.probation_bytes(), on_probation);
            prop_assert_eq!(index.pinned_bytes(), book.bytes_in(Place::Pinned));
            prop_assert!(index.used_bytes() <= 100 && index.len() <= 12);
            prop_assert!(index.probation_bytes() <= 30 && index.pinned_bytes() <= 40);
            let held: BTreeMap<_, _> = index.iter().collect();
            prop_assert_eq!(held.len(), index.len());
            prop_assert_eq!(held, book.0.iter().map(|(segment, entry)| (*segment, entry.0)).collect());
        }
    }

    #[test]
    fn lru_equals_a_textbook_lru(requests in prop::collection::vec((0..40_u32, 1..4_u64), 1..400)) {
        let entries_max = 1_000;
        let mut index = Index::new(&IndexConfig { entries_max, ..config(30) }).unwrap();
        let mut textbook: Vec<(SegmentId, u64)> = Vec::new();
        let mut evicted = Vec::new();
        for (micros, (number, bytes)) in (0..).zip(requests) {
            let now = Timestamp::from_micros(micros);
            let position = textbook.iter().position(|entry| entry.0 == segment(number));
            prop_assert_eq!(index.touch(now, segment(number)).is_some(), position.is_some());
            if let Some(position) = position {
                let entry = textbook.remove(position);
                textbook.push(entry);
                continue;
            }
            evicted.clear();
            index.insert(now, segment(number), bytes, Admission::Demand, &mut evicted);
            let mut expected = Vec::new();
            while textbook.iter().map(|entry| entry.1).sum::<u64>() + bytes > 30 {
                expected.push(textbook.remove(0));
            }
            textbook.push((segment(number), bytes));
            prop_assert_eq!(evicted.iter().map(|entry| (entry.segment, entry.bytes)).collect::<Vec<_>>(), expected);
            prop_assert_eq!(index.iter().collect::<Vec<_>>(), textbook.clone());
        }
    }
}

#[test]
fn an_unused_prefetch_leaves_once_main_turned_over() {
    let mut index = Index::new(&IndexConfig { capacity_bytes: 10, ..config(10) }).unwrap();
    let now = Timestamp::from_micros(1);
    let mut evicted = Vec::new();
    index.insert(now, segment(29), 1, Admission::Prefetched(CommandId(7)), &mut evicted);
    // Nine fill what is left of ten, one more evicts from main, and after one more still the prefetch is older than a
    // demanded segment would have become.
    for number in 0..10 {
        index.insert(now, segment(number), 1, Admission::Demand, &mut evicted);
    }
    assert_eq!(evicted.iter().map(|entry| entry.segment).collect::<Vec<_>>(), [segment(0)]);
    index.insert(now, segment(10), 1, Admission::Demand, &mut evicted);
    index.insert(now, segment(11), 1, Admission::Demand, &mut evicted);
    let unused: Vec<_> = evicted.iter().filter_map(|entry| entry.unused).map(|unused| unused.command).collect();
    assert_eq!((unused, index.probation_bytes()), (vec![CommandId(7)], 0));
}

#[test]
fn only_without_probation_does_every_unused_prefetch_push_out_what_was_asked_for() {
    let pushed_out = |probation| {
        let mut index = Index::new(&IndexConfig { capacity_bytes: 10, probation, ..config(10) }).unwrap();
        let (now, mut evicted) = (Timestamp::from_micros(0), Vec::new());
        (0..10).for_each(|number| {
            index.insert(now, segment(number), 1, Admission::Demand, &mut evicted);
        });
        (20..23).for_each(|number| {
            let admission = Admission::Prefetched(CommandId(u64::from(number)));
            assert!(index.insert(now, segment(number), 1, admission, &mut evicted));
        });
        evicted.iter().map(|entry| (entry.segment, entry.unused.map(|unused| unused.command.0))).collect::<Vec<_>>()
    };
    // On probation there is room for one of them, which makes way for the next.
    assert_eq!(pushed_out(true), [(segment(0), None), (segment(20), Some(20)), (segment(21), Some(21))]);
    assert_eq!(pushed_out(false), [(segment(0), None), (segment(1), None), (segment(2), None)]);
}

#[test]
fn a_changed_size_replaces_the_old_one() {
    let mut index = Index::new(&config(100)).unwrap();
    let (now, mut evicted) = (Timestamp::from_micros(0), Vec::new());
    assert!(index.insert(now, segment(1), 10, Admission::Demand, &mut evicted));
    assert!(index.insert(now, segment(1), 25, Admission::Demand, &mut evicted));
    assert_eq!((index.used_bytes(), index.len(), evicted.len()), (25, 1, 0));
    assert!(!index.insert(now, segment(1), 101, Admission::Demand, &mut evicted));
    assert_eq!(evicted.iter().map(|entry| entry.segment).collect::<Vec<_>>(), [segment(1)]);
    assert!(index.is_empty());
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let zero = Index::new(&config(0)).unwrap_err();
    assert_eq!(zero, IndexConfigError::Zero { field: "capacity_bytes" });
    let share = Index::new(&IndexConfig { probation_share: 1.5, ..config(1) }).unwrap_err();
    assert!(share.to_string().contains("probation_share"), "{share}");
}
