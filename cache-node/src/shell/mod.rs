//! The node's shell: carries out what the synchronous core decides.
//!
//! One mutex guards the core and what belongs to it ([`State`]); it is a std mutex because it is held for microseconds
//! and never across an await. Transfers run as tasks of their own, so that a client that goes away does not end what
//! others wait for.
//!
//! | file | concern |
//! | --- | --- |
//! | `obtain` | getting one segment: held, joined, fetched or revalidated |
//! | `flight` | one transfer that requests wait for |
//! | `transfer` | carrying a transfer out, source by source |
//! | `answer` | what an origin's response means |
//! | `landing` | storing what a transfer brought |
//! | `commands` | the predictor's commands and map |
//! | `entries` | what is held, by key |
//! | `events` | what the core reports: journal, store, uplink |
//! | `prefetch` | starting what the core releases |
//! | `purge` | what must not be served any longer |
//! | `restore` | what a former run held |
//! | `warm` | fetching ahead for operators |

mod answer;
mod commands;
mod entries;
mod events;
mod flight;
mod landing;
mod obtain;
mod prefetch;
mod purge;
mod restore;
mod state;
mod transfer;
mod warm;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use http::HeaderMap;
use nearcast_datasets::Timestamp;
use nearcast_proto::message::PurgePosition;
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::task::TaskTracker;

pub(crate) use self::{
    answer::Answered,
    obtain::{Ask, Delivery, Obtained, Route},
    purge::PurgeError,
    state::State,
    warm::{WarmEnd, Warmed},
};
use crate::{
    background::Background,
    clock::Stopwatch,
    config::NodeConfig,
    error::{Error, Result},
    key::Key,
    link::Uplink,
    metrics::Metrics,
    object::SharedObject,
    origin::{Origin, OriginError},
    peers::Peers,
    purge::PurgeLog,
    round_trips::RoundTrips,
    store::{Journal, Store},
};

/// Why a segment could not be had.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FetchError {
    /// The transfer's task ended without a result.
    #[error("the transfer was aborted")]
    Aborted,
    /// The origin was the last resort and failed.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The object kept changing, or its payload kept getting lost, while it was being read.
    #[error("the object would not settle; try again")]
    Unsettled,
}

/// The headers of a request, as the client sent them.
pub(crate) type SharedHead = Arc<HeaderMap>;

/// Everything that requests, transfers and the link share.
#[derive(Debug)]
pub(crate) struct Shell {
    /// What the node started with. What may change while it runs is read from [`Shell::live`] instead.
    pub(crate) config: Arc<NodeConfig>,
    pub(crate) store: Store,
    pub(crate) origin: Origin,
    pub(crate) uplink: Uplink,
    pub(crate) metrics: Metrics,
    /// Transfers and other work that must end before the node does.
    pub(crate) tasks: TaskTracker,
    pub(crate) peers: Peers,
    pub(crate) round_trips: RoundTrips,
    /// Told when the link shall be made anew.
    pub(crate) relink: Notify,
    live: ArcSwap<NodeConfig>,
    journal: Journal,
    purges: PurgeLog,
    prefetch_wake: Notify,
    /// Told when prefetches under way are recalled.
    recalls: Notify,
    background: Background,
    /// What runs the transfers that requests wait for.
    demand: Handle,
    state: Mutex<State>,
}

impl Shell {
    /// Opens what is persistent below the data folder and restores what a former run held.
    ///
    /// # Errors
    /// When the data folder, the store or the origin's configuration cannot be used.
    pub(crate) async fn open(config: Arc<NodeConfig>, uplink: Uplink) -> Result<Arc<Self>> {
        let (journal_path, queue_max) = (config.data_dir.join("index.journal"), config.store.journal_queue_max);
        let reading = tokio::task::spawn_blocking(move || {
            let clock = Stopwatch::start();
            Journal::open(&journal_path, queue_max).map(|(journal, restored)| (journal, restored, clock.elapsed()))
        });
        let clock = Stopwatch::start();
        let store = Store::open(&config.data_dir.join("payloads"), &config.store).await?;
        let store_took = clock.elapsed();
        let (journal, restored, journal_took) = reading.await.map_err(|_| Error::Interrupted)??;
        let oldest = restored.objects.iter().map(|object| object.object.received_at).min();
        let purges_path = config.data_dir.join("purges.jsonl");
        let (purges, logged) = PurgeLog::open(&purges_path, oldest.unwrap_or(Timestamp::MAX))
            .map_err(|source| Error::DataDir { path: purges_path.clone(), source })?;
        let shell = Arc::new(Self {
            origin: Origin::new(&config.origin, config.emulation.origin)?,
            peers: Peers::new(&config.peers)?,
            round_trips: RoundTrips::default(),
            live: ArcSwap::new(Arc::clone(&config)),
            state: Mutex::new(State::new(&config)?),
            metrics: Metrics::default(),
            tasks: TaskTracker::new(),
            relink: Notify::new(),
            prefetch_wake: Notify::new(),
            recalls: Notify::new(),
            background: Background::start().map_err(Error::Thread)?,
            demand: Handle::current(),
            store,
            journal,
            purges,
            uplink,
            config,
        });
        if logged.is_damaged {
            // What was purged is not known, so nothing of before may be served.
            tracing::warn!(path = %purges_path.display(), "the log of purges is damaged: the node starts empty");
            shell.clear().await;
        } else {
            let clock = Stopwatch::start();
            shell.restore(restored, logged);
            tracing::debug!(?store_took, ?journal_took, index_took = ?clock.elapsed(), "took up what a former run held");
        }
        Ok(shell)
    }

    /// The object that a request gets, if anything of it is held, whether fresh or not, and it is not in doubt.
    pub(crate) fn find_object(&self, key: &Key, asked: &HeaderMap) -> Option<SharedObject> {
        let mut state = self.state();
        state.find_object(key, asked).filter(|object| !state.is_doubted(object))
    }

    /// The configuration in force. Not to be held across an await: that is what [`Shell::live_full`] is for.
    pub(crate) fn live(&self) -> Guard<Arc<NodeConfig>> {
        self.live.load()
    }

    /// As [`Shell::live`], to keep.
    pub(crate) fn live_full(&self) -> Arc<NodeConfig> {
        self.live.load_full()
    }

    /// Puts another configuration in force.
    pub(crate) fn set_live(&self, config: NodeConfig) {
        self.state().set_routing(config.peers.routing.clone());
        self.live.store(Arc::new(config));
    }

    /// Ends what runs in the background and writes out what waits.
    pub(crate) async fn close(&self) {
        self.tasks.close();
        let drain_timeout = self.live().front.drain_timeout;
        if tokio::time::timeout(drain_timeout, self.tasks.wait()).await.is_err() {
            tracing::warn!(transfers = self.tasks.len(), "some transfers did not end in time and are cut off");
        }
        self.background.close();
        self.store.close().await;
        self.journal.close();
    }

    /// How far in the predictor's log of purges the node is.
    pub(crate) fn purge_position(&self) -> Option<PurgePosition> {
        self.purges.position()
    }

    /// Index changes that were not written down.
    pub(crate) fn journal_dropped(&self) -> u64 {
        self.journal.dropped()
    }

    /// The state, locked. A panic while it was locked poisons nothing worse than counters, so it is used on.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
