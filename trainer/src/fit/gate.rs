//! Fitting the gate: the training range is played through the production engine, and what its gate has learnt by the end
//! is what a version starts with.

use std::{cmp::Ordering, ops::Range, sync::Arc};

use nearcast_datasets::{LogSource, Timestamp};
use nearcast_models::{GateState, Model};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    config::GateFitConfig,
    replay::{
        CacheSize, CellReport, LogColumns, PrefetchKind, ReadOptions, ReplayConfig, ReplayError, replay_columns,
        replay_engine,
    },
};

/// How the gate of a version was fitted, and how it did on the later part of the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// Why the version carries no gate; none when it does.
    pub left_out: Option<String>,
    /// Requests of the training range that were played.
    pub requests: u64,
    /// Labels that the gate learnt from.
    pub labels: u64,
    /// Of those, used.
    pub labels_used: u64,
    /// Expected calibration error over those labels, each judged before the gate learnt from it.
    pub calibration_error: f64,
    /// Size of each node's cache, as a share of the distinct bytes.
    pub cache_share: f64,
    /// Bound on extra fetched bytes.
    pub budget_share: f64,
    /// How the gate did on the later part; none without a gate, or when that part could not be played.
    pub later: Option<GateTrials>,
    /// Why the later part could not be played.
    pub untried: Option<String>,
}

/// The later part of the log, played three times from empty caches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateTrials {
    /// Requests played.
    pub requests: u64,
    /// Without prefetching.
    pub without_prefetching: GateTrial,
    /// With the model, its gate starting from nothing.
    pub untrained_gate: GateTrial,
    /// With the model and the gate that it carries.
    pub trained_gate: GateTrial,
}

/// What one way of playing the later part came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GateTrial {
    /// Misses as a share of requests.
    pub miss_ratio: f64,
    /// What clients waited on average, in milliseconds.
    pub latency_ms_mean: f64,
    /// Bytes fetched beyond what is fetched without prefetching, as a share of that.
    pub extra_fetch_ratio: f64,
    /// Labels that came due.
    pub labels: u64,
    /// Expected calibration error over them, each judged before the gate learnt from it.
    pub calibration_error: f64,
}

/// What a gate is fitted with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GatePlan<'a> {
    /// The logs.
    pub(crate) logs: &'a [LogSource],
    /// Bounds and what nodes are like.
    pub(crate) config: &'a GateFitConfig,
    /// The seed of the engine's draws.
    pub(crate) seed: u64,
}

