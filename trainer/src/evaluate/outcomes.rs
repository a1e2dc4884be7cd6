//! What became of every single prediction: what paired comparisons and reports rest on.

use nearcast_datasets::{ClientId, KeyId, RegionId, Timestamp};
use nearcast_models::{Model, SequenceState};
use rayon::prelude::*;
use serde::Serialize;

use super::{
    blend::Variant,
    rank::{PLACES, Proposals},
    walk::walk,
};
use crate::{
    Result,
    features::{Features, TimeRange},
    fit::ItemMap,
    progress::{OnProgress, Progress},
};

/// One prediction: who asked for what, and how high the models had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// When the next key was asked for.
    pub(crate) at: Timestamp,
    /// Who asked.
    pub(crate) client: ClientId,
    /// From where.
    pub(crate) region: RegionId,
    /// Whether the next key is the current one again.
    pub(crate) repeats: bool,
    /// The place of the next key among the sequence model's proposals.
    pub(crate) sequence: Places,
    /// The place among the blend's, as published.
    pub(crate) model: Places,
}

/// 1-based places of the next key; 0 beyond the last place that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Among all proposals.
    pub(crate) all: u8,
    /// Among the proposals without the current key.
    pub(crate) without_current: u8,
}

impl Places {
    fn of(proposals: &[Option<KeyId>], current: KeyId, next: KeyId) -> Self {
        let place = |found: Option<usize>| found.and_then(|index| u8::try_from(index + 1).ok()).unwrap_or(0);
        let others = proposals.iter().filter(|proposal| **proposal != Some(current));
        Self {
            all: place(proposals.iter().take(PLACES).position(|proposal| *proposal == Some(next))),
            without_current: place(others.take(PLACES).position(|proposal| *proposal == Some(next))),
        }
    }
}

/// Claimed probabilities against how often they came true, in bins of equal width.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Reliability {
    /// From improbable to probable.
    pub(crate) bins: Vec<ReliabilityBin>,
}

/// One bin of a [`Reliability`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct ReliabilityBin {
    /// Claims in it.
    pub(crate) count: u64,
    /// The sum of the claims.
    pub(crate) claimed: f64,
    /// How many came true.
    pub(crate) came_true: u64,
}

impl Default for Reliability {
    fn default() -> Self {
        Self { bins: vec![ReliabilityBin::default(); BINS] }
    }
}

impl Reliability {
    fn record(&mut self, claimed: f64, came_true: bool) {
        let claimed = claimed.clamp(0.0, 1.0);
        let bin = &mut self.bins[((claimed * BINS as f64) as usize).min(BINS - 1)];
        bin.count += 1;
        bin.claimed += claimed;
        bin.came_true += u64::from(came_true);
    }

    /// Claims recorded.
    pub(crate) fn count(&self) -> u64 {
        self.bins.iter().map(|bin| bin.count).sum()
    }

    /// Expected calibration error: the mean distance of claim and truth over bins, by count (Naeini, Cooper and
    /// Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015). Zero without claims.
    pub(crate) fn error(&self) -> f64 {
        let distance: f64 = self.bins.iter().map(|bin| (bin.claimed - bin.came_true as f64).abs()).sum();
        distance / self.count().max(1) as f64
    }
}

/// Every prediction of a range, and how far the blend's probabilities can be trusted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    /// In the order of the log.
    pub(crate) list: Vec<Outcome>,
    /// Of the blend's proposals.
    pub(crate) reliability: Reliability,
}

/// A prediction that waits to be ranked.
struct Pending {
    state: SequenceState,
    current: KeyId,
    next: KeyId,
    outcome: Outcome,
}

/// Predicts on `range` with the model as published; of more than `predictions_max` requests evenly spaced ones are
/// taken, the same for every model.
pub(crate) fn outcomes(
    features: &Features,
    model: &Model,
    range: TimeRange,
    predictions_max: usize,
    progress: OnProgress<'_>,
) -> Result<Outcomes> {
    let requests = features.count(range)?;
    let stride = requests.div_ceil(predictions_max as u64).max(1);
    let items = ItemMap::new(features, &model.vocabulary);
    let mut blend = Variant::published(features, model)?;
    let mut ranking = Ranking { model, items: &items, found: Outcomes::default() };
    let (mut pending, mut transitions) = (Vec::with_capacity(BATCH), 0_u64);
    walk(features, range, &model.sequence, &items, |transition| {
        if transitions.is_multiple_of(stride) {
            let (current, next) = (transition.current, transition.next);
            let (proposals, claims) = blend.propose(transition.at, transition.region, transition.blend);
            for claim in claims {
                ranking.found.reliability.record(f64::from(claim.probability), claim.key == next);
            }
            let outcome = Outcome {
                at: transition.at,
                client: transition.client,
                region: transition.region,
                repeats: current == next,
                sequence: Places::default(),
                model: Places::of(proposals, current, next),
            };
            pending.push(Pending { state: transition.state.clone(), current, next, outcome });
            if pending.len() == BATCH {
                ranking.rank(&mut pending);
                let predictions = ranking.found.list.len() as u64;
                progress(Progress::Ranking { predictions, total: requests / stride });
            }
        }
        transitions += 1;
        Ok(())
    })?;
    ranking.rank(&mut pending);
    Ok(ranking.found)
}

struct Ranking<'a> {
    model: &'a Model,
    items: &'a ItemMap,
    found: Outcomes,
}

impl Ranking<'_> {
    /// Ranks what is pending on all cores, in the order of the log.
    fn rank(&mut self, pending: &mut Vec<Pending>) {
        let (sequence, items) = (&self.model.sequence, self.items);
        let list = |Pending { state, .. }: &Pending| -> Proposals {
            let mut rows = Vec::new();
            sequence.top_exact(state, PLACES + 1, &mut rows);
            rows.iter().map(|(row, _)| items.rows[*row as usize]).collect()
        };
        let lists: Vec<Proposals> = pending.par_iter().map(list).collect();
        for (list, Pending { current, next, outcome, .. }) in lists.iter().zip(pending.drain(..)) {
            self.found.list.push(Outcome { sequence: Places::of(list, current, next), ..outcome });
        }
    }
}

/// Predictions ranked at once.
const BATCH: usize = 512;
const BINS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_and_the_current_key_takes_none() {
        let list: Vec<_> = [7, 3, 4].map(|code| Some(KeyId(code))).into();
        assert_eq!(Places::of(&list, KeyId(7), KeyId(3)), Places { all: 2, without_current: 1 });
        assert_eq!(Places::of(&list, KeyId(7), KeyId(7)), Places { all: 1, without_current: 0 });
        assert_eq!(Places::of(&list, KeyId(9), KeyId(5)), Places::default());
    }

    #[test]
    fn reliability_is_the_mean_distance_of_claims_and_truth() {
        let mut reliability = Reliability::default();
        for came_true in [true, false, false, false] {
            reliability.record(0.3, came_true);
        }
        reliability.record(1.5, true);
        assert_eq!(reliability.count(), 5);
        // |4·0.3 - 1| + |1 - 1| over five claims.
        assert!((reliability.error() - 0.04).abs() < 1e-12);
    }
}
