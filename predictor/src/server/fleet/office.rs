//! Placement in a fleet: one member does it for all, by holding an office; the map goes over a stream to everybody.
//!
//! Each member reads the stream into a copy of its own ([`Mirror`]), from which its nodes are told. Who comes into the
//! office has first read all of it, and goes on from there: what is on the map is meant to be where it is. Each term has
//! its token, under which map and commands are given; whoever has seen a greater one refuses them.

use std::{future::pending, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use nearcast_bus::{
    Partition, Read, Record, Result, SharedStream, Spool, SpoolSettings, Tail, Ticket, Token,
    claims::{Fence, Resource},
    fleet::FleetView,
};
use nearcast_proto::{
    message::{PlacementUpdate, PredictorNotice},
    topology::Topology,
    wire,
};
use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::tails::{self, Hearer};
use crate::{
    PlacementSettings, PredictorConfig, clock,
    metrics::Metrics,
    placing::{Board, Followed, GapSender, Mirror, PlacementFeed, Placing},
    server::{
        input::Input,
        inputs::{EngineGone, WeakInputs},
    },
};

/// The office's name.
pub(in crate::server) const OFFICE: &str = "placement";

/// The map's stream, one's own copy of it, and what it takes to do placement.
pub(super) struct Office {
    settings: PlacementSettings,
    topology: Topology,
    data_dir: PathBuf,
    /// What clients ask for, everywhere.
    log: SharedStream,
    stream: SharedStream,
    spool: Spool,
    tail: Box<dyn Tail>,
    mirror: Mirror,
    fence: Fence,
    /// The records of this member, by number.
    sent: u64,
    generation: u32,
    terms: u32,
}

/// A time in the office.
struct Term {
    token: Token,
    feed: PlacementFeed,
    gap: GapSender,
    /// Updates published since the last whole.
    since_whole: u32,
    /// Reads what clients ask for, for as long as it lasts.
    _demand: JoinSet<()>,
}

/// A record of the stream.
#[derive(Debug, Serialize, Deserialize)]
enum Stored<'a> {
    /// Somebody lacks the whole.
    Ask,
    /// A part of an update, given under a token.
    Update { token: u64, update: std::borrow::Cow<'a, [u8]> },
}

impl Office {
    /// Reads the map as far as the stream holds it. `map` is the name that all members give it.
    ///
    /// # Errors
    /// A bus that is away.
    pub(super) async fn open(
        config: &PredictorConfig,
        (stream, log): (SharedStream, SharedStream),
        map: Arc<str>,
        generation: u32,
    ) -> Result<Self> {
        let settings = config.placement.clone();
        let first = stream.extent(PARTITION).await?.first;
        let tail = stream.tail(PARTITION, first).await?;
        let mut office = Self {
            mirror: Mirror::new(map, settings.map_bounds()),
            spool: Spool::start(
                Arc::clone(&stream),
                SpoolSettings { bytes_max: SPOOL_BYTES, ..SpoolSettings::default() },
            ),
            topology: config.topology.clone(),
            data_dir: config.data_dir.clone(),
            fence: Fence::default(),
            sent: 0,
            terms: 0,
            settings,
            log,
            stream,
            tail,
            generation,
        };
        office.catch_up().await?;
        if office.mirror.position().epoch.0 == 0 {
            office.ask();
        }
        Ok(office)
    }

    /// What one's own nodes are told from.
    pub(super) fn board(&self) -> Arc<Board> {
        self.mirror.board()
    }

    /// Follows the map, and does placement whenever the office is held, until the engine's task has ended.
    pub(super) async fn run(mut self, mut view: watch::Receiver<FleetView>, inputs: WeakInputs, metrics: Metrics) {
        let mut term = None;
        let ended = self.work(&mut view, &inputs, &metrics, &mut term).await;
        if let (Err(error), Some(Term { token, .. })) = (ended, term) {
            tracing::debug!(%error, "placement ends");
            // The engine's task may have ended already.
            let _ = inputs.tell(Input::EndOffice(token)).await;
        }
    }

    async fn work(
        &mut self,
        view: &mut watch::Receiver<FleetView>,
        inputs: &WeakInputs,
        metrics: &Metrics,
        term: &mut Option<Term>,
    ) -> Result<(), EngineGone> {
        loop {
            tokio::select! {
                biased;
                changed = view.changed() => {
                    changed.map_err(|_| EngineGone)?;
                    let (held, newest) = {
                        let seen = view.borrow_and_update();
                        (seen.owned.get(&office()).copied(), seen.tokens.get(&office()).copied())
                    };
                    newest.into_iter().for_each(|token| self.fence.raise(&office(), token));
                    self.hold(held, inputs, metrics, term).await?;
                }
                read = self.tail.next(RECORDS_MAX) => match read {
                    Ok(read) => self.take(&read, term.as_mut()),
                    Err(error) => {
                        tracing::debug!(%error, "the placement map cannot be read now");
                        sleep(RETRY).await;
                    }
                },
                update = next(term) => {
                    if let (Some(update), Some(term)) = (update, term.as_mut()) {
                        self.publish(update, term).await;
                    }
                }
            }
        }
    }

    /// Comes into the office, leaves it, or begins another term.
    async fn hold(
        &mut self,
        held: Option<Token>,
        inputs: &WeakInputs,
        metrics: &Metrics,
        term: &mut Option<Term>,
    ) -> Result<(), EngineGone> {
        if term.as_ref().map(|term| term.token) == held {
            return Ok(());
        }
        if let Some(ended) = term.take() {
            tracing::info!(token = ended.token.0, "another member places keys from now on");
            inputs.tell(Input::EndOffice(ended.token)).await?;
        }
        let Some(token) = held else { return Ok(()) };
        if let Err(error) = timeout(PATIENCE, self.catch_up())
            .await
            .map_err(|_| "it takes too long".to_owned())
            .and_then(|read| read.map_err(|error| error.to_string()))
        {
            // The view changes with every renewal: it is tried again then.
            tracing::warn!(error, "the placement map cannot be read to its end; placement does not begin yet");
            return Ok(());
        }
        *term = Some(self.begin(token, inputs, metrics).await?);
        Ok(())
    }

    async fn begin(&mut self, token: Token, inputs: &WeakInputs, metrics: &Metrics) -> Result<Term, EngineGone> {
        self.terms += 1;
        self.fence.raise(&office(), token);
        let (settings, topology) = (self.settings.clone(), self.topology.clone());
        let ground = (settings, topology, self.data_dir.as_path());
        let (placing, threads) = Placing::succeed(ground, &self.mirror, (token.0, self.terms), clock::now());
        let (feed, gap) = placing.board().join(Some(&self.mirror.position()));
        let publish = {
            let inputs = inputs.clone();
            move |planned| {
                // The engine being gone is how the service ends.
                let _ = inputs.tell_blocking(Input::OfficePlanned { token, planned });
            }
        };
        // They end with the placement that they work for.
        threads.start(&self.data_dir, publish).into_iter().for_each(drop);
        tracing::info!(token = token.0, epoch = self.mirror.position().epoch.0, "this member places keys from now on");
        inputs.tell(Input::TakeOffice { token, placing: Box::new(placing) }).await?;
        let mut demand = JoinSet::new();
        tails::demand(&self.log, &mut demand, &Hearer::of_demand(inputs), metrics);
        Ok(Term { token, feed, gap, since_whole: 0, _demand: demand })
    }

    /// Reads what there is to its end.
    async fn catch_up(&mut self) -> Result<()> {
        let end = self.stream.extent(PARTITION).await?.next;
        while self.tail.position() < end {
            let read = self.tail.next(RECORDS_MAX).await?;
            self.take(&read, None);
        }
        Ok(())
    }

    fn take(&mut self, read: &Read, mut term: Option<&mut Term>) {
        let Read::Records(records) = read else {
            // What is gone is part of the whole that the next record begins, or of one that is asked for.
            return;
        };
        for record in records {
            match decode(record) {
                Ok(Told::Ask) => {
                    if let Some(term) = term.as_deref_mut() {
                        term.tell_whole();
                    }
                }
                Ok(Told::Update(token, update)) => {
                    if !self.fence.admit(&office(), token) {
                        tracing::warn!(
                            token = token.0,
                            "an update of the placement map by a former holder is left out"
                        );
                        continue;
                    }
                    // What comes from a whole on is taken; before it there is nothing that it could lead on from.
                    if self.mirror.follow(*update) == Followed::Gap && term.is_none() {
                        self.ask();
                    }
                }
                Err(error) => tracing::error!(id = record.id, error, "a record of the placement map is skipped"),
            }
        }
    }

    fn ask(&mut self) {
        // It is asked again with the next update that does not fit.
        let _ = self.offer(&Stored::Ask);
    }

    async fn publish(&mut self, update: PlacementUpdate, term: &mut Term) {
        let begins_whole = update.full && update.part == 0;
        let bytes = wire::PredictorMessage::from(PredictorNotice::Placement(update)).encode_to_vec();
        let stored = Stored::Update { token: term.token.0, update: bytes.into() };
        let ticket = loop {
            match self.offer(&stored) {
                Some(ticket) => break ticket,
                // The bus is away: nothing is lost by waiting, and what changes meanwhile is told together.
                None => sleep(RETRY).await,
            }
        };
        term.since_whole = if begins_whole { 0 } else { term.since_whole + 1 };
        if begins_whole {
            // It ends when the record is kept.
            drop(tokio::spawn(trim_to(Arc::clone(&self.stream), ticket)));
        }
        if term.since_whole >= WHOLE_EVERY {
            term.tell_whole();
        }
    }

    fn offer(&mut self, stored: &Stored<'_>) -> Option<Ticket> {
        let payload: Bytes = postcard::to_allocvec(stored).expect("memory is all that it takes").into();
        self.sent += 1;
        self.spool.offer(PARTITION, format!("{}/{}", self.generation, self.sent), payload).ok()
    }
}

impl Term {
    fn tell_whole(&mut self) {
        self.since_whole = 0;
        // When so many are asked for already, one of those will do.
        let _ = self.gap.try_send(None);
    }
}

/// The next update of a term's map; none without a term.
async fn next(term: &mut Option<Term>) -> Option<PlacementUpdate> {
    match term {
        Some(term) => term.feed.next().await,
        None => pending().await,
    }
}

/// Lets go of what a whole map makes superfluous.
async fn trim_to(stream: SharedStream, ticket: Ticket) {
    if let Ok(Ok(appended)) = ticket.await
        && let Err(error) = stream.trim(PARTITION, appended.sequence).await
    {
        tracing::debug!(%error, "the placement map's stream cannot be trimmed now");
    }
}

/// What a record says.
enum Told {
    Ask,
    Update(Token, Box<PlacementUpdate>),
}

fn decode(record: &Record) -> Result<Told, String> {
    match postcard::from_bytes(&record.payload).map_err(|error| error.to_string())? {
        Stored::Ask => Ok(Told::Ask),
        Stored::Update { token, update } => {
            let message = wire::PredictorMessage::decode(&*update).map_err(|error| error.to_string())?;
            match PredictorNotice::try_from(message).map_err(|error| error.to_string())? {
                PredictorNotice::Placement(update) => Ok(Told::Update(Token(token), Box::new(update))),
                _ => Err("it is no update".to_owned()),
            }
        }
    }
}

pub(in crate::server) fn office() -> Resource {
    Resource::Office(OFFICE.to_owned())
}

const PARTITION: Partition = Partition(0);
const RECORDS_MAX: usize = 64;
const RETRY: Duration = Duration::from_millis(100);
/// For reading the map to its end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Two of the largest updates.
const SPOOL_BYTES: usize = 64 << 20;
/// Updates after which the whole is told, so that what came before need not be kept.
const WHOLE_EVERY: u32 = 4_096;
