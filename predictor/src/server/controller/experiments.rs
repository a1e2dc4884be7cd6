//! Experiments at work: arms are added, nodes are pointed at them, and operators are answered.

use std::{collections::BTreeSet, sync::Arc};

use nearcast_datasets::Timestamp;
use nearcast_experiment::stage::{Action, Stage};
use nearcast_models::Model;
use serde::Serialize;
use serde_json::json;

use super::Controller;
use crate::{
    arms::{ArmRefused, ArmSpec},
    engine::{Arm, NodeIndex},
    events::{kind, rfc3339},
    experiments::{Deed, Problem, Scene, Standing},
    server::{input::ExperimentAction, status::ModelStatus},
};

/// An arm of an experiment that was under way when the predictor ended: its model, or why there is none.
pub(in crate::server) type Resumed = (String, ArmSpec, Result<Option<Arc<Model>>, String>);

impl Controller {
    /// Takes up what was promoted, and the arms of experiments that were under way. One whose version is gone is rolled
    /// back.
    pub(in crate::server) fn resume(&mut self, now: Timestamp, resumed: Vec<Resumed>) {
        if let Some((name, spec)) = self.experiments.promoted() {
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
            if ends.into_iter().all(|end| self.experiments.act(now, &name, end, &deed).is_err()) {
                tracing::error!(experiment = %name, %reason, "an experiment can neither go on nor be rolled back");
            }
        }
        self.due = self.experiments.poll_timeout(now);
    }

