//! Experiments in a fleet: one member conducts them for all, by holding an office.

use std::{path::Path, time::Duration};

use nearcast_bus::{SharedBucket, SharedStream, Token, claims::Resource, fleet::FleetView};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    chronicle::{Chronicle, Writer},
    conductor::{Conductor, ConductorSeat, Ears},
    history::HistoryStream,
    regime::RegimeStore,
    tails::{self, Hearer},
};
use crate::{
    Error, PredictorConfig, Result, clock,
    experiments::{Experiments, History},
    metrics::Metrics,
    server::{
        explain,
        input::Input,
        inputs::{EngineGone, WeakInputs},
    },
};

/// The office's name.
pub(super) const OFFICE: &str = "experiments";

/// What it takes to conduct experiments.
pub(super) struct ExperimentsOffice {
    pub(super) member: String,
    pub(super) slot: Duration,
    pub(super) arms_max: usize,
    /// What clients ask for, everywhere.
    pub(super) log: SharedStream,
    pub(super) record: SharedBucket,
    pub(super) arms: SharedBucket,
    /// What nodes measured, slot by slot.
    pub(super) history: HistoryStream,
    /// The threads of conductors.
    pub(super) threads: TaskTracker,
}

/// A time in the office; its thread ends with it.
struct Term {
    token: Token,
    thread: JoinHandle<()>,
    ended: DropGuard,
    /// Reads what clients ask for, for as long as it lasts.
    log: JoinSet<()>,
}

impl ExperimentsOffice {
    pub(super) fn new(
        config: &PredictorConfig,
        member: &str,
        log: SharedStream,
        (record, arms): (SharedBucket, SharedBucket),
        history: HistoryStream,
    ) -> Self {
        Self {
            member: member.to_owned(),
            slot: config.slot,
            arms_max: config.shadow.arms_max,
            log,
            record,
            arms,
            history,
            threads: TaskTracker::new(),
        }
    }

    /// Conducts experiments whenever the office is held, until the engine's task has ended.
    pub(super) async fn run(self, mut view: watch::Receiver<FleetView>, inputs: WeakInputs, metrics: Metrics) {
        let mut term: Option<Term> = None;
        while view.changed().await.is_ok() {
            let held = view.borrow_and_update().owned.get(&office()).copied();
            // It ends by itself when it finds another's writing.
            if held.is_some() && term.as_ref().filter(|term| !term.thread.is_finished()).map(|term| term.token) == held
            {
                continue;
            }
            if let Some(Term { token, thread, ended, log }) = term.take() {
                drop((ended, log));
                // It writes down what nodes measured last.
                let _ = thread.await;
                tracing::info!(token = token.0, "this member conducts experiments no more");
                if inputs.tell(Input::EndExperiments(token)).await.is_err() {
                    return;
                }
            }
            let Some(token) = held else { continue };
            match self.begin(token, &inputs, &metrics).await {
                Ok(Ok(begun)) => term = Some(begun),
                // The view changes with every renewal: it is tried again then.
                Ok(Err(error)) => {
                    let reason = explain(&error);
                    tracing::error!(reason, "experiments cannot be conducted");
                    if inputs.tell(Input::ExperimentsTrouble(reason)).await.is_err() {
                        return;
                    }
                }
                Err(EngineGone) => return,
            }
        }
    }

    async fn begin(
        &self,
        token: Token,
        inputs: &WeakInputs,
        metrics: &Metrics,
    ) -> Result<Result<Term, Error>, EngineGone> {
        let ended = CancellationToken::new();
        let prepared = timeout(PATIENCE, self.prepare(token, &ended)).await;
        let (conductor, seat, ears, asked) = match prepared.unwrap_or(Err(Error::OfficeLost)) {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error)),
        };
        let (mut log, guard) = (JoinSet::new(), ended.drop_guard());
        tails::demand(&self.log, &mut log, &Hearer::Conductor(asked), metrics);
        let thread = self.threads.spawn_blocking(move || conductor.run(ears));
        tracing::info!(token = token.0, "this member conducts experiments from now on");
        inputs.tell(Input::TakeExperiments { token, seat }).await?;
        Ok(Ok(Term { token, thread, ended: guard, log }))
    }

    async fn prepare(
        &self,
        token: Token,
        ended: &CancellationToken,
    ) -> Result<(Conductor, ConductorSeat, Ears, mpsc::Sender<super::conductor::Asked>)> {
        let writer = |bucket: &SharedBucket| Writer { bucket: SharedBucket::clone(bucket), ended: ended.clone() };
        let (chronicle, kept) = Chronicle::begin(writer(&self.record), token, &self.member).await?;
        let store = RegimeStore::open(writer(&self.arms)).await?;
        let (lines, slot) = (self.history.read().await?, self.slot);
        let shelf = Box::new(self.history.clone());
        // With many experiments it takes a while.
        let resumed = self.threads.spawn_blocking(move || {
            let history = History::resume(shelf, slot, &lines);
            Experiments::resume(Path::new("the bus"), kept, Box::new(chronicle), history, clock::now())
        });
        let experiments = resumed.await.map_err(|_| Error::EngineStopped)??;
        let (conductor, shown) = Conductor::new(experiments, store, token, self.arms_max, Handle::current());
        let ((tidings, told), (asked, log)) = (mpsc::channel(TIDINGS_MAX), mpsc::channel(BATCHES_MAX));
        let ears = Ears { tidings: told, asked: log, ended: ended.clone() };
        Ok((conductor, ConductorSeat { tidings, shown }, ears, asked))
    }
}

pub(in crate::server) fn office() -> Resource {
    Resource::Office(OFFICE.to_owned())
}

/// For reading the record to its end.
const PATIENCE: Duration = Duration::from_secs(20);
/// What nodes say that the conductor has not heard yet.
const TIDINGS_MAX: usize = 4_096;
/// Batches of requests, the same.
const BATCHES_MAX: usize = 64;
