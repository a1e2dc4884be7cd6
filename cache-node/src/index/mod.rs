//! The node's list of what it holds: byte-accurate, bounded, evicting by a pluggable policy.
//!
//! An [`Index`] keeps every held segment in exactly one of three places: *main*, ordered by a [`Policy`];
//! *probation*, where prefetched segments wait for their first use within a share of the bytes of their own; and
//! *pinned*, which eviction never touches. It is the authority on what the node claims to hold; payloads live elsewhere.

mod adaptive;
mod arc;
mod balance;
mod config;
mod list;
mod pinned;
mod policy;
#[cfg(test)]
mod policy_tests;
mod probation;
mod queue;
mod s3_fifo;
mod sieve;
mod sketch;
#[cfg(test)]
mod tests;
mod w_tiny_lfu;

use std::time::Duration;

use nearcast_datasets::{SegmentId, Timestamp};
use nearcast_proto::message::CommandId;

pub(crate) use self::list::Lists;
use self::{balance::Balance, config::Limits, pinned::PinnedList, probation::ProbationList};
pub use self::{
    config::{IndexConfig, IndexConfigError},
    policy::{Policy, PolicyKind},
};

/// How a segment came to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Somebody asked for it.
    Demand,
    /// A command fetched it before anybody asked.
    Prefetched(CommandId),
}

/// A prefetched segment that nobody has used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unused {
    /// The command that fetched it.
    pub command: CommandId,
    /// How long it had been held.
    pub residence: Duration,
}

/// What [`Index::touch`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Bytes of the segment.
    pub bytes: u64,
    /// The prefetch that this was the first use of, if it was one.
    pub first_use: Option<Unused>,
}

/// A segment that left the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Which one.
    pub segment: SegmentId,
    /// Its bytes.
    pub bytes: u64,
    /// The prefetch that thereby was in vain, if it was one.
    pub unused: Option<Unused>,
}

/// How [`Index::pin`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// The segment is not held.
    Absent,
    /// Pinned, now or before.
    Done,
    /// The share of the bytes that may be pinned is used up.
    Full,
}

/// What a node holds, and what it drops next.
#[derive(Debug)]
pub struct Index {
    limits: Limits,
    main: Box<dyn Policy>,
    probation: ProbationList,
    pinned: PinnedList,
    /// What of main was prefetched and is unused; without probation only.
    unproven: ProbationList,
    /// Bytes that ever entered main: the clock by which an unused prefetch grows old.
    turnover_bytes: u64,
    /// How much of the capacity probation may take.
    balance: Balance,
}

impl Index {
    /// An empty index.
    ///
    /// # Errors
    /// When the capacity or the entry bound is zero, or a share is outside its range.
    pub fn new(config: &IndexConfig) -> Result<Self, IndexConfigError> {
        Self::with_policy(config, config.policy.build(config.capacity_bytes))
    }

