//! Who conducts the experiments of a fleet: decides alone, is told what everybody hears, and says what is in force.
//!
//! It lives on a thread of its own, for as long as its member holds the office: what it decides is written on the bus
//! before anybody acts on it, and it may wait for that, whereas the engine's task may not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nearcast_bus::{Partition, Token};
use nearcast_datasets::{Map, Timestamp};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::regime::{Promoted, Regime, RegimeStore, ToldArm};
use crate::{
    Error, Result,
    arms::ArmRefused,
    clock,
    engine::Arm,
    experiments::{Deed, Experiments, FullReport, LOOKS_TOLD_MAX, Problem, Scene, TrialReport, asked_bytes, document},
    fleet::LogRecord,
    server::input::ExperimentAction,
};

/// The member's way to its conductor.
#[derive(Clone, Debug)]
pub(in crate::server) struct ConductorSeat {
    pub(in crate::server) tidings: mpsc::Sender<Tidings>,
    pub(in crate::server) shown: watch::Receiver<Arc<Shown>>,
}

/// How experiments stand.
#[derive(Debug, Default)]
pub(in crate::server) struct Shown {
    pub(in crate::server) status: Vec<TrialReport>,
    pub(in crate::server) reports: Vec<FullReport>,
}

/// What clients ask for, from the log.
#[derive(Debug)]
pub(in crate::server) enum Asked {
    Batch(Partition, LogRecord),
    /// Some of it was gone before it was read.
    Missed,
}

/// What the conductor is told.
#[derive(Debug)]
pub(in crate::server) enum Tidings {
    /// A node serves an arm, and by how much its clock is ahead, unless it said so long ago.
    Serves { node: Arc<str>, arm: Arc<str>, skew_micros: Option<i64> },
    /// A node could not log so many requests.
    Dropped { node: Arc<str>, count: u64 },
    /// Bytes that a node fetched ahead left it unused.
    Wasted { node: Arc<str>, bytes: u64 },
    /// Which arms each member has, of those that take part.
    Members(BTreeMap<u32, BTreeSet<Arc<str>>>),
    /// Something of this could not be said.
    Missed,
    /// An operator wants something.
    Experiment {
        action: ExperimentAction,
        deed: Box<Deed>,
        scene: Box<Scene>,
        reply: oneshot::Sender<Result<String, Problem>>,
    },
    /// The champion is to do something else.
    SetArm { arm: Arm, reset: bool, done: oneshot::Sender<Result<(), Problem>> },
}

/// Everything of one term.
#[derive(Debug)]
pub(super) struct Conductor {
    experiments: Experiments,
    store: RegimeStore,
    regime: Regime,
    shown: watch::Sender<Arc<Shown>>,
    members: BTreeMap<u32, BTreeSet<Arc<str>>>,
    /// By node, the arm that it said last.
    serving: BTreeMap<Arc<str>, Arc<str>>,
    /// By partition and node, the last batch that was counted, as stream and number.
    batches: Map<(u32, Arc<str>), (u64, u64)>,
    told: Option<ToldArm>,
    arms_max: usize,
    shown_at: Timestamp,
    runtime: Handle,
}

/// The ends that its thread listens at.
#[derive(Debug)]
pub(super) struct Ears {
    pub(super) tidings: mpsc::Receiver<Tidings>,
    pub(super) asked: mpsc::Receiver<Asked>,
    pub(super) ended: CancellationToken,
}

enum Heard {
    Asked(Asked),
    Tidings(Tidings),
    Nothing,
}

impl Conductor {
    /// Goes on where the record is. `found` is what is in force.
    pub(super) fn new(
        experiments: Experiments,
        (store, found): (RegimeStore, Regime),
        token: Token,
        arms_max: usize,
        runtime: Handle,
    ) -> (Self, watch::Receiver<Arc<Shown>>) {
        let (shown, receiver) = watch::channel(Arc::default());
        let conductor = Self {
            experiments,
            store,
            told: found.told,
            regime: Regime { token: token.0, ..found },
            shown,
            members: BTreeMap::new(),
            serving: BTreeMap::new(),
            batches: Map::default(),
            arms_max,
            shown_at: Timestamp::MIN,
            runtime,
        };
        (conductor, receiver)
    }

