//! Candidates from the sequence model: what this client asks for next, given all it asked for in its session.

use std::sync::Arc;

use nearcast_datasets::KeyId;
use nearcast_models::{ItemRef, Model, SequenceState};

use super::{CandidateSource, Merged};
use crate::engine::{keys::KeyTable, sessions::Session};

/// How many of the model's best keys are proposed.
const PROPOSED_MAX: usize = 10;
/// Keys less probable than this are not proposed.
const PROBABILITY_MIN: f32 = 0.005;

/// The model in service and how its rows and the engine's key numbers correspond.
#[derive(Debug)]
pub(in crate::engine) struct SequenceSource {
    model: Arc<Model>,
    items: Vec<ItemRef>,
    keys_by_row: Vec<Option<KeyId>>,
    best: Vec<(u32, f32)>,
    /// Proposals that were dropped because nobody has asked for the key since the engine started: its size is unknown.
    pub unseen: u64,
}

impl SequenceSource {
    pub(in crate::engine) fn new(model: Arc<Model>, keys: &KeyTable) -> Self {
        let rows = model.sequence.row_count();
        let mut source = Self { model, items: Vec::new(), keys_by_row: vec![None; rows], best: Vec::new(), unseen: 0 };
        for (key, name) in keys.iter() {
            source.learn_key(key, name);
        }
        source
    }

    /// A key got a number.
    pub(in crate::engine) fn learn_key(&mut self, key: KeyId, name: &str) {
        let item = self.model.vocabulary.item(name);
        let number = key.0 as usize;
        if self.items.len() <= number {
            self.items.resize(number + 1, ItemRef::default());
        }
        self.items[number] = item;
        if let Some(slot) = item.row.and_then(|row| self.keys_by_row.get_mut(row as usize)) {
            *slot = Some(key);
        }
    }

    /// A key's number is about to be given to another.
    pub(in crate::engine) fn forget(&mut self, key: KeyId) {
        let Some(item) = self.items.get_mut(key.0 as usize) else { return };
        let row = std::mem::take(item).row;
        if let Some(slot) = row.and_then(|row| self.keys_by_row.get_mut(row as usize)) {
            *slot = None;
        }
    }

    /// Whether the model has a row for a key.
    pub(in crate::engine) fn knows(&self, key: KeyId) -> bool {
        self.items.get(key.0 as usize).is_some_and(|item| item.row.is_some())
    }

    /// The client asks for `key`: moves its state on, rebuilding it from the session's recent keys when it is missing.
    pub(in crate::engine) fn learn(&self, session: &mut Session<SequenceState>, key: KeyId) {
        let sequence = &self.model.sequence;
        let mut state = session.state.take().unwrap_or_else(|| {
            let mut state = Box::new(sequence.initial_state());
            session.recent().rev().for_each(|earlier| sequence.step(&mut state, &self.item(earlier)));
            state
        });
        sequence.step(&mut state, &self.item(key));
        session.state = Some(state);
    }

    /// Proposes what the model ranks highest, then lets it say what it thinks of everybody else's proposals.
    pub(in crate::engine) fn propose(&mut self, state: &SequenceState, key: KeyId, merged: &mut Merged) {
        let mut best = std::mem::take(&mut self.best);
        self.model.sequence.top(state, PROPOSED_MAX, &mut best);
        for ((row, score), rank) in best.iter().zip(0..) {
            let probability = score.exp().min(1.0);
            match self.keys_by_row.get(*row as usize).copied().flatten() {
                Some(next) if next != key && probability >= PROBABILITY_MIN => {
                    merged.propose(next, CandidateSource::Sequence, probability, 0.0, rank);
                }
                Some(_) => {}
                None => self.unseen += 1,
            }
        }
        self.best = best;
        merged.rate(CandidateSource::Sequence, |other| {
            self.model.sequence.score(state, &self.item(other)).exp().min(1.0)
        });
    }

    /// The model.
    pub(in crate::engine) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    fn item(&self, key: KeyId) -> ItemRef {
        self.items.get(key.0 as usize).copied().unwrap_or_default()
    }
}
