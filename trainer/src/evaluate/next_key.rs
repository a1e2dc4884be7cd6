//! Next-key prediction: every method's proposals against what clients then asked for.

use std::collections::BTreeMap;

use nearcast_datasets::{ClientId, KeyId, Map, Timestamp};
use nearcast_models::{BlendSession, Model, SequenceModel, SequenceState};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    baselines::{Baselines, Situation},
    blend::Variant,
    cold::{Cold, ColdReport},
    rank::{MethodMetrics, MethodTally, PLACES, Proposals},
    walk::walk,
};
use crate::{
    Result,
    features::{Features, Request, TimeRange},
    fit::ItemMap,
    progress::{OnProgress, Progress},
};

/// How well next keys were predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextKeyReport {
    /// Requests that followed another of the same client within a session.
    pub transitions: u64,
    /// Of those, how many were ranked: all, or evenly spaced ones.
    pub ranked: u64,
    /// Share of ranked next keys that repeat the current key.
    pub repeat_share: f64,
    /// Share of ranked next keys that the model has a row for; no proposal of the sequence model can be another.
    pub known_share: f64,
    /// Metrics by method, see [`method`]. A baseline's name ends in `_online` where it went on learning.
    pub methods: BTreeMap<String, MethodMetrics>,
    /// Expected calibration error of the blend's 21 best proposals, by variant: the mean distance between claimed and
    /// true frequency over ten equal bins.
    pub calibration_error: BTreeMap<String, f64>,
    /// How keys that training never saw were ranked.
    pub cold: ColdReport,
}

/// The methods' names in a [`NextKeyReport`].
pub mod method {
    /// The sequence model alone.
    pub const SEQUENCE: &str = "sequence";
    /// The blend of all evidence as published.
    pub const MODEL: &str = "model";
    /// As [`MODEL`], but it goes on learning, as the predictor's does.
    pub const MODEL_ONLINE: &str = "model_online";
    /// As [`MODEL_ONLINE`], but which key follows which stays as published.
    pub const MODEL_ONLINE_WITHOUT_COUNTS: &str = "model_online_without_counts";
    /// As [`MODEL_ONLINE`], but how popular keys are stays as published.
    pub const MODEL_ONLINE_WITHOUT_POPULARITY: &str = "model_online_without_popularity";
    /// As [`MODEL_ONLINE`], but without gradient steps.
    pub const MODEL_ONLINE_WITHOUT_WEIGHTS: &str = "model_online_without_weights";
    /// The most requested keys.
    pub const POPULARITY: &str = "popularity";
    /// A first-order Markov chain.
    pub const MARKOV: &str = "markov";
    /// The baselines that were counted on the training range, by the names that they have frozen.
    pub const BASELINES: [&str; 8] = crate::evaluate::baselines::name::ALL;
}

/// Ranks the sequence model alone on `range`: what decides when to stop fitting.
pub(crate) fn validate(
    features: &Features,
    range: TimeRange,
    sequence: &SequenceModel,
    items: &ItemMap,
    predictions_max: usize,
) -> Result<MethodMetrics> {
    let stride = stride(features.count(range)?, predictions_max);
    let mut transitions = 0_u64;
    let mut ranking = Ranking::new(sequence, items);
    walk(features, range, sequence, items, |transition| {
        if transitions.is_multiple_of(stride) {
            ranking.push(transition.state.clone(), transition.current, transition.next);
        }
        transitions += 1;
        Ok(())
    })?;
    ranking.flush();
    Ok(ranking.tally.metrics())
}

