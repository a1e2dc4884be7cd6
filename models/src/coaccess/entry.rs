//! One key's decayed counts.

use nearcast_datasets::{KeyId, Timestamp};

/// What is known of one key, as of `at`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The instant that all counts are decayed to.
    pub(crate) at: Timestamp,
    pub(crate) occurrences: f32,
    /// How many forgettings the slots have been cleaned of.
    pub(crate) forgettings: u64,
    pub(crate) slots: Vec<Slot>,
}

/// One successor's count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) key: KeyId,
    /// What the slot defends its place with.
    pub(crate) claim: f32,
    /// The part of the claim that was inherited from a replaced successor.
    pub(crate) inherited: f32,
}

impl Slot {
    /// What was really counted.
    pub(crate) fn counted(&self) -> f32 {
        self.claim - self.inherited
    }
}

impl Entry {
    pub(crate) fn new(at: Timestamp, forgettings: u64) -> Self {
        Self { at, occurrences: 0.0, forgettings, slots: Vec::new() }
    }

    /// Lets the counts age to `now`; time never runs backwards.
    pub(crate) fn decay_to(&mut self, now: Timestamp, half_life_seconds: f64) {
        if now <= self.at {
            return;
        }
        let decay = decay(self.at, now, half_life_seconds);
        self.at = now;
        self.occurrences *= decay;
        for slot in &mut self.slots {
            slot.claim *= decay;
            slot.inherited *= decay;
        }
    }

    /// Adds to the count of a successor; whether another one had to make room for it. Of those counted least, the one
    /// that makes room has the smallest number, or, `by_place`, the first place.
    pub(crate) fn count(&mut self, key: KeyId, weight: f32, slots_max: usize, by_place: bool) -> bool {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.key == key) {
            slot.claim += weight;
            return false;
        }
        if self.slots.len() < slots_max {
            self.slots.push(Slot { key, claim: weight, inherited: 0.0 });
            return false;
        }
        let tie = |a: &Slot, b: &Slot| if by_place { std::cmp::Ordering::Equal } else { a.key.cmp(&b.key) };
        // Of equals the first is the least.
        let smallest = self.slots.iter_mut().min_by(|a, b| a.claim.total_cmp(&b.claim).then_with(|| tie(a, b)));
        if let Some(slot) = smallest {
            *slot = Slot { key, claim: slot.claim + weight, inherited: slot.claim };
        }
        true
    }
}

/// What a count of one is worth after the time from `from` to `to`.
pub(crate) fn decay(from: Timestamp, to: Timestamp, half_life_seconds: f64) -> f32 {
    (-to.since(from).as_secs_f64() / half_life_seconds).exp2() as f32
}
