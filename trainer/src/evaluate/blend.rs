//! The blend in every state of learning that is measured.

use nearcast_datasets::{KeyId, RegionId, Timestamp};
use nearcast_models::{Blend, BlendLearning, BlendSession, Model, Proposal};

use super::{
    next_key::method,
    outcomes::Reliability,
    rank::{MethodTally, PLACES, Proposals},
};
use crate::{Result, features::Features};

/// The blend as published, or going on learning in full or in part.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    blend: Blend,
    learning: BlendLearning,
    /// Frozen counts are asked as of the instant that they were read off.
    now_max: Timestamp,
    /// Keys of the log are numbered below this; others are only the model's.
    keys: u32,
    pub(crate) tally: MethodTally,
    pub(crate) reliability: Reliability,
    list: Vec<Proposal>,
    proposals: Proposals,
}

impl Variant {
    /// Every variant of `model`'s blend.
    pub(crate) fn all(features: &Features, model: &Model) -> Result<Vec<Self>> {
        let Self { blend, keys: bound, .. } = Self::published(features, model)?;
        let BlendLearning { counts, popularity, weights } = BlendLearning::ALL;
        let variants = [
            (method::MODEL, BlendLearning::NONE),
            (method::MODEL_ONLINE, BlendLearning::ALL),
            (method::MODEL_ONLINE_WITHOUT_COUNTS, BlendLearning { counts: false, popularity, weights }),
            (method::MODEL_ONLINE_WITHOUT_POPULARITY, BlendLearning { counts, popularity: false, weights }),
            (method::MODEL_ONLINE_WITHOUT_WEIGHTS, BlendLearning { counts, popularity, weights: false }),
        ];
        Ok(variants.map(|(name, learning)| Self::of(name, blend.clone(), learning, model.blend.at, bound)).into())
    }

    /// `model`'s blend as published.
    pub(crate) fn published(features: &Features, model: &Model) -> Result<Self> {
        let mut keys = features.log.keys.clone();
        let bound = u32::try_from(keys.bound()).unwrap_or(u32::MAX);
        let mut blend = Blend::from_trained(&model.config.blend, &model.blend, |name| Some(KeyId(keys.insert(name))))?;
        features.log.keys.iter().for_each(|(key, name)| blend.introduce(KeyId(key), name));
        Ok(Self::of(method::MODEL, blend, BlendLearning::NONE, model.blend.at, bound))
    }

    fn of(name: &'static str, blend: Blend, learning: BlendLearning, at: Timestamp, keys: u32) -> Self {
        Self {
            name,
            blend,
            learning,
            now_max: if learning == BlendLearning::NONE { at } else { Timestamp::MAX },
            keys,
            tally: MethodTally::default(),
            reliability: Reliability::with_bins(CALIBRATION_BINS),
            list: Vec::new(),
            proposals: Proposals::new(),
        }
    }

    /// Proposes what comes after the session, with probabilities.
    pub(crate) fn propose(
        &mut self,
        at: Timestamp,
        region: RegionId,
        session: &BlendSession,
    ) -> (&Proposals, &[Proposal]) {
        let Self { blend, list, proposals, .. } = self;
        blend.propose(at.min(self.now_max), region, session, PLACES + 1, list);
        proposals.clear();
        proposals.extend(list.iter().map(|proposal| Some(proposal.key).filter(|key| key.0 < self.keys)));
        (proposals, list)
    }

    /// Proposes what comes after the session, and is told that it was `next`.
    pub(crate) fn rank(&mut self, at: Timestamp, region: RegionId, session: &BlendSession, next: KeyId) {
        self.propose(at, region, session);
        for Proposal { key, probability } in &self.list {
            self.reliability.record(f64::from(*probability), *key == next);
        }
        if let Some(current) = session.current() {
            self.tally.record(&self.proposals, current, next);
        }
    }

    /// The client of `session` asks for `key`.
    pub(crate) fn learn(&mut self, at: Timestamp, region: RegionId, session: &BlendSession, key: KeyId) {
        self.blend.learn(at, region, session, key, self.learning);
    }
}

/// Bins of the calibration error in a report.
const CALIBRATION_BINS: usize = 10;
