//! The learned policies: the default, and its variant that counts latency.
//!
//! A model of each segment's next request is learned online from the cache's own traffic, from nothing, with one
//! setting for every traffic. An eviction judges a small random sample and drops what is worth least.
//!
//! - **History** (`history`): time since the last request, three gaps, three decayed counts, age, number of requests
//!   and the share of hits around the last one. Durations are in requests and relative to the cache's size. Histories
//!   of evicted segments are kept for a while (`ghosts`).
//! - **Examples** (`examples`): now and then a random held segment is written down as it looks, and labelled when it is
//!   asked for again, or is not in time, whether or not it is still held then.
//! - **Model** (`model`): `P(asked for within h)` for four horizons h by logistic regressions on bucketed features; a
//!   segment's value is the most hits per request of residence that any horizon promises, Gittins' index.
//! - **Choice** (`candidates`): the least *value × worth / bytes* of the newest segment, twelve random ones, and the
//!   least of earlier evictions. The worth of a hit is the square root of the bytes (`adaptive`) or the time saved
//!   (`predicted`); where all sizes are equal, both choose the same but for rounding.
//!
//! Labels from sampled residents and eviction of the worst of a sample are from LRB (Song et al., NSDI '20), keeping
//! candidates between evictions from 3L-Cache (Zhou et al., FAST '25), ranking by hits per time in the cache from LHD
//! (Beckmann et al., NSDI '18), the index from Gittins (J. R. Stat. Soc. B, 1979).
//!
//! Memory: at most 120 bytes per held segment (entry 40, table 6 to 12, four ghosts of 16 to 17), not counting address
//! space that arrays reserve to grow, and 380 KiB at most per cache. A request costs one look-up each among entries and
//! examples (a miss also one among ghosts), and half a dozen steps of the model; an eviction about fifteen judgements.
//!
//! What is learned lives as long as the policy. After a restart the entries come in the order of [`Policy::iter`],
//! least value first, which stands in for recency until they are asked for again; the model starts anew.

mod candidates;
mod entries;
mod examples;
mod ghosts;
mod history;
mod math;
mod model;
#[cfg(test)]
mod tests;

use nearcast_datasets::{SegmentId, Timestamp};

use self::{
    candidates::{Candidates, Judge, Worth},
    entries::{Entries, Entry},
    examples::Examples,
    ghosts::Ghosts,
    history::{History, Scale},
    model::Model,
};
use super::policy::Policy;

/// Segments sampled per eviction.
const SAMPLE: usize = 12;

/// The weight of one request in the share of hits.
const HIT_SHARE_RATE: f32 = 0.1;

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// Evicts what a model learned from this cache's own traffic expects least from.
#[derive(Debug)]
pub(super) struct AdaptivePolicy {
    capacity_bytes: u64,
    worth: Worth,
    /// Requests seen, wrapping: the policy's clock.
    now: u32,
    /// Whether a request came since the last insertion.
    has_ticked: bool,
    /// Whether anything was ever evicted: from then on the cache's size is known rather than guessed.
    has_evicted: bool,
    hit_share: f32,
    random: u64,
    scale: Scale,
    entries: Entries,
    ghosts: Ghosts,
    examples: Examples,
    model: Model,
    candidates: Candidates,
}

impl AdaptivePolicy {
    /// An empty policy that balances requests and bytes, for a cache of so many bytes.
    pub(super) fn balanced(capacity_bytes: u64) -> Self {
        Self::new(capacity_bytes, Worth::Balanced)
    }

    /// An empty policy that saves latency, for a cache of so many bytes.
    pub(super) fn for_latency(capacity_bytes: u64) -> Self {
        Self::new(capacity_bytes, Worth::Latency)
    }

    fn new(capacity_bytes: u64, worth: Worth) -> Self {
        Self {
            capacity_bytes,
            worth,
            now: 0,
            has_ticked: false,
            has_evicted: false,
            hit_share: 0.5,
            random: SEED,
            scale: Scale::new(0),
            entries: Entries::default(),
            ghosts: Ghosts::default(),
            examples: Examples::default(),
            model: Model::default(),
            candidates: Candidates::default(),
        }
    }

    fn tick(&mut self) {
        self.now = self.now.wrapping_add(1);
        self.has_ticked = true;
    }