/// Measures `model` on `range` beside the baselines. Frozen baselines are counted on `trained`, when the log reaches
/// that far back.
pub(crate) fn measure(
    features: &Features,
    model: &Model,
    trained: Option<TimeRange>,
    range: TimeRange,
    predictions_max: usize,
    progress: OnProgress<'_>,
) -> Result<NextKeyReport> {
    let requests = features.count(range)?;
    let items = ItemMap::new(features, &model.vocabulary);
    let stride = stride(requests, predictions_max);
    let gap = features.session_gap();
    let mut bench = Bench::new(features, model, &items, trained.is_some(), range.start)?;
    let from = trained.map_or_else(|| range.start.before(gap), |trained| trained.start);
    let mut clients: Map<ClientId, Client> = Map::default();
    features.for_each_request(TimeRange { start: from, end: range.end }, |request| {
        let client = clients.entry(request.client).or_default();
        client.come_back(request.at, gap);
        bench.take(&request, client, stride);
        client.push(request.key);
        if bench.ranked > 0 && bench.ranked.is_multiple_of(BATCH as u64) {
            progress(Progress::Ranking { predictions: bench.ranked, total: requests / stride });
        }
        Ok(())
    })?;
    Ok(bench.report())
}

/// What is remembered of one client.
#[derive(Debug, Default)]
pub(super) struct Client {
    last_at: Option<Timestamp>,
    /// The session so far, oldest first.
    pub(super) keys: Vec<KeyId>,
    pub(super) blend: BlendSession,
    pub(super) state: Option<SequenceState>,
}

impl Client {
    /// The client asks at `at`: in the same session, or in a new one.
    pub(super) fn come_back(&mut self, at: Timestamp, gap: std::time::Duration) {
        if self.last_at.is_some_and(|last_at| at.since(last_at) > gap) {
            self.keys.clear();
            self.blend.pause();
            self.state = None;
        }
        self.last_at = Some(at);
    }

    pub(super) fn push(&mut self, key: KeyId) {
        if self.keys.len() == SESSION_KEYS_MAX {
            self.keys.remove(0);
        }
        self.keys.push(key);
        self.blend.push(key);
    }
}

/// Every method side by side.
#[derive(Debug)]
struct Bench<'a> {
    model: &'a Model,
    items: &'a ItemMap,
    /// Where measuring begins.
    start: Timestamp,
    /// What baselines knew at the start, once it is reached; `None` when they were not trained.
    frozen: Option<Baselines>,
    baselines: Baselines,
    is_trained: bool,
    variants: Vec<Variant>,
    sequence: Ranking<'a>,
    cold: Cold<'a>,
    transitions: u64,
    ranked: u64,
    repeats: u64,
    known: u64,
    tallies: BTreeMap<String, MethodTally>,
}

impl<'a> Bench<'a> {
    fn new(
        features: &'a Features,
        model: &'a Model,
        items: &'a ItemMap,
        is_trained: bool,
        start: Timestamp,
    ) -> Result<Self> {
        Ok(Self {
            model,
            items,
            start,
            frozen: None,
            baselines: Baselines::default(),
            is_trained,
            variants: Variant::all(features, model)?,
            sequence: Ranking::new(&model.sequence, items),
            cold: Cold::new(&model.sequence, items),
            transitions: 0,
            ranked: 0,
            repeats: 0,
            known: 0,
            tallies: BTreeMap::new(),
        })
    }

    /// Predicts, and only then learns, from one request.
    fn take(&mut self, request: &Request, client: &mut Client, stride: u64) {
        let Request { at, client: id, region, key } = *request;
        let situation = Situation { at, client: id, session: &client.keys };
        if at >= self.start {
            if self.frozen.is_none() && self.is_trained {
                self.frozen = Some(self.baselines.clone());
            }
            if let Some(current) = client.keys.last() {
                if self.transitions.is_multiple_of(stride) {
                    self.rank(&situation, request, *current, client);
                }
                self.transitions += 1;
            }
            for variant in &mut self.variants {
                variant.learn(at, region, &client.blend, key);
            }
            self.cold.observe(key);
        }
        self.baselines.observe(&situation, key);
        if at >= self.start.before(WARM) {
            let state = client.state.get_or_insert_with(|| self.model.sequence.initial_state());
            self.model.sequence.step(state, &self.items.items[key.0 as usize]);
        }
    }

