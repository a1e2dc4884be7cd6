//! Members that share the work on a stream: each owns some of its partitions, learns from them in order, and writes
//! down how far it has come together with what it has learnt, so that another can go on from there.
//!
//! Who owns what is decided by [`claims`](crate::claims); this is the shell around it. A partition's state is a
//! function of its records alone ([`Learner`]). Its checkpoint names a position in the stream, so that a record counts
//! once however often partitions change hands. Checkpoints are replaced by revision, and a new owner replaces the one
//! that it begins from: whoever has lost a partition and does not know it yet cannot write over its successor's.

mod checkpoint;
mod records;
mod run;
mod worker;

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use self::checkpoint::last_checkpoint;
use async_trait::async_trait;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{LeaseSettings, Partition, Record, SharedBucket, SharedClock, SharedStream, Token, claims::Resource};

/// What keeps a learner from going on.
pub type LearnerError = Box<dyn StdError + Send + Sync>;

/// What one partition's records have taught. It is dropped when the partition is owned no more.
#[async_trait]
pub trait Learner: Debug + Send {
    /// Takes the next records. What is learnt may depend on nothing but the records.
    ///
    /// # Errors
    /// Work on the partition is then begun again from the last checkpoint.
    async fn apply(&mut self, records: Vec<Record>) -> Result<(), LearnerError>;

    /// All that is needed to go on from here.
    ///
    /// # Errors
    /// Work on the partition is then begun again from the last checkpoint.
    async fn checkpoint(&mut self) -> Result<Vec<u8>, LearnerError>;
}

/// Makes learners.
#[async_trait]
pub trait Learners: Debug + Send + Sync {
    /// One who goes on from a checkpoint, or knows nothing yet.
    ///
    /// # Errors
    /// A checkpoint that cannot be read, or is of a newer program: the partition is then not worked on.
    async fn begin(
        &self,
        partition: Partition,
        token: Token,
        checkpoint: Option<Vec<u8>>,
    ) -> Result<Box<dyn Learner>, LearnerError>;
}

/// How a member takes part.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    /// The member's name, which no other may have.
    pub name: String,
    /// What tells this run from earlier ones of the same name.
    pub run: String,
    /// How long its membership lasts unless it is renewed: so long a dead member's partitions lie idle.
    pub lease: LeaseSettings,
    /// How often a partition's state is written down.
    pub checkpoint_every: Duration,
    /// What one member does for all.
    pub offices: Vec<String>,
}

/// What the members share.
#[derive(Clone, Debug)]
pub struct FleetPlace {
    /// What is learnt from.
    pub stream: SharedStream,
    /// Memberships and claims.
    pub members: SharedBucket,
    /// How far each partition has come.
    pub checkpoints: SharedBucket,
}

/// What a member has met since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// Records that were learnt from.
    pub records: u64,
    /// Records that were gone before anybody learnt from them.
    pub lost: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Partitions that were claimed.
    pub claimed: u64,
    /// Partitions that were taken away: the membership was over.
    pub fenced: u64,
    /// Attempts at work on a partition that failed and were made again.
    pub failed: u64,
}

/// A member at work, in tasks of its own.
#[derive(Debug)]
pub struct Fleet {
    clock: SharedClock,
    view: watch::Receiver<FleetView>,
    counts: Arc<Counts>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What a member sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetView {
    /// What it owns, and under which tokens.
    pub owned: BTreeMap<Resource, Token>,
    /// Until when it does for sure, by its own clock.
    pub until: Option<Duration>,
    /// Who owns what, itself included, as far as it has heard.
    pub owners: BTreeMap<Resource, String>,
    /// Under which tokens they do.
    pub tokens: BTreeMap<Resource, Token>,
    /// The members there are, itself included, and which run of each it is, as far as it has heard.
    pub members: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Counts {
    records: AtomicU64,
    lost: AtomicU64,
    checkpoints: AtomicU64,
    claimed: AtomicU64,
    fenced: AtomicU64,
    failed: AtomicU64,
}

impl Fleet {
    /// Begins to take part.
    ///
    /// # Errors
    /// A bus that is away.
    pub async fn join(
        place: FleetPlace,
        learners: Arc<dyn Learners>,
        settings: FleetSettings,
        clock: SharedClock,
    ) -> crate::Result<Self> {
        let changes = place.members.watch().await?;
        let (show, view) = watch::channel(FleetView::default());
        let (stop, stopped) = oneshot::channel();
        let counts = Arc::new(Counts::default());
        let shared = run::Shared { place, learners, settings, clock: clock.clone(), counts: Arc::clone(&counts) };
        let task = tokio::spawn(run::Run::new(Arc::new(shared), show).until(changes, stopped));
        Ok(Self { clock, view, counts, stop, task })
    }

    /// The token under which a resource is owned now.
    pub fn token(&self, resource: &Resource) -> Option<Token> {
        let view = self.view.borrow();
        let holds = view.until.is_some_and(|until| self.clock.elapsed() < until);
        view.owned.get(resource).copied().filter(|_| holds)
    }

    /// What this member sees, as it changes.
    pub fn view(&self) -> watch::Receiver<FleetView> {
        self.view.clone()
    }

    /// What it has met.
    pub fn counts(&self) -> FleetCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        FleetCounts {
            records: read(&self.counts.records),
            lost: read(&self.counts.lost),
            checkpoints: read(&self.counts.checkpoints),
            claimed: read(&self.counts.claimed),
            fenced: read(&self.counts.fenced),
            failed: read(&self.counts.failed),
        }
    }

    /// Writes down how far everything has come, hands it over and ends the membership.
    pub async fn leave(self) {
        let _ = self.stop.send(());
        // A panic has been reported by the runtime.
        let _ = self.task.await;
    }
}

impl Counts {
    fn add(count: &AtomicU64, by: u64) {
        count.fetch_add(by, Ordering::Relaxed);
    }
}
