//! What became of every single prediction: what paired comparisons and reports rest on.

use nearcast_datasets::{ClientId, KeyId, Map, RegionId, Timestamp};
use nearcast_models::Model;
use serde::Serialize;

use super::{
    blend::Variant,
    next_key::{BATCH, Client, Pending, WARM, method, sequence_lists, stride},
    rank::place,
};
use crate::{
    Result,
    features::{Features, Request, TimeRange},
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
    /// The place of the next key among the proposals of each of [`METHODS`].
    pub(crate) places: [Places; METHODS.len()],
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
        let number = |place: Option<usize>| place.and_then(|place| u8::try_from(place).ok()).unwrap_or(0);
        let others = proposals.iter().filter(|proposal| **proposal != Some(current));
        Self { all: number(place(proposals.iter(), next)), without_current: number(place(others, next)) }
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
        Self::with_bins(BINS)
    }
}

impl Reliability {
    /// Nothing recorded yet, in so many bins.
    pub(crate) fn with_bins(bins: usize) -> Self {
        Self { bins: vec![ReliabilityBin::default(); bins] }
    }

    pub(crate) fn record(&mut self, claimed: f64, came_true: bool) {
        let (claimed, bins) = (claimed.clamp(0.0, 1.0), self.bins.len());
        let bin = &mut self.bins[((claimed * bins as f64) as usize).min(bins - 1)];
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

/// Every prediction of a range, and how far the model's probabilities can be trusted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    /// In the order of the log.
    pub(crate) list: Vec<Outcome>,
    /// Of the model's proposals, as published.
    pub(crate) reliability: Reliability,
}

/// Predicts on `range` with every form of the model in [`METHODS`]; of more than `predictions_max` requests evenly spaced
/// ones are taken, the same for every model.
pub(crate) fn outcomes(
    features: &Features,
    model: &Model,
    range: TimeRange,
    predictions_max: usize,
    progress: OnProgress<'_>,
) -> Result<Outcomes> {
    let (requests, gap) = (features.count(range)?, features.session_gap());
    let stride = stride(requests, predictions_max);
    let items = ItemMap::new(features, &model.vocabulary);
    let mut variants = Variant::all(features, model)?;
    variants.retain(|variant| METHODS.contains(&variant.name));
    let mut ranking = Ranking { model, items: &items, variants, pending: Vec::new(), found: Outcomes::default() };
    let (mut clients, mut transitions): (Map<ClientId, Client>, u64) = (Map::default(), 0);
    // What clients did before the range is known, as it is where the model serves.
    let from = features.log.first.min(range.start);
    features.for_each_request(TimeRange { start: from, end: range.end }, |request| {
        let Request { at, client: id, region, key } = request;
        let client = clients.entry(id).or_default();
        client.come_back(at, gap);
        if at >= range.start {
            if let Some(current) = client.keys.last().copied() {
                if transitions.is_multiple_of(stride) {
                    ranking.rank(&request, current, client);
                    let predictions = ranking.found.list.len() as u64;
                    progress(Progress::Ranking { predictions, total: requests / stride });
                }
                transitions += 1;
            }
            ranking.variants.iter_mut().for_each(|variant| variant.learn(at, region, &client.blend, key));
        }
        if at >= range.start.before(WARM) {
            let state = client.state.get_or_insert_with(|| model.sequence.initial_state());
            model.sequence.step(state, &items.items[key.0 as usize]);
        }
        client.push(key);
        Ok(())
    })?;
    ranking.flush();
    Ok(ranking.found)
}

struct Ranking<'a> {
    model: &'a Model,
    items: &'a ItemMap,
    variants: Vec<Variant>,
    /// Predictions that the sequence model has yet to make: the last ones of the list.
    pending: Vec<Pending>,
    found: Outcomes,
}

impl Ranking<'_> {
    fn rank(&mut self, request: &Request, current: KeyId, client: &Client) {
        let Request { at, client: id, region, key: next } = *request;
        let mut outcome =
            Outcome { at, client: id, region, repeats: current == next, places: [Places::default(); METHODS.len()] };
        for variant in &mut self.variants {
            let name = variant.name;
            let (proposals, claims) = variant.propose(at, region, &client.blend);
            if let Some(method) = METHODS.iter().position(|method| *method == name) {
                outcome.places[method] = Places::of(proposals, current, next);
            }
            if name == method::MODEL {
                for claim in claims {
                    self.found.reliability.record(f64::from(claim.probability), claim.key == next);
                }
            }
        }
        let state = client.state.clone().unwrap_or_else(|| self.model.sequence.initial_state());
        self.found.list.push(outcome);
        self.pending.push((state, current, next));
        if self.pending.len() == BATCH {
            self.flush();
        }
    }

    /// Lets the sequence model rank what is pending, on all cores.
    fn flush(&mut self) {
        let lists = sequence_lists(&self.model.sequence, self.items, &self.pending);
        let first = self.found.list.len() - lists.len();
        let waiting = self.found.list[first..].iter_mut().zip(self.pending.drain(..));
        for ((outcome, (_, current, next)), list) in waiting.zip(&lists) {
            outcome.places[SEQUENCE] = Places::of(list, current, next);
        }
    }
}

/// The forms of the model whose predictions are kept one by one, as an evaluation names them.
pub(crate) const METHODS: [&str; 3] = [method::MODEL, method::MODEL_ONLINE, method::SEQUENCE];
/// The place of the sequence model alone among [`METHODS`].
const SEQUENCE: usize = 2;
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
