//! The few held segments that are least worth their place, as far as is known.

use super::{entries::Entries, history::Scale, model::Model};

/// Candidates kept from one eviction to the next.
const KEPT: usize = 24;

/// A candidate is judged again after the cache's size in requests divided by this.
const JUDGEMENTS: u32 = 8;

/// What a hit on a segment is worth, beside how likely it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// The square root of its bytes: halfway between counting requests and counting bytes, so that neither the object
    /// miss ratio nor the byte miss ratio is given up for the other.
    Balanced,
    /// The time it saves: a round trip to the origin and its bytes' way.
    Latency,
}

impl Worth {
    fn per_byte(self, bytes: u64) -> f32 {
        let bytes = bytes.max(1) as f32;
        match self {
            Self::Balanced => bytes.sqrt().recip(),
            Self::Latency => (ROUND_TRIP_BYTES + bytes) / bytes,
        }
    }
}

/// Bytes that pass while one round trip to the origin does: 120 ms at 50 MB/s.
const ROUND_TRIP_BYTES: f32 = 6e6;

/// What it takes to say what a held segment is worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge<'a> {
    pub(super) now: u32,
    pub(super) entries: &'a Entries,
    pub(super) scale: &'a Scale,
    pub(super) model: &'a Model,
    pub(super) worth: Worth,
}

impl Judge<'_> {
    /// What each byte of the entry at `position` is expected to win per request from now on.
    pub(super) fn value(&self, position: usize) -> f32 {
        let entry = self.entries.at(position);
        let features = entry.history.features(self.now, entry.bytes, self.scale);
        self.model.density(&features) * self.worth.per_byte(entry.bytes)
    }
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    value: f32,
    position: u32,
    /// When it was last asked for as judged; a later request clears it.
    last: u32,
    judged: u32,
}

/// Candidates for eviction. Each eviction adds a random sample and takes the least valuable; the next least stay, so
/// that over a few evictions the sample grows to hundreds while only the new ones have to be judged.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    list: Vec<Candidate>,
}

impl Candidates {
    /// Drops what has been asked for since and judges again what was judged too long ago.
    pub(super) fn refresh(&mut self, judge: &Judge<'_>) {
        self.list.retain(|candidate| judge.entries.at(candidate.position as usize).history.last == candidate.last);
        let fresh = (judge.scale.entries / JUDGEMENTS).max(1);
        for candidate in &mut self.list {
            if judge.now.wrapping_sub(candidate.judged) > fresh {
                candidate.value = judge.value(candidate.position as usize);
                candidate.judged = judge.now;
            }
        }
    }

    /// Adds the entry at `position` unless it is one already.
    pub(super) fn add(&mut self, position: usize, judge: &Judge<'_>) {
        if self.list.iter().any(|candidate| candidate.position as usize == position) {
            return;
        }
        let last = judge.entries.at(position).history.last;
        let value = judge.value(position);
        self.list.push(Candidate { value, position: position as u32, last, judged: judge.now });
    }

    /// Takes the least valuable, the longest idle among equals, and keeps the next least.
    pub(super) fn take_least(&mut self, now: u32) -> Option<usize> {
        let order = |a: &Candidate, b: &Candidate| {
            let idle = |candidate: &Candidate| now.wrapping_sub(candidate.last);
            a.value.total_cmp(&b.value).then_with(|| idle(b).cmp(&idle(a)))
        };
        if self.list.len() > KEPT + 1 {
            self.list.select_nth_unstable_by(KEPT, order);
            self.list.truncate(KEPT + 1);
        }
        let least = (0..self.list.len()).min_by(|a, b| order(&self.list[*a], &self.list[*b]))?;
        Some(self.list.swap_remove(least).position as usize)
    }

    /// Follows the removal of the entry at `position`, into whose place the one at `moved` went.
    pub(super) fn follow_removal(&mut self, position: usize, moved: usize) {
        self.list.retain(|candidate| candidate.position as usize != position);
        for candidate in &mut self.list {
            if candidate.position as usize == moved {
                candidate.position = position as u32;
            }
        }
    }
}
