//! What the shell's mutex guards: the core, and what turns its numbers into names, objects and digests.

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc};

use http::HeaderMap;
use lru::LruCache;
use nearcast_datasets::{Interner, KeyId, Map, SegmentId, Timestamp};
use nearcast_proto::message::{Epoch, PlacementPosition};
use tokio::sync::watch;

use super::{entries::Entries, flight::FlightEnd};
use crate::{
    config::NodeConfig,
    core::{
        CommandLedger, NodeCore, NodeCounters,
        routing::{MemberId, PlacementCopy, RoutingConfig, RoutingTable},
    },
    error::{Error, Result},
    key::Key,
    object::{Object, SharedObject, VaryNames, selection, vary_names},
    peers::Peer,
    purge::Purge,
};

/// The core and its surroundings.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) core: NodeCore,
    pub(super) routing: RoutingTable,
    pub(super) map_epoch: Epoch,
    pub(super) placement: PlacementCopy,
    pub(super) peers: Map<MemberId, Peer>,
    pub(super) entries: Entries,
    /// Transfers that requests can wait for.
    pub(super) flights: Map<SegmentId, watch::Receiver<Option<FlightEnd>>>,
    /// Keys that open commands refer to, with how many segments of them.
    pub(super) ordered: Map<KeyId, u32>,
    /// Commands some of whose segments are still open.
    pub(super) commands: CommandLedger,
    /// The latest purges, in the order in which they were given.
    pub(super) purges: VecDeque<Arc<Purge>>,
    /// What was received before this may have been purged without the node knowing.
    pub(super) doubted_before: Option<Timestamp>,
    /// The same, for purges that nobody knows any longer.
    pub(super) lasting_doubt: Option<Timestamp>,
    /// Keys whose answers could not be kept lately, with the time until which that is taken for granted.
    bypass: LruCache<KeyId, Timestamp>,
    /// Keys whose answers depend on request headers.
    varying: LruCache<KeyId, Varying>,
    keys: Interner,
    keys_max: usize,
    sweep_hand: u32,
}

/// How a key's answers vary.
#[derive(Debug)]
struct Varying {
    names: VaryNames,
    /// The numbers of its variants, the latest last.
    variants: Vec<KeyId>,
}

impl State {
    pub(super) fn new(config: &NodeConfig) -> Result<Self> {
        let core = NodeCore::new(&config.core)
            .map_err(|error| Error::ConfigValue { key: "index", problem: error.to_string() })?;
        Ok(Self {
            core,
            routing: RoutingTable::new(config.peers.routing.clone(), &config.name),
            map_epoch: Epoch::default(),
            placement: PlacementCopy::default(),
            peers: Map::default(),
            entries: Entries::default(),
            flights: Map::default(),
            ordered: Map::default(),
            commands: CommandLedger::default(),
            purges: VecDeque::new(),
            doubted_before: None,
            lasting_doubt: None,
            bypass: LruCache::new(BYPASS_MAX),
            varying: LruCache::new(VARYING_MAX),
            keys: Interner::default(),
            keys_max: config.keys_max,
            sweep_hand: 0,
        })
    }

    /// The number of a key, given out now when it is new.
    pub(super) fn key_id(&mut self, key: &Key) -> KeyId {
        if let Some(number) = self.keys.find(key.as_str()) {
            return KeyId(number);
        }
        if self.keys.len() >= self.keys_max {
            self.sweep();
        }
        KeyId(self.keys.insert_shared(key.shared()))
    }

    /// The number of what a request gets: of the key, or of the variant that its headers select.
    pub(super) fn select(&mut self, key: &Key, asked: &HeaderMap) -> KeyId {
        let base = self.key_id(key);
        self.variant(base, key, asked).map_or(base, |variant| self.key_id(&variant))
    }

    /// The variant that a request's headers select; `None` where the key's answers are the same for everyone.
    fn variant(&mut self, base: KeyId, key: &Key, asked: &HeaderMap) -> Option<Key> {
        // Most nodes never see a key that varies: no look-up for them.
        if self.varying.is_empty() {
            return None;
        }
        self.varying.get(&base).map(|varying| key.variant(selection(&varying.names, asked)))
    }

    /// The number under which an object is kept. Learns from it how its key varies; returns with it what is not to be
    /// kept any longer because of that.
    pub(super) fn settle(&mut self, object: &Object) -> (KeyId, Vec<KeyId>) {
        let id = self.key_id(&object.key);
        if !object.key.is_variant() {
            let gone = if self.varying.is_empty() { None } else { self.varying.pop(&id) };
            return (id, gone.map(|varying| varying.variants).unwrap_or_default());
        }
        let base = self.key_id(&object.key.base());
        let names = vary_names(&object.head.to_map(0));
        let mut gone = Vec::new();
        match self.varying.get_mut(&base) {
            Some(varying) if varying.names == names => {
                if !varying.variants.contains(&id) {
                    varying.variants.push(id);
                    if varying.variants.len() > VARIANTS_MAX {
                        gone.push(varying.variants.remove(0));
                    }
                }
            }
            _ => {
                gone.push(base);
                // What it knew before, or another key that makes room: no variant is held that is not listed.
                let former = self.varying.push(base, Varying { names, variants: vec![id] });
                let listed = former.into_iter().flat_map(|(_, varying)| varying.variants);
                gone.extend(listed.filter(|former| *former != id));
            }
        }
        (id, gone)
    }