    fn rank(&mut self, situation: &Situation<'_>, request: &Request, current: KeyId, client: &Client) {
        let next = request.key;
        self.ranked += 1;
        self.repeats += u64::from(current == next);
        self.known += u64::from(self.items.items[next.0 as usize].row.is_some());
        let tallies = &mut self.tallies;
        if let Some(frozen) = &mut self.frozen {
            frozen.propose(situation, |name, list| {
                tallies.entry(name.to_owned()).or_default().record(list, current, next);
            });
        }
        self.baselines.propose(situation, |name, list| {
            tallies.entry(format!("{name}_online")).or_default().record(list, current, next);
        });
        for variant in &mut self.variants {
            variant.rank(situation.at, request.region, &client.blend, next);
        }
        let state = client.state.clone().unwrap_or_else(|| self.model.sequence.initial_state());
        self.cold.rank(&state, current, next);
        self.sequence.push(state, current, next);
    }

    fn report(mut self) -> NextKeyReport {
        self.sequence.flush();
        let share = |count: u64| if self.ranked == 0 { 0.0 } else { count as f64 / self.ranked as f64 };
        let mut methods: BTreeMap<String, MethodMetrics> =
            self.tallies.iter().map(|(name, tally)| (name.clone(), tally.metrics())).collect();
        methods.insert(method::SEQUENCE.to_owned(), self.sequence.tally.metrics());
        methods.extend(self.variants.iter().map(|variant| (variant.name.to_owned(), variant.tally.metrics())));
        let error = |variant: &Variant| (variant.name.to_owned(), variant.reliability.error());
        NextKeyReport {
            transitions: self.transitions,
            ranked: self.ranked,
            repeat_share: share(self.repeats),
            known_share: share(self.known),
            methods,
            calibration_error: self.variants.iter().map(error).collect(),
            cold: self.cold.report(),
        }
    }
}

/// Ranks the sequence model against every row, many predictions at once on all cores.
#[derive(Debug)]
struct Ranking<'a> {
    sequence: &'a SequenceModel,
    items: &'a ItemMap,
    pending: Vec<Pending>,
    tally: MethodTally,
}

/// A prediction that waits to be ranked: what the sequence model knew, the current key and the next one.
pub(super) type Pending = (SequenceState, KeyId, KeyId);

/// What the sequence model proposes for each prediction, compared with every row; worked out on all cores.
pub(super) fn sequence_lists(sequence: &SequenceModel, items: &ItemMap, pending: &[Pending]) -> Vec<Proposals> {
    let list = |(state, ..): &Pending| {
        let mut rows = Vec::new();
        sequence.top_exact(state, PLACES + 1, &mut rows);
        rows.iter().map(|(row, _)| items.rows[*row as usize]).collect()
    };
    pending.par_iter().map(list).collect()
}

impl<'a> Ranking<'a> {
    fn new(sequence: &'a SequenceModel, items: &'a ItemMap) -> Self {
        Self { sequence, items, pending: Vec::with_capacity(BATCH), tally: MethodTally::default() }
    }

    fn push(&mut self, state: SequenceState, current: KeyId, next: KeyId) {
        self.pending.push((state, current, next));
        if self.pending.len() == BATCH {
            self.flush();
        }
    }

    /// Ranks what is pending; the order of counting stays that of the log.
    fn flush(&mut self) {
        let lists = sequence_lists(self.sequence, self.items, &self.pending);
        for (list, (_, current, next)) in lists.iter().zip(self.pending.drain(..)) {
            self.tally.record(list, current, next);
        }
    }
}

/// Every so many transitions one is ranked.
pub(super) fn stride(requests: u64, predictions_max: usize) -> u64 {
    requests.div_ceil(predictions_max as u64).max(1)
}

/// Predictions ranked at once.
pub(super) const BATCH: usize = 512;
/// Requests of one session that are remembered.
const SESSION_KEYS_MAX: usize = 200;
/// The sequence model follows sessions from this long before the start on.
pub(super) const WARM: std::time::Duration = std::time::Duration::from_hours(2);
