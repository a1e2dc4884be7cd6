//! What foresight could win at most: two bounds to hold a cell against.
//!
//! *Belady* is the miss ratio of [`BeladyPolicy`](super::belady::BeladyPolicy) without prefetching: what eviction alone
//! could reach on its own.
//!
//! The *perfect prefetcher* knows every request of the log, but not what keys exist before somebody asks: once a key
//! was asked for anywhere, the predictor knows of it half a control round trip later, its order needs the other half,
//! and the transfer takes the fastest link to the node, be it from a peer or the origin. From then on it has the key
//! there whenever it is asked for, fetched just in time. So a request misses only when the key is new to the world, or
//! too new to the node for any transfer to have ended. What is fetched just in time replaces the fetch of the miss,
//! pushes nothing out for long and is never in vain: no budget and no cache size binds it, and its miss ratio is the
//! same for all of them. The engine can do better only by naming keys that nobody has asked for, such as the next of a
//! numbered family.

use std::time::Duration;

use nearcast_datasets::{Map, SegmentId, Timestamp};

use super::{
    EvictionKind, LogColumns, PlacementKind, PrefetchKind, ReplayConfig, cell::CellSpec, network::Network,
    objects::Objects,
};

/// The miss ratio of the perfect prefetcher, over the requests that the configuration counts.
pub(super) fn perfect_miss_ratio(log: &LogColumns, config: &ReplayConfig) -> f64 {
    let counted_from = config.counted_from(log.len());
    let mut world = World::new(log, config);
    let mut misses = 0_u64;
    for index in 0..log.len() {
        let is_hit = world.request(index);
        misses += u64::from(!is_hit && index >= counted_from);
    }
    misses as f64 / (log.len() - counted_from).max(1) as f64
}

/// The cell that says what Belady's rule would have missed where this one was played.
pub(super) fn belady_of(cell: &CellSpec) -> Option<CellSpec> {
    let belady = CellSpec { policy: EvictionKind::Belady, prefetch: PrefetchKind::None, ..*cell };
    (cell.placement == PlacementKind::None).then_some(belady)
}

/// Who knows what by when.
#[derive(Debug)]
struct World<'a> {
    log: &'a LogColumns,
    network: Network,
    objects: Objects,
    is_instant: bool,
    control_round_trip: Duration,
    /// When a key was asked for first, anywhere.
    known_at: Vec<Option<Timestamp>>,
    /// When the first fetch for demand of a node ended there.
    fetched_at: Map<(usize, SegmentId), Timestamp>,
}

impl<'a> World<'a> {
    fn new(log: &'a LogColumns, config: &ReplayConfig) -> Self {
        Self {
            log,
            network: Network::new(&config.topology, log.region_names()),
            objects: Objects::new(config.segment_bytes),
            is_instant: config.instant,
            control_round_trip: if config.instant { Duration::ZERO } else { config.control_round_trip },
            known_at: vec![None; log.key_count()],
            fetched_at: Map::default(),
        }
    }

    /// Whether everything that a request asks for could be there.
    fn request(&mut self, index: usize) -> bool {
        let row = self.log.row(index);
        let now = row.timestamp;
        let node = usize::from(row.region.0);
        let known_at = self.known_at[row.key.0 as usize];
        let mut is_hit = true;
        for part in self.objects.segments(row.size_bytes, row.range) {
            let bytes = self.objects.segment_bytes(row.size_bytes, part);
            let lead = self.control_round_trip + self.transfer_time(self.network.fastest_to(node, bytes));
            let segment = SegmentId { key: row.key, index: part };
            let is_foreseen = known_at.is_some_and(|known_at| known_at.after(lead) <= now);
            let is_fetched = self.fetched_at.get(&(node, segment)).is_some_and(|fetched_at| *fetched_at <= now);
            is_hit &= is_foreseen || is_fetched;
            let fetch = self.transfer_time(self.network.to_origin(node).transfer_time(bytes));
            self.fetched_at.entry((node, segment)).or_insert(now.after(fetch));
        }
        self.known_at[row.key.0 as usize] = known_at.or(Some(now));
        is_hit
    }

    fn transfer_time(&self, time: Duration) -> Duration {
        if self.is_instant { Duration::ZERO } else { time }
    }
}
