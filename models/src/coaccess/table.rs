//! The bounded table of decayed directed counts.

use lru::LruCache;
use nearcast_datasets::{KeyId, Map, Timestamp};
use serde::Serialize;

use crate::{
    CoAccessConfig, CoAccessRow, Result,
    coaccess::entry::{Entry, Slot},
};

/// A key that tends to follow another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Successor {
    /// The key that follows.
    pub key: KeyId,
    /// Smoothed share of the first key's occurrences that it followed; 0..=1.
    pub probability: f32,
    /// Decayed number of times it followed.
    pub support: f32,
}

/// How full the table is and how often a bound was hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CoAccessCounters {
    /// Keys held.
    pub keys: usize,
    /// Keys that made room because `keys_max` was reached.
    pub keys_replaced: u64,
    /// Successors that made room because `successors_per_key` was reached.
    pub successors_replaced: u64,
}

/// Decayed counts of which key follows which, bounded in keys and in successors per key.
///
/// Counts halve every half-life, worked out only when an entry is touched. A full successor list replaces its
/// smallest count, as space-saving does: the newcomer inherits that count as its claim to the place, but only what
/// was really counted since enters its probability. A key takes about 100 bytes and 12 per successor.
#[derive(Clone, Debug)]
pub struct CoAccess {
    config: CoAccessConfig,
    pub(super) entries: LruCache<KeyId, Entry>,
    /// When each reused key number was last forgotten, in forgettings. Entries drop such successors when touched,
    /// so that forgetting need not search the table.
    forgotten: Map<KeyId, u64>,
    forgettings: u64,
    pub(super) counters: CoAccessCounters,
    /// Whether places and not numbers say which of equals makes room.
    by_place: bool,
}

impl CoAccess {
    /// An empty table.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when a value of `config` is out of its range.
    pub fn new(config: &CoAccessConfig) -> Result<Self> {
        config.check()?;
        Ok(Self {
            config: config.clone(),
            // Room is made as keys come: small logs should not pay for the bound.
            entries: LruCache::unbounded(),
            forgotten: Map::default(),
            forgettings: 0,
            counters: CoAccessCounters::default(),
            by_place: false,
        })
    }

    /// The same, independent of how keys are numbered: of successors that were counted equally often, their places in
    /// the list say which makes room, and not their numbers.
    #[must_use]
    pub fn whatever_the_numbers(mut self) -> Self {
        self.by_place = true;
        self
    }

    /// Whether key numbers decide nothing.
    pub fn goes_by_place(&self) -> bool {
        self.by_place
    }

    /// Counts one occurrence of `key`: the denominator of its successors' probabilities.
    pub fn record(&mut self, now: Timestamp, key: KeyId) {
        self.touch(now, key).occurrences += 1.0;
    }

    /// Counts that `to` followed `from`, with weight 1 for a direct follow-up and less for a remoter one.
    pub fn observe(&mut self, now: Timestamp, from: KeyId, to: KeyId, weight: f32) {
        let (successors_max, by_place) = (self.config.successors_per_key, self.by_place);
        if self.touch(now, from).count(to, weight, successors_max, by_place) {
            self.counters.successors_replaced += 1;
        }
    }

    /// Puts the successors of `key` that are at least so probable into `out`, most probable first, ties by key.
    pub fn successors(&self, now: Timestamp, key: KeyId, probability_min: f32, out: &mut Vec<Successor>) {
        out.clear();
        let Some(entry) = self.entries.peek(&key) else { return };
        let decay = self.decay(entry.at, now);
        let occurrences = decay * entry.occurrences;
        let successors = self.living(entry).map(|slot| {
            let support = decay * slot.counted();
            // Several remote follow-ups of one occurrence may together outweigh it.
            let probability = (support / (occurrences.max(support) + self.config.prior_weight)).min(1.0);
            Successor { key: slot.key, probability, support }
        });
        out.extend(successors.filter(|successor| successor.probability >= probability_min));
        out.sort_unstable_by(|a, b| b.probability.total_cmp(&a.probability).then(a.key.cmp(&b.key)));
    }

    /// Forgets a key on both sides, for when its number is about to be given to another key.
    pub fn forget(&mut self, key: KeyId) {
        self.entries.pop(&key);
        self.forgettings += 1;
        self.forgotten.insert(key, self.forgettings);
    }

    /// Everything the table knows, decayed to `now`, by key.
    pub fn export(&self, now: Timestamp) -> Vec<CoAccessRow> {
        let mut rows: Vec<_> = self.entries.iter().map(|(key, entry)| self.row(now, *key, entry)).collect();
        rows.sort_unstable_by_key(|row| row.key);
        rows
    }

    /// Adds rows that were read off at `at`; keys must be numbered as this table's are. When there are more rows than
    /// places, the keys that occurred most stay.
    pub fn import(&mut self, at: Timestamp, rows: impl IntoIterator<Item = CoAccessRow>) {
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_unstable_by(|a, b| a.occurrences.total_cmp(&b.occurrences).then(b.key.cmp(&a.key)));
        for row in rows {
            let held_at = self.entries.peek(&row.key).map_or(at, |entry| entry.at);
            let decay = self.decay(at, held_at);
            let (successors_max, by_place) = (self.config.successors_per_key, self.by_place);
            let entry = self.touch(at, row.key);
            entry.occurrences += decay * row.occurrences;
            let replaced =
                row.successors.iter().filter(|(to, count)| entry.count(*to, decay * count, successors_max, by_place));
            let replaced = replaced.count() as u64;
            self.counters.successors_replaced += replaced;
        }
    }

    /// How full the table is and how often a bound was hit.
    pub fn counters(&self) -> CoAccessCounters {
        CoAccessCounters { keys: self.entries.len(), ..self.counters }
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &CoAccessConfig {
        &self.config
    }

    /// The entry of `key`, decayed to `now`, free of forgotten successors and the last one to make room.
    fn touch(&mut self, now: Timestamp, key: KeyId) -> &mut Entry {
        if !self.entries.contains(&key) && self.entries.len() >= self.config.keys_max {
            self.entries.pop_lru();
            self.counters.keys_replaced += 1;
        }
        let half_life_seconds = self.config.half_life_seconds;
        let (forgotten, forgettings) = (&self.forgotten, self.forgettings);
        let entry = self.entries.get_or_insert_mut(key, || Entry::new(now, forgettings));
        entry.decay_to(now, half_life_seconds);
        if entry.forgettings < forgettings {
            let since = entry.forgettings;
            entry.slots.retain(|slot| forgotten.get(&slot.key).is_none_or(|when| *when <= since));
            entry.forgettings = forgettings;
        }
        entry
    }

    /// Successors that were not forgotten since the entry was last touched.
    pub(super) fn living<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a Slot> {
        let current = entry.forgettings == self.forgettings;
        let alive = |slot: &&Slot| self.forgotten.get(&slot.key).is_none_or(|when| *when <= entry.forgettings);
        entry.slots.iter().filter(move |slot| current || alive(slot))
    }

    fn row(&self, now: Timestamp, key: KeyId, entry: &Entry) -> CoAccessRow {
        let decay = self.decay(entry.at, now);
        let mut successors: Vec<_> = self.living(entry).map(|slot| (slot.key, decay * slot.counted())).collect();
        successors.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        CoAccessRow { key, occurrences: decay * entry.occurrences, successors }
    }

    fn decay(&self, from: Timestamp, to: Timestamp) -> f32 {
        crate::coaccess::entry::decay(from, to, self.config.half_life_seconds)
    }
}
