//! The best that any predictor can do on a synthetic workload.
//!
//! Within a session, the next key is, with chance `follow_share`, a successor of the last key by the chain's weights,
//! else drawn by the region's popularity at that moment. Ranking all keys by that mixture is Bayes-optimal: nothing else
//! that a predictor could look at tells more. The chance of the best `k` keys together, averaged over the workload's own
//! contexts, is the best hit rate at `k`; beside it stands what this ranking hit when measured.

use serde::Serialize;

use super::{
    config::DAYPARTS,
    keys::{Keys, LINK_COUNT},
    popularity::{Popularity, Scene},
};

/// Ranks at which accuracy is stated.
pub(crate) const RANKS: [usize; 4] = [1, 5, 10, 20];

const RANK_MAX: usize = RANKS[RANKS.len() - 1];

/// The best accuracy for one kind of request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BestAccuracy {
    /// Requests of this kind that were looked at.
    pub requests: u64,
    /// One entry per rank.
    pub at: Vec<AccuracyAt>,
}

/// The best accuracy at one rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct AccuracyAt {
    /// How many keys may be named.
    pub k: usize,
    /// The expected hit rate of the Bayes-optimal ranking.
    pub best_hit_rate: f64,
    /// The hit rate that this ranking had.
    pub oracle_hit_rate: f64,
    /// The expected mean reciprocal rank of the Bayes-optimal ranking, ranks beyond `k` counting as 0.
    pub best_mrr: f64,
    /// The mean reciprocal rank that this ranking had.
    pub oracle_mrr: f64,
}

/// Sums over requests of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    requests: u64,
    hits: [Sums; RANKS.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    expected_hits: f64,
    hits: f64,
    expected_reciprocal: f64,
    reciprocal: f64,
}

impl Tally {
    /// Adds a request: the chances of the optimal ranking, likeliest first, and the rank of what was asked for.
    fn add(&mut self, ranking: &Ranking, asked: u32) {
        self.requests += 1;
        let found = ranking.keys[..ranking.len].iter().position(|(key, _)| *key == asked);
        let mut running = Sums::default();
        let mut next = 0;
        for (rank, (_, chance)) in ranking.keys[..ranking.len].iter().enumerate() {
            running.expected_hits += chance;
            running.expected_reciprocal += chance / (rank as f64 + 1.0);
            if found == Some(rank) {
                (running.hits, running.reciprocal) = (1.0, 1.0 / (rank as f64 + 1.0));
            }
            if rank + 1 == RANKS[next] {
                self.hits[next].add(running);
                next += 1;
            }
        }
        // With fewer keys than ranks, all of them together are the best.
        self.hits[next..].iter_mut().for_each(|sums| sums.add(running));
    }

    pub(crate) fn merge(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.requests += other.requests;
        both.hits.iter_mut().zip(other.hits).for_each(|(sums, more)| sums.add(more));
        both
    }

    pub(crate) fn best(&self) -> BestAccuracy {
        let count = self.requests.max(1) as f64;
        let at = RANKS.iter().zip(self.hits).map(|(k, sums)| AccuracyAt {
            k: *k,
            best_hit_rate: sums.expected_hits / count,
            oracle_hit_rate: sums.hits / count,
            best_mrr: sums.expected_reciprocal / count,
            oracle_mrr: sums.reciprocal / count,
        });
        BestAccuracy { requests: self.requests, at: at.collect() }
    }
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.expected_hits += other.expected_hits;
        self.hits += other.hits;
        self.expected_reciprocal += other.expected_reciprocal;
        self.reciprocal += other.reciprocal;
    }
}

/// Ranks keys optimally, knowing the chain and the popularity.
#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    follow_share: f64,
    /// By region and part of the day: enough of the likeliest slots that links among them leave a full ranking.
    top_slots: Vec<[Vec<(usize, f64)>; DAYPARTS]>,
    pub(crate) next_key: Tally,
    pub(crate) first_key: Tally,
}

/// The optimal ranking for one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranking {
    keys: [(u32, f64); RANK_MAX],
    len: usize,
}

impl Oracle {
    pub(crate) fn new(follow_share: f64, region_count: usize, popularity: &Popularity) -> Self {
        let top = |region| {
            std::array::from_fn(|daypart| popularity.top_slots(Scene { region, daypart }, RANK_MAX + LINK_COUNT))
        };
        Self {
            follow_share,
            top_slots: (0..region_count).map(top).collect(),
            next_key: Tally::default(),
            first_key: Tally::default(),
        }
    }

