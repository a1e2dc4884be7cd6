//! Cells: logs that no arm changes, and caches that serve them.

use std::time::Duration;

use nearcast_cache_node::index::{Admission, Evicted, Index, IndexConfig, PolicyKind};
use nearcast_datasets::{KeyId, Map, SegmentId, Timestamp};
use nearcast_experiment::design::Turnover;
use nearcast_proto::message::CommandId;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Requests per second of each cell; the first two, the next two and the last two are alike.
pub(crate) const RATES: [f64; 6] = [1.0, 1.05, 0.8, 0.84, 1.2, 1.15];
/// Segments that a cell's cache holds.
const CAPACITY: u64 = 200;
const TITLES: u32 = 1_500;
const SEGMENTS: u32 = 20;
const CLIENTS: usize = 40;
/// Seconds of a day's tide.
const DAY: f64 = 20_000.0;
/// Segments of a title that nobody asks for.
const JUNK: u32 = TITLES;

/// What is fetched before it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefetcher {
    /// The next segment, of two titles in five.
    Champion,
    /// The next segment, of four titles in five.
    Better,
    /// As the champion, and two segments that nobody wants.
    Junk,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Seconds since the log's beginning.
    pub(crate) at: f64,
    pub(crate) client: usize,
    pub(crate) segment: SegmentId,
}

/// An endless log of one cell: clients watch titles segment by segment, and sometimes begin another one.
#[derive(Debug)]
pub(crate) struct Log {
    rng: ChaCha8Rng,
    cell: usize,
    count: u64,
    watched: Vec<SegmentId>,
    /// What the pair has in common: how likely one goes on watching, by hour.
    tide: f64,
}

impl Log {
    pub(crate) fn new(seed: u64, cell: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(cell as u64);
        let watched = vec![SegmentId { key: KeyId(0), index: SEGMENTS }; CLIENTS];
        let mut shared = ChaCha8Rng::seed_from_u64(seed);
        shared.set_stream(100 + cell as u64 / 2);
        Self { rng, cell, count: 0, watched, tide: shared.random::<f64>() }
    }
}

impl Iterator for Log {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        self.count += 1;
        let at = self.count as f64 / RATES[self.cell];
        let going_on = 0.85 + 0.08 * ((at / DAY + self.tide) * std::f64::consts::TAU).sin();
        let client = self.rng.random_range(0..CLIENTS);
        let last = &mut self.watched[client];
        if last.index + 1 < SEGMENTS && self.rng.random_bool(going_on) {
            last.index += 1;
        } else {
            // Zipf's law with exponent near one, by inversion.
            let title = (f64::from(TITLES + 1).powf(self.rng.random::<f64>()) - 1.0) as u32;
            *last = SegmentId { key: KeyId(title.min(TITLES - 1)), index: 0 };
        }
        Some(Request { at, client, segment: *last })
    }
}

/// One cell's cache.
#[derive(Debug)]
pub(crate) struct Cache {
    index: Index,
    held_since: Map<SegmentId, f64>,
    evicted: Vec<Evicted>,
    junk: ChaCha8Rng,
    pub(crate) turnover: Turnover,
}

impl Cache {
    pub(crate) fn new(seed: u64, cell: usize) -> Self {
        let config = IndexConfig { capacity_bytes: CAPACITY, policy: PolicyKind::Lru, ..IndexConfig::default() };
        let index = Index::new(&config).expect("the capacity is positive");
        let mut junk = ChaCha8Rng::seed_from_u64(seed);
        junk.set_stream(200 + cell as u64);
        Self { index, held_since: Map::default(), evicted: Vec::new(), junk, turnover: Turnover::default() }
    }

    /// Serves a request and lets `prefetcher` act on it; returns whether it was a hit.
    pub(crate) fn serve(&mut self, request: &Request, prefetcher: Prefetcher) -> bool {
        let is_hit = self.index.touch(moment(request.at), request.segment).is_some();
        if !is_hit {
            self.insert(request.at, request.segment, Admission::Demand);
        }
        let SegmentId { key, index } = request.segment;
        let foreseen = if prefetcher == Prefetcher::Better { 4 } else { 2 };
        if key.0 % 5 < foreseen && index + 1 < SEGMENTS {
            self.prefetch(request.at, SegmentId { key, index: index + 1 });
        }
        if prefetcher == Prefetcher::Junk {
            for _ in 0..2 {
                let segment = SegmentId { key: KeyId(JUNK), index: self.junk.random() };
                self.prefetch(request.at, segment);
            }
        }
        is_hit
    }

    fn prefetch(&mut self, at: f64, segment: SegmentId) {
        if !self.index.contains(segment) {
            self.insert(at, segment, Admission::Prefetched(CommandId(0)));
        }
    }

    fn insert(&mut self, at: f64, segment: SegmentId, admission: Admission) {
        if self.index.insert(moment(at), segment, 1, admission, &mut self.evicted) {
            self.held_since.insert(segment, at);
        }
        for evicted in self.evicted.drain(..) {
            if let Some(since) = self.held_since.remove(&evicted.segment) {
                self.turnover.handle_evicted(Duration::from_secs_f64(at - since));
            }
        }
    }
}

fn moment(seconds: f64) -> Timestamp {
    Timestamp::from_micros((seconds * 1e6) as i64)
}
