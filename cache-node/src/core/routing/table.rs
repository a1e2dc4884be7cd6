//! A node's copy of the cache map, with what it has noticed itself.

use std::time::Duration;

use nearcast_datasets::{Interner, KeyId, Map, Timestamp};
use nearcast_proto::message::{CacheMap, NodeDescriptor, NodeName};
use serde::{Deserialize, Serialize};

use super::rendezvous::{claim, key_hash};

/// A member's number in one routing table; stays the same however the map changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub u16);

/// Where a segment may be fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchSource {
    /// The origin.
    Origin,
    /// Another node.
    Peer(MemberId),
}

/// What it takes to reach something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// There and back.
    pub round_trip: Duration,
    /// Bytes per second.
    pub bandwidth: f64,
}

impl Link {
    /// How long fetching so many bytes takes.
    pub fn transfer_time(&self, bytes: u64) -> Duration {
        let seconds = bytes as f64 / self.bandwidth.max(f64::MIN_POSITIVE);
        self.round_trip + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 2)
    }
}

/// What bounds a [`RoutingTable`].
///
/// | field | default | purpose |
/// | --- | --- | --- |
/// | `hash_homes` | true | whether keys without placement have a home node; else each node goes to the origin |
/// | `failure_backoff` | 5 s | how long a failed member is skipped |
/// | `members_max` | 1,024 | members ever seen |
/// | `placements_max` | 1,000,000 | keys with explicit holders |
/// | `sources_max` | 4 | peers tried before the origin |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoutingConfig {
    /// Whether keys without placement have a home node.
    pub hash_homes: bool,
    /// How long a failed member is skipped.
    pub failure_backoff: Duration,
    /// Members ever seen; further ones are ignored and counted.
    pub members_max: usize,
    /// Keys with explicit holders; further ones are hashed and counted.
    pub placements_max: usize,
    /// Peers tried before the origin.
    pub sources_max: usize,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        Self {
            hash_homes: true,
            failure_backoff: Duration::from_secs(5),
            members_max: 1_024,
            placements_max: 1_000_000,
            sources_max: 4,
        }
    }
}

#[derive(Debug)]
struct Member {
    hash: u64,
    weight: f64,
    is_alive: bool,
    skip_until: Timestamp,
    link: Link,
}

/// Finds sources for a miss. Knows members by number; [`Self::member`] numbers names.
#[derive(Debug)]
pub struct RoutingTable {
    config: RoutingConfig,
    own: MemberId,
    names: Interner,
    members: Vec<Member>,
    placements: Map<KeyId, Vec<MemberId>>,
    ignored: u64,
}

impl RoutingTable {
    /// A table that knows only its own node, not yet alive.
    pub fn new(config: RoutingConfig, own: &NodeName) -> Self {
        let mut table = Self {
            config,
            own: MemberId(0),
            names: Interner::default(),
            members: Vec::new(),
            placements: Map::default(),
            ignored: 0,
        };
        table.names.insert(&own.0);
        table.members.push(Member::unknown(&own.0));
        table
    }

    /// Takes over a version of the cache map. `link` says what reaching a member takes. Members that the map no
    /// longer names are treated as gone but keep their number.
    pub fn install(&mut self, map: &CacheMap, mut link: impl FnMut(&NodeDescriptor) -> Link) {
        for member in &mut self.members {
            member.is_alive = false;
        }
        for entry in &map.members {
            let Some(MemberId(index)) = self.number(&entry.node.name) else {
                self.ignored += 1;
                continue;
            };
            let member = &mut self.members[usize::from(index)];
            member.is_alive = entry.alive;
            member.weight = entry.node.capacity_bytes.max(1) as f64;
            member.link = link(&entry.node);
        }
    }

    /// Names the explicit holders of `key`; none hands it back to hashing.
    pub fn place(&mut self, key: KeyId, holders: &[MemberId]) {
        if holders.is_empty() {
            self.placements.remove(&key);
        } else if self.placements.len() < self.config.placements_max || self.placements.contains_key(&key) {
            self.placements.insert(key, holders.to_vec());
        } else {
            self.ignored += 1;
        }
    }

    /// Hands every key back to hashing.
    pub fn clear_placements(&mut self) {
        self.placements.clear();
    }

    /// Keys with explicit holders.
    pub fn placement_count(&self) -> usize {
        self.placements.len()
    }

    /// The number of a holder, given out now when the map has not named it yet: it is asked once the map says that it is
    /// alive. `None` beyond the bound.
    pub fn enlist(&mut self, name: &NodeName) -> Option<MemberId> {
        let number = self.number(name);
        self.ignored += u64::from(number.is_none());
        number
    }

