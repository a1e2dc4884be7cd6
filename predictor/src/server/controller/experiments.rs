//! Experiments at work: arms are added, nodes are pointed at them, and operators are answered.

use std::{collections::BTreeSet, sync::Arc};

use nearcast_datasets::Timestamp;
use nearcast_experiment::stage::{Action, Stage};
use nearcast_models::Model;
use serde_json::json;
use tokio::sync::oneshot;

use super::Controller;
use crate::{
    arms::{ArmRefused, ArmSpec},
    engine::{Arm, NodeIndex},
    events::{kind, rfc3339},
    experiments::{
        Deed, Experiments, FullReport, LOOKS_TOLD_MAX, Problem, Question, Scene, Standing, TrialReport, document,
    },
    server::{input::ExperimentAction, status::ModelStatus},
};

/// An arm of an experiment that was under way when the predictor ended: its model, or why there is none.
pub(in crate::server) type Resumed = (String, ArmSpec, Result<Option<Arc<Model>>, String>);

impl Controller {
    /// Takes up what was promoted, and the arms of experiments that were under way. One whose version is gone is rolled
    /// back.
    pub(in crate::server) fn resume(&mut self, now: Timestamp, resumed: Vec<Resumed>) {
        let Some(experiments) = &mut self.experiments else { return };
        if let Some((name, spec)) = experiments.promoted() {
            // Its version is behind the alias.
            tracing::info!(experiment = name, arm = %spec.name(), "as was promoted");
            self.engine.set_learning(spec.learning);
            if !spec.orders {
                self.engine.set_arm(Arm::None, false);
            }
        }
        for (name, spec, model) in resumed {
            let added = model
                .and_then(|model| self.arms.add(now, spec, model, &self.engine).map_err(|refused| refused.to_string()));
            let Err(reason) = added else { continue };
            let why = format!("its arm cannot be taken up again: {reason}");
            let deed = Deed { name: None, who: "predictor".to_owned(), why, full: false, question: None };
            let ends = [Action::Breach, Action::Abort, Action::Undo];
            if ends.into_iter().all(|end| experiments.act(now, &name, end, &deed).is_err()) {
                tracing::error!(experiment = %name, %reason, "an experiment can neither go on nor be rolled back");
            }
        }
        self.due = experiments.poll_timeout(now);
    }

    /// Answers an operator with one document, or says what is wrong.
    pub(super) fn experiment(
        &mut self,
        now: Timestamp,
        action: ExperimentAction,
        deed: Box<Deed>,
        model: Option<(Arc<str>, Arc<Model>)>,
        reply: oneshot::Sender<Result<String, Problem>>,
    ) {
        if self.experiments.is_none() {
            self.ask_conductor(now, action, deed, reply);
            return;
        }
        // The caller may have given up waiting; what was done is on record.
        let _ = reply.send(self.conduct(now, &action, &deed, model));
    }

    fn conduct(
        &mut self,
        now: Timestamp,
        action: &ExperimentAction,
        deed: &Deed,
        model: Option<(Arc<str>, Arc<Model>)>,
    ) -> Result<String, Problem> {
        let scene = self.scene();
        let name = match action {
            ExperimentAction::Status => return self.experiment_document(now),
            ExperimentAction::Start => self.start_experiment(now, deed, &scene, model.map(|(_, model)| model))?,
            _ => {
                let Some(experiments) = &mut self.experiments else { return Err(Problem::NoneRunning) };
                if let ExperimentAction::Plan = action {
                    let question = deed.question.as_ref().ok_or(Problem::NoQuestion)?;
                    return experiments.planned(now, question, &scene);
                }
                let name = experiments.meant(deed.name.as_deref())?;
                let change = match action {
                    ExperimentAction::Foresee(change) => return document(&experiments.foresee(&name, change)?),
                    ExperimentAction::Change(change) => change,
                    _ => return document(&experiments.report(now, &name)?),
                };
                experiments.foresee(&name, change)?;
                let before = experiments.standing(&name);
                experiments.act(now, &name, change.clone(), deed)?;
                match (change, before) {
                    (Action::Finish, Some(Standing { arm, version, .. })) => self.crown(now, &arm, version),
                    (Action::Undo, Some(Standing { stage: Stage::Promoted, arm, .. })) => {
                        self.dethrone(now, &arm, model);
                    }
                    _ => {}
                }
                name
            }
        };
        self.events.publish(now, kind::EXPERIMENT_CHANGED, &name, json!({ "who": deed.who, "why": deed.why }));
        self.experiments.iter_mut().for_each(|experiments| experiments.handle_timeout(now));
        self.point_nodes(now);
        let report = self.experiments.as_ref().map(|experiments| experiments.report(now, &name));
        document(&report.ok_or(Problem::NoneRunning)??)
    }

