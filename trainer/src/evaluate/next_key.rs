//! Next-key prediction: every method's proposals against what clients then asked for.

use std::collections::BTreeMap;

use nearcast_datasets::KeyId;
use nearcast_models::{CoAccess, Model, SequenceModel, SequenceState, Successor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    baselines::{Markov, Popularity},
    blend::{Successors, blended, import_coaccess},
    rank::{MethodMetrics, MethodTally, PLACES, Proposals},
    walk::{Transition, walk},
};
use crate::{
    Result,
    features::{Features, TimeRange},
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
    /// Metrics by method, see [`method`].
    pub methods: BTreeMap<String, MethodMetrics>,
}

/// The methods' names in a [`NextKeyReport`].
pub mod method {
    /// The sequence model alone.
    pub const SEQUENCE: &str = "sequence";
    /// Sequence model and co-access table together, both as published.
    pub const MODEL: &str = "model";
    /// As [`MODEL`], but the co-access table goes on learning, as the predictor's does.
    pub const MODEL_ONLINE: &str = "model_online";
    /// The most requested keys of the training range.
    pub const POPULARITY: &str = "popularity";
    /// A first-order Markov chain of the training range.
    pub const MARKOV: &str = "markov";
    /// As [`MARKOV`], but it goes on learning.
    pub const MARKOV_ONLINE: &str = "markov_online";
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
    let (mut transitions, mut tally) = (0_u64, MethodTally::default());
    let mut pending: Vec<(SequenceState, KeyId, KeyId)> = Vec::with_capacity(BATCH);
    let mut flush = |pending: &mut Vec<(SequenceState, KeyId, KeyId)>| {
        let lists: Vec<Proposals> =
            pending.par_iter().map(|(state, ..)| proposals(&ranked(sequence, state, PLACES + 1), items)).collect();
        for (list, (_, current, next)) in lists.iter().zip(pending.drain(..)) {
            tally.record(list, current, next);
        }
    };
    walk(features, range, sequence, items, |transition| {
        if transitions % stride == 0 {
            pending.push((transition.state.clone(), transition.current, transition.next));
            if pending.len() == BATCH {
                flush(&mut pending);
            }
        }
        transitions += 1;
        Ok(())
    })?;
    flush(&mut pending);
    Ok(tally.metrics())
}

/// Measures `model` on `range` beside the baselines. The frozen Markov chain is counted on `trained`, when the log
/// reaches that far back.
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
    let mut bench = Bench::new(features, model, &items, trained)?;
    let stride = stride(requests, predictions_max);
    walk(features, range, &model.sequence, &items, |transition| {
        bench.take(transition, stride);
        if bench.pending.len() == BATCH {
            bench.flush();
            progress(Progress::Ranking { predictions: bench.ranked, total: requests / stride });
        }
        Ok(())
    })?;
    bench.flush();
    Ok(bench.report())
}

/// One prediction that waits to be ranked.
#[derive(Debug)]
struct Pending {
    state: SequenceState,
    current: KeyId,
    next: KeyId,
    frozen: Vec<Successor>,
    online: Vec<Successor>,
}

/// Every method side by side.
#[derive(Debug)]
struct Bench<'a> {
    model: &'a Model,
    items: &'a ItemMap,
    keys: u32,
    popularity: Popularity,
    markov: Option<Markov>,
    markov_online: Markov,
    coaccess: CoAccess,
    coaccess_online: CoAccess,
    pending: Vec<Pending>,
    transitions: u64,
    ranked: u64,
    repeats: u64,
    known: u64,
    tallies: BTreeMap<&'static str, MethodTally>,
    list: Proposals,
}

impl<'a> Bench<'a> {
    fn new(features: &Features, model: &'a Model, items: &'a ItemMap, trained: Option<TimeRange>) -> Result<Self> {
        let counts = model.vocabulary.iter().zip(&items.rows).map(|((_, count), key)| (*key, count));
        let popularity = Popularity::new(counts);
        let markov = trained.map(|range| count_markov(features, range)).transpose()?;
        Ok(Self {
            model,
            items,
            keys: u32::try_from(features.log.keys.bound()).unwrap_or(u32::MAX),
            popularity,
            markov_online: markov.clone().unwrap_or_default(),
            markov,
            coaccess: import_coaccess(features, model)?,
            coaccess_online: import_coaccess(features, model)?,
            pending: Vec::with_capacity(BATCH),
            transitions: 0,
            ranked: 0,
            repeats: 0,
            known: 0,
            tallies: BTreeMap::new(),
            list: Proposals::new(),
        })
    }

