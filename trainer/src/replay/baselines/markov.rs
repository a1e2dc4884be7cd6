//! The probability graph: what followed shortly after a key before is likely to follow it again.
//!
//! Griffioen, Appleton: *Reducing File System Latency using a Predictive Approach*, USENIX Summer 1994. An arc from A
//! to B counts how often B was asked for within the lookahead window after A; its chance is that count over the counts
//! of all arcs that leave A. What has at least the minimum chance after the key just asked for is fetched. Window and
//! minimum chance are parameters in the paper; here the window is [`WINDOW`] requests, the minimum chance is
//! [`CHANCE_MIN`].
//!
//! The graph has at most [`WINDOW`] arcs per request of the log: a replay's memory is its bound.

use std::collections::VecDeque;

use nearcast_datasets::{KeyId, Map, ServedFrom};

use super::Prefetcher;

/// A graph of what followed what at one node.
#[derive(Debug, Default)]
pub(super) struct MarkovPrefetcher {
    keys: Map<KeyId, Followers>,
    latest: VecDeque<KeyId>,
}

/// The arcs that leave a key.
#[derive(Debug, Default)]
struct Followers {
    counts: Map<KeyId, u32>,
    total: u32,
    /// Those whose chance was high enough when it last rose: only these can be so now.
    likely: Vec<KeyId>,
}

impl Followers {
    fn record(&mut self, follower: KeyId) {
        self.total += 1;
        let count = self.counts.entry(follower).or_default();
        *count += 1;
        if is_likely(*count, self.total) && !self.likely.contains(&follower) {
            self.likely.push(follower);
        }
    }

    fn likely(&mut self) -> &[KeyId] {
        let (counts, total) = (&self.counts, self.total);
        self.likely.retain(|follower| counts.get(follower).is_some_and(|count| is_likely(*count, total)));
        &self.likely
    }
}

impl Prefetcher for MarkovPrefetcher {
    fn handle_request(&mut self, key: KeyId, _served: ServedFrom, wanted: &mut Vec<KeyId>) {
        for before in self.latest.iter().filter(|before| **before != key) {
            self.keys.entry(*before).or_default().record(key);
        }
        self.latest.push_back(key);
        if self.latest.len() > WINDOW {
            self.latest.pop_front();
        }
        if let Some(followers) = self.keys.get_mut(&key) {
            wanted.extend_from_slice(followers.likely());
        }
    }
}

fn is_likely(count: u32, total: u32) -> bool {
    f64::from(count) >= CHANCE_MIN * f64::from(total)
}

const WINDOW: usize = 2;
const CHANCE_MIN: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(prefetcher: &mut MarkovPrefetcher, keys: &[u32]) -> Vec<u32> {
        let mut wanted = Vec::new();
        for key in keys {
            wanted.clear();
            prefetcher.handle_request(KeyId(*key), ServedFrom::Origin, &mut wanted);
        }
        wanted.iter().map(|key| key.0).collect()
    }

    #[test]
    fn what_followed_within_the_window_is_fetched_while_it_is_likely() {
        let mut prefetcher = MarkovPrefetcher::default();
        assert!(wanted(&mut prefetcher, &[1]).is_empty());
        assert_eq!(wanted(&mut prefetcher, &[2, 3, 4, 1]), [2, 3], "4 came third after 1");
        // Now 1 is followed by 5 and 6, 7 and 8, 2 and 9: of eight arcs, 2 has two, the others one.
        assert_eq!(wanted(&mut prefetcher, &[5, 6, 1, 7, 8, 1, 2, 9, 1]), [2]);
    }

    #[test]
    fn a_repeated_key_is_no_follower_of_itself() {
        assert!(wanted(&mut MarkovPrefetcher::default(), &[1, 1, 1]).is_empty());
    }
}
