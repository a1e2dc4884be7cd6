//! Live experiments: which node serves which arm when, what came of it, and who changed what.
//!
//! `Experiments` decides and keeps the record; the statistics are those of `nearcast-experiment`. It is told what nodes
//! log and asked which arm a node is to serve. What it decides is written down and synced before anybody acts on it.
//!
//! | file | concern |
//! | --- | --- |
//! | `question` | what operators ask |
//! | `planning` | from there to a design, or to the reason why not |
//! | `slots` | what nodes measured, for the next plan |
//! | `trial` | one experiment: assignments, blocks, intervals |
//! | `keeper` | where its record is kept |
//! | `files` | its folder |
//! | `history` | slots, kept |
//! | `report` | how operators see it |

mod files;
mod history;
mod keeper;
mod planning;
mod problem;
mod question;
mod report;
mod slots;
#[cfg(test)]
mod tests;
mod trial;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nearcast_datasets::{ServedFrom, Timestamp};
use nearcast_experiment::{
    design::Arm,
    stage::{Action, By, Evidence, Experiment, Stage},
};
use nearcast_proto::message::Request;
use serde_json::json;

use self::{
    files::Files,
    keeper::Understood,
    slots::Slots,
    trial::{Trial, since_epoch},
};
pub(crate) use self::{
    history::{History, Shelf},
    keeper::{Entry, Keeper, Kept},
    report::document,
};
pub use self::{
    problem::Problem,
    question::{Deed, MetricName, NodeHistory, Question},
    report::{DesignReport, FullReport, Look, MetricReport, TrialReport},
    slots::Slot,
};
use crate::{Result, arms::ArmSpec};

/// Every experiment of a predictor's data folder, or of several predictors.
#[derive(Debug)]
pub(crate) struct Experiments {
    keeper: Box<dyn Keeper>,
    trials: BTreeMap<String, Trial>,
    slots: Slots,
    history: History,
}

/// What nodes and caches are like now, as a plan needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) connected: BTreeSet<Arc<str>>,
    /// The longest turnover of any cache under any arm.
    pub(crate) turnover: Option<Duration>,
    pub(crate) champion_version: Arc<str>,
}

/// Where an experiment is, and between what it decides.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) stage: Stage,
    /// The challenger's name.
    pub(crate) arm: Arc<str>,
    /// Its version, if it has one.
    pub(crate) version: Option<Arc<str>>,
    /// The champion's when the experiment was planned, if it had one.
    pub(crate) control_version: Option<Arc<str>>,
}

impl Experiments {
    /// Takes up what was kept. Experiments that were under way go on where they were.
    ///
    /// # Errors
    /// When a folder cannot be read, or was altered.
    pub(crate) fn open(data_dir: &Path, slot: Duration, now: Timestamp) -> Result<Self> {
        let files = Files::open(data_dir)?;
        let kept = files.read()?;
        Self::resume(data_dir, kept, Box::new(files), History::open(data_dir, slot)?, now)
    }

    /// The same with a record and a history that are kept at some place.
    ///
    /// # Errors
    /// When the record was altered.
    pub(crate) fn resume(
        place: &Path,
        kept: Vec<Kept>,
        keeper: Box<dyn Keeper>,
        (history, slots): (History, Slots),
        now: Timestamp,
    ) -> Result<Self> {
        let mut trials = BTreeMap::new();
        for kept in kept {
            let place = place.join("experiments").join(&kept.name);
            let altered = |place: PathBuf, error: String| {
                let invalid = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
                crate::Error::file("go on with the experiment in", place)(invalid)
            };
            let Understood { design, record, blocks } =
                kept.understand().map_err(|(part, error)| altered(place.join(part), error))?;
            let altered = |error: String| altered(place.clone(), error);
            let experiment = Experiment::resume(design.plan.cells.iter().cloned(), record)
                .map_err(|error| altered(error.to_string()))?;
            let mut trial = Trial::new(design, experiment, now).map_err(|error| altered(error.to_string()))?;
            blocks.iter().for_each(|block| trial.take_in(block));
            trials.insert(trial.design.question.name.clone(), trial);
        }
        Ok(Self { keeper, trials, slots, history })
    }

    /// The challengers of experiments that are under way: name, and what it is.
    pub(crate) fn challengers(&self) -> Vec<(String, ArmSpec)> {
        let running = self.trials.iter().filter(|(_, trial)| trial.is_running());
        running.map(|(name, trial)| (name.clone(), trial.design.question.challenger.clone())).collect()
    }

    /// The arm that a node is to serve now: none for the champion.
    pub(crate) fn arm_of(&self, node: &str, now: Timestamp) -> Option<Arc<str>> {
        let running = self.trials.values().filter(|trial| trial.is_running());
        let found = running.filter_map(|trial| Some((trial, trial.arm_of(node, now)?)));
        found.filter(|(_, arm)| *arm == Arm::Treated).map(|(trial, _)| Arc::clone(&trial.arm)).next()
    }