    /// Predicts, and only then learns, from one transition.
    fn take(&mut self, transition: &Transition<'_>, stride: u64) {
        let Transition { at, current, next, recent, state, .. } = *transition;
        if self.transitions.is_multiple_of(stride) {
            let (mut frozen, mut online) = (Vec::new(), Vec::new());
            self.coaccess.successors(self.model.coaccess.at, current, 0.0, &mut frozen);
            self.coaccess_online.successors(at, current, 0.0, &mut online);
            self.pending.push(Pending { state: state.clone(), current, next, frozen, online });
            self.take_baselines(current, next);
        }
        self.transitions += 1;
        self.markov_online.observe(current, next);
        self.coaccess_online.record(at, next);
        for (distance, from) in (1_u8..).zip(recent) {
            if *from != next {
                self.coaccess_online.observe(at, *from, next, 1.0 / f32::from(distance));
            }
        }
    }

    fn take_baselines(&mut self, current: KeyId, next: KeyId) {
        self.ranked += 1;
        self.repeats += u64::from(current == next);
        self.known += u64::from(self.items.items[next.0 as usize].row.is_some());
        self.popularity.propose(&mut self.list);
        self.tallies.entry(method::POPULARITY).or_default().record(&self.list, current, next);
        if let Some(markov) = &self.markov {
            markov.propose(current, &self.popularity, &mut self.list);
            self.tallies.entry(method::MARKOV).or_default().record(&self.list, current, next);
        }
        self.markov_online.propose(current, &self.popularity, &mut self.list);
        self.tallies.entry(method::MARKOV_ONLINE).or_default().record(&self.list, current, next);
    }

    /// Ranks what is pending on all cores; the order of counting stays that of the log.
    fn flush(&mut self) {
        let (sequence, items, keys) = (&self.model.sequence, self.items, self.keys);
        let lists: Vec<[Proposals; 3]> = self
            .pending
            .par_iter()
            .map(|pending| {
                let rows = ranked(sequence, &pending.state, BLENDED_ROWS);
                let blend = |successors: &[Successor]| blended(&rows, items, Successors { successors, keys });
                let alone = proposals(&rows[..rows.len().min(PLACES + 1)], items);
                [alone, blend(&pending.frozen), blend(&pending.online)]
            })
            .collect();
        for (lists, Pending { current, next, .. }) in lists.iter().zip(self.pending.drain(..)) {
            for (name, list) in [method::SEQUENCE, method::MODEL, method::MODEL_ONLINE].into_iter().zip(lists) {
                self.tallies.entry(name).or_default().record(list, current, next);
            }
        }
    }

    fn report(self) -> NextKeyReport {
        let share = |count: u64| if self.ranked == 0 { 0.0 } else { count as f64 / self.ranked as f64 };
        NextKeyReport {
            transitions: self.transitions,
            ranked: self.ranked,
            repeat_share: share(self.repeats),
            known_share: share(self.known),
            methods: self.tallies.iter().map(|(name, tally)| ((*name).to_owned(), tally.metrics())).collect(),
        }
    }
}

/// The `count` best rows, compared with every other row.
fn ranked(sequence: &SequenceModel, state: &SequenceState, count: usize) -> Vec<(u32, f32)> {
    let mut rows = Vec::new();
    sequence.top_exact(state, count, &mut rows);
    rows
}

fn proposals(rows: &[(u32, f32)], items: &ItemMap) -> Proposals {
    rows.iter().map(|(row, _)| items.rows[*row as usize]).collect()
}

fn count_markov(features: &Features, range: TimeRange) -> Result<Markov> {
    let mut markov = Markov::default();
    for session in features.sessions(range)?.iter() {
        for pair in session.windows(2) {
            markov.observe(pair[0], pair[1]);
        }
    }
    Ok(markov)
}

/// Every so many transitions one is ranked.
fn stride(requests: u64, predictions_max: usize) -> u64 {
    requests.div_ceil(predictions_max as u64).max(1)
}

/// Predictions ranked at once.
const BATCH: usize = 512;
/// Rows of the sequence model that a blend looks at.
const BLENDED_ROWS: usize = 64;
