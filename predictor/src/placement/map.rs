//! The global cache map's explicit part: who is meant to hold which keys, versioned by epoch and spread by deltas.
//!
//! [`GlobalMap`] is the authority. Each [`GlobalMap::commit`] that changes anything begins a new epoch. Deltas bring a
//! node's copy ([`PlacementCopy`](nearcast_cache_node::core::routing::PlacementCopy)) forward whatever happened to them on
//! the way, since each says between which epochs it leads; one that came before or twice changes nothing, and one that does
//! not fit asks for the whole map.

use std::collections::VecDeque;

use nearcast_datasets::{KeyId, Map};
use nearcast_proto::message::Epoch;

use super::NodeSet;

/// The authority on placed keys.
#[derive(Clone, Debug)]
pub struct GlobalMap {
    epoch: Epoch,
    placed: Map<KeyId, NodeSet>,
    /// What changed, with the epoch that it began; the earliest first.
    changes: VecDeque<(Epoch, KeyId)>,
    changes_max: usize,
    /// The earliest epoch that changes lead on from.
    reach: Epoch,
}

/// What brings a copy of the map forward.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// Keys whose holders are others than at `from`; no holders hand a key back to hashing.
    Changes {
        /// The epoch that it leads on from.
        from: Epoch,
        /// The epoch that it leads to.
        to: Epoch,
        /// Each key once, ascending.
        keys: Vec<(KeyId, NodeSet)>,
    },
    /// All placed keys, for a copy that is too far behind.
    Whole {
        /// The epoch that it is of.
        epoch: Epoch,
        /// Each key once, ascending.
        keys: Vec<(KeyId, NodeSet)>,
    },
}

impl GlobalMap {
    /// A map of no placed key that remembers so many changes.
    pub fn new(changes_max: usize) -> Self {
        Self::restore(Epoch(0), [], changes_max)
    }

    /// The map as it was persisted at `epoch`. It remembers no changes: copies that are behind get all of it.
    pub fn restore(epoch: Epoch, placed: impl IntoIterator<Item = (KeyId, NodeSet)>, changes_max: usize) -> Self {
        let placed = placed.into_iter().filter(|(_, nodes)| !nodes.is_empty()).collect();
        Self { epoch, placed, changes: VecDeque::new(), changes_max, reach: epoch }
    }

    /// Goes over to the given holders in one epoch, which begins only if they are others; returns the epoch.
    pub fn commit(&mut self, keys: impl IntoIterator<Item = (KeyId, NodeSet)>) -> Epoch {
        let next = Epoch(self.epoch.0 + 1);
        for (key, nodes) in keys {
            if self.holders(key) != nodes {
                self.put(next, key, nodes);
                self.epoch = next;
            }
        }
        self.forget_changes();
        self.epoch
    }

    /// Goes over to what the authority committed, in the epoch that it began: later than any that there was.
    pub fn follow(&mut self, epoch: Epoch, keys: impl IntoIterator<Item = (KeyId, NodeSet)>) {
        keys.into_iter().for_each(|(key, nodes)| self.put(epoch, key, nodes));
        self.epoch = self.epoch.max(epoch);
        self.forget_changes();
    }

    fn put(&mut self, epoch: Epoch, key: KeyId, nodes: NodeSet) {
        if nodes.is_empty() {
            self.placed.remove(&key);
        } else {
            self.placed.insert(key, nodes);
        }
        self.changes.push_back((epoch, key));
    }

    fn forget_changes(&mut self) {
        while self.changes.len() > self.changes_max {
            if let Some((epoch, _)) = self.changes.pop_front() {
                self.reach = epoch;
            }
        }
    }

    /// The present epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Changes after this epoch are remembered one by one.
    pub fn reach(&self) -> Epoch {
        self.reach
    }

    /// How many changes are remembered.
    pub fn changes_max(&self) -> usize {
        self.changes_max
    }

    /// Number of placed keys.
    pub fn len(&self) -> usize {
        self.placed.len()
    }

    /// Whether no key is placed.
    pub fn is_empty(&self) -> bool {
        self.placed.is_empty()
    }

    /// All placed keys, in no particular but always the same order.
    pub fn iter(&self) -> impl Iterator<Item = (KeyId, NodeSet)> {
        self.placed.iter().map(|(key, nodes)| (*key, *nodes))
    }

    /// All placed keys for a copy of nothing.
    pub fn whole(&self) -> Delta {
        let mut keys: Vec<_> = self.iter().collect();
        keys.sort_unstable();
        Delta::Whole { epoch: self.epoch, keys }
    }

    /// Who is meant to hold `key`; nobody in particular when it is left to hashing.
    pub fn holders(&self, key: KeyId) -> NodeSet {
        self.placed.get(&key).copied().unwrap_or_default()
    }