    /// The nodes that are to serve another arm than the champion now, and which.
    pub(crate) fn treated(&self, now: Timestamp) -> BTreeMap<Arc<str>, Arc<str>> {
        let mut treated = BTreeMap::new();
        for trial in self.trials.values().filter(|trial| trial.is_running()) {
            let nodes = trial.nodes().into_iter().filter(|node| trial.arm_of(node, now) == Some(Arm::Treated));
            treated.extend(nodes.map(|node| (node, Arc::clone(&trial.arm))));
        }
        treated
    }

    /// Not everybody who orders for nodes has these arms, or not all that nodes logged was heard: what has not ended now
    /// does not count. Without arms it is so for every experiment.
    pub(crate) fn handle_unwatched(&mut self, now: Timestamp, arms: Option<&BTreeSet<Arc<str>>>) {
        let is_meant = |trial: &Trial| arms.is_none_or(|arms| arms.contains(&trial.arm));
        self.trials.values_mut().filter(|trial| is_meant(trial)).for_each(|trial| trial.handle_unwatched(now));
    }

    /// Whether some experiment holds nodes to versions that must not change under it.
    pub(crate) fn is_running(&self) -> bool {
        self.trials.values().any(Trial::is_running)
    }

    /// A node answered a request.
    pub(crate) fn handle_request(
        &mut self,
        now: Timestamp,
        node: &Arc<str>,
        at: Timestamp,
        served: ServedFrom,
        bytes: u64,
        latency: Duration,
    ) {
        if let Some(slot) = self.slots.at(node, at.min(now)) {
            slot.add(served, bytes, latency);
        }
        if self.history.is_due(&self.slots) {
            self.history.write(&self.slots, false);
        }
        for trial in self.trials.values_mut().filter(|trial| trial.is_running()) {
            trial.handle_request(now, node, at, served, bytes, latency);
        }
    }

    /// A node says how many requests it could not log.
    pub(crate) fn handle_dropped(&mut self, now: Timestamp, node: &str, count: u64) {
        self.trials.values_mut().filter(|trial| trial.is_running()).for_each(|it| it.handle_dropped(now, node, count));
    }

    /// Bytes that a node fetched ahead left it unused.
    pub(crate) fn handle_wasted(&mut self, now: Timestamp, node: &Arc<str>, bytes: u64) {
        if let Some(slot) = self.slots.at(node, now) {
            slot.wasted_bytes += bytes;
        }
        self.trials.values_mut().filter(|trial| trial.is_running()).for_each(|it| it.handle_wasted(now, node, bytes));
    }

    /// A node says which arm it serves, and what its clock says.
    pub(crate) fn handle_confirmed(&mut self, now: Timestamp, node: &str, arm: &str, clock: Timestamp) {
        for trial in self.trials.values_mut().filter(|trial| trial.is_running()) {
            trial.handle_confirmed(now, node, arm, clock);
        }
        self.point(now);
    }

    /// A node had confirmed an arm before the last experiment began.
    pub(crate) fn note_serving(&mut self, node: &str, arm: &str) {
        self.trials.values_mut().for_each(|trial| trial.note_serving(node, arm));
    }

    /// Another arm was named to a node.
    pub(crate) fn forget_confirmed(&mut self, node: &str) {
        self.trials.values_mut().for_each(|trial| trial.forget_confirmed(node));
    }

    /// Nothing more will come: what nodes measured is written down.
    pub(crate) fn close(&mut self) {
        self.history.write(&self.slots, true);
    }

