//! Fitting the sequence model: epochs over shuffled sessions until validation stops improving.

use nearcast_models::{SequenceBatch, SequenceConfig, SequenceModel, SequenceTrainer, SessionLanes};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Catalogue;
use crate::{
    Error, MethodMetrics, Result,
    checkpoint::{Pass, Phase, Position, Saved, Saver},
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
/// [`Error::Pass`] when fitting fails, and whatever saving and `validate` raise.
pub(crate) fn find_best_epoch(
    plan: &FitPlan<'_>,
    saver: &mut Saver,
    mut validate: impl FnMut(&SequenceModel) -> Result<MethodMetrics>,
    progress: OnProgress<'_>,
) -> Result<EarlyStop> {
    let (mut epochs, mut best_epoch, mut best) = (Vec::new(), 0, None);
    if let Some(Saved { position, best: saved, .. }) = &saver.saved {
        epochs.clone_from(&position.epochs);
        best_epoch = position.best_epoch;
        best = saved.as_ref().map(|bytes| Ok::<_, Error>(plan.restore(bytes)?.snapshot()?)).transpose()?;
        epochs.iter().for_each(|report| progress(Progress::Epoch(report)));
    }
    let is_over = saver.saved.as_ref().is_some_and(|saved| saved.position.phase == Phase::Last);
    let mut fitting = if is_over { None } else { Some(Fitting::begin(plan, Phase::Search, saver)?) };
    while let Some(fitting) = fitting.as_mut().filter(|_| epochs.len() < plan.fit.epochs_max) {
        if !epochs.is_empty() && epochs.len() - best_epoch >= plan.fit.patience {
            break;
        }
        let epoch = epochs.len() + 1;
        let (requests, loss) = fitting.run_epoch(saver, (&epochs, best_epoch), progress)?;
        let snapshot = fitting.trainer.snapshot()?;
        let validation = validate(&snapshot)?;
        let report = EpochReport { epoch, requests, loss, validation };
        progress(Progress::Epoch(&report));
        let mrr = |report: &EpochReport| report.validation.without_repeats.mrr_20;
        let is_best = best_epoch == 0 || mrr(&report) > mrr(&epochs[best_epoch - 1]);
        epochs.push(report);
        if is_best {
            (best_epoch, best) = (epoch, Some(snapshot));
        }
        fitting.save(saver, (&epochs, best_epoch), is_best)?;
    }
    // The first pass is always the best so far, and there is always a first one.
    let best = best.expect("at least one pass ended");
    Ok(EarlyStop { epochs, best_epoch, best })
}

/// Fits for exactly as many passes as `found` says are best, without looking at any validation.
///
/// # Errors
/// [`Error::Pass`] when fitting fails, and whatever saving raises.
pub(crate) fn fit_sequence(
    plan: &FitPlan<'_>,
    saver: &mut Saver,
    found: &EarlyStop,
    progress: OnProgress<'_>,
) -> Result<SequenceModel> {
    let search = (&found.epochs[..], found.best_epoch);
    let mut fitting = Fitting::begin(plan, Phase::Last, saver)?;
    while fitting.passes < found.best_epoch {
        fitting.run_epoch(saver, search, progress)?;
        fitting.save(saver, search, false)?;
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

impl FitPlan<'_> {
    fn restore(&self, bytes: &[u8]) -> Result<SequenceTrainer> {
        let Catalogue { vocabulary, items, .. } = self.catalogue;
        Ok(SequenceTrainer::restore(self.config, vocabulary, items.clone(), bytes)?)
    }
}

/// The passes of the search that ended, and which of them is the best.
type Search<'a> = (&'a [EpochReport], usize);

/// A fit under way.
#[derive(Debug)]
struct Fitting<'a> {
    plan: &'a FitPlan<'a>,
    phase: Phase,
    trainer: SequenceTrainer,
    coded: Vec<u32>,
    rng: ChaCha8Rng,
    /// Passes that ended.
    passes: usize,
    /// How far the pass under way was when it was interrupted.
    interrupted: Pass,
}

impl<'a> Fitting<'a> {
    /// Starts anew, or goes on from what was saved of this phase.
    fn begin(plan: &'a FitPlan<'a>, phase: Phase, saver: &mut Saver) -> Result<Self> {
        let Catalogue { vocabulary, items, .. } = plan.catalogue;
        let saved = saver.saved.take_if(|saved| saved.position.phase == phase);
        let trainer = match &saved {
            Some(saved) => plan.restore(&saved.trainer)?,
            None => SequenceTrainer::new(plan.config, vocabulary, items.clone(), plan.seed)?,
        };
        let coded = plan.catalogue.code(plan.sessions);
        let rng = ChaCha8Rng::seed_from_u64(plan.seed);
        let mut fitting = Self { plan, phase, trainer, coded, rng, passes: 0, interrupted: Pass::default() };
        if let Some(Position { passes, pass, .. }) = saved.map(|saved| saved.position) {
            // The order of every pass is drawn from the same numbers.
            (0..passes).for_each(|_| _ = fitting.shuffle());
            (fitting.passes, fitting.interrupted) = (passes, pass);
        }
        Ok(fitting)
    }

    fn shuffle(&mut self) -> Shuffled {
        Shuffled::draw(self.plan.sessions, &self.coded, self.plan.fit.epoch_requests_max, &mut self.rng)
    }

    /// Learns from every batch once; returns the requests learned from and their mean loss.
    fn run_epoch(&mut self, saver: &mut Saver, search: Search<'_>, progress: OnProgress<'_>) -> Result<(u64, f64)> {
        let (config, epoch) = (self.plan.config, self.passes + 1);
        let shuffled = self.shuffle();
        let mut lanes = SessionLanes::new(&shuffled.events, &shuffled.starts, config.lanes, config.steps);
        let mut batch = SequenceBatch::default();
        let mut pass = std::mem::take(&mut self.interrupted);
        for _ in 0..pass.batches {
            lanes.next_batch(&mut batch);
        }
        while lanes.next_batch(&mut batch) {
            let events = batch.event_count();
            let loss = self.trainer.train_batch(&batch).map_err(|source| Error::Pass { epoch, source })?;
            pass.batches += 1;
            pass.requests += events as u64;
            pass.loss_sum += f64::from(loss) * events as f64;
            let loss = pass.loss_sum / pass.requests.max(1) as f64;
            progress(Progress::Fitting { epoch, requests: pass.requests, total: shuffled.transitions as u64, loss });
            if saver.is_due() {
                saver.save(&self.position(search, pass), &self.trainer, false)?;
            }
        }
        self.passes = epoch;
        Ok((pass.requests, pass.loss_sum / pass.requests.max(1) as f64))
    }

    /// Saves between two passes.
    fn save(&self, saver: &mut Saver, search: Search<'_>, is_best: bool) -> Result<()> {
        saver.save(&self.position(search, Pass::default()), &self.trainer, is_best)
    }

    fn position(&self, (epochs, best_epoch): Search<'_>, pass: Pass) -> Position {
        Position { phase: self.phase, passes: self.passes, best_epoch, pass, epochs: epochs.to_vec() }
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
