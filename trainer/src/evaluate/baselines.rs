//! What a model must beat: popularity and a first-order Markov chain.

use std::cmp::Reverse;

use nearcast_datasets::{KeyId, Map};

use super::rank::{PLACES, Proposals};

/// Proposes the most requested keys, whatever the client does.
#[derive(Clone, Debug)]
pub(crate) struct Popularity {
    ranked: Proposals,
}

impl Popularity {
    /// Ranks keys by falling count; `None` are keys that the evaluated log never names. Ties keep their order.
    pub(crate) fn new(counts: impl IntoIterator<Item = (Option<KeyId>, u64)>) -> Self {
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| Reverse(*count));
        // Fallbacks look past the proposals that a chain has made already.
        counts.truncate(2 * (PLACES + 1));
        Self { ranked: counts.into_iter().map(|(key, _)| key).collect() }
    }

    /// The proposals, best first.
    pub(crate) fn propose(&self, out: &mut Proposals) {
        out.clear();
        self.fill(out);
    }

    /// Adds popular keys until there are enough proposals.
    fn fill(&self, out: &mut Proposals) {
        for key in &self.ranked {
            if out.len() > PLACES {
                break;
            }
            if key.is_none() || !out.contains(key) {
                out.push(*key);
            }
        }
    }
}

/// Counts which key directly followed which within a session, and proposes the most frequent followers; popular keys
/// fill the rest of the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Markov {
    followers: Map<KeyId, Followers>,
}

/// The followers of one key by falling count; the one that reached its count first leads.
#[derive(Clone, Debug, Default)]
struct Followers {
    counts: Vec<(KeyId, u32)>,
}

impl Markov {
    /// Counts that `next` followed `current`.
    pub(crate) fn observe(&mut self, current: KeyId, next: KeyId) {
        self.followers.entry(current).or_default().add(next);
    }

    /// The proposals after `current`, best first.
    pub(crate) fn propose(&self, current: KeyId, fallback: &Popularity, out: &mut Proposals) {
        out.clear();
        if let Some(followers) = self.followers.get(&current) {
            out.extend(followers.counts.iter().take(PLACES + 1).map(|(key, _)| Some(*key)));
        }
        fallback.fill(out);
    }
}

impl Followers {
    fn add(&mut self, key: KeyId) {
        let position = self.counts.iter().position(|(held, _)| *held == key);
        let mut position = position.unwrap_or_else(|| {
            self.counts.push((key, 0));
            self.counts.len() - 1
        });
        self.counts[position].1 += 1;
        while position > 0 && self.counts[position - 1].1 < self.counts[position].1 {
            self.counts.swap(position - 1, position);
            position -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(markov: &Markov, popularity: &Popularity, current: u32) -> Vec<u32> {
        let mut out = Proposals::new();
        markov.propose(KeyId(current), popularity, &mut out);
        out.into_iter().map(|key| key.map_or(u32::MAX, |key| key.0)).collect()
    }

    #[test]
    fn markov_leads_with_frequent_followers_and_fills_up_with_popular_keys() {
        let popularity = Popularity::new([(Some(KeyId(8)), 5), (Some(KeyId(2)), 9), (None, 7)]);
        let mut markov = Markov::default();
        for next in [3, 4, 4, 2] {
            markov.observe(KeyId(1), KeyId(next));
        }
        assert_eq!(proposed(&markov, &popularity, 1), [4, 3, 2, u32::MAX, 8]);
        assert_eq!(proposed(&markov, &popularity, 5), [2, u32::MAX, 8]);
    }
}