    /// Routes by other bounds from now on. What is known above them stays.
    pub fn handle_config(&mut self, config: RoutingConfig) {
        self.config = config;
    }

    /// A fetch from `member` failed: it is skipped for the configured time.
    pub fn handle_failure(&mut self, now: Timestamp, member: MemberId) {
        if let Some(member) = self.members.get_mut(usize::from(member.0)) {
            member.skip_until = now.after(self.config.failure_backoff);
        }
    }

    /// Members that are skipped because they failed a moment ago.
    pub fn skipped_count(&self, now: Timestamp) -> usize {
        self.members.iter().filter(|member| now < member.skip_until).count()
    }

    /// A fetch from `member` succeeded: it is no longer skipped.
    pub fn handle_success(&mut self, member: MemberId) {
        if let Some(member) = self.members.get_mut(usize::from(member.0)) {
            member.skip_until = Timestamp::MIN;
        }
    }

    /// Appends to `sources` where to fetch `bytes` bytes of `key` from, in the order to try: living holders by cost,
    /// else the key's home unless that is this node, and the origin last.
    pub fn route(&self, now: Timestamp, key: KeyId, key_hash: u64, bytes: u64, sources: &mut Vec<FetchSource>) {
        let first = sources.len();
        let holders = self.placements.get(&key).map_or(&[][..], Vec::as_slice);
        sources.extend(holders.iter().copied().filter(|id| self.is_usable(now, *id)).map(FetchSource::Peer));
        if sources.len() == first {
            let home = self.home(key_hash).filter(|home| self.is_usable(now, *home));
            sources.extend(home.map(FetchSource::Peer));
        }
        self.sort_by_cost(bytes, &mut sources[first..]);
        sources.truncate(first + self.config.sources_max);
        sources.push(FetchSource::Origin);
    }

    /// The living member that fetches a key without placement from the origin for everybody.
    pub fn home(&self, key_hash: u64) -> Option<MemberId> {
        if !self.config.hash_homes {
            return None;
        }
        let living = self.members.iter().enumerate().filter(|(_, member)| member.is_alive);
        let claims = living.map(|(index, member)| (index, claim(key_hash, member.hash, member.weight)));
        let (index, _) = claims.max_by(|left, right| left.1.total_cmp(&right.1))?;
        u16::try_from(index).ok().map(MemberId)
    }

    /// The explicit holders of `key`, living or not.
    pub fn holders(&self, key: KeyId) -> &[MemberId] {
        self.placements.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The number of the member called `name`, if the map ever named it.
    pub fn member(&self, name: &NodeName) -> Option<MemberId> {
        self.names.find(&name.0).and_then(|number| u16::try_from(number).ok()).map(MemberId)
    }

    /// The name of a member.
    pub fn name(&self, member: MemberId) -> Option<NodeName> {
        self.names.name(u32::from(member.0)).cloned().map(NodeName)
    }

    /// This node.
    pub fn own(&self) -> MemberId {
        self.own
    }

    /// Orders peers by what fetching `bytes` bytes from them takes.
    pub fn sort_by_cost(&self, bytes: u64, sources: &mut [FetchSource]) {
        sources.sort_by_key(|source| match source {
            FetchSource::Origin => (Duration::MAX, *source == FetchSource::Origin),
            FetchSource::Peer(member) => {
                let member = self.members.get(usize::from(member.0));
                (member.map_or(Duration::MAX, |member| member.link.transfer_time(bytes)), false)
            }
        });
    }

    /// How many members and placements were ignored because a bound was reached.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    fn is_usable(&self, now: Timestamp, id: MemberId) -> bool {
        let member = self.members.get(usize::from(id.0));
        id != self.own && member.is_some_and(|member| member.is_alive && member.skip_until <= now)
    }

    fn number(&mut self, name: &NodeName) -> Option<MemberId> {
        if let Some(known) = self.member(name) {
            return Some(known);
        }
        if self.members.len() >= self.config.members_max.min(usize::from(u16::MAX)) {
            return None;
        }
        let number = self.names.insert(&name.0);
        self.members.push(Member::unknown(&name.0));
        u16::try_from(number).ok().map(MemberId)
    }
}

impl Member {
    fn unknown(name: &str) -> Self {
        let link = Link { round_trip: Duration::ZERO, bandwidth: f64::INFINITY };
        Self { hash: key_hash(name), weight: 1.0, is_alive: false, skip_until: Timestamp::MIN, link }
    }
}
