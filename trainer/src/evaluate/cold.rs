//! Cold keys: how keys that training never saw are told apart, by their path tokens and by popularity.

use nearcast_datasets::KeyId;
use nearcast_models::{SequenceModel, SequenceState};
use serde::{Deserialize, Serialize};

use super::rank::{PLACES, RankMetrics, Tally};
use crate::fit::ItemMap;

/// Rankings of all cold keys of the log whenever one of them was asked for next. A key is cold when the model has no
/// row for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColdReport {
    /// Cold keys in the log.
    pub keys: u64,
    /// By how many path tokens they share with the current key.
    pub tokens: RankMetrics,
    /// By the sequence model, to which they are the mean of their tokens' embeddings.
    pub sequence: RankMetrics,
    /// By how often they were asked for so far. Ties get their mean place, here and above.
    pub popularity: RankMetrics,
    /// By both: how often they were asked for, times how likely a key that shares so many tokens is.
    #[serde(default)]
    pub tokens_and_popularity: RankMetrics,
}

/// The rankings side by side.
#[derive(Debug)]
pub(crate) struct Cold<'a> {
    sequence: &'a SequenceModel,
    items: &'a ItemMap,
    /// The cold keys.
    keys: Vec<KeyId>,
    /// Requests so far, by key.
    counts: Vec<u32>,
    tokens: Tally,
    by_sequence: Tally,
    popularity: Tally,
    together: Tally,
}

impl<'a> Cold<'a> {
    pub(crate) fn new(sequence: &'a SequenceModel, items: &'a ItemMap) -> Self {
        let numbered = (0..).map(KeyId).zip(&items.items);
        let keys: Vec<KeyId> = numbered.filter(|(_, item)| item.row.is_none()).map(|(key, _)| key).collect();
        let counts = vec![0; items.items.len()];
        let [tokens, by_sequence, popularity, together] = [Tally::default(); 4];
        Self { sequence, items, keys, counts, tokens, by_sequence, popularity, together }
    }

    /// Counts a request of the range measured on.
    pub(crate) fn observe(&mut self, key: KeyId) {
        self.counts[key.0 as usize] += 1;
    }

    /// A client in this state asks for `next` after `current`; nothing happens when that is not cold, or after enough
    /// rankings.
    pub(crate) fn rank(&mut self, state: &SequenceState, current: KeyId, next: KeyId) {
        if self.items.items[next.0 as usize].row.is_some() || self.tokens.predictions() >= RANKINGS_MAX {
            return;
        }
        let tokens = &self.items.items[current.0 as usize].tokens;
        let likeness = |key: KeyId| tokens.likeness(&self.items.items[key.0 as usize].tokens);
        let next_likeness = likeness(next);
        self.tokens.record(self.place(|key| likeness(key).total_cmp(&next_likeness)));
        let score = |key: KeyId| self.sequence.score(state, &self.items.items[key.0 as usize]);
        let next_score = score(next);
        self.by_sequence.record(self.place(|key| score(key).total_cmp(&next_score)));
        let count = |key: KeyId| self.counts[key.0 as usize];
        let next_count = count(next);
        self.popularity.record(self.place(|key| count(key).cmp(&next_count)));
        let worth = |key: KeyId| (count(key) as f32 + COUNT_PRIOR) * (likeness(key) + LIKENESS_PRIOR);
        let next_worth = worth(next);
        self.together.record(self.place(|key| worth(key).total_cmp(&next_worth)));
    }

    /// The place of a key, given how the others compare with it: after all that are better and half of its equals.
    fn place(&self, compare: impl Fn(KeyId) -> std::cmp::Ordering) -> Option<usize> {
        let (mut better, mut equal) = (0, 0);
        for key in &self.keys {
            match compare(*key) {
                std::cmp::Ordering::Greater => better += 1,
                std::cmp::Ordering::Equal => equal += 1,
                std::cmp::Ordering::Less => {}
            }
        }
        // The key is its own equal.
        Some(better + 1 + (equal - 1_usize.min(equal)) / 2).filter(|place| *place <= PLACES)
    }

    pub(crate) fn report(&self) -> ColdReport {
        let keys = self.keys.len() as u64;
        let [tokens, sequence, popularity, tokens_and_popularity] =
            [self.tokens, self.by_sequence, self.popularity, self.together].map(|tally| tally.metrics());
        ColdReport { keys, tokens, sequence, popularity, tokens_and_popularity }
    }
}

/// Rankings of cold keys that are enough: each looks at all of them.
const RANKINGS_MAX: u64 = 5_000;
/// Requests that a key which was never asked for is taken to have: half of one is Jeffreys' prior.
const COUNT_PRIOR: f32 = 0.5;
/// Keeps keys without a common token in the ranking.
const LIKENESS_PRIOR: f32 = 0.05;
