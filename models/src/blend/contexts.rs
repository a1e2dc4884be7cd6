//! What followed a pair of consecutive keys: second-order Markov contexts, bounded in number.

use nearcast_datasets::{KeyId, Map};

/// The followers of one pair of keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Context {
    /// Times that anything followed the pair.
    pub(super) occurrences: f32,
    /// The most frequent followers with their counts.
    pub(super) followers: Vec<(Stamped, f32)>,
}

/// A key and the generation of its number: when the number is given to another key, what was counted before no longer
/// applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Stamped {
    pub(super) key: KeyId,
    pub(super) generation: u32,
}

/// The key before and the current key; the former is `None` at the beginning of a session.
pub(super) type Pair = (Option<Stamped>, Stamped);

/// Contexts in two generations: what was touched since the last half of the bound filled up, and what was touched in
/// the half before it. Older ones are gone.
#[derive(Clone, Debug)]
pub(super) struct Contexts {
    contexts_max: usize,
    young: Map<Pair, Context>,
    old: Map<Pair, Context>,
}

impl Contexts {
    pub(super) fn new(contexts_max: usize) -> Self {
        Self { contexts_max, young: Map::default(), old: Map::default() }
    }

    pub(super) fn get(&self, pair: Pair) -> Option<&Context> {
        self.young.get(&pair).or_else(|| self.old.get(&pair))
    }

    /// Counts that `next` followed.
    pub(super) fn observe(&mut self, pair: Pair, next: Stamped) {
        let context = self.touch(pair);
        context.occurrences += 1.0;
        if let Some((_, count)) = context.followers.iter_mut().find(|(key, _)| *key == next) {
            *count += 1.0;
            return;
        }
        if context.followers.len() < FOLLOWERS_MAX {
            context.followers.push((next, 1.0));
            return;
        }
        if let Some(weakest) = context.followers.iter_mut().min_by(|a, b| a.1.total_cmp(&b.1)) {
            *weakest = (next, 1.0);
        }
    }

    /// Takes over what another table knew of a pair.
    pub(super) fn insert(&mut self, pair: Pair, mut context: Context) {
        context.followers.truncate(FOLLOWERS_MAX);
        *self.touch(pair) = context;
    }

    /// Every pair, ordered.
    pub(super) fn sorted(&self) -> Vec<(Pair, &Context)> {
        let old = self.old.iter().filter(|(pair, _)| !self.young.contains_key(*pair));
        let mut all: Vec<_> = self.young.iter().chain(old).map(|(pair, context)| (*pair, context)).collect();
        all.sort_unstable_by_key(|(pair, _)| *pair);
        all
    }

    fn touch(&mut self, pair: Pair) -> &mut Context {
        if self.young.len() * 2 >= self.contexts_max && !self.young.contains_key(&pair) {
            self.old = std::mem::take(&mut self.young);
        }
        let old = &mut self.old;
        self.young.entry(pair).or_insert_with(|| old.remove(&pair).unwrap_or_default())
    }
}

/// Followers remembered of a pair.
const FOLLOWERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(key: u32) -> Stamped {
        Stamped { key: KeyId(key), generation: 0 }
    }

    fn pair(key: u32) -> Pair {
        (Some(stamped(1_000)), stamped(key))
    }

    #[test]
    fn holds_no_more_than_its_bound_and_keeps_what_is_used() {
        let mut contexts = Contexts::new(8);
        for key in 0..100 {
            contexts.observe(pair(key), stamped(7));
            contexts.observe(pair(0), stamped(8));
            assert!(contexts.young.len() + contexts.old.len() <= 8);
        }
        assert!(contexts.get(pair(0)).is_some_and(|context| context.occurrences > 99.0), "touched all along");
        assert_eq!(contexts.get(pair(1)), None);
        let renamed = (pair(0).0, Stamped { generation: 1, ..stamped(0) });
        assert_eq!(contexts.get(renamed), None, "another key by the same number");
    }
}
