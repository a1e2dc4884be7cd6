//! What a report shows beyond an evaluation's tables: where and when predictions fail, and how far to trust their odds.

use std::collections::BTreeMap;

use nearcast_models::Model;
use serde::Serialize;

use super::keys::{KeyFacts, key_facts};
use crate::{
    Result,
    evaluate::{Outcome, Reliability, outcomes},
    features::{Features, HOUR_MICROS, TimeRange},
    progress::OnProgress,
};

/// Hits of the model's first 20 proposals, repeats of the current key left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Score {
    /// Predictions that count.
    pub(crate) predictions: u64,
    /// Of those, next keys among the proposals.
    pub(crate) hits: u64,
    /// The sum of one over the place.
    pub(crate) reciprocals: f64,
}

impl Score {
    fn record(&mut self, outcome: &Outcome) {
        if outcome.repeats {
            return;
        }
        self.predictions += 1;
        let place = outcome.places[MODEL].without_current;
        if place > 0 {
            self.hits += 1;
            self.reciprocals += 1.0 / f64::from(place);
        }
    }

    /// HR@20; zero without predictions.
    pub(crate) fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.predictions.max(1) as f64
    }

    /// MRR@20; zero without predictions.
    pub(crate) fn mrr(&self) -> f64 {
        self.reciprocals / self.predictions.max(1) as f64
    }
}

/// The place of the published model among the methods of an outcome.
const MODEL: usize = 0;

/// A closer look at a version on a range of a log.
#[derive(Clone, Debug)]
pub struct Details {
    /// By region.
    pub(crate) regions: BTreeMap<String, Score>,
    /// By hour of the day, UTC.
    pub(crate) hours: [Score; 24],
    /// The model's claimed probabilities.
    pub(crate) reliability: Reliability,
    /// What the model knows of some keys.
    pub(crate) keys: Vec<KeyFacts>,
}

impl Details {
    /// Looks at `model` on `range`; `keys` are explained, or the most requested ones when none is asked for.
    pub(crate) fn measure(
        features: &Features,
        model: &Model,
        range: TimeRange,
        predictions_max: usize,
        keys: &[String],
        progress: OnProgress<'_>,
    ) -> Result<Self> {
        let outcomes = outcomes(features, model, range, predictions_max, progress)?;
        let mut regions: BTreeMap<String, Score> = BTreeMap::new();
        let mut hours = [Score::default(); 24];
        for outcome in &outcomes.list {
            let name = features.log.regions.name(u32::from(outcome.region.0));
            regions.entry(name.map_or_else(String::new, ToString::to_string)).or_default().record(outcome);
            let hour = outcome.at.micros().div_euclid(HOUR_MICROS).rem_euclid(24);
            hours[usize::try_from(hour).unwrap_or(0)].record(outcome);
        }
        let keys = key_facts(features, model, keys)?;
        Ok(Self { regions, hours, reliability: outcomes.reliability, keys })
    }
}
