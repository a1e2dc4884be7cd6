//! Popularity: the most requested keys, whatever the client does.

use nearcast_datasets::KeyId;

use crate::evaluate::rank::{PLACES, Proposals};

/// Counts requests; the ranking is renewed now and then.
#[derive(Clone, Debug, Default)]
pub(super) struct Popularity {
    counts: Vec<u32>,
    ranked: Vec<KeyId>,
    unranked: u32,
}

impl Popularity {
    pub(super) fn observe(&mut self, key: KeyId) {
        let number = key.0 as usize;
        if self.counts.len() <= number {
            self.counts.resize(number + 1, 0);
        }
        self.counts[number] += 1;
        self.unranked += 1;
    }

    /// Ranks anew when enough requests have come since.
    pub(super) fn refresh(&mut self) {
        if self.unranked == 0 || (self.ranked.len() >= RANKED && self.unranked < RANKED_EVERY) {
            return;
        }
        self.unranked = 0;
        let mut keys: Vec<KeyId> =
            (0..).map(KeyId).zip(&self.counts).filter(|(_, n)| **n > 0).map(|(k, _)| k).collect();
        let counts = &self.counts;
        let order = |a: &KeyId, b: &KeyId| counts[b.0 as usize].cmp(&counts[a.0 as usize]).then(a.cmp(b));
        if keys.len() > RANKED {
            keys.select_nth_unstable_by(RANKED - 1, order);
            keys.truncate(RANKED);
        }
        keys.sort_unstable_by(order);
        self.ranked = keys;
    }

    /// Adds popular keys until there are enough proposals.
    pub(super) fn fill(&self, list: &mut Proposals) {
        for key in &self.ranked {
            if list.len() > PLACES {
                break;
            }
            if !list.contains(&Some(*key)) {
                list.push(Some(*key));
            }
        }
    }
}

/// Keys ranked: lists are filled past the proposals that a method has made already.
const RANKED: usize = 2 * (PLACES + 1);
/// Requests after which the ranking is renewed.
const RANKED_EVERY: u32 = 1_000;
