//! Fitting the sequence model: epochs over shuffled sessions until validation stops improving.

use nearcast_models::{SequenceBatch, SequenceConfig, SequenceModel, SequenceTrainer, SessionLanes};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Catalogue;
use crate::{
    MethodMetrics, Result,
    config::FitConfig,
    features::Sessions,
    progress::{OnProgress, Progress},
};

/// One pass over the training sessions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// The pass, from 1.
    pub epoch: usize,
    /// Requests learned from.
    pub requests: u64,
    /// Mean loss, in nats per request.
    pub loss: f64,
    /// How the model ranked on the validation slice after the pass.
    pub validation: MethodMetrics,
}

/// How long it is worth fitting.
#[derive(Debug)]
pub(crate) struct EarlyStop {
    /// Every epoch that was tried.
    pub(crate) epochs: Vec<EpochReport>,
    /// The epoch after which validation was best.
    pub(crate) best_epoch: usize,
    /// The model as it was then.
    pub(crate) best: SequenceModel,
}

/// Fits until `patience` epochs in a row have not improved validation MRR@20 without repeats. The model to publish may
/// learn from the validation slice too and is fitted anew; the one returned has not seen that slice.
///
/// # Errors
/// [`nearcast_models::Error::LossNotFinite`] and whatever `validate` raises.
pub(crate) fn find_best_epoch(
    plan: &FitPlan<'_>,
    mut validate: impl FnMut(&SequenceModel) -> Result<MethodMetrics>,
    progress: OnProgress<'_>,
) -> Result<EarlyStop> {
    let mut fitting = Fitting::start(plan)?;
    let mut epochs: Vec<EpochReport> = Vec::new();
    let mut best = fitting.trainer.snapshot()?;
    let (mut best_epoch, mut best_mrr) = (0, f64::NEG_INFINITY);
    for epoch in 1..=plan.fit.epochs_max {
        let (requests, loss) = fitting.run_epoch(epoch, progress)?;
        let snapshot = fitting.trainer.snapshot()?;
        let validation = validate(&snapshot)?;
        let report = EpochReport { epoch, requests, loss, validation };
        progress(Progress::Epoch(&report));
        epochs.push(report);
        let reached = validation.without_repeats.mrr_20;
        if reached > best_mrr {
            (best_epoch, best_mrr, best) = (epoch, reached, snapshot);
        } else if epoch - best_epoch >= plan.fit.patience {
            break;
        }
    }
    Ok(EarlyStop { epochs, best_epoch, best })
}

/// Fits for exactly `epochs` passes, without looking at any validation.
///
/// # Errors
/// [`nearcast_models::Error::LossNotFinite`].
pub(crate) fn fit_sequence(plan: &FitPlan<'_>, epochs: usize, progress: OnProgress<'_>) -> Result<SequenceModel> {
    let mut fitting = Fitting::start(plan)?;
    for epoch in 1..=epochs {
        fitting.run_epoch(epoch, progress)?;
    }
    Ok(fitting.trainer.finish()?)
}

/// What a sequence model is fitted with.
#[derive(Debug)]
pub(crate) struct FitPlan<'a> {
    /// Shape and learning rates.
    pub(crate) config: &'a SequenceConfig,
    /// Epochs and early stop.
    pub(crate) fit: &'a FitConfig,
    /// The keys.
    pub(crate) catalogue: &'a Catalogue,
    /// The sessions to learn from.
    pub(crate) sessions: &'a Sessions,
    /// Decides weights, order and negatives.
    pub(crate) seed: u64,
}

/// A fit under way.
#[derive(Debug)]
struct Fitting<'a> {
    plan: &'a FitPlan<'a>,
    trainer: SequenceTrainer,
    coded: Vec<u32>,
    rng: ChaCha8Rng,
}

impl<'a> Fitting<'a> {
    fn start(plan: &'a FitPlan<'a>) -> Result<Self> {
        let Catalogue { vocabulary, items, .. } = plan.catalogue;
        let trainer = SequenceTrainer::new(plan.config, vocabulary, items.clone(), plan.seed)?;
        let coded = plan.catalogue.code(plan.sessions);
        Ok(Self { plan, trainer, coded, rng: ChaCha8Rng::seed_from_u64(plan.seed) })
    }

    /// Learns from every batch once; returns the requests learned from and their mean loss.
    fn run_epoch(&mut self, epoch: usize, progress: OnProgress<'_>) -> Result<(u64, f64)> {
        let FitPlan { config, fit, sessions, .. } = self.plan;
        let shuffled = Shuffled::draw(sessions, &self.coded, fit.epoch_requests_max, &mut self.rng);
        let mut lanes = SessionLanes::new(&shuffled.events, &shuffled.starts, config.lanes, config.steps);
        let mut batch = SequenceBatch::default();
        let (mut requests, mut loss_sum) = (0_u64, 0.0);
        while lanes.next_batch(&mut batch) {
            let events = batch.event_count();
            loss_sum += f64::from(self.trainer.train_batch(&batch)?) * events as f64;
            requests += events as u64;
            let loss = loss_sum / requests.max(1) as f64;
            progress(Progress::Fitting { epoch, requests, total: shuffled.transitions as u64, loss });
        }
        Ok((requests, loss_sum / requests.max(1) as f64))
    }
}

/// Sessions in a drawn order.
#[derive(Debug)]
struct Shuffled {
    events: Vec<u32>,
    starts: Vec<usize>,
    transitions: usize,
}

impl Shuffled {
    /// Draws an order, and of more than `requests_max` requests only as many sessions as fit.
    fn draw(sessions: &Sessions, coded: &[u32], requests_max: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut order: Vec<usize> = (0..sessions.len()).filter(|index| sessions.get(*index).len() > 1).collect();
        order.shuffle(rng);
        let mut shuffled = Self { events: Vec::new(), starts: Vec::new(), transitions: 0 };
        for index in order {
            let session = &coded[sessions.bounds(index)];
            if !shuffled.events.is_empty() && shuffled.events.len() + session.len() > requests_max {
                continue;
            }
            shuffled.starts.push(shuffled.events.len());
            shuffled.events.extend_from_slice(session);
            shuffled.transitions += session.len() - 1;
        }
        shuffled
    }
}
