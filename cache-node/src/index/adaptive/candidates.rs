//! The few held segments that are least worth their place, as far as is known.

use super::{entries::Entries, history::Scale, model::Model};

/// Candidates kept from one eviction to the next.
const KEPT: usize = 16;

/// A share of the cache's size in requests after which a candidate is judged again.
const STALE_SHARE: u32 = 32;

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
    /// Drops what is no candidate any more and judges again what was judged too long ago.
    pub(super) fn refresh(&mut self, now: u32, entries: &Entries, scale: &Scale, model: &Model) {
        self.list.retain(|candidate| entries.at(candidate.position as usize).history.last == candidate.last);
        let stale = (scale.entries / STALE_SHARE).max(1);
        for candidate in &mut self.list {
            if now.wrapping_sub(candidate.judged) > stale {
                candidate.value = value(candidate.position as usize, now, entries, scale, model);
                candidate.judged = now;
            }
        }
    }

    /// Adds the entry at `position` unless it is one already.
    pub(super) fn add(&mut self, position: usize, now: u32, entries: &Entries, scale: &Scale, model: &Model) {
        if self.list.iter().any(|candidate| candidate.position as usize == position) {
            return;
        }
        let value = value(position, now, entries, scale, model);
        let last = entries.at(position).history.last;
        self.list.push(Candidate { value, position: position as u32, last, judged: now });
    }

    /// Takes the least valuable, the longest idle among equals, and keeps the next least.
    pub(super) fn take_least(&mut self, now: u32) -> Option<usize> {
        let order = |a: &Candidate, b: &Candidate| {
            a.value.total_cmp(&b.value).then(now.wrapping_sub(b.last).cmp(&now.wrapping_sub(a.last)))
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

/// What the entry's bytes are worth.
pub(super) fn value(position: usize, now: u32, entries: &Entries, scale: &Scale, model: &Model) -> f32 {
    let entry = entries.at(position);
    model.density(&entry.history.features(now, entry.bytes, scale))
}
