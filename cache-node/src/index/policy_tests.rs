//! Each policy against its textbook: plain vectors, written from the paper's pseudo-code, compared queue by queue.

use std::fmt::Debug;

use nearcast_datasets::{KeyId, SegmentId, Timestamp};
use proptest::{
    prelude::{Just, Strategy, TestCaseError, prop, prop_assert_eq, prop_oneof, proptest},
    sample::select,
};

use super::policy::{Policy, PolicyKind};

const NOW: Timestamp = Timestamp::MIN;
const CAPACITY: u64 = 30;

/// Policies that decide without a draw or an estimate, so that what is next is known.
const CLASSICS: &[PolicyKind] =
    &[PolicyKind::Arc, PolicyKind::Fifo, PolicyKind::Lru, PolicyKind::S3Fifo, PolicyKind::Sieve, PolicyKind::WTinylfu];

fn segment(number: u32) -> SegmentId {
    SegmentId { key: KeyId(number), index: 0 }
}

/// Asks as the index does: touch, and on a miss make room and insert. Returns what was evicted, or `None` on a hit.
fn ask(policy: &mut dyn Policy, capacity: u64, number: u32, bytes: u64) -> Option<Vec<u32>> {
    if policy.touch(NOW, segment(number)).is_some() {
        return None;
    }
    let mut evicted = Vec::new();
    while policy.used_bytes() + bytes > capacity {
        evicted.push(policy.evict(NOW).expect("something is held while bytes are used").0.key.0);
    }
    policy.insert(NOW, segment(number), bytes);
    Some(evicted)
}

/// Plays letters as requests for objects of one byte; what was evicted and what would be next, as letters.
fn play(kind: PolicyKind, capacity: u64, letters: &str) -> (String, String) {
    let mut policy = kind.build(capacity);
    let mut evicted = Vec::new();
    for letter in letters.chars() {
        evicted.extend(ask(&mut *policy, capacity, u32::from(letter), 1).unwrap_or_default());
    }
    let letter = |number| char::from_u32(number).expect("made from a letter");
    let queue = policy.iter().map(|(segment, _)| letter(segment.key.0)).collect();
    (evicted.into_iter().map(letter).collect(), queue)
}

#[test]
fn config_files_and_flags_call_policies_the_same() {
    for kind in PolicyKind::ALL {
        let name = toml::Value::String(kind.as_str().to_owned());
        assert_eq!((name.try_into::<PolicyKind>(), PolicyKind::from_name(kind.as_str())), (Ok(kind), Some(kind)));
    }
}

#[test]
fn policies_evict_in_the_order_of_their_papers() {
    let cases = [
        (PolicyKind::Lru, 3, "abcad", "b", "cad"),
        (PolicyKind::Fifo, 3, "abcad", "a", "bcd"),
        // The hand forgives `a`, evicts `b` and stays before `c`.
        (PolicyKind::Sieve, 3, "abcad", "b", "cda"),
        (PolicyKind::Sieve, 3, "abcadcefc", "bda", "efc"),
        // The small queue holds one: `a`, which is asked for twice more and goes on to the main queue.
        (PolicyKind::S3Fifo, 10, "abcdefghijaak", "b", "kcdefghija"),
        // `k` comes back while remembered, and so starts in the main queue.
        (PolicyKind::S3Fifo, 10, "abcdefghijaaklk", "bkl", "cdefghijak"),
        // One use is not enough to leave the small queue for the main one, but for another round in there.
        (PolicyKind::S3Fifo, 10, "abcdefghijabk", "a", "kcdefghijb"),
        // `b` is remembered when it comes back: the target of T1 is 1 then, and T2 gives way.
        (PolicyKind::Arc, 3, "abacdb", "bc", "abd"),
        (PolicyKind::Arc, 3, "abacdbe", "bca", "dbe"),
        // `j` was asked for less than `a`, `k` more.
        (PolicyKind::WTinylfu, 10, "aabbccddeefghijk", "j", "kabcdefghi"),
        (PolicyKind::WTinylfu, 10, "aabbccddeefghijkkkl", "ja", "lbcdefghik"),
        // What is asked for while in main is safe before what is not.
        (PolicyKind::WTinylfu, 10, "aabbccddeefghijabk", "j", "kcdefghiab"),
    ];
    for (kind, capacity, letters, evicted, queue) in cases {
        assert_eq!(play(kind, capacity, letters), (evicted.to_owned(), queue.to_owned()), "{kind:?}: {letters}");
    }
}