    /// When [`Experiments::handle_timeout`] should be called next.
    pub(crate) fn poll_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        self.trials.values().filter_map(|trial| trial.poll_timeout(now)).min()
    }

    /// Time has passed: blocks end, stages go on, and what breaches a guardrail is rolled back.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        for name in self.running() {
            if let Err(problem) = self.advance(now, &name) {
                // What could not be written down has not happened, and is tried again.
                tracing::error!(experiment = %name, %problem, "an experiment could not go on");
            }
        }
        self.point(now);
    }

    /// What `question` would come to, as a document. Nothing is begun.
    pub(crate) fn planned(&self, now: Timestamp, question: &Question, scene: &Scene) -> Result<String, Problem> {
        let design = self.plan(now, question, scene)?;
        document(&json!({ "schema": "nearcast.experiment-plan/1", "name": question.name, "design": design }))
    }

    /// The same as it is.
    pub(crate) fn plan(&self, now: Timestamp, question: &Question, scene: &Scene) -> Result<DesignReport, Problem> {
        self.design(now, question, scene).map(|design| DesignReport::of(&design))
    }

    /// Plans an experiment, writes it down and begins with the shadow stage.
    pub(crate) fn start(&mut self, now: Timestamp, deed: &Deed, scene: &Scene) -> Result<String, Problem> {
        let question = deed.question.as_ref().ok_or(Problem::NoQuestion)?;
        let design = self.design(now, question, scene)?;
        let name = question.name.clone();
        let experiment = Experiment::new(design.plan.cells.iter().cloned());
        let trial = Trial::new(design, experiment, now)?;
        trial.propose(Action::Start, by(now, deed, None))?;
        let text = express(&name, serde_json::to_string_pretty(&trial.design))?;
        self.keeper.keep(&name, Entry::Design(&text))?;
        self.trials.insert(name.clone(), trial);
        self.act(now, &name, Action::Start, deed)?;
        Ok(name)
    }

    /// Does something to an experiment, by whoever `deed` says.
    pub(crate) fn act(&mut self, now: Timestamp, name: &str, action: Action, deed: &Deed) -> Result<(), Problem> {
        let trial = self.trials.get_mut(name).ok_or_else(|| Problem::Unknown(name.to_owned()))?;
        let needs_evidence =
            matches!(action, Action::Promote { .. } | Action::Breach | Action::Abort | Action::Undo | Action::Finish);
        let mut evidence = None;
        if needs_evidence {
            let document = express(name, serde_json::to_vec_pretty(&FullReport::of(trial, now, usize::MAX)))?;
            let found = Evidence::of(trial.judgement().verdict, &document);
            let hash = found.hash.to_string();
            self.keeper.keep(name, Entry::Evidence { hash: &hash, document: &document })?;
            evidence = Some(found);
        }
        let (next, change) = trial.propose(action, by(now, deed, evidence))?;
        self.keeper.keep(name, Entry::Change(&change.to_line()))?;
        trial.commit(next);
        tracing::info!(experiment = name, change = %change.to_line(), "experiment changed");
        Ok(())
    }

    /// The experiment that is meant: the named one, or the only one that is under way.
    pub(crate) fn meant(&self, name: Option<&str>) -> Result<String, Problem> {
        match name {
            Some(name) if self.trials.contains_key(name) => Ok(name.to_owned()),
            Some(name) => Err(Problem::unknown(name, self.trials.keys())),
            None => match &self.running()[..] {
                [name] => Ok(name.clone()),
                [] => Err(Problem::NoneRunning),
                several => Err(Problem::Several(several.join(", "))),
            },
        }
    }

    /// One experiment with all that led to where it is.
    pub(crate) fn report(&self, now: Timestamp, name: &str) -> Result<FullReport, Problem> {
        let trial = self.trials.get(name).ok_or_else(|| Problem::Unknown(name.to_owned()))?;
        Ok(FullReport::of(trial, now, usize::MAX))
    }

    /// Every experiment, those under way first.
    pub(crate) fn status(&self, now: Timestamp) -> Vec<TrialReport> {
        self.told().map(|trial| TrialReport::of(trial, now)).collect()
    }

    /// The same with all that led to where they are, but for looks before the last so many.
    pub(crate) fn reports(&self, now: Timestamp, looks_max: usize) -> Vec<FullReport> {
        self.told().map(|trial| FullReport::of(trial, now, looks_max)).collect()
    }

    fn told(&self) -> impl Iterator<Item = &Trial> {
        let mut trials: Vec<&Trial> = self.trials.values().collect();
        trials.sort_by_key(|trial| !trial.is_running());
        trials.into_iter().take(STATUS_MAX)
    }

    /// Where an experiment is.
    pub(crate) fn standing(&self, name: &str) -> Option<Standing> {
        let trial = self.trials.get(name)?;
        let control_version = Some(Arc::clone(&trial.design.control_version));
        Some(Standing {
            stage: trial.experiment.stage(),
            arm: Arc::clone(&trial.arm),
            version: trial.design.question.challenger.version.clone(),
            control_version: control_version.filter(|version| !version.is_empty()),
        })
    }

    /// The champion's version after a change, if it changes the champion; that is refused while another experiment
    /// compares the champion.
    pub(crate) fn foresee(&self, name: &str, change: &Action) -> Result<Option<Arc<str>>, Problem> {
        let Some(standing) = self.standing(name) else { return Ok(None) };
        let version = match (change, standing.stage) {
            (Action::Finish, Stage::Holdback) => standing.version,
            (Action::Undo, Stage::Promoted) => standing.control_version,
            _ => return Ok(None),
        };
        let mut others = self.running();
        others.retain(|other| other != name);
        if others.is_empty() { Ok(version) } else { Err(Problem::UnderWay(others)) }
    }

    /// The challenger that was promoted last and was not undone.
    pub(crate) fn promoted(&self) -> Option<(String, ArmSpec)> {
        self.promotions().pop()
    }

    /// The challengers that were promoted and not undone, the last one last.
    pub(crate) fn promotions(&self) -> Vec<(String, ArmSpec)> {
        let promoted = self.trials.iter().filter(|(_, trial)| trial.experiment.stage() == Stage::Promoted);
        let at = |trial: &Trial| trial.experiment.record().changes().last().map(|change| change.at_micros);
        let mut promoted: Vec<(&String, &Trial)> = promoted.collect();
        promoted.sort_by_key(|(_, trial)| at(trial));
        promoted.into_iter().map(|(name, trial)| (name.clone(), trial.design.question.challenger.clone())).collect()
    }

    /// Arms of experiments that have ended.
    pub(crate) fn ended_arms(&self) -> Vec<Arc<str>> {
        let ended = self.trials.values().filter(|trial| trial.experiment.stage() == Stage::RolledBack);
        let ended = ended.map(|trial| Arc::clone(&trial.arm));
        let running: BTreeSet<Arc<str>> =
            self.trials.values().filter(|trial| trial.is_running()).map(|trial| Arc::clone(&trial.arm)).collect();
        ended.filter(|arm| !running.contains(arm)).collect()
    }

    /// The names of experiments that are under way.
    pub(crate) fn running(&self) -> Vec<String> {
        self.trials.iter().filter(|(_, trial)| trial.is_running()).map(|(name, _)| name.clone()).collect()
    }

    fn advance(&mut self, now: Timestamp, name: &str) -> Result<(), Problem> {
        let itself = |why: String| Deed { name: None, who: ITSELF.to_owned(), why, full: false, question: None };
        while let Some(trial) = self.trials.get_mut(name)
            && let Some(block) = trial.close_next(now)
        {
            let line = express(name, serde_json::to_string(&block))?;
            self.keeper.keep(name, Entry::Block(&line))?;
            trial.take_in(&block);
            let judgement = trial.judgement();
            let is_live = matches!(trial.experiment.stage(), Stage::Canary | Stage::Ab | Stage::Holdback);
            if is_live && judgement.must_roll_back() {
                let breached = judgement.findings.iter();
                let breached: Vec<&str> = breached
                    .filter(|(_, finding)| *finding == nearcast_experiment::verdict::Finding::Breached)
                    .map(|(name, _)| name.as_str())
                    .collect();
                self.act(now, name, Action::Breach, &itself(format!("breached: {}", breached.join(", "))))?;
            }
        }
        let Some(trial) = self.trials.get_mut(name) else { return Ok(()) };
        let block = trial.block_now(now);
        let why = match (trial.experiment.stage(), block) {
            (Stage::Shadow, Some(_)) => Some("the shadow stage is over"),
            (Stage::Canary, Some(block)) if block >= trial.design.question.canary_blocks => {
                Some("the first pair has switched for as long as was asked")
            }
            _ => None,
        };
        if let Some(why) = why.filter(|_| !trial.experiment.is_paused()) {
            self.act(now, name, Action::Advance, &itself(why.to_owned()))?;
        }
        if let Some(trial) = self.trials.get_mut(name) {
            trial.begin_block(now);
        }
        Ok(())
    }

    /// Writes down which nodes have confirmed a promote or a rollback.
    fn point(&mut self, now: Timestamp) {
        for name in self.running() {
            let Some(trial) = self.trials.get(&name) else { continue };
            for (cell, epoch) in trial.confirmed() {
                let deed = Deed {
                    name: None,
                    who: cell.clone(),
                    why: "serves what it was told".to_owned(),
                    full: false,
                    question: None,
                };
                if let Err(problem) = self.act(now, &name, Action::Pointed { cell, epoch }, &deed) {
                    tracing::error!(experiment = %name, %problem, "a confirmation could not be written down");
                }
            }
        }
    }
}

fn express<T>(name: &str, written: serde_json::Result<T>) -> Result<T> {
    written.map_err(std::io::Error::from).map_err(crate::Error::file("write", name))
}

fn by<'a>(now: Timestamp, deed: &'a Deed, evidence: Option<Evidence>) -> By<'a> {
    By { who: &deed.who, at: since_epoch(now), why: &deed.why, evidence }
}

/// The bytes that a request asked for.
pub(crate) fn asked_bytes(request: &Request) -> u64 {
    request
        .range
        .map_or(request.size_bytes, |range| range.end.min(request.size_bytes) - range.start.min(request.size_bytes))
}

/// Who acts when nobody else does.
const ITSELF: &str = "predictor";
/// Looks of an experiment that the page is told: what a chart shows.
pub(crate) const LOOKS_TOLD_MAX: usize = 200;
/// Experiments that a status names.
const STATUS_MAX: usize = 20;