    /// Labels what is due and now and then draws an example.
    fn study(&mut self) {
        self.examples.expire(self.now, &self.scale, &mut self.model);
        let chance = next_random(&mut self.random) as u16;
        if self.entries.len() == 0 || !self.examples.is_due(chance, &self.scale) {
            return;
        }
        let entry = self.entries.at(pick(&mut self.random, self.entries.len()));
        let features = entry.history.features(self.now, entry.bytes, &self.scale);
        self.examples.draw(self.now, entry.segment, features);
    }

    /// Takes note that the cache holds so many segments when full.
    fn rescale(&mut self, entries: u64) {
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        if entries.abs_diff(self.scale.entries) > self.scale.entries / 32 {
            self.scale = Scale::new(entries);
        }
    }

    fn take(&mut self, position: usize) -> Entry {
        let entry = self.entries.swap_remove(position);
        self.candidates.follow_removal(position, self.entries.len());
        entry
    }

    fn judge(&self) -> Judge<'_> {
        let Self { now, entries, scale, model, worth, .. } = self;
        Judge { now: *now, entries, scale, model, worth: *worth }
    }

    /// The position of the next victim, newly chosen.
    fn choose(&mut self) -> Option<usize> {
        let Self { now, entries, scale, model, worth, candidates, random, .. } = self;
        let judge = Judge { now: *now, entries, scale, model, worth: *worth };
        candidates.refresh(&judge);
        // The newest first, which a sample would hardly ever meet: most of what is asked for once never is again.
        candidates.add(entries.len() - 1, &judge);
        for _ in 0..SAMPLE {
            candidates.add(pick(random, entries.len()), &judge);
        }
        candidates.take_least(*now)
    }
}

impl Policy for AdaptivePolicy {
    fn touch(&mut self, _now: Timestamp, segment: SegmentId) -> Option<u64> {
        self.tick();
        self.examples.fulfil(segment, &mut self.model);
        let position = self.entries.position(segment);
        if let Some(position) = position {
            self.entries.at_mut(position).history.record(self.now, self.hit_share, &self.scale);
        } else if let Some(ghost) = self.ghosts.get_mut(segment) {
            ghost.record(self.now, &self.scale);
        }
        let hit = f32::from(u8::from(position.is_some()));
        self.hit_share += HIT_SHARE_RATE * (hit - self.hit_share);
        self.study();
        position.map(|position| self.entries.at(position).bytes)
    }

    fn insert(&mut self, _now: Timestamp, segment: SegmentId, bytes: u64) {
        debug_assert!(self.entries.position(segment).is_none(), "the index inserts only what is not held");
        // What is restored comes without a request, and yet one after another.
        if !self.has_ticked {
            self.tick();
        }
        self.has_ticked = false;
        let history = match self.ghosts.take(segment) {
            Some(ghost) => ghost.revive(self.hit_share),
            None => History::new(self.now, self.hit_share),
        };
        self.entries.push(Entry { segment, bytes, history });
        if !self.has_evicted {
            let mean_bytes = self.entries.used_bytes() / self.entries.len() as u64;
            self.rescale(self.capacity_bytes / mean_bytes.max(1));
        }
    }

    fn remove(&mut self, segment: SegmentId) -> Option<u64> {
        self.ghosts.take(segment);
        self.examples.cancel(segment);
        let position = self.entries.position(segment)?;
        Some(self.take(position).bytes)
    }

    fn evict(&mut self, _now: Timestamp) -> Option<(SegmentId, u64)> {
        if self.entries.len() == 0 {
            return None;
        }
        self.has_evicted = true;
        self.rescale(self.entries.len() as u64);
        let victim = self.choose()?;
        let entry = self.take(victim);
        self.ghosts.push(entry.segment, &entry.history, self.scale.entries);
        Some((entry.segment, entry.bytes))
    }

    fn bytes(&self, segment: SegmentId) -> Option<u64> {
        self.entries.position(segment).map(|position| self.entries.at(position).bytes)
    }

    /// By value at this moment. Evictions meet only samples, so they follow this order roughly, and requests change it.
    fn iter(&self) -> Box<dyn Iterator<Item = (SegmentId, u64)> + '_> {
        let judge = self.judge();
        let mut order: Vec<_> = (0..self.entries.len()).map(|position| (judge.value(position), position)).collect();
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Box::new(order.into_iter().map(move |(_, position)| {
            let entry = judge.entries.at(position);
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

/// Xorshift64*, seeded by a constant: the same requests always meet the same decisions.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
}

/// A random position among `count` of them.
fn pick(state: &mut u64, count: usize) -> usize {
    (next_random(state) % count as u64) as usize
}