    /// Works until the term ends. Blocks its thread.
    pub(super) fn run(mut self, mut ears: Ears) {
        let ended = self.work(&mut ears);
        self.experiments.close();
        while let Ok(tidings) = ears.tidings.try_recv() {
            if let Tidings::Experiment { reply, .. } = tidings {
                let _ = reply.send(Err(Error::OfficeLost.into()));
            }
        }
        if let Err(error) = ended {
            tracing::info!(%error, "experiments are not conducted here any more");
        }
    }

    fn work(&mut self, ears: &mut Ears) -> Result<()> {
        // Under this term's token, whatever it is.
        self.publish(clock::now(), true)?;
        while !ears.ended.is_cancelled() {
            let now = clock::now();
            let wait = self.experiments.poll_timeout(now).map_or(LOOK, |due| due.since(now));
            let wait = wait.clamp(WAIT_MIN, LOOK);
            let heard = self.runtime.clone().block_on(ears.listen(wait));
            let now = clock::now();
            match heard {
                Heard::Asked(asked) => {
                    self.handle_asked(now, &asked);
                    if self.experiments.poll_timeout(now).is_none_or(|due| now < due) {
                        continue;
                    }
                }
                Heard::Tidings(tidings) => self.handle_tidings(now, tidings)?,
                Heard::Nothing => {}
            }
            self.go_on(now)?;
        }
        Ok(())
    }

    fn handle_asked(&mut self, now: Timestamp, asked: &Asked) {
        let Asked::Batch(partition, batch) = asked else {
            self.experiments.handle_unwatched(now, None);
            return;
        };
        let node = &batch.node.name.0;
        let number = (batch.stream, batch.sequence);
        let last = self.batches.entry((partition.0, Arc::clone(node))).or_default();
        if number <= *last {
            return;
        }
        *last = number;
        if now.since(batch.at) > LATE {
            // The bus was away: what came of a block may have come after it was closed.
            self.experiments.handle_unwatched(now, None);
        }
        for request in &batch.requests {
            let (bytes, served, latency) = (asked_bytes(request), request.served, request.latency);
            self.experiments.handle_request(now, node, request.timestamp, served, bytes, latency);
        }
    }

    /// # Errors
    /// [`Error::OfficeLost`].
    fn handle_tidings(&mut self, now: Timestamp, tidings: Tidings) -> Result<()> {
        match tidings {
            Tidings::Serves { node, arm, skew_micros } => {
                match skew_micros {
                    Some(skew) => {
                        let clock = Timestamp::from_micros(now.micros().saturating_add(skew));
                        self.experiments.handle_confirmed(now, &node, &arm, clock);
                    }
                    None => self.experiments.note_serving(&node, &arm),
                }
                self.serving.insert(node, arm);
            }
            Tidings::Dropped { node, count } => self.experiments.handle_dropped(now, &node, count),
            Tidings::Wasted { node, bytes } => self.experiments.handle_wasted(now, &node, bytes),
            Tidings::Members(members) => self.members = members,
            Tidings::Missed => self.experiments.handle_unwatched(now, None),
            Tidings::Experiment { action, deed, scene, reply } => {
                let answer = self.answer(now, &action, &deed, &scene);
                // Whoever asked learns of it when it is in force.
                let published = self.go_on(now);
                self.show(now);
                // The caller may have given up waiting; what was done is on record.
                let _ = reply.send(published.map_err(Problem::from).and(answer));
            }
            Tidings::SetArm { arm, reset, done } => drop(done.send(self.set_arm(now, arm, reset))),
        }
        Ok(())
    }

    fn answer(
        &mut self,
        now: Timestamp,
        action: &ExperimentAction,
        deed: &Deed,
        scene: &Scene,
    ) -> Result<String, Problem> {
        let name = match action {
            ExperimentAction::Status => return document(&self.experiments.status(now)),
            ExperimentAction::Plan => {
                let question = deed.question.as_ref().ok_or(Problem::NoQuestion)?;
                return self.experiments.planned(now, question, scene);
            }
            ExperimentAction::Start => self.start(now, deed, scene)?,
            ExperimentAction::Report => self.experiments.meant(deed.name.as_deref())?,
            ExperimentAction::Foresee(change) => {
                let name = self.experiments.meant(deed.name.as_deref())?;
                return document(&self.experiments.foresee(&name, change)?);
            }
            ExperimentAction::Change(change) => {
                let name = self.experiments.meant(deed.name.as_deref())?;
                self.experiments.foresee(&name, change)?;
                self.experiments.act(now, &name, change.clone(), deed)?;
                name
            }
        };
        document(&self.experiments.report(now, &name)?)
    }