    /// Lets experiments go on and points nodes at the arms that they say.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if self.due.is_some_and(|due| due <= now) {
            self.experiments.iter_mut().for_each(|experiments| experiments.handle_timeout(now));
            self.point_nodes(now);
        }
    }

    /// Points every connected node at its arm, and lets go of what no experiment needs any more.
    pub(super) fn point_nodes(&mut self, now: Timestamp) {
        let nodes: Vec<(NodeIndex, Arc<str>)> =
            self.sessions.values().map(|session| (session.node, Arc::clone(&session.descriptor.name.0))).collect();
        let mut has_changed = false;
        for (node, name) in nodes {
            has_changed |= self.point(now, node, &name);
        }
        if has_changed {
            self.announce();
        }
        for arm in self.experiments.iter().flat_map(Experiments::ended_arms) {
            // One that is still in force at a node that is away stays until that is back.
            let _ = self.arms.drop_arm(&arm);
        }
        if !self.is_comparing()
            && let Some((version, model)) = self.held_back.take()
        {
            self.install_model(now, version, model);
        }
        self.due = self.experiments.as_ref().and_then(|experiments| experiments.poll_timeout(now));
    }

    /// Whether the champion is compared with another arm and must not change.
    pub(super) fn is_comparing(&self) -> bool {
        let of_all = self.fleet.as_ref().is_some_and(|fleet| fleet.experiments.is_running());
        of_all || self.experiments.as_ref().is_some_and(Experiments::is_running)
    }

    /// The arm that a node is to serve now; none for the champion. In a fleet an arm that is not here yet is left out:
    /// the node stays with what it has.
    fn arm_of(&self, node: NodeIndex, name: &str, now: Timestamp) -> Option<Arc<str>> {
        let Some(fleet) = &self.fleet else {
            return self.experiments.as_ref().and_then(|experiments| experiments.arm_of(name, now));
        };
        match fleet.experiments.arm_of(name) {
            Some(arm) if !self.arms.has(&arm) => self.arms.at(node).0.cloned(),
            arm => arm,
        }
    }

    /// Points a node at its arm; whether it served another one before.
    pub(super) fn point(&mut self, now: Timestamp, node: NodeIndex, name: &Arc<str>) -> bool {
        let arm = self.arm_of(node, name, now);
        match self.arms.assign(now, node, arm.as_deref(), &mut self.engine) {
            Ok(false) => false,
            Ok(true) => {
                self.experiments.iter_mut().for_each(|experiments| experiments.forget_confirmed(name));
                let data = json!({ "arm": arm.as_deref().unwrap_or("champion") });
                self.events.publish(now, kind::ARM_ASSIGNED, name, data);
                true
            }
            Err(refused) => {
                tracing::error!(node = %name, %refused, "a node cannot be pointed at its arm");
                false
            }
        }
    }

    fn start_experiment(
        &mut self,
        now: Timestamp,
        deed: &Deed,
        scene: &Scene,
        model: Option<Arc<Model>>,
    ) -> Result<String, Problem> {
        let challenger = self.check_challenger(deed)?.challenger.clone();
        let question = deed.question.as_ref().ok_or(Problem::NoQuestion)?;
        let Some(experiments) = &mut self.experiments else { return Err(Problem::NoneRunning) };
        // Before anything is set up for it.
        experiments.plan(now, question, scene)?;
        let needed: BTreeSet<Arc<str>> = experiments.challengers().iter().map(|(_, spec)| spec.name()).collect();
        self.arms.retain(&needed);
        let arm = self.arms.add(now, challenger, model, &self.engine)?;
        let started = experiments.start(now, deed, scene);
        for session in self.sessions.values().filter(|session| session.is_confirmed) {
            let serving = Arc::clone(&session.in_force.borrow().arm);
            experiments.note_serving(&session.descriptor.name.0, &serving);
        }
        if started.is_err() {
            let _ = self.arms.drop_arm(&arm);
        }
        started
    }

    /// The question that is to be started, if its challenger can be told from the champion: as when the champion has been
    /// told to order nothing, no log could tell both sides apart.
    pub(super) fn check_challenger<'a>(&self, deed: &'a Deed) -> Result<&'a Question, Problem> {
        let question = deed.question.as_ref().ok_or(Problem::NoQuestion)?;
        let name = question.challenger.name();
        if *name == *self.engine.arm().name() { Err(ArmRefused::Taken(name).into()) } else { Ok(question) }
    }

    /// Has the champion do something else, but not while an experiment compares it.
    pub(super) fn set_arm(
        &mut self,
        now: Timestamp,
        arm: Arm,
        reset: bool,
        done: oneshot::Sender<Result<(), Problem>>,
    ) {
        let Some(experiments) = &self.experiments else {
            self.ask_to_set_arm(arm, reset, done);
            return;
        };
        let running = experiments.running();
        if !running.is_empty() {
            let _ = done.send(Err(Problem::UnderWay(running)));
            return;
        }
        self.engine.set_arm(arm, reset);
        if reset {
            self.arms.reset(now, &self.engine);
        }
        self.announce();
        self.events.publish(now, kind::ARM_SET, arm.name(), json!({ "reset": reset }));
        // The caller may have given up waiting; the arm is set all the same.
        let _ = done.send(Ok(()));
    }

    /// At the end of a holdback the challenger takes the champion's place, which is kept for an undo.
    pub(super) fn crown(&mut self, now: Timestamp, arm: &str, version: Option<Arc<str>>) {
        if let Err(refused) = self.arms.crown(arm, &Arc::from(RETIRED), &mut self.engine) {
            tracing::error!(%arm, %refused, "the challenger cannot take the champion's place");
            return;
        }
        self.retired = self.model.take().map(|model| model.version);
        self.reign(now, version);
    }

    /// An undo after that gives the place back: to the engine that was retired, or, where that is gone, as after a
    /// restart, to what the configuration says with the model of then.
    pub(super) fn dethrone(&mut self, now: Timestamp, arm: &Arc<str>, model: Option<(Arc<str>, Arc<Model>)>) {
        if self.arms.crown(RETIRED, arm, &mut self.engine).is_ok() {
            // The record says that the challenger is out of service.
            let _ = self.arms.drop_arm(arm);
            let version = self.retired.take();
            return self.reign(now, version);
        }
        self.engine.set_arm(self.arm, false);
        self.engine.set_learning(true);
        let version = match model {
            Some((version, model)) => {
                self.engine.install_model(now, Arc::clone(&version), model);
                Some(version)
            }
            // Each member follows the alias by itself, and may have done so already.
            None if self.fleet.is_some() => self.model.take().map(|model| model.version),
            None => None,
        };
        self.reign(now, version);
    }

    fn reign(&mut self, now: Timestamp, version: Option<Arc<str>>) {
        self.model = version.map(|version| ModelStatus { version, since: rfc3339(now) });
        self.show_model();
        self.announce();
    }

    pub(super) fn scene(&self) -> Scene {
        let nodes: Vec<NodeIndex> = self.sessions.values().map(|session| session.node).collect();
        Scene {
            connected: self.sessions.values().map(|session| Arc::clone(&session.descriptor.name.0)).collect(),
            turnover: self.arms.turnover(&nodes),
            champion_version: self.model_version(),
        }
    }

    pub(super) fn experiment_document(&self, now: Timestamp) -> Result<String, Problem> {
        let arms = self.arms.status(&self.engine);
        document(&json!({
            "schema": "nearcast.experiment-status/1",
            "experiments": self.experiment_status(now),
            "in_force": arms.in_force,
            "shadow": arms.shadow,
        }))
    }

    /// Every experiment, those under way first; in a fleet, at the member that conducts them.
    pub(super) fn experiment_status(&self, now: Timestamp) -> Vec<TrialReport> {
        let seat = self.fleet.as_ref().and_then(|fleet| fleet.experiments.seat());
        let shown = || seat.map(|seat| seat.shown.borrow().status.clone()).unwrap_or_default();
        self.experiments.as_ref().map_or_else(shown, |experiments| experiments.status(now))
    }

    /// The same with all that led to where they are.
    pub(super) fn experiment_reports(&self, now: Timestamp) -> Vec<FullReport> {
        let seat = self.fleet.as_ref().and_then(|fleet| fleet.experiments.seat());
        let shown = || seat.map(|seat| seat.shown.borrow().reports.clone()).unwrap_or_default();
        self.experiments.as_ref().map_or_else(shown, |experiments| experiments.reports(now, LOOKS_TOLD_MAX))
    }
}

/// The arm that was champion before the last promotion.
pub(super) const RETIRED: &str = "retired";
