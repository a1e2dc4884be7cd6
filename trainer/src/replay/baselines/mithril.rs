//! MITHRIL: keys that were asked for at nearly the same moments, several times over, belong together.
//!
//! Yang, Karimi, Sæmundsson, Wildani, Vigfusson: *MITHRIL: Mining Sporadic Associations for Cache Prefetching*, SoCC
//! 2017. Misses are recorded with their moment, counted in misses. A key with [`SUPPORT_MIN`] moments is ready to be
//! mined; one with more than [`SUPPORT_MAX`] is too frequent to be sporadic, and left to eviction. Once
//! [`MINED_ROWS`] are ready they are mined: two keys with as many moments are associated when all of these lie within
//! [`LOOKAHEAD`] of each other, and at least one pair directly follows each other. Each key keeps its
//! [`PARTNERS_MAX`] latest partners, and a request for it, hit or miss, fetches them.
//!
//! These are the defaults of the authors' implementation. Its tables are bounded by a tenth of the cache; these grow
//! with the log's keys, which can only help.

use std::collections::VecDeque;

use nearcast_datasets::{KeyId, Map, ServedFrom};

use super::Prefetcher;

/// What was missed when at one node, and what belongs together.
#[derive(Debug, Default)]
pub(super) struct MithrilPrefetcher {
    misses: u64,
    moments: Map<KeyId, Vec<u64>>,
    /// Keys that had enough moments since the latest mining, by their first.
    ready: Vec<KeyId>,
    partners: Map<KeyId, VecDeque<KeyId>>,
}

impl MithrilPrefetcher {
    fn record(&mut self, key: KeyId) {
        self.misses += 1;
        let moments = self.moments.entry(key).or_default();
        if moments.len() <= SUPPORT_MAX {
            moments.push(self.misses);
        }
        if moments.len() == SUPPORT_MIN {
            self.ready.push(key);
            if self.ready.len() == MINED_ROWS {
                self.mine();
            }
        }
    }

    fn mine(&mut self) {
        let taken = |key: KeyId| self.moments.remove(&key).map(|moments| (moments, key));
        let mut rows: Vec<(Vec<u64>, KeyId)> = self.ready.drain(..).filter_map(taken).collect();
        rows.retain(|(moments, _)| moments.len() <= SUPPORT_MAX);
        rows.sort_unstable();
        for (index, (moments, key)) in rows.iter().enumerate() {
            let near = |other: &&(Vec<u64>, KeyId)| other.0[0] - moments[0] <= LOOKAHEAD;
            for (other_moments, other) in rows[index + 1..].iter().take_while(near) {
                if are_associated(moments, other_moments) {
                    associate(self.partners.entry(*key).or_default(), *other);
                }
            }
        }
    }
}

impl Prefetcher for MithrilPrefetcher {
    fn handle_request(&mut self, key: KeyId, served: ServedFrom, wanted: &mut Vec<KeyId>) {
        if !matches!(served, ServedFrom::Memory | ServedFrom::Disk | ServedFrom::Prefetched) {
            self.record(key);
        }
        if let Some(partners) = self.partners.get(&key) {
            wanted.extend(partners);
        }
    }
}

fn are_associated(moments: &[u64], others: &[u64]) -> bool {
    let gaps = || moments.iter().zip(others).map(|(one, other)| one.abs_diff(*other));
    moments.len() == others.len() && gaps().all(|gap| gap <= LOOKAHEAD) && gaps().any(|gap| gap == 1)
}

fn associate(partners: &mut VecDeque<KeyId>, partner: KeyId) {
    if partners.contains(&partner) {
        return;
    }
    if partners.len() == PARTNERS_MAX {
        partners.pop_front();
    }
    partners.push_back(partner);
}

const SUPPORT_MIN: usize = 2;
const SUPPORT_MAX: usize = 8;
const LOOKAHEAD: u64 = 20;
const PARTNERS_MAX: usize = 2;
const MINED_ROWS: usize = 2_560;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_must_be_as_many_all_near_and_once_adjacent() {
        let cases = [
            (&[1, 100][..], &[2, 120][..], true),
            (&[1, 100], &[2, 121], false),
            (&[1, 100], &[3, 102], false),
            (&[5, 100], &[9, 99], true),
            (&[1, 100], &[2, 101, 200], false),
        ];
        for (moments, others, expected) in cases {
            assert_eq!(are_associated(moments, others), expected, "{moments:?} and {others:?}");
        }
    }

    #[test]
    fn what_is_missed_together_twice_is_fetched_together_once_enough_was_seen() {
        let mut prefetcher = MithrilPrefetcher::default();
        let mut wanted = Vec::new();
        let round = |prefetcher: &mut MithrilPrefetcher, wanted: &mut Vec<KeyId>| {
            for number in 0..MINED_ROWS as u32 {
                // Pairs far from each other.
                prefetcher.misses += if number % 2 == 0 { LOOKAHEAD } else { 0 };
                prefetcher.handle_request(KeyId(number), ServedFrom::Origin, wanted);
            }
        };
        round(&mut prefetcher, &mut wanted);
        round(&mut prefetcher, &mut wanted);
        assert!(wanted.is_empty(), "nothing is known before the last row is ready");
        prefetcher.handle_request(KeyId(10), ServedFrom::Memory, &mut wanted);
        assert_eq!(wanted, [KeyId(11)]);
        prefetcher.handle_request(KeyId(11), ServedFrom::Memory, &mut wanted);
        assert_eq!(wanted, [KeyId(11)], "associations go forward");
    }

    #[test]
    fn a_frequent_key_is_not_mined() {
        let mut prefetcher = MithrilPrefetcher::default();
        let mut wanted = Vec::new();
        for _ in 0..SUPPORT_MAX + 1 {
            for key in [1, 2] {
                prefetcher.handle_request(KeyId(key), ServedFrom::Origin, &mut wanted);
            }
        }
        prefetcher.mine();
        assert!(prefetcher.partners.is_empty());
    }
}