    fn start(&mut self, now: Timestamp, deed: &Deed, scene: &Scene) -> Result<String, Problem> {
        let question = deed.question.as_ref().ok_or(Problem::NoQuestion)?;
        let (arm, running) = (question.challenger.name(), self.experiments.challengers());
        if running.iter().any(|(_, spec)| spec.name() == arm) {
            return Err(ArmRefused::Taken(arm).into());
        }
        if running.len() >= self.arms_max {
            return Err(ArmRefused::TooMany { arms_max: self.arms_max }.into());
        }
        let name = self.experiments.start(now, deed, scene)?;
        self.serving.iter().for_each(|(node, arm)| self.experiments.note_serving(node, arm));
        Ok(name)
    }

    fn set_arm(&mut self, now: Timestamp, arm: Arm, reset: bool) -> Result<(), Problem> {
        let running = self.experiments.running();
        if !running.is_empty() {
            return Err(Problem::UnderWay(running));
        }
        self.told = Some(ToldArm { number: self.regime.number + 1, arm, reset });
        Ok(self.publish(now, false)?)
    }

    /// Lets experiments go on and says what is in force.
    fn go_on(&mut self, now: Timestamp) -> Result<()> {
        let has = |arm: &Arc<str>| !self.members.is_empty() && self.members.values().all(|arms| arms.contains(arm));
        let lacking: BTreeSet<Arc<str>> = self.regime.arms().into_iter().filter(|arm| !has(arm)).collect();
        if !lacking.is_empty() {
            // Somebody orders for nodes otherwise than it should.
            self.experiments.handle_unwatched(now, Some(&lacking));
        }
        self.experiments.handle_timeout(now);
        self.publish(now, false)?;
        if now.since(self.shown_at) >= LOOK {
            self.show(now);
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::OfficeLost`]; nothing has changed then.
    fn publish(&mut self, now: Timestamp, is_first: bool) -> Result<()> {
        let promoted = self.experiments.promotions().into_iter();
        let promoted: Vec<Promoted> = promoted.map(|(experiment, arm)| Promoted { experiment, arm }).collect();
        if promoted != self.regime.promoted {
            // That was said of another champion.
            self.told = None;
        }
        let next = Regime {
            token: self.regime.token,
            number: self.regime.number,
            challengers: self.experiments.challengers().into_iter().collect(),
            treated: self.experiments.treated(now),
            promoted,
            told: self.told,
        };
        if next == self.regime && !is_first {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.regime, next);
        let nodes = before.treated.keys().chain(self.regime.treated.keys());
        for node in nodes.filter(|node| before.treated.get(*node) != self.regime.treated.get(*node)) {
            self.experiments.forget_confirmed(node);
            self.serving.remove(node);
        }
        self.regime.number += 1;
        self.runtime.clone().block_on(self.store.put(&self.regime))?;
        self.show(now);
        Ok(())
    }

    fn show(&mut self, now: Timestamp) {
        self.shown_at = now;
        let (status, reports) = (self.experiments.status(now), self.experiments.reports(now, LOOKS_TOLD_MAX));
        self.shown.send_replace(Arc::new(Shown { status, reports }));
    }
}

impl Ears {
    async fn listen(&mut self, wait: Duration) -> Heard {
        let heard = async {
            tokio::select! {
                () = self.ended.cancelled() => Heard::Nothing,
                Some(tidings) = self.tidings.recv() => Heard::Tidings(tidings),
                Some(asked) = self.asked.recv() => Heard::Asked(asked),
                else => std::future::pending().await,
            }
        };
        timeout(wait, heard).await.unwrap_or(Heard::Nothing)
    }
}

/// What cannot be done yet must not be tried all the time.
const WAIT_MIN: Duration = Duration::from_millis(5);
/// Between two looks at what goes on by itself.
const LOOK: Duration = Duration::from_millis(250);
/// As long as rows of a block are waited for at most.
const LATE: Duration = Duration::from_secs(5);