impl GatePlan<'_> {
    /// Plays `range` without a model until `model_from`, then with `model`, which must not have seen anything later: a
    /// gate that learnt from what its model knows by heart would trust it too much.
    ///
    /// # Errors
    /// When a log cannot be read. A log that cannot be replayed yields no gate, and a report that says why.
    pub(crate) fn fit(
        &self,
        range: &Range<Timestamp>,
        model: Arc<Model>,
        model_from: Timestamp,
    ) -> Result<(Option<GateState>, GateReport)> {
        let GateFitConfig { cache_share, budget_share, .. } = *self.config;
        let mut report = GateReport { cache_share, budget_share, ..GateReport::default() };
        let replay = ReplayConfig { model_from: Some(model_from), ..self.replay(model) };
        let played = self.read(range).and_then(|log| Ok((log.len(), replay_engine(&log, &replay)?.1)));
        let (requests, engine) = match tolerate(played)? {
            Ok(played) => played,
            Err(reason) => return Ok((None, GateReport { left_out: Some(reason), ..report })),
        };
        let (account, gate) = (engine.account(), engine.gate());
        report.requests = requests as u64;
        (report.labels, report.labels_used) = (account.labels, account.labels_used);
        report.calibration_error = account.label_calibration.error();
        if gate.learned_count() == 0 {
            report.left_out = Some("too few labels came due within the training range".to_owned());
            return Ok((None, report));
        }
        Ok((Some(gate.state()), report))
    }

    /// Plays the later `range` three times, gives `model` its `gate` on the way, and tells `report` what came of it.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub(crate) fn try_later(
        &self,
        range: &Range<Timestamp>,
        model: &mut Arc<Model>,
        gate: GateState,
        report: &mut GateReport,
    ) -> Result<()> {
        let untrained = self.read(range).and_then(|log| {
            let (cell, _) = replay_engine(&log, &self.replay(Arc::clone(model)))?;
            Ok((log, cell))
        });
        // No replay holds the model any more, so nothing is copied.
        Arc::make_mut(model).gate = Some(gate);
        let trials = untrained.and_then(|(log, untrained)| self.trials(&log, model, &untrained));
        match tolerate(trials)? {
            Ok(trials) => report.later = Some(trials),
            Err(reason) => report.untried = Some(reason),
        }
        Ok(())
    }

    fn trials(&self, log: &LogColumns, model: &Arc<Model>, untrained: &CellReport) -> Result<GateTrials, ReplayError> {
        let cells = replay_columns("", log, &self.replay(Arc::clone(model)), &|_| ())?.cells;
        let [without, trained] = cells.as_slice() else {
            return Err(ReplayError::NothingToReplay { list: "prefetchers" });
        };
        let trial = |cell: &CellReport| GateTrial::of(cell, without.fetched_bytes());
        Ok(GateTrials {
            requests: log.len() as u64,
            without_prefetching: trial(without),
            untrained_gate: trial(untrained),
            trained_gate: trial(trained),
        })
    }

    fn read(&self, range: &Range<Timestamp>) -> Result<LogColumns, ReplayError> {
        LogColumns::read_within(self.logs, range, ReadOptions::default())
    }

    fn replay(&self, model: Arc<Model>) -> ReplayConfig {
        ReplayConfig {
            prefetchers: vec![PrefetchKind::None, PrefetchKind::Nearcast],
            caches: vec![CacheSize::Share(self.config.cache_share)],
            budgets: vec![self.config.budget_share],
            warmup: 0.0,
            seed: self.seed,
            model: Some((Arc::from("candidate"), model)),
            with_timing: false,
            ..ReplayConfig::default()
        }
    }
}

impl GateTrials {
    /// The trained gate against one that starts from nothing, one sentence each; lower is better in all of them.
    pub fn verdicts(&self) -> Vec<String> {
        let (trained, fresh) = (&self.trained_gate, &self.untrained_gate);
        let compare = |what: &str, trained: f64, fresh: f64| {
            let verb = match trained.total_cmp(&fresh) {
                Ordering::Less => "beats",
                Ordering::Equal => "equals",
                Ordering::Greater => "LOSES to",
            };
            format!("the trained gate {verb} one that starts from nothing on {what}: {trained:.4} against {fresh:.4}")
        };
        vec![
            compare("miss ratio", trained.miss_ratio, fresh.miss_ratio),
            compare("mean latency in ms", trained.latency_ms_mean, fresh.latency_ms_mean),
            compare("extra fetch", trained.extra_fetch_ratio, fresh.extra_fetch_ratio),
            compare("calibration error", trained.calibration_error, fresh.calibration_error),
        ]
    }
}

impl GateTrial {
    fn of(cell: &CellReport, fetched_without: u64) -> Self {
        let account = cell.account.as_ref();
        Self {
            miss_ratio: cell.miss_ratio,
            latency_ms_mean: cell.latency_ms.mean,
            extra_fetch_ratio: cell.fetched_bytes() as f64 / fetched_without.max(1) as f64 - 1.0,
            labels: account.map_or(0, |account| account.labels),
            calibration_error: account.map_or(0.0, |account| account.label_calibration.error()),
        }
    }
}

/// What cannot be replayed can still be trained on; only a log that cannot be read ends everything.
fn tolerate<T>(played: Result<T, ReplayError>) -> Result<Result<T, String>> {
    match played {
        Ok(played) => Ok(Ok(played)),
        Err(ReplayError::Log(error)) => Err(Error::Log(error)),
        Err(other) => Ok(Err(other.to_string())),
    }
}