    /// The numbers of a key and of all its variants.
    pub(super) fn all_variants(&mut self, key: &Key) -> Vec<KeyId> {
        let base = self.key_id(key);
        let variants = self.varying.get(&base).map(|varying| varying.variants.clone());
        [base].into_iter().chain(variants.unwrap_or_default()).collect()
    }

    /// Remembers that answers for a key cannot be kept.
    pub(super) fn bypass(&mut self, id: KeyId, until: Timestamp) {
        self.bypass.put(id, until);
    }

    /// Whether answers for a key could not be kept lately.
    pub(super) fn is_bypassed(&mut self, now: Timestamp, id: KeyId) -> bool {
        // Most nodes never see such a key: no look-up for them.
        !self.bypass.is_empty() && self.bypass.get(&id).is_some_and(|until| now < *until)
    }

    /// Routes by other bounds from now on.
    pub(super) fn set_routing(&mut self, config: RoutingConfig) {
        self.routing.handle_config(config);
    }

    /// Keys with explicit holders, and the version of the placement that says so.
    pub(crate) fn placed(&self) -> (usize, Option<&PlacementPosition>) {
        (self.routing.placement_count(), self.placement.position())
    }

    /// Makes room for so many keys.
    pub(super) fn reserve(&mut self, count: usize) {
        self.keys.reserve(count);
        self.entries.reserve(count);
    }

    /// The name behind a number.
    pub(super) fn key_name(&self, id: KeyId) -> Option<&Arc<str>> {
        self.keys.name(id.0)
    }

    /// The object behind a key, if anything of it is held.
    pub(super) fn find_object(&mut self, key: &Key, asked: &HeaderMap) -> Option<SharedObject> {
        let mut id = KeyId(self.keys.find(key.as_str())?);
        if let Some(variant) = self.variant(id, key, asked) {
            id = KeyId(self.keys.find(variant.as_str())?);
        }
        self.entries.get(id).map(|entry| Arc::clone(&entry.object))
    }

    /// What the core has counted.
    pub(crate) fn counters(&self) -> &NodeCounters {
        self.core.counters()
    }

    /// Bytes and segments held.
    pub(crate) fn held(&self) -> (u64, usize) {
        (self.core.index().used_bytes(), self.core.index().len())
    }

    /// Bytes that eviction leaves alone.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        self.core.index().pinned_bytes()
    }

    /// Prefetches waiting and transfers under way.
    pub(crate) fn under_way(&self) -> (usize, usize) {
        (self.core.queue_len(), self.core.flights_len())
    }

    /// Members of the cache map other than this node.
    pub(crate) fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Of those, the ones that are not asked at present.
    pub(crate) fn peers_skipped(&self, now: Timestamp) -> usize {
        self.routing.skipped_count(now)
    }

    /// Distinct keys whose names are remembered.
    pub(crate) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Keys are numbered below this.
    pub(super) fn key_bound(&self) -> u32 {
        u32::try_from(self.keys.bound()).unwrap_or(u32::MAX)
    }

    /// Every held segment with its object, for the inventory.
    pub(crate) fn inventory(&self) -> impl Iterator<Item = (&SharedObject, u32)> {
        let held = self.core.index().iter();
        let objects = held.filter_map(|(segment, _)| Some((&self.entries.get(segment.key)?.object, segment.index)));
        // The predictor knows keys as clients name them.
        objects.filter(|(object, _)| !object.key.is_variant())
    }

    /// Forgets names that nothing refers to. Looks at a bounded number of them, so that no request waits for long.
    fn sweep(&mut self) {
        let bound = u32::try_from(self.keys.bound()).unwrap_or(u32::MAX).max(1);
        for _ in 0..SWEEP_COUNT {
            self.sweep_hand = (self.sweep_hand + 1) % bound;
            let id = KeyId(self.sweep_hand);
            let is_wanted = self.entries.get(id).is_some()
                || self.ordered.contains_key(&id)
                || self.varying.contains(&id)
                || !self.routing.holders(id).is_empty()
                || self.flights.keys().any(|segment| segment.key == id);
            if !is_wanted {
                self.keys.remove(id.0);
                self.bypass.pop(&id);
            }
        }
    }
}

const BYPASS_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("65,536 is not zero");
/// Varying keys remembered; the least recently used is forgotten, and its variants with it.
const VARYING_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("65,536 is not zero");
/// Variants of a key that are kept.
const VARIANTS_MAX: usize = 64;
const SWEEP_COUNT: usize = 16;
