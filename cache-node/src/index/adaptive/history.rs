//! What is remembered of a segment's requests, and what the model sees of it.

use super::{
    math::{eighths_of_octave, log2_one_plus_exp2},
    model::{Features, HORIZONS},
};

/// Half-lives of the decayed request counts, in multiples of the cache's size in requests.
const HALF_LIVES: [f32; 3] = [0.25, 1.0, 8.0];

/// Fixed-point steps per octave of a decayed count.
const COUNT_STEPS: f32 = 256.0;

/// A gap that there has not been.
const NO_GAP: u8 = u8::MAX;

/// How durations in requests compare with the cache's size: everything learned is relative to it.
#[derive(Debug)]
pub(super) struct Scale {
    /// Segments that the cache holds when full.
    pub(super) entries: u32,
    /// [`HORIZONS`] in requests.
    pub(super) horizons: [u32; HORIZONS.len()],
    eighths: i32,
    /// Octaves that each count loses per request.
    decays: [f32; HALF_LIVES.len()],
}

impl Scale {
    pub(super) fn new(entries: u32) -> Self {
        let entries = entries.max(ENTRIES_MIN);
        let size = entries as f32;
        Self {
            entries,
            horizons: HORIZONS.map(|horizon| ((horizon * size) as u32).clamp(1, DURATION_MAX)),
            eighths: eighths_of_octave(entries),
            decays: HALF_LIVES.map(|half_life| 1.0 / (half_life * size)),
        }
    }
}

/// Below so many entries a cache's size says nothing about its traffic.
const ENTRIES_MIN: u32 = 16;

/// Requests are counted in 32 bits that may wrap; durations beyond half of that would be ambiguous.
const DURATION_MAX: u32 = 1 << 31;

/// A segment's requests so far. 20 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    /// When it was last asked for, in requests seen by the policy (wrapping).
    pub(super) last: u32,
    first: u32,
    /// Decayed counts at `last`, as logarithms.
    counts: [i16; HALF_LIVES.len()],
    /// The latest gaps between requests, newest first, in eighths of an octave.
    gaps: [u8; 3],
    requests: u8,
    /// Share of hits around the last request, in eighths.
    climate: u8,
}

impl History {
    /// Of a segment asked for at `now` for the first time.
    pub(super) fn new(now: u32, hit_share: f32) -> Self {
        Self { last: now, first: now, counts: [0; 3], gaps: [NO_GAP; 3], requests: 1, climate: eighth(hit_share) }
    }

    /// Adds a request.
    pub(super) fn record(&mut self, now: u32, hit_share: f32, scale: &Scale) {
        let gap = now.wrapping_sub(self.last);
        for (count, decay) in self.counts.iter_mut().zip(scale.decays) {
            let decayed = f32::from(*count) / COUNT_STEPS - gap as f32 * decay;
            *count = (log2_one_plus_exp2(decayed) * COUNT_STEPS) as i16;
        }
        self.gaps = [eighths_of_octave(gap).min(i32::from(NO_GAP - 1)) as u8, self.gaps[0], self.gaps[1]];
        self.requests = self.requests.saturating_add(1);
        self.last = now;
        self.climate = eighth(hit_share);
    }

    /// The buckets that describe this segment at `now`, in the order of [`BUCKETS`](super::model::BUCKETS).
    pub(super) fn features(&self, now: u32, bytes: u64, scale: &Scale) -> Features {
        let idle_requests = now.wrapping_sub(self.last);
        let idle = eighths_of_octave(idle_requests.saturating_add(1));
        let relative = idle - scale.eighths;
        let gap = |gap: u8| if gap == NO_GAP { 32 } else { bucket((i32::from(gap) - scale.eighths) / 4 + 24, 32) };
        let lateness = if self.gaps[0] == NO_GAP { 32 } else { bucket((idle - i32::from(self.gaps[0])) / 4 + 12, 32) };
        let count = |which: usize| {
            let decayed = f32::from(self.counts[which]) / COUNT_STEPS - idle_requests as f32 * scale.decays[which];
            bucket((decayed * 2.0) as i32 + 12, 24)
        };
        let age = eighths_of_octave(now.wrapping_sub(self.first).saturating_add(1)) - scale.eighths;
        let is_repeated = u8::from(self.requests > 1);
        [
            bucket(relative / 4 + 40, 64),
            gap(self.gaps[0]),
            gap(self.gaps[1]),
            gap(self.gaps[2]),
            lateness,
            count(0),
            count(1),
            count(2),
            bucket(age / 4 + 16, 24),
            self.requests.min(15),
            (bucket(relative / 8 + 11, 16) * 8 + self.climate) * 2 + is_repeated,
            bytes.max(1).ilog2().min(31) as u8,
        ]
    }
}

/// What is kept of a [`History`] after eviction: all that outlives the time until a return. 12 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faded {
    last: u32,
    first: u32,
    gaps: [u8; 2],
    requests: u8,
    /// The slowest count, in eighths of an octave.
    count: u8,
}

impl Faded {
    /// Whether this is the history of nothing.
    pub(super) fn is_none(&self) -> bool {
        self.requests == 0
    }

    /// Adds a request.
    pub(super) fn record(&mut self, now: u32, scale: &Scale) {
        let mut history = self.revive(0.0);
        history.record(now, 0.0, scale);
        *self = Self::from(&history);
    }

    /// The history as far as it is still known.
    pub(super) fn revive(self, hit_share: f32) -> History {
        let mut counts = [0; HALF_LIVES.len()];
        counts[SLOWEST] = i16::from(self.count) * COUNT_STEPS_FADED;
        let [newest, older] = self.gaps;
        let gaps = [newest, older, NO_GAP];
        let Self { last, first, requests, .. } = self;
        History { last, first, counts, gaps, requests, climate: eighth(hit_share) }
    }
}

impl From<&History> for Faded {
    fn from(history: &History) -> Self {
        let [newest, older, _] = history.gaps;
        let count = (history.counts[SLOWEST] / COUNT_STEPS_FADED).clamp(0, 255) as u8;
        Self { last: history.last, first: history.first, gaps: [newest, older], requests: history.requests, count }
    }
}

const SLOWEST: usize = HALF_LIVES.len() - 1;

/// Steps of a count that are one step of a faded one.
const COUNT_STEPS_FADED: i16 = 32;

fn bucket(value: i32, buckets: i32) -> u8 {
    value.clamp(0, buckets - 1) as u8
}

fn eighth(share: f32) -> u8 {
    (share * 7.99) as u8
}