    /// What brings a copy at `epoch` to the present one; nothing when it is there. A copy from the future, of a map that
    /// was lost, gets the whole.
    pub fn delta_since(&self, epoch: Epoch) -> Option<Delta> {
        if epoch == self.epoch {
            return None;
        }
        if epoch > self.epoch || epoch < self.reach {
            return Some(self.whole());
        }
        let first = self.changes.partition_point(|(began, _)| *began <= epoch);
        let mut keys: Vec<KeyId> = self.changes.range(first..).map(|(_, key)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        let keys = keys.into_iter().map(|key| (key, self.holders(key))).collect();
        Some(Delta::Changes { from: epoch, to: self.epoch, keys })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

    use std::sync::Arc;

    use nearcast_cache_node::core::routing::{Fit, PlacementCopy};
    use nearcast_proto::message::PlacementUpdate;

    use super::*;

    /// What a node does with deltas.
    #[derive(Default)]
    struct Node {
        copy: PlacementCopy,
        placed: Map<KeyId, NodeSet>,
    }

    impl Node {
        fn apply(&mut self, delta: &Delta) -> Fit {
            let (from, epoch, full, keys) = match delta {
                Delta::Changes { from, to, keys } => (*from, *to, false, keys),
                Delta::Whole { epoch, keys } => (Epoch(0), *epoch, true, keys),
            };
            let (placed, removed) = (Vec::new(), Vec::new());
            let update =
                PlacementUpdate { map: Arc::from("m"), from, epoch, full, part: 0, last: true, placed, removed };
            let fit = self.copy.admit(&update);
            if fit == Fit::Replace {
                self.placed.clear();
            }
            if matches!(fit, Fit::Replace | Fit::Amend) {
                self.placed.extend(keys.iter().copied());
                self.placed.retain(|_, nodes| !nodes.is_empty());
            }
            fit
        }

        fn epoch(&self) -> Epoch {
            self.copy.position().map_or(Epoch(0), |position| position.epoch)
        }
    }

    fn nodes(bits: u8) -> NodeSet {
        (0..8).filter(|node| bits >> node & 1 == 1).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Deltas are made at any time, and come late, twice, in any order or never.
        #[test]
        fn a_copy_never_strays_and_one_delta_brings_it_up_to_date(
            commits in prop::collection::vec(prop::collection::vec((0_u32..12, any::<u8>()), 0..5), 1..30),
            asked_from in prop::collection::vec(0_usize..30, 1..40),
            order in prop::collection::vec(0_usize..40, 0..80),
            changes_max in 0_usize..40,
        ) {
            let mut map = GlobalMap::new(changes_max);
            let mut versions: Vec<(Epoch, Map<KeyId, NodeSet>)> = vec![(map.epoch, map.placed.clone())];
            let mut deltas = Vec::new();
            for (step, commit) in commits.iter().enumerate() {
                map.commit(commit.iter().map(|(key, bits)| (KeyId(*key), nodes(*bits))));
                versions.push((map.epoch, map.placed.clone()));
                for from in asked_from.iter().filter(|from| **from % commits.len() == step) {
                    deltas.extend(map.delta_since(Epoch((*from as u64).min(map.epoch.0))));
                }
            }
            let mut copy = Node::default();
            prop_assert_eq!(copy.apply(&Delta::Whole { epoch: Epoch(0), keys: Vec::new() }), Fit::Replace);
            for index in order {
                // Wholes go only to who asked.
                let Some(delta @ Delta::Changes { .. }) = deltas.get(index) else { continue };
                let before = copy.epoch();
                let applied = copy.apply(delta);
                prop_assert!(copy.epoch() >= before && (applied == Fit::Amend) == (copy.epoch() > before));
                let version = versions.iter().find(|(epoch, _)| *epoch == copy.epoch());
                prop_assert_eq!(Some(&copy.placed), version.map(|(_, placed)| placed));
            }
            if let Some(delta) = map.delta_since(copy.epoch()) {
                prop_assert!(matches!(copy.apply(&delta), Fit::Amend | Fit::Replace));
            }
            prop_assert_eq!((copy.epoch(), &copy.placed), (map.epoch, &map.placed));
        }
    }

    #[test]
    fn a_restored_map_moves_nothing_and_serves_copies_that_are_ahead_or_behind() {
        let mut map = GlobalMap::restore(Epoch(7), [(KeyId(1), nodes(3))], 10);
        assert_eq!(map.delta_since(Epoch(7)), None);
        assert!(matches!(map.delta_since(Epoch(6)), Some(Delta::Whole { .. })));
        assert!(matches!(map.delta_since(Epoch(9)), Some(Delta::Whole { epoch: Epoch(7), .. })));
        assert_eq!(map.commit([(KeyId(1), nodes(3))]), Epoch(7), "the same holders are no change");
        assert_eq!(map.commit([(KeyId(1), nodes(1))]), Epoch(8));
    }
}
