//! The learned default.

mod candidates;
mod entries;
mod examples;
mod ghosts;
mod history;
mod math;
mod model;

use nearcast_datasets::{SegmentId, Timestamp};

use self::{
    candidates::{Candidates, value},
    entries::{Entries, Entry},
    examples::Examples,
    ghosts::Ghosts,
    history::{History, Scale},
    model::Model,
};
use super::policy::Policy;

/// Segments judged anew per eviction.
const SAMPLE: usize = 16;

/// Evicts what a model learned from this cache's own traffic expects least from.
#[derive(Debug)]
pub(super) struct AdaptivePolicy {
    capacity_bytes: u64,
    /// Requests seen, wrapping: the policy's clock.
    now: u32,
    /// Whether the clock has moved since the last insertion.
    has_ticked: bool,
    hit_share: f32,
    random: u64,
    scale: Scale,
    entries: Entries,
    ghosts: Ghosts,
    examples: Examples,
    model: Model,
    candidates: Candidates,
    is_full: bool,
}

impl AdaptivePolicy {
    /// An empty policy for a cache of so many bytes.
    pub(super) fn new(capacity_bytes: u64) -> Self {
        Self {
            capacity_bytes,
            now: 0,
            has_ticked: false,
            hit_share: 0.5,
            random: SEED,
            scale: Scale::new(0),
            entries: Entries::default(),
            ghosts: Ghosts::default(),
            examples: Examples::default(),
            model: Model::default(),
            candidates: Candidates::default(),
            is_full: false,
        }
    }

    fn tick(&mut self) {
        self.now = self.now.wrapping_add(1);
        self.has_ticked = true;
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn pick(&mut self) -> usize {
        let random = self.random();
        (random % self.entries.len() as u64) as usize
    }

    fn study(&mut self) {
        self.examples.expire(self.now, &self.scale, &mut self.model);
        let random = self.random() as u16;
        if self.entries.len() == 0 || !self.examples.is_due(random, &self.scale) {
            return;
        }
        let position = self.pick();
        let entry = self.entries.at_mut(position);
        let features = entry.history.features(self.now, entry.bytes, &self.scale);
        entry.history.examples = self.examples.draw(self.now, features, entry.history.examples);
    }

    fn rescale(&mut self, entries: u64) {
        let entries = entries.min(u64::from(u32::MAX)) as u32;
        if entries.abs_diff(self.scale.entries) > self.scale.entries / 32 {
            self.scale = Scale::new(entries);
        }
    }

    fn take(&mut self, position: usize) -> Entry {
        let entry = self.entries.swap_remove(position);
        self.candidates.follow_removal(position, self.entries.len());
        entry
    }
}

impl Policy for AdaptivePolicy {
    fn touch(&mut self, _now: Timestamp, segment: SegmentId) -> Option<u64> {
        self.tick();
        let position = self.entries.position(segment);
        let known = match position {
            Some(position) => Some(&mut self.entries.at_mut(position).history),
            None => self.ghosts.get_mut(segment),
        };
        if let Some(history) = known {
            self.examples.fulfil(history.examples, &mut self.model);
            history.examples = examples::ExampleLink::NONE;
            history.record(self.now, self.hit_share, &self.scale);
        }
        self.hit_share += HIT_SHARE_RATE * (f32::from(u8::from(position.is_some())) - self.hit_share);
        self.study();
        position.map(|position| self.entries.at(position).bytes)
    }

    fn insert(&mut self, _now: Timestamp, segment: SegmentId, bytes: u64) {
        debug_assert!(self.entries.position(segment).is_none(), "the index inserts only what is not held");
        if !self.has_ticked {
            self.tick();
        }
        self.has_ticked = false;
        let history = self.ghosts.take(segment).unwrap_or_else(|| History::new(self.now, self.hit_share));
        self.entries.push(Entry { segment, bytes, history });
        if !self.is_full {
            let mean = (self.entries.used_bytes() / self.entries.len() as u64).max(1);
            self.rescale(self.capacity_bytes / mean);
        }
    }

    fn remove(&mut self, segment: SegmentId) -> Option<u64> {
        let history = self.ghosts.take(segment);
        if let Some(history) = history {
            self.examples.cancel(history.examples);
        }
        let position = self.entries.position(segment)?;
        let entry = self.take(position);
        self.examples.cancel(entry.history.examples);
        Some(entry.bytes)
    }

    fn evict(&mut self, _now: Timestamp) -> Option<(SegmentId, u64)> {
        if self.entries.len() == 0 {
            return None;
        }
        self.is_full = true;
        self.rescale(self.entries.len() as u64);
        self.candidates.refresh(self.now, &self.entries, &self.scale, &self.model);
        // The newest first: most of what is asked for once is never asked for again.
        let mut position = self.entries.len() - 1;
        for _ in 0..=SAMPLE {
            self.candidates.add(position, self.now, &self.entries, &self.scale, &self.model);
            position = self.pick();
        }
        let victim = self.candidates.take_least(self.now)?;
        let entry = self.take(victim);
        self.ghosts.push(entry.segment, entry.history, self.scale.entries as usize);
        Some((entry.segment, entry.bytes))
    }

    fn bytes(&self, segment: SegmentId) -> Option<u64> {
        self.entries.position(segment).map(|position| self.entries.at(position).bytes)
    }

    fn iter(&self) -> Box<dyn Iterator<Item = (SegmentId, u64)> + '_> {
        let value = |position| value(position, self.now, &self.entries, &self.scale, &self.model);
        let mut order: Vec<_> = (0..self.entries.len()).map(|position| (value(position), position)).collect();
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Box::new(order.into_iter().map(|(_, position)| {
            let entry = self.entries.at(position);
            (entry.segment, entry.bytes)
        }))
    }

    fn used_bytes(&self) -> u64 {
        self.entries.used_bytes()
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}

const HIT_SHARE_RATE: f32 = 0.1;

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
