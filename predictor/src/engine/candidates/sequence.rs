//! Candidates from the trained model: what this client asks for next, given all it asked for in its session.
//!
//! The model's blend proposes; it goes on learning from the stream. The recurrent network has no say here: decision
//! record 0008 has the numbers.

use std::sync::Arc;

use nearcast_datasets::{KeyId, RegionId, Timestamp};
use nearcast_models::{Blend, BlendLearning, BlendSession, Model, Proposal};

use super::{CandidateSource, Merged};
use crate::engine::{keys::KeyTable, sessions::Session};

/// How many of the model's best keys are proposed.
const PROPOSED_MAX: usize = 10;
/// How many of the model's best keys it has an opinion on, when others propose them.
const RATED_MAX: usize = 40;
/// Keys less probable than this are not proposed.
const PROBABILITY_MIN: f32 = 0.005;

/// The model in service, and its blend as the stream has moved it on.
#[derive(Debug)]
pub(in crate::engine) struct SequenceSource {
    model: Arc<Model>,
    blend: Blend,
    /// By key number: whether the model has a row for it.
    known: Vec<bool>,
    best: Vec<Proposal>,
}

impl SequenceSource {
    /// Takes over what `model` learned of keys that have a number.
    ///
    /// # Errors
    /// [`nearcast_models::Error::Config`] when the model is not sound; versions are checked before they come here.
    pub(in crate::engine) fn new(model: Arc<Model>, keys: &KeyTable) -> nearcast_models::Result<Self> {
        let blend = Blend::from_trained(&model.config.blend, &model.blend, |name| keys.find(name))?;
        let mut source = Self { model, blend, known: Vec::new(), best: Vec::new() };
        for (key, name) in keys.iter() {
            source.learn_key(key, name);
        }
        Ok(source)
    }

    /// Puts another model into service, whose network weighs what the stream has taught.
    ///
    /// # Errors
    /// As [`SequenceSource::new`].
    pub(in crate::engine) fn swap(&mut self, model: Arc<Model>, keys: &KeyTable) -> nearcast_models::Result<()> {
        self.blend.set_ranker(&model.blend.ranker)?;
        self.model = model;
        self.known.clear();
        for (key, name) in keys.iter() {
            self.learn_key(key, name);
        }
        Ok(())
    }

    /// A key got a number.
    pub(in crate::engine) fn learn_key(&mut self, key: KeyId, name: &str) {
        let number = key.0 as usize;
        if self.known.len() <= number {
            self.known.resize(number + 1, false);
        }
        self.known[number] = self.model.vocabulary.row(name).is_some();
        self.blend.introduce(key, name);
    }

    /// A key's number is about to be given to another.
    pub(in crate::engine) fn forget(&mut self, key: KeyId) {
        self.blend.forget(key);
        if let Some(known) = self.known.get_mut(key.0 as usize) {
            *known = false;
        }
    }

    /// Whether the model has a row for a key.
    pub(in crate::engine) fn knows(&self, key: KeyId) -> bool {
        self.known.get(key.0 as usize).copied().unwrap_or(false)
    }

    /// The client asks for `key`: learns from it and moves its state on, which is rebuilt from the session's recent keys
    /// when it is missing.
    pub(in crate::engine) fn learn(
        &mut self,
        now: Timestamp,
        region: RegionId,
        session: &mut Session<BlendSession>,
        key: KeyId,
        learning: BlendLearning,
    ) {
        let begins = session.length() == 0;
        let mut state = session.state.take().unwrap_or_else(|| {
            let mut state = Box::new(BlendSession::default());
            session.recent().rev().for_each(|earlier| state.push(earlier));
            state
        });
        if begins {
            state.pause();
        }
        self.blend.learn(now, region, &state, key, learning);
        state.push(key);
        session.state = Some(state);
    }

    /// Proposes what the model ranks highest, then lets it say what it thinks of everybody else's proposals.
    pub(in crate::engine) fn propose(
        &mut self,
        now: Timestamp,
        region: RegionId,
        state: &BlendSession,
        merged: &mut Merged,
    ) {
        let current = state.current();
        self.blend.propose(now, region, state, RATED_MAX, &mut self.best);
        for (Proposal { key, probability }, rank) in self.best.iter().take(PROPOSED_MAX).zip(0..) {
            if Some(*key) != current && *probability >= PROBABILITY_MIN {
                merged.propose(*key, CandidateSource::Sequence, *probability, 0.0, rank);
            }
        }
        merged.rate(CandidateSource::Sequence, |other| {
            self.best.iter().find(|best| best.key == other).map_or(0.0, |best| best.probability)
        });
    }

    /// The model.
    pub(in crate::engine) fn model(&self) -> &Arc<Model> {
        &self.model
    }
}