    /// An empty index that evicts by `policy`, an empty one too, whatever `config` says.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_policy(config: &IndexConfig, policy: Box<dyn Policy>) -> Result<Self, IndexConfigError> {
        let limits = Limits::try_from(config)?;
        Ok(Self {
            limits,
            main: policy,
            probation: ProbationList::default(),
            pinned: PinnedList::default(),
            unproven: ProbationList::default(),
            turnover_bytes: 0,
            balance: Balance::new(limits.probation_bytes),
        })
    }

    /// Records a request for `segment`; `None` when it is not held. The first use of a prefetched segment moves it
    /// from probation to main, which never changes how many bytes are held.
    pub fn touch(&mut self, now: Timestamp, segment: SegmentId) -> Option<Touched> {
        if let Some(bytes) = self.main.touch(now, segment) {
            return Some(Touched { bytes, first_use: self.prove(now, segment) });
        }
        if let Some(entry) = self.probation.remove(segment) {
            self.insert_main(now, segment, entry.bytes);
            return Some(Touched { bytes: entry.bytes, first_use: Some(entry.unused(now)) });
        }
        self.pinned.touch(now, segment)
    }

    /// Holds `segment`, dropping others into `evicted` to make room; returns whether it is held afterwards.
    /// It is not when it is larger than the bytes it may take: the capacity less what is pinned, or for a prefetched
    /// one the share of probation.
    pub fn insert(
        &mut self,
        now: Timestamp,
        segment: SegmentId,
        bytes: u64,
        admission: Admission,
        evicted: &mut Vec<Evicted>,
    ) -> bool {
        let Admission::Prefetched(command) = admission else {
            return self.insert_demanded(now, segment, bytes, evicted);
        };
        if self.contains(segment) {
            return true;
        }
        if !self.could_hold(bytes) || bytes > self.limits.probation_bytes {
            return false;
        }
        while !self.probation.is_empty() && self.probation.used_bytes() + bytes > self.balance.target_bytes() {
            let segment = self.evict_probation(now, evicted);
            self.balance.handle_probation_dropped(segment, self.probation.len());
        }
        while self.is_short_of(bytes) {
            if !self.evict_main(now, evicted) {
                self.evict_probation(now, evicted);
            }
        }
        if self.limits.has_probation {
            self.probation.insert(now, segment, bytes, command, self.turnover_bytes);
        } else {
            self.insert_main(now, segment, bytes);
            self.unproven.insert(now, segment, bytes, command, self.turnover_bytes);
        }
        true
    }

    /// Drops `segment`, pinned or not; `None` when it was not held.
    pub fn remove(&mut self, now: Timestamp, segment: SegmentId) -> Option<Evicted> {
        if let Some(bytes) = self.main.remove(segment) {
            return Some(Evicted { segment, bytes, unused: self.prove(now, segment) });
        }
        if let Some(entry) = self.probation.remove(segment) {
            return Some(Evicted { segment, bytes: entry.bytes, unused: Some(entry.unused(now)) });
        }
        self.pinned.remove(now, segment)
    }

    /// Exempts `segment` from eviction until [`Self::unpin`] or [`Self::remove`].
    pub fn pin(&mut self, segment: SegmentId) -> Pinned {
        if self.pinned.bytes(segment).is_some() {
            return Pinned::Done;
        }
        let Some(bytes) = self.bytes(segment) else { return Pinned::Absent };
        if self.pinned.used_bytes() + bytes > self.limits.pinned_bytes {
            return Pinned::Full;
        }
        let mut prefetch = self.probation.remove(segment);
        if prefetch.is_none() {
            self.main.remove(segment);
            prefetch = self.unproven.remove(segment);
        }
        self.pinned.insert(segment, bytes, prefetch);
        Pinned::Done
    }

    /// Hands a pinned segment back to the policy; returns whether it was pinned.
    pub fn unpin(&mut self, now: Timestamp, segment: SegmentId) -> bool {
        let removed = self.pinned.remove(now, segment);
        if let Some(entry) = removed {
            self.insert_main(now, segment, entry.bytes);
        }
        removed.is_some()
    }

    /// Hands every pinned segment back to the policy.
    pub fn unpin_all(&mut self, now: Timestamp) {
        let pinned: Vec<SegmentId> = self.pinned.iter().map(|(segment, _)| segment).collect();
        for segment in pinned {
            self.unpin(now, segment);
        }
    }

    /// Whether `segment` is held.
    pub fn contains(&self, segment: SegmentId) -> bool {
        self.bytes(segment).is_some()
    }

    /// Bytes of `segment`, if it is held.
    pub fn bytes(&self, segment: SegmentId) -> Option<u64> {
        self.main.bytes(segment).or_else(|| self.probation.bytes(segment)).or_else(|| self.pinned.bytes(segment))
    }

    /// Every held segment with its bytes, main first and there the one to evict next first: inserting them again in
    /// this order restores the policy's order, which is what persistence does.
    pub fn iter(&self) -> impl Iterator<Item = (SegmentId, u64)> {
        self.main.iter().chain(self.probation.iter()).chain(self.pinned.iter())
    }

    /// Bytes held.
    pub fn used_bytes(&self) -> u64 {
        self.main.used_bytes() + self.probation.used_bytes() + self.pinned.used_bytes()
    }

    /// Bytes held on probation.
    pub fn probation_bytes(&self) -> u64 {
        self.probation.used_bytes()
    }

    /// Bytes pinned.
    pub fn pinned_bytes(&self) -> u64 {
        self.pinned.used_bytes()
    }

    /// The most bytes that may be held.
    pub fn capacity_bytes(&self) -> u64 {
        self.limits.capacity_bytes
    }

    /// The most bytes that prefetched segments may take before their first use.
    pub fn probation_bytes_max(&self) -> u64 {
        self.limits.probation_bytes
    }

    /// Segments held.
    pub fn len(&self) -> usize {
        self.main.len() + self.probation.len() + self.pinned.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn insert_demanded(&mut self, now: Timestamp, segment: SegmentId, bytes: u64, evicted: &mut Vec<Evicted>) -> bool {
        if self.main.bytes(segment) == Some(bytes) {
            return self.main.touch(now, segment).is_some();
        }
        self.balance.handle_missed(segment, bytes);
        // A changed size: the old entry goes unreported as long as the segment stays held. What is not held must not be
        // removed: a policy would forget what it remembers of a victim that is coming back.
        let replaced = if self.contains(segment) { self.remove(now, segment) } else { None };
        if !self.could_hold(bytes) {
            evicted.extend(replaced);
            return false;
        }
        while self.is_short_of(bytes) {
            let is_stale = self.probation.oldest_is_stale(self.turnover_bytes, self.limits.capacity_bytes);
            let is_over = self.probation.used_bytes() > self.balance.target_bytes() && self.probation.len() > 1;
            if is_stale || is_over || !self.evict_main(now, evicted) {
                self.evict_probation(now, evicted);
            }
        }
        self.insert_main(now, segment, bytes);
        true
    }

    fn insert_main(&mut self, now: Timestamp, segment: SegmentId, bytes: u64) {
        self.turnover_bytes += bytes;
        self.main.insert(now, segment, bytes);
    }

    /// A segment of main is used or leaves: what it was until then, if a prefetch brought it.
    fn prove(&mut self, now: Timestamp, segment: SegmentId) -> Option<Unused> {
        self.unproven.remove(segment).map(|entry| entry.unused(now))
    }

    fn evict_main(&mut self, now: Timestamp, evicted: &mut Vec<Evicted>) -> bool {
        let victim = self.main.evict(now);
        if let Some((segment, bytes)) = victim {
            self.balance.handle_main_dropped(segment, self.probation.len());
            let unused = self.prove(now, segment);
            evicted.push(Evicted { segment, bytes, unused });
        }
        victim.is_some()
    }

    fn evict_probation(&mut self, now: Timestamp, evicted: &mut Vec<Evicted>) -> SegmentId {
        let (segment, entry) = self.probation.pop_oldest().expect("callers ask only while something unpinned is held");
        evicted.push(Evicted { segment, bytes: entry.bytes, unused: Some(entry.unused(now)) });
        segment
    }

    /// Whether `bytes` fit once everything that may be evicted is.
    fn could_hold(&self, bytes: u64) -> bool {
        self.pinned.used_bytes().saturating_add(bytes) <= self.limits.capacity_bytes
            && self.pinned.len() < self.limits.entries_max
    }

    fn is_short_of(&self, bytes: u64) -> bool {
        self.used_bytes() + bytes > self.limits.capacity_bytes || self.len() >= self.limits.entries_max
    }
}
