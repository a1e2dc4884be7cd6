//! Rules from one key to another: Markov chain, association rules and sequential rules as in Ludewig and Jannach,
//! "Evaluation of session-based recommendation algorithms" (UMUAI 2018), section 2.2.

use nearcast_datasets::{KeyId, Map};

use super::{Scorer, Situation};

/// Weighted pairs of keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    weights: Map<KeyId, Map<KeyId, f32>>,
}

impl Rules {
    /// Markov chain: `key` directly followed the latest key.
    pub(super) fn observe_direct(&mut self, session: &[KeyId], key: KeyId) {
        if let Some(current) = session.last() {
            self.add(*current, key, 1.0);
        }
    }

    /// Association rules: `key` and every other key of the session met, in whichever order.
    pub(super) fn observe_together(&mut self, session: &[KeyId], key: KeyId) {
        for earlier in session.iter().rev().take(STEPS_MAX).filter(|earlier| **earlier != key) {
            self.add(*earlier, key, 1.0);
            self.add(key, *earlier, 1.0);
        }
    }

    /// Sequential rules: `key` followed x steps after an earlier key, which counts 1/x.
    pub(super) fn observe_sequential(&mut self, session: &[KeyId], key: KeyId) {
        for (step, earlier) in (1_u8..).zip(session.iter().rev().take(STEPS_MAX)) {
            self.add(*earlier, key, 1.0 / f32::from(step));
        }
    }

    fn add(&mut self, from: KeyId, to: KeyId, weight: f32) {
        *self.weights.entry(from).or_default().entry(to).or_default() += weight;
    }
}

impl Scorer for Rules {
    fn score(&self, situation: &Situation<'_>, scores: &mut Vec<(KeyId, f32)>) {
        if let Some(weights) = situation.session.last().and_then(|current| self.weights.get(current)) {
            scores.extend(weights.iter().map(|(key, weight)| (*key, *weight)));
        }
    }
}

/// Rules reach this many steps, as in the authors' implementation of sequential rules.
const STEPS_MAX: usize = 10;