    /// Looks at a request for `asked` by a client of a region whose last key in this session was `last`.
    pub(crate) fn observe(
        &mut self,
        last: Option<u32>,
        scene: Scene,
        asked: u32,
        keys: &Keys,
        popularity: &Popularity,
    ) {
        let ranking = self.rank(last, scene, keys, popularity);
        let tally = if last.is_some() { &mut self.next_key } else { &mut self.first_key };
        tally.add(&ranking, asked);
    }

    /// The optimal ranking.
    pub(crate) fn rank(&self, last: Option<u32>, scene: Scene, keys: &Keys, popularity: &Popularity) -> Ranking {
        let jump_share = if last.is_some() { 1.0 - self.follow_share } else { 1.0 };
        let mut linked = [(u32::MAX, -1.0); LINK_COUNT];
        if let Some(last) = last {
            for ((entry, key), weight) in linked.iter_mut().zip(keys.links(last)).zip(keys.weights(last)) {
                *entry = (*key, self.follow_share * weight + jump_share * popularity.chance(scene, *key));
            }
            linked.sort_unstable_by(|one, two| two.1.total_cmp(&one.1));
        }
        let mut popular = self.top_slots[scene.region][scene.daypart]
            .iter()
            .map(|(slot, chance)| (popularity.key_at(*slot), jump_share * chance))
            .filter(|(key, _)| !linked.iter().any(|(link, _)| link == key))
            .peekable();
        let mut linked = linked.iter().copied().filter(|(_, chance)| *chance >= 0.0).peekable();
        let mut ranking = Ranking { keys: [(u32::MAX, 0.0); RANK_MAX], len: 0 };
        while ranking.len < RANK_MAX {
            let next = match (linked.peek(), popular.peek()) {
                (Some((_, link)), Some((_, pop))) if link < pop => popular.next(),
                (Some(_), _) => linked.next(),
                (None, _) => popular.next(),
            };
            let Some(next) = next else { break };
            ranking.keys[ranking.len] = next;
            ranking.len += 1;
        }
        ranking
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesize::{config::WorkloadConfig, keys::random};

    #[test]
    fn the_ranking_is_that_of_a_full_sort_of_the_mixture() {
        let config =
            WorkloadConfig { key_count: 90, numbered_share: 0.8, daypart_share: 0.5, ..WorkloadConfig::default() };
        let mut keys = Keys::new(&config, random(4, 0));
        let popularity = Popularity::new(&config, &mut keys, random(4, 1));
        let oracle = Oracle::new(0.3, config.regions.len(), &popularity);
        for (last, region) in [(Some(3), 0), (Some(70), 1), (Some(89), 2), (None, 1)] {
            let scene = Scene { region, daypart: 2 };
            let mut all: Vec<f64> = (0..90)
                .map(|key| {
                    let jump = popularity.chance(scene, key);
                    let Some(last) = last else { return jump };
                    let link = keys.links(last).iter().position(|link| *link == key);
                    0.3 * link.map_or(0.0, |link| keys.weights(last)[link]) + 0.7 * jump
                })
                .collect();
            all.sort_by(|one, two| two.total_cmp(one));
            let ranking = oracle.rank(last, scene, &keys, &popularity);
            let found: Vec<f64> = ranking.keys.iter().map(|(_, chance)| *chance).collect();
            let close = found.iter().zip(&all).all(|(one, two)| (one - two).abs() < 1e-12);
            assert!(close && ranking.len == RANK_MAX, "{found:?}\n{:?}", &all[..RANK_MAX]);
        }
    }

    #[test]
    fn tallies_count_expected_and_found_hits() {
        let mut keys = [(0, 0.0); RANK_MAX];
        (keys[0], keys[1]) = ((7, 0.5), (8, 0.25));
        let mut tally = Tally::default();
        tally.add(&Ranking { keys, len: 2 }, 8);
        tally.add(&Ranking { keys, len: 2 }, 9);
        let best = tally.best();
        let (one, five) = (best.at[0], best.at[1]);
        assert_eq!((best.requests, one.best_hit_rate, one.oracle_hit_rate, one.best_mrr), (2, 0.5, 0.0, 0.5));
        assert_eq!(
            (five.best_hit_rate, five.oracle_hit_rate, five.best_mrr, five.oracle_mrr),
            (0.75, 0.5, 0.625, 0.25)
        );
    }
}
