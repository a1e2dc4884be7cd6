//! Keys that one holder has to answer too often for other nodes, found between two plans.

use std::time::Duration;

use nearcast_datasets::{KeyId, Map, Timestamp};

use crate::placement::NodeSet;

/// Counts, for a second at a time, how often nodes had to ask others for a key.
#[derive(Debug)]
pub(super) struct HotKeys {
    requests_per_second: f64,
    keys_max: usize,
    since: Timestamp,
    asked: Map<(KeyId, usize), u32>,
    /// Keys that got another holder since the last plan.
    added: usize,
    counters: HotCounters,
}

/// Running totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct HotCounters {
    /// Holders that hot keys got without waiting for a plan.
    pub(super) holders_added: u64,
    /// Those that were one too many since the last plan.
    pub(super) refused: u64,
    /// Requests that were not counted, the table being full.
    pub(super) uncounted: u64,
}

/// A key that needs another holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hot {
    pub(super) key: KeyId,
    /// Which of the nodes that ask for it asks most.
    pub(super) node: usize,
}

impl HotKeys {
    pub(super) fn new(requests_per_second: f64, keys_max: usize) -> Self {
        Self {
            requests_per_second,
            keys_max,
            since: Timestamp::MIN,
            asked: Map::default(),
            added: 0,
            counters: HotCounters::default(),
        }
    }

    /// A node had to ask another one for a key.
    pub(super) fn handle_asked(&mut self, key: KeyId, node: usize) {
        if self.asked.len() < TABLE_MAX || self.asked.contains_key(&(key, node)) {
            *self.asked.entry((key, node)).or_default() += 1;
        } else {
            self.counters.uncounted += 1;
        }
    }

    /// A new plan has taken everything into account.
    pub(super) fn handle_plan(&mut self) {
        self.added = 0;
    }

    /// When [`Self::poll_hot`] has something to look at.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        (!self.asked.is_empty()).then(|| self.since.after(WINDOW))
    }

    /// Ends the window when its time is over: the keys that are asked of each of their `holders` too often, each with
    /// the node that should hold it too.
    pub(super) fn poll_hot(&mut self, now: Timestamp, holders: impl Fn(KeyId) -> NodeSet) -> Vec<Hot> {
        let took = now.since(self.since);
        if took < WINDOW {
            return Vec::new();
        }
        self.since = now;
        let mut by_key: Map<KeyId, (u32, u32, usize)> = Map::default();
        let mut asked: Vec<_> = self.asked.drain().collect();
        asked.sort_unstable();
        for ((key, node), count) in asked {
            let (all, most, at) = by_key.entry(key).or_default();
            *all += count;
            if count > *most {
                (*most, *at) = (count, node);
            }
        }
        // A window that began long ago had nothing in it before its first request.
        let seconds = took.min(2 * WINDOW).as_secs_f64();
        let mut hot: Vec<_> = by_key.into_iter().collect();
        hot.sort_unstable_by_key(|(key, (all, ..))| (std::cmp::Reverse(*all), *key));
        let limit = self.requests_per_second;
        hot.retain(|(key, (all, _, node))| {
            let holders = holders(*key);
            f64::from(*all) / seconds / holders.len().max(1) as f64 > limit && !holders.contains(*node)
        });
        let room = self.keys_max.saturating_sub(self.added);
        self.counters.refused += hot.len().saturating_sub(room) as u64;
        hot.truncate(room);
        self.added += hot.len();
        hot.into_iter().map(|(key, (_, _, node))| Hot { key, node }).collect()
    }

    /// A hot key got its holder.
    pub(super) fn note_added(&mut self) {
        self.counters.holders_added += 1;
    }

    pub(super) fn counters(&self) -> HotCounters {
        self.counters
    }
}

const WINDOW: Duration = Duration::from_secs(1);
/// Keys and nodes counted in one window.
const TABLE_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_micros(1_000 * milliseconds)
    }

    #[test]
    fn a_key_that_is_asked_of_its_holders_too_often_gets_one_more_where_it_is_asked_for() {
        let mut hot = HotKeys::new(10.0, 1);
        assert_eq!(hot.poll_hot(at(0), |_| NodeSet::EMPTY), []);
        let one = |_| NodeSet::EMPTY.with(0);
        for step in 0..40 {
            hot.handle_asked(KeyId(1), 1 + step % 3 / 2);
            hot.handle_asked(KeyId(2), step);
        }
        (0..9).for_each(|_| hot.handle_asked(KeyId(3), 1));
        assert_eq!(hot.poll_hot(at(500), one), [], "the second is not over");
        assert_eq!(hot.poll_hot(at(1_000), one), [Hot { key: KeyId(1), node: 1 }], "one is all there is room for");
        assert_eq!(hot.counters(), HotCounters { refused: 0, ..HotCounters::default() });
        (0..40).for_each(|_| hot.handle_asked(KeyId(1), 2));
        assert_eq!(hot.poll_hot(at(2_000), one), []);
        assert_eq!(hot.counters().refused, 1);
        hot.handle_plan();
        (0..40).for_each(|_| hot.handle_asked(KeyId(1), 2));
        let four = |_| [0, 1, 3, 4].into_iter().collect();
        assert_eq!(hot.poll_hot(at(3_000), four), [], "ten a second of each are not above ten");
        (0..41).for_each(|_| hot.handle_asked(KeyId(1), 2));
        assert_eq!(hot.poll_hot(at(4_000), four).len(), 1);
    }
}