    /// Answers an operator with one document, or says what is wrong.
    pub(super) fn experiment(
        &mut self,
        now: Timestamp,
        action: &ExperimentAction,
        deed: &Deed,
        model: Option<(Arc<str>, Arc<Model>)>,
    ) -> Result<String, Problem> {
        let name = match action {
            ExperimentAction::Status => return document(&self.experiment_status(now)),
            ExperimentAction::Plan => return self.plan_experiment(now, deed),
            ExperimentAction::Start => self.start_experiment(now, deed, model.map(|(_, model)| model))?,
            ExperimentAction::Report => {
                let name = self.experiments.meant(deed.name.as_deref())?;
                return document(&self.experiments.report(now, &name)?);
            }
            ExperimentAction::Foresee(change) => {
                let name = self.experiments.meant(deed.name.as_deref())?;
                return document(&self.foresee(&name, change)?);
            }
            ExperimentAction::Change(change) => {
                let name = self.experiments.meant(deed.name.as_deref())?;
                self.foresee(&name, change)?;
                let before = self.experiments.standing(&name);
                self.experiments.act(now, &name, change.clone(), deed)?;
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
        self.experiments.handle_timeout(now);
        self.point_nodes(now);
        document(&self.experiments.report(now, &name)?)
    }

    /// Lets experiments go on and points nodes at the arms that they say.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if self.due.is_some_and(|due| due <= now) {
            self.experiments.handle_timeout(now);
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
        for arm in self.experiments.ended_arms() {
            // One that is still in force at a node that is away stays until that is back.
            let _ = self.arms.drop_arm(&arm);
        }
        if !self.experiments.is_running()
            && let Some((version, model)) = self.held_back.take()
        {
            self.install_model(now, version, model);
        }
        self.due = self.experiments.poll_timeout(now);
    }

    /// Points a node at its arm; whether it served another one before.
    pub(super) fn point(&mut self, now: Timestamp, node: NodeIndex, name: &Arc<str>) -> bool {
        let arm = self.experiments.arm_of(name, now);
        match self.arms.assign(now, node, arm.as_deref(), &mut self.engine) {
            Ok(false) => false,
            Ok(true) => {
                self.experiments.forget_confirmed(name);
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

    fn plan_experiment(&self, now: Timestamp, deed: &Deed) -> Result<String, Problem> {
        let question = deed.question.as_ref().ok_or(Problem::NoQuestion)?;
        let design = self.experiments.plan(now, question, &self.scene())?;
        document(&json!({ "schema": "nearcast.experiment-plan/1", "name": question.name, "design": design }))
    }

    fn start_experiment(&mut self, now: Timestamp, deed: &Deed, model: Option<Arc<Model>>) -> Result<String, Problem> {
        let question = deed.question.as_ref().ok_or(Problem::NoQuestion)?;
        let scene = self.scene();
        // As when the champion has been told to order nothing: no log could tell both sides apart.
        let name = question.challenger.name();
        if *name == *self.engine.arm().name() {
            return Err(ArmRefused::Taken(name).into());
        }
        // Before anything is set up for it.
        self.experiments.plan(now, question, &scene)?;
        let needed: BTreeSet<Arc<str>> = self.experiments.challengers().iter().map(|(_, spec)| spec.name()).collect();
        self.arms.retain(&needed);
        let arm = self.arms.add(now, question.challenger.clone(), model, &self.engine)?;
        let started = self.experiments.start(now, deed, &scene);
        for session in self.sessions.values().filter(|session| session.is_confirmed) {
            let serving = Arc::clone(&session.in_force.borrow().arm);
            self.experiments.note_serving(&session.descriptor.name.0, &serving);
        }
        if started.is_err() {
            let _ = self.arms.drop_arm(&arm);
        }
        started
    }

    /// Has the champion do something else, but not while an experiment compares it.
    pub(super) fn set_arm(&mut self, now: Timestamp, arm: Arm, reset: bool) -> Result<(), Problem> {
        let running = self.experiments.running();
        if !running.is_empty() {
            return Err(Problem::UnderWay(running));
        }
        self.engine.set_arm(arm, reset);
        if reset {
            self.arms.reset(now, &self.engine);
        }
        self.announce();
        self.events.publish(now, kind::ARM_SET, arm.name(), json!({ "reset": reset }));
        Ok(())
    }

    /// The champion's version after a change, if it changes the champion; that is refused while another experiment
    /// compares the champion.
    fn foresee(&self, name: &str, change: &Action) -> Result<Option<Arc<str>>, Problem> {
        let Some(standing) = self.experiments.standing(name) else { return Ok(None) };
        let version = match (change, standing.stage) {
            (Action::Finish, Stage::Holdback) => standing.version,
            (Action::Undo, Stage::Promoted) => standing.control_version,
            _ => return Ok(None),
        };
        let mut others = self.experiments.running();
        others.retain(|other| other != name);
        if others.is_empty() { Ok(version) } else { Err(Problem::UnderWay(others)) }
    }

    /// At the end of a holdback the challenger takes the champion's place, which is kept for an undo.
    fn crown(&mut self, now: Timestamp, arm: &str, version: Option<Arc<str>>) {
        if let Err(refused) = self.arms.crown(arm, &Arc::from(RETIRED), &mut self.engine) {
            tracing::error!(%arm, %refused, "the challenger cannot take the champion's place");
            return;
        }
        self.retired = self.model.take().map(|model| model.version);
        self.reign(now, version);
    }

    /// An undo after that gives the place back: to the engine that was retired, or, where that is gone, as after a
    /// restart, to what the configuration says with the model of then.
    fn dethrone(&mut self, now: Timestamp, arm: &Arc<str>, model: Option<(Arc<str>, Arc<Model>)>) {
        if self.arms.crown(RETIRED, arm, &mut self.engine).is_ok() {
            // The record says that the challenger is out of service.
            let _ = self.arms.drop_arm(arm);
            let version = self.retired.take();
            return self.reign(now, version);
        }
        self.engine.set_arm(self.arm, false);
        self.engine.set_learning(true);
        let version = model.map(|(version, model)| {
            self.engine.install_model(now, Arc::clone(&version), model);
            version
        });
        self.reign(now, version);
    }

    fn reign(&mut self, now: Timestamp, version: Option<Arc<str>>) {
        self.model = version.map(|version| ModelStatus { version, since: rfc3339(now) });
        self.show_model();
        self.announce();
    }

    fn scene(&self) -> Scene {
        let nodes: Vec<NodeIndex> = self.sessions.values().map(|session| session.node).collect();
        Scene {
            connected: self.sessions.values().map(|session| Arc::clone(&session.descriptor.name.0)).collect(),
            turnover: self.arms.turnover(&nodes),
            champion_version: self.model_version(),
        }
    }

    fn experiment_status(&self, now: Timestamp) -> serde_json::Value {
        let arms = self.arms.status(&self.engine);
        json!({
            "schema": "nearcast.experiment-status/1",
            "experiments": self.experiments.status(now),
            "in_force": arms.in_force,
            "shadow": arms.shadow,
        })
    }
}

fn document(value: &impl Serialize) -> Result<String, Problem> {
    let text = serde_json::to_string(value).map_err(std::io::Error::from);
    Ok(text.map_err(crate::Error::file("express", "the document"))?)
}

/// The arm that was champion before the last promotion.
const RETIRED: &str = "retired";