/// A policy as the paper tells it, over `(number, bytes, mark)`, oldest first.
trait Textbook: Debug {
    /// Whether it is held; counts as a request.
    fn touch(&mut self, number: u32) -> bool;
    fn insert(&mut self, number: u32, bytes: u64);
    fn evict(&mut self) -> u32;
    fn used_bytes(&self) -> u64;
}

type Queue = Vec<(u32, u64, u8)>;

fn bytes(queue: &Queue) -> u64 {
    queue.iter().map(|entry| entry.1).sum()
}

fn position(queue: &Queue, number: u32) -> Option<usize> {
    queue.iter().position(|entry| entry.0 == number)
}

#[derive(Debug, Default)]
struct Fifo(Queue);

impl Textbook for Fifo {
    fn touch(&mut self, number: u32) -> bool {
        position(&self.0, number).is_some()
    }

    fn insert(&mut self, number: u32, bytes: u64) {
        self.0.push((number, bytes, 0));
    }

    fn evict(&mut self) -> u32 {
        self.0.remove(0).0
    }

    fn used_bytes(&self) -> u64 {
        bytes(&self.0)
    }
}

#[derive(Debug, Default)]
struct Sieve {
    queue: Queue,
    hand: usize,
}

impl Textbook for Sieve {
    fn touch(&mut self, number: u32) -> bool {
        let found = position(&self.queue, number);
        if let Some(index) = found {
            self.queue[index].2 = 1;
        }
        found.is_some()
    }

    fn insert(&mut self, number: u32, bytes: u64) {
        // A hand that went past the newest starts again at the oldest, also when a newer one comes meanwhile.
        if self.hand == self.queue.len() {
            self.hand = 0;
        }
        self.queue.push((number, bytes, 0));
    }

    fn evict(&mut self) -> u32 {
        loop {
            if self.hand >= self.queue.len() {
                self.hand = 0;
            }
            if self.queue[self.hand].2 == 0 {
                return self.queue.remove(self.hand).0;
            }
            self.queue[self.hand].2 = 0;
            self.hand += 1;
        }
    }

    fn used_bytes(&self) -> u64 {
        bytes(&self.queue)
    }
}

#[derive(Debug, Default)]
struct S3Fifo {
    small: Queue,
    main: Queue,
    ghost: Queue,
    claimed: bool,
    has_evicted: bool,
}

impl Textbook for S3Fifo {
    fn touch(&mut self, number: u32) -> bool {
        for queue in [&mut self.small, &mut self.main] {
            if let Some(index) = position(queue, number) {
                queue[index].2 = (queue[index].2 + 1).min(3);
                return true;
            }
        }
        let ghost = position(&self.ghost, number);
        self.claimed = ghost.map(|index| self.ghost.remove(index)).is_some();
        false
    }

    fn insert(&mut self, number: u32, size: u64) {
        let overflows = !self.has_evicted && bytes(&self.small) >= CAPACITY / 10;
        if self.claimed || overflows {
            self.main.push((number, size, 0));
        } else {
            self.small.push((number, size, 0));
        }
    }

    fn evict(&mut self) -> u32 {
        self.has_evicted = true;
        if bytes(&self.small) >= CAPACITY / 10 || self.main.is_empty() {
            while !self.small.is_empty() {
                let (number, size, uses) = self.small.remove(0);
                if uses > 1 {
                    self.main.push((number, size, 0));
                    continue;
                }
                self.ghost.push((number, size, 0));
                while bytes(&self.ghost) > CAPACITY / 10 * 9 {
                    self.ghost.remove(0);
                }
                return number;
            }
        }
        loop {
            let (number, size, uses) = self.main.remove(0);
            if uses == 0 {
                return number;
            }
            self.main.push((number, size, uses - 1));
        }
    }

    fn used_bytes(&self) -> u64 {
        bytes(&self.small) + bytes(&self.main)
    }
}

#[derive(Debug, Default)]
struct Arc {
    t1: Queue,
    t2: Queue,
    b1: Queue,
    b2: Queue,
    target: f64,
    misses_b2: bool,
}

impl Textbook for Arc {
    fn touch(&mut self, number: u32) -> bool {
        let take = |queue: &mut Queue| position(queue, number).map(|index| queue.remove(index));
        if let Some(entry) = take(&mut self.t1).or_else(|| take(&mut self.t2)) {
            self.t2.push(entry);
            return true;
        }
        let (b1, b2) = (bytes(&self.b1) as f64, bytes(&self.b2) as f64);
        self.misses_b2 = position(&self.b2, number).is_some();
        if let Some(index) = position(&self.b1, number) {
            self.target += self.b1[index].1 as f64 * (b2 / b1).max(1.0);
        } else if let Some(index) = position(&self.b2, number) {
            self.target -= self.b2[index].1 as f64 * (b1 / b2).max(1.0);
        }
        self.target = self.target.clamp(0.0, CAPACITY as f64);
        false
    }

