//! MITHRIL: keys that were asked for at nearly the same moments, several times over, belong together.
//!
//! Yang, Karimi, Sæmundsson, Wildani, Vigfusson: *MITHRIL: Mining Sporadic Associations for Cache Prefetching*, SoCC
//! 2017. Misses are recorded with their moment, counted in misses. A key with [`SUPPORT_MIN`] moments is ready to be
//! mined; one with more than [`SUPPORT_MAX`] is too frequent to be sporadic, and left to eviction. Once
//! [`MINED_ROWS`] are ready they are mined. Two keys are near when their first moments lie within [`LOOKAHEAD`], their
//! numbers of moments differ by [`MISMATCHES_MAX`] at most, and no more of their common moments lie further apart. Near
//! keys are associated when two of their moments directly follow each other; the nearest of all always is. Each key
//! keeps its [`PARTNERS_MAX`] latest partners, and a request for it, hit or miss, fetches them.
//!
//! These are the rules and defaults of the authors' implementation. Its tables are bounded by a tenth of the cache;
//! these grow with the log's keys, which can only help. A node that never has as many sporadic keys mines nothing and
//! so fetches nothing.

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
            let starts_near = |other: &&(Vec<u64>, KeyId)| other.0[0] - moments[0] <= LOOKAHEAD;
            let is_alike = |other: &&(Vec<u64>, KeyId)| other.0.len().abs_diff(moments.len()) <= MISMATCHES_MAX;
            let candidates = rows[index + 1..].iter().take_while(starts_near).filter(is_alike);
            for (position, (other_moments, other)) in candidates.enumerate() {
                if are_associated(moments, other_moments, position == 0) {
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

fn are_associated(moments: &[u64], others: &[u64], is_nearest: bool) -> bool {
    let gaps = || moments.iter().zip(others).map(|(one, other)| one.abs_diff(*other));
    let mismatch_count = gaps().filter(|gap| *gap > LOOKAHEAD).count();
    mismatch_count <= MISMATCHES_MAX && (is_nearest || gaps().any(|gap| gap == 1))
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
const MISMATCHES_MAX: usize = 1;
const PARTNERS_MAX: usize = 2;
const MINED_ROWS: usize = 2_560;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_must_be_near_but_for_one_and_adjacent_once_unless_nearest() {
        let cases = [
            (&[1, 100][..], &[2, 120][..], false, true),
            (&[1, 100], &[2, 900], false, true),
            (&[1, 100], &[3, 102], false, false),
            (&[1, 100], &[3, 102], true, true),
            (&[5, 100], &[9, 99], false, true),
            (&[1, 100, 200], &[2, 130, 230], true, false),
        ];
        for (moments, others, is_nearest, expected) in cases {
            assert_eq!(are_associated(moments, others, is_nearest), expected, "{moments:?} and {others:?}");
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
