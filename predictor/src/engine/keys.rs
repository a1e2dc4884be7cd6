//! The keys that are known, and what is known about each.

use std::sync::Arc;

use nearcast_datasets::{Interner, KeyId, Timestamp};

use super::key_hash;

/// What is known about one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyInfo {
    /// Bytes of the whole object; zero when nobody has asked for it yet.
    pub size_bytes: u64,
    /// When it was first asked for.
    pub first_at: Timestamp,
    /// When it was last asked for.
    pub last_at: Timestamp,
    /// The number of the request that last touched it.
    pub last_request: u64,
    /// How often it was asked for, saturating.
    pub requests: u32,
}

impl KeyInfo {
    /// When it was last asked for, if ever.
    pub(super) fn asked_at(&self) -> Option<Timestamp> {
        (self.requests > 0).then_some(self.last_at)
    }

    fn unseen(request: u64) -> Self {
        Self { size_bytes: 0, first_at: Timestamp::MIN, last_at: Timestamp::MIN, last_request: request, requests: 0 }
    }
}

/// Keys by number, bounded: beyond the bound the longest idle of a few is forgotten and its number given out again.
#[derive(Debug)]
pub(super) struct KeyTable {
    names: Interner,
    info: Vec<KeyInfo>,
    /// By key: the least power of two that is no smaller than the object, or [`UNKNOWN`]. In a list of its own, a byte
    /// each, because it is asked for far more often than the rest.
    exponents: Vec<u8>,
    /// By key: [`key_hash`] of its name.
    hashes: Vec<u32>,
    hand: u32,
    max: usize,
    pub forgotten: u64,
}

impl KeyTable {
    pub(super) fn new(max: usize) -> Self {
        Self {
            names: Interner::default(),
            info: Vec::new(),
            exponents: Vec::new(),
            hashes: Vec::new(),
            hand: 0,
            max,
            forgotten: 0,
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<KeyId> {
        self.names.find(name).map(KeyId)
    }

    /// Numbers a new key. The caller first clears everything it knows about [`KeyTable::victim`].
    pub(super) fn insert(&mut self, name: &str, request: u64) -> KeyId {
        let number = self.names.insert(name);
        if number as usize == self.info.len() {
            self.info.push(KeyInfo::unseen(request));
            self.exponents.push(UNKNOWN);
            self.hashes.push(0);
        }
        self.exponents[number as usize] = UNKNOWN;
        self.hashes[number as usize] = key_hash(name);
        self.info[number as usize] = KeyInfo::unseen(request);
        KeyId(number)
    }

    /// The key to forget before another can be numbered: `None` while there is room.
    pub(super) fn victim(&mut self) -> Option<KeyId> {
        if self.names.len() < self.max {
            return None;
        }
        let bound = u32::try_from(self.names.bound()).unwrap_or(u32::MAX);
        let probes = (0..VICTIM_PROBES).map(|step| self.hand.wrapping_add(step) % bound);
        let victim = probes.filter(|number| self.names.name(*number).is_some());
        let victim = victim.min_by_key(|number| self.info[*number as usize].last_request);
        self.hand = self.hand.wrapping_add(VICTIM_PROBES) % bound;
        victim.map(KeyId)
    }

    pub(super) fn forget(&mut self, key: KeyId) {
        if self.names.remove(key.0).is_some() {
            self.forgotten += 1;
        }
    }

    pub(super) fn name(&self, key: KeyId) -> Option<&Arc<str>> {
        self.names.name(key.0)
    }

    /// The number that samples go by.
    pub(super) fn hash(&self, key: KeyId) -> u32 {
        self.hashes.get(key.0 as usize).copied().unwrap_or_default()
    }

    pub(super) fn info(&self, key: KeyId) -> Option<&KeyInfo> {
        self.info.get(key.0 as usize)
    }

    pub(super) fn info_mut(&mut self, key: KeyId) -> Option<&mut KeyInfo> {
        self.info.get_mut(key.0 as usize)
    }

    /// Notes how large an object is.
    pub(super) fn set_size(&mut self, key: KeyId, bytes: u64) {
        if let Some(info) = self.info.get_mut(key.0 as usize) {
            info.size_bytes = bytes;
            let exponent = u64::BITS - bytes.saturating_sub(1).leading_zeros();
            self.exponents[key.0 as usize] = if bytes > 0 { exponent as u8 } else { UNKNOWN };
        }
    }

    /// Whether an object is surely no larger than `bytes`; one of a size close to it may be held for larger.
    pub(super) fn fits(&self, key: KeyId, bytes: u64) -> bool {
        self.exponents
            .get(key.0 as usize)
            .is_some_and(|exponent| u32::from(*exponent) <= bytes.checked_ilog2().unwrap_or(0))
    }

    /// Forgets what was learnt of every key; sizes are facts and stay.
    pub(super) fn reset(&mut self) {
        for info in &mut self.info {
            *info = KeyInfo { size_bytes: info.size_bytes, ..KeyInfo::unseen(info.last_request) };
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Every key with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (KeyId, &Arc<str>)> {
        self.names.iter().map(|(number, name)| (KeyId(number), name))
    }
}

const VICTIM_PROBES: u32 = 16;
const UNKNOWN: u8 = u8::MAX;