    fn insert(&mut self, number: u32, size: u64) {
        let known = |ghosts: &mut Queue| position(ghosts, number).map(|index| ghosts.remove(index)).is_some();
        let is_known = known(&mut self.b1) || known(&mut self.b2);
        self.misses_b2 = false;
        if is_known { &mut self.t2 } else { &mut self.t1 }.push((number, size, 0));
        while bytes(&self.t1) + bytes(&self.b1) > CAPACITY && !self.b1.is_empty() {
            self.b1.remove(0);
        }
        while self.used_bytes() + bytes(&self.b1) + bytes(&self.b2) > 2 * CAPACITY && !self.b2.is_empty() {
            self.b2.remove(0);
        }
    }

    fn evict(&mut self) -> u32 {
        let t1_bytes = bytes(&self.t1) as f64;
        let is_over = t1_bytes > self.target || self.misses_b2 && t1_bytes >= self.target;
        let (held, ghosts) = if self.t2.is_empty() || is_over && !self.t1.is_empty() {
            (&mut self.t1, &mut self.b1)
        } else {
            (&mut self.t2, &mut self.b2)
        };
        let entry = held.remove(0);
        ghosts.push(entry);
        entry.0
    }

    fn used_bytes(&self) -> u64 {
        bytes(&self.t1) + bytes(&self.t2)
    }
}

/// Plays the same requests through both and compares hits, victims and, at the end, the order of all that is held.
fn compare(kind: PolicyKind, mut textbook: impl Textbook, requests: &[(u32, u64)]) -> Result<(), TestCaseError> {
    let mut policy = kind.build(CAPACITY);
    for (number, bytes) in requests {
        let evicted = ask(&mut *policy, CAPACITY, *number, *bytes);
        let mut expected = (!textbook.touch(*number)).then(Vec::new);
        if let Some(expected) = &mut expected {
            while textbook.used_bytes() + bytes > CAPACITY {
                expected.push(textbook.evict());
            }
            textbook.insert(*number, *bytes);
        }
        prop_assert_eq!(evicted, expected);
    }
    let queue: Vec<_> = policy.iter().map(|(segment, _)| segment.key.0).collect();
    let rest: Vec<_> = std::iter::from_fn(|| (textbook.used_bytes() > 0).then(|| textbook.evict())).collect();
    prop_assert_eq!(queue, rest);
    Ok(())
}

fn requests() -> impl Strategy<Value = Vec<(u32, u64)>> {
    // Most ask for what is popular, and sizes are one byte in every other log.
    let number = prop_oneof![0..20_u32, 0..120_u32];
    prop_oneof![Just(2_u64), Just(8)]
        .prop_flat_map(move |bytes_end| prop::collection::vec((number.clone(), 1..bytes_end), 1..600))
}

proptest! {
    #[test]
    fn policies_equal_their_textbooks(requests in requests()) {
        compare(PolicyKind::Fifo, Fifo::default(), &requests)?;
        compare(PolicyKind::Sieve, Sieve::default(), &requests)?;
        compare(PolicyKind::S3Fifo, S3Fifo::default(), &requests)?;
        compare(PolicyKind::Arc, Arc::default(), &requests)?;
    }

    #[test]
    fn what_is_listed_is_held_and_leaves_in_that_order(
        kind in select(CLASSICS),
        steps in prop::collection::vec((0..8_u8, 0..60_u32, 0..6_u64), 1..400),
    ) {
        let mut policy = kind.build(CAPACITY);
        for (step, number, bytes) in steps {
            if step == 0 {
                let held = policy.bytes(segment(number));
                prop_assert_eq!(policy.remove(segment(number)), held);
                prop_assert_eq!(policy.bytes(segment(number)), None);
            } else {
                ask(&mut *policy, CAPACITY, number, bytes);
            }
            prop_assert_eq!(policy.len(), policy.iter().count());
            prop_assert_eq!(policy.used_bytes(), policy.iter().map(|entry| entry.1).sum::<u64>());
        }
        let listed: Vec<_> = policy.iter().collect();
        prop_assert_eq!(&listed, &std::iter::from_fn(|| policy.evict(NOW)).collect::<Vec<_>>());
        prop_assert_eq!((policy.len(), policy.used_bytes()), (0, 0));
    }
}
