//! Experiments in a fleet, as one member takes part in them: obeys what is in force, tells what it knows, and has its
//! operators answered by whoever conducts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nearcast_bus::{Token, claims::Resource};
use nearcast_datasets::Timestamp;
use nearcast_models::Model;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tonic::Code;

use super::{Controller, Way, experiments::RETIRED};
use crate::{
    Error,
    arms::ArmSpec,
    engine::Arm,
    events::kind,
    experiments::{Deed, Problem},
    server::{
        fleet::{ConductorSeat, Home, Loaded, Promoted, Regime, Said, Tidings, experiments_office},
        input::{ExperimentAction, Relayed, RelayedAsk, SessionId},
    },
};

/// What a member knows of experiments.
#[derive(Debug)]
pub(in crate::server) struct FleetExperiments {
    regime: Regime,
    /// What the champion is by now.
    crowned: Vec<Promoted>,
    /// The number of what the champion was told last.
    told: u64,
    is_begun: bool,
    /// Models of challengers that are not at work yet.
    loaded: BTreeMap<Arc<str>, Option<Arc<Model>>>,
    /// Why others are not.
    refused: BTreeMap<Arc<str>, String>,
    /// By member, what it said of its arms.
    members: BTreeMap<u32, Said>,
    /// The member's own conductor, when it holds the office.
    conductor: Option<(Token, ConductorSeat)>,
    trouble: Option<String>,
    /// Whether the conductor could not be told something.
    is_unheard: bool,
    waiting: BTreeMap<u64, oneshot::Sender<Relayed>>,
    asked: u64,
    answers: mpsc::Sender<RelayedAsk>,
}

impl FleetExperiments {
    pub(super) fn new(answers: mpsc::Sender<RelayedAsk>) -> Self {
        Self {
            regime: Regime::default(),
            crowned: Vec::new(),
            told: 0,
            is_begun: false,
            loaded: BTreeMap::new(),
            refused: BTreeMap::new(),
            members: BTreeMap::new(),
            conductor: None,
            trouble: None,
            is_unheard: false,
            waiting: BTreeMap::new(),
            asked: 0,
            answers,
        }
    }

    /// The arm that a node is to serve: none for the champion.
    pub(super) fn arm_of(&self, node: &str) -> Option<Arc<str>> {
        self.regime.treated.get(node).cloned()
    }

    /// Whether the champion is compared and must not change.
    pub(super) fn is_running(&self) -> bool {
        !self.regime.challengers.is_empty()
    }

    /// This member's conductor.
    pub(super) fn seat(&self) -> Option<&ConductorSeat> {
        self.conductor.as_ref().map(|(_, seat)| seat)
    }

    /// What keeps this member from conducting, although it should.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// By member, the challengers that it lacks, and why; `names` are the members' generations.
    pub(super) fn lacking(&self, names: &BTreeMap<String, String>) -> BTreeMap<String, BTreeMap<Arc<str>, String>> {
        let needed = self.regime.arms();
        let lacks = |(name, run): (&String, &String)| {
            let said = run.parse().ok().and_then(|member: u32| self.members.get(&member));
            let (ready, refused) = match said {
                Some(Said::Arms { ready, refused }) => (Some(ready), Some(refused)),
                _ => (None, None),
            };
            let missing = needed.iter().filter(|arm| ready.is_none_or(|ready| !ready.contains(*arm)));
            let why = |arm: &Arc<str>| refused.and_then(|refused| refused.get(arm)).cloned();
            let missing: BTreeMap<Arc<str>, String> = missing
                .map(|arm| (Arc::clone(arm), why(arm).unwrap_or_else(|| "it has not said that it has it".to_owned())))
                .collect();
            (!missing.is_empty()).then(|| (name.clone(), missing))
        };
        names.iter().filter_map(lacks).collect()
    }

    fn tell(&mut self, tidings: Tidings) {
        if let Some((_, seat)) = &self.conductor {
            self.is_unheard |= seat.tidings.try_send(tidings).is_err();
        }
    }
}

impl Controller {
    /// This member conducts experiments from now on: it is told what is known.
    pub(super) fn take_experiments(&mut self, token: Token, seat: ConductorSeat) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.experiments.conductor = Some((token, seat));
        fleet.experiments.trouble = None;
        self.brief_conductor();
    }

    pub(super) fn end_experiments(&mut self, token: Token) {
        if let Some(fleet) = &mut self.fleet
            && fleet.experiments.conductor.as_ref().is_some_and(|(term, _)| *term == token)
        {
            fleet.experiments.conductor = None;
        }
    }

    /// This member should conduct experiments and cannot.
    pub(super) fn trouble_experiments(&mut self, reason: String) {
        if let Some(fleet) = &mut self.fleet {
            fleet.experiments.trouble = Some(reason);
        }
    }

    fn brief_conductor(&mut self) {
        self.tell_members();
        let Some(fleet) = &mut self.fleet else { return };
        for session in self.sessions.values() {
            if let Some(arm) = &session.serves {
                let (node, arm) = (Arc::clone(&session.descriptor.name.0), Arc::clone(arm));
                fleet.experiments.tell(Tidings::Serves { node, arm, skew_micros: None });
            }
        }
    }

    /// Tells this member's conductor something, if it has one.
    pub(super) fn tell_conductor(&mut self, tidings: Tidings) {
        if let Some(fleet) = &mut self.fleet {
            fleet.experiments.tell(tidings);
        }
    }

    /// Other arms are in force, or models of theirs are there.
    pub(super) fn obey(&mut self, now: Timestamp, regime: Regime, models: Vec<(Arc<str>, Loaded)>) {
        let Some(fleet) = self.fleet.as_mut().filter(|fleet| regime.number >= fleet.experiments.regime.number) else {
            return;
        };
        let state = &mut fleet.experiments;
        for (arm, loaded) in models {
            match loaded {
                Ok(model) => {
                    state.refused.remove(&arm);
                    state.loaded.insert(arm, model);
                }
                Err(reason) => {
                    if state.refused.get(&arm) != Some(&reason) {
                        tracing::error!(%arm, reason, "an experiment's arm cannot be had: its blocks do not count");
                    }
                    state.refused.insert(arm, reason);
                }
            }
        }
        let before = std::mem::replace(&mut state.regime, regime);
        let now_running: BTreeSet<&String> = state.regime.challengers.keys().collect();
        for name in before.challengers.keys().collect::<BTreeSet<_>>().symmetric_difference(&now_running) {
            let data = json!({ "is_under_way": now_running.contains(name) });
            self.events.publish(now, kind::EXPERIMENT_CHANGED, name, data);
        }
        self.settle_champion(now);
        self.point_nodes(now);
        self.settle_arms(now);
        self.point_nodes(now);
        self.say_arms();
    }

    /// The champion is who was promoted last, and does what it was told since.
    fn settle_champion(&mut self, now: Timestamp) {
        let Some(fleet) = &mut self.fleet else { return };
        let state = &mut fleet.experiments;
        let is_first = !std::mem::replace(&mut state.is_begun, true);
        let (promoted, told) = (state.regime.promoted.clone(), state.regime.told);
        let before = std::mem::replace(&mut state.crowned, promoted.clone());
        let is_new_told = told.filter(|told| told.number > state.told);
        state.told = told.map_or(state.told, |told| told.number.max(state.told));
        match promoted.last() {
            last if last == before.last() => {}
            Some(last) if promoted.len() >= before.len() => {
                let (arm, version) = (last.arm.name(), last.arm.version.clone());
                if self.arms.has(&arm) { self.crown(now, &arm, version) } else { self.assume(&last.arm) }
            }
            last => {
                if let Some(undone) = before.last() {
                    self.dethrone(now, &undone.arm.name(), None);
                }
                last.into_iter().for_each(|last| self.assume(&last.arm));
            }
        }
        if let Some(told) = is_new_told {
            self.engine.set_arm(told.arm, told.reset && !is_first);
            if told.reset && !is_first {
                self.arms.reset(now, &self.engine);
            }
            self.events.publish(now, kind::ARM_SET, told.arm.name(), json!({ "reset": told.reset }));
        }
        self.announce();
    }

    /// The champion's engine does what a promoted arm does; its version is behind the registry's alias.
    fn assume(&mut self, arm: &ArmSpec) {
        self.engine.set_learning(arm.learning);
        self.engine.set_arm(if arm.orders { Arm::Nearcast } else { Arm::None }, false);
    }

    /// Lets go of arms that no experiment needs, and takes up those that are there to be.
    fn settle_arms(&mut self, now: Timestamp) {
        let Some(fleet) = &mut self.fleet else { return };
        let state = &mut fleet.experiments;
        let needed = state.regime.arms();
        let is_new = needed.iter().any(|arm| !self.arms.has(arm));
        let mut kept = needed.clone();
        // As without a fleet: what was retired can be called back until the next experiment begins.
        kept.extend((!is_new).then(|| Arc::from(RETIRED)));
        self.arms.retain(&kept);
        state.loaded.retain(|arm, _| needed.contains(arm));
        state.refused.retain(|arm, _| needed.contains(arm));
        for spec in state.regime.challengers.values() {
            let name = spec.name();
            if self.arms.has(&name) {
                continue;
            }
            if let Some(model) = state.loaded.get(&name) {
                match self.arms.add(now, spec.clone(), model.clone(), &self.engine) {
                    Ok(_) => drop(state.loaded.remove(&name)),
                    Err(refused) => drop(state.refused.insert(name, refused.to_string())),
                }
            } else {
                state.refused.entry(name).or_insert_with(|| "it is being loaded".to_owned());
            }
        }
        state.refused.retain(|arm, _| !self.arms.has(arm));
    }

    /// Tells the other members which challengers this one has.
    pub(super) fn say_arms(&mut self) {
        let Some(fleet) = &mut self.fleet else { return };
        let (own, state) = (fleet.outlets.generation(), &mut fleet.experiments);
        let ready: BTreeSet<Arc<str>> = state.regime.arms().into_iter().filter(|arm| self.arms.has(arm)).collect();
        let said = Said::Arms { ready, refused: state.refused.clone() };
        if state.is_running() {
            // It is said again with every renewal of the membership.
            let _ = fleet.outlets.tell(said.clone());
        }
        state.members.insert(own, said);
        self.tell_members();
    }

    fn tell_members(&mut self) {
        let Some(fleet) = &mut self.fleet else { return };
        let living: BTreeSet<u32> = fleet.view.members.values().filter_map(|run| run.parse().ok()).collect();
        let own = fleet.outlets.generation();
        fleet.experiments.members.retain(|member, _| living.contains(member) || *member == own);
        let arms = |member: u32| match fleet.experiments.members.get(&member) {
            Some(Said::Arms { ready, .. }) => (member, ready.clone()),
            _ => (member, BTreeSet::new()),
        };
        let members = living.into_iter().map(arms).collect();
        fleet.experiments.tell(Tidings::Members(members));
        let lacking: usize = fleet.experiments.lacking(&fleet.view.members).values().map(BTreeMap::len).sum();
        self.metrics.fleet.arms_lacking.set(i64::try_from(lacking).unwrap_or(i64::MAX));
    }

    /// A membership was renewed, or others have come or gone.
    pub(super) fn review_experiments(&mut self) {
        self.say_arms();
        let Some(fleet) = &mut self.fleet else { return };
        if std::mem::take(&mut fleet.experiments.is_unheard) {
            fleet.experiments.tell(Tidings::Missed);
            self.brief_conductor();
        }
    }

    /// Another member has said something that concerns experiments.
    pub(super) fn heard_of_experiments(&mut self, home: Home, id: Option<SessionId>, said: Said) {
        match said {
            Said::Serves { arm, skew_micros } => {
                let Some(session) = id.and_then(|id| self.sessions.get_mut(&id)) else { return };
                session.is_confirmed = session.in_force.borrow().arm == arm;
                session.serves = Some(Arc::clone(&arm));
                let node = Arc::clone(&session.descriptor.name.0);
                self.tell_conductor(Tidings::Serves { node, arm, skew_micros });
            }
            Said::Dropped { count } => {
                let Some(session) = id.and_then(|id| self.sessions.get(&id)) else { return };
                let node = Arc::clone(&session.descriptor.name.0);
                self.tell_conductor(Tidings::Dropped { node, count });
            }
            Said::Wasted { node, bytes } => self.tell_conductor(Tidings::Wasted { node: node.0, bytes }),
            said @ Said::Arms { .. } => {
                if let Some(fleet) = &mut self.fleet {
                    fleet.experiments.members.insert(home.generation, said);
                }
                self.tell_members();
            }
            Said::Asked { of, number, action, json } => self.asked_by(home, (of, number), action, json),
            Said::Answered { of, number, code, text } => {
                let Some(fleet) = self.fleet.as_mut().filter(|fleet| fleet.outlets.generation() == of) else { return };
                if let Some(reply) = fleet.experiments.waiting.remove(&number) {
                    // Whoever asked may have given up.
                    let _ = reply.send(Relayed::Answer { code, text });
                }
            }
            _ => {}
        }
    }

    fn asked_by(&mut self, home: Home, (of, number): (u32, u64), action: String, json: String) {
        let Some(fleet) = self.fleet.as_mut().filter(|fleet| fleet.outlets.generation() == of) else { return };
        let ask = RelayedAsk { from: home.generation, number, action, json };
        if fleet.experiments.answers.try_send(ask).is_err() {
            let text = "too much is asked at once; ask again".to_owned();
            self.answer_to(home.generation, number, Code::Unavailable as i32, text);
        }
    }

    /// Sends an answer to the member that asked.
    pub(super) fn answer_to(&mut self, of: u32, number: u64, code: i32, text: String) {
        let Some(fleet) = &mut self.fleet else { return };
        let is_short = text.len() <= TEXT_BYTES_MAX;
        let long = || format!("the answer is too long for the bus: ask predictor `{}` itself", fleet.name);
        let (code, text) = if is_short { (code, text) } else { (Code::FailedPrecondition as i32, long()) };
        // Whoever asked gives up after a while.
        let _ = fleet.outlets.tell(Said::Answered { of, number, code, text });
    }

    /// Passes what an operator wants on to whoever conducts, unless that is this member.
    pub(super) fn relay_ask(&mut self, action: String, json: String, reply: oneshot::Sender<Relayed>) {
        let Some(fleet) = &mut self.fleet else {
            let _ = reply.send(Relayed::Here);
            return;
        };
        let holder = fleet.view.owners.get(&experiments_office()).cloned();
        let member = holder.as_ref().and_then(|holder| fleet.view.members.get(holder)?.parse::<u32>().ok());
        let refused = if fleet.experiments.conductor.is_some() {
            Relayed::Here
        } else if member.is_none_or(|member| member == fleet.outlets.generation()) {
            Relayed::Nobody(fleet.experiments.trouble.clone())
        } else if json.len() > TEXT_BYTES_MAX {
            Relayed::TooLong(holder.unwrap_or_default())
        } else {
            let state = &mut fleet.experiments;
            state.waiting.retain(|_, reply| !reply.is_closed());
            state.asked += 1;
            let (of, number) = (member.unwrap_or_default(), state.asked);
            match fleet.outlets.tell(Said::Asked { of, number, action, json }) {
                Ok(()) => {
                    state.waiting.insert(number, reply);
                    return;
                }
                Err(_) => Relayed::Nobody(None),
            }
        };
        let _ = reply.send(refused);
    }

    /// Has this member's conductor answer.
    pub(super) fn ask_conductor(
        &self,
        now: Timestamp,
        action: ExperimentAction,
        deed: Box<Deed>,
        reply: oneshot::Sender<Result<String, Problem>>,
    ) {
        let scene = Box::new(self.scene());
        let Some(seat) = self.fleet.as_ref().and_then(|fleet| fleet.experiments.seat()).cloned() else {
            let _ = reply.send(Err(Error::OfficeLost.into()));
            return;
        };
        let refused = match action {
            ExperimentAction::Status => Some(self.experiment_document(now)),
            ExperimentAction::Start => self.check_challenger(&deed).err().map(Err),
            _ => None,
        };
        if let Some(answer) = refused {
            let _ = reply.send(answer);
            return;
        }
        if let Err(untold) = seat.tidings.try_send(Tidings::Experiment { action, deed, scene, reply })
            && let Tidings::Experiment { reply, .. } = untold.into_inner()
        {
            let _ = reply.send(Err(Error::OfficeLost.into()));
        }
    }

    /// Has this member's conductor tell the champion of all members something.
    pub(super) fn ask_to_set_arm(&self, arm: Arm, reset: bool, done: oneshot::Sender<Result<(), Problem>>) {
        let Some(seat) = self.fleet.as_ref().and_then(|fleet| fleet.experiments.seat()) else {
            let _ = done.send(Err(Error::OfficeLost.into()));
            return;
        };
        if let Err(untold) = seat.tidings.try_send(Tidings::SetArm { arm, reset, done })
            && let Tidings::SetArm { done, .. } = untold.into_inner()
        {
            let _ = done.send(Err(Error::OfficeLost.into()));
        }
    }

    /// Whether a command may reach a node of this member: what another orders for an arm that is not in force there comes
    /// from a member that lacks the one that is, or has not heard of it yet.
    pub(super) fn is_of_arm_in_force(&self, id: SessionId, resource: &Resource, arm: &str) -> bool {
        let in_force = || self.sessions.get(&id).is_some_and(|session| *session.in_force.borrow().arm == *arm);
        // Who places keys goes by what is in force as it knows it, and its copies are of no arm.
        matches!(resource, Resource::Office(_)) || in_force()
    }

    /// The nodes that are connected here say something that the conductor must know.
    pub(super) fn note_serves(&mut self, id: SessionId, arm: &str, skew_micros: i64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if matches!(session.way, Way::At(_)) || self.fleet.is_none() {
            return;
        }
        let (node, arm): (Arc<str>, Arc<str>) = (Arc::clone(&session.descriptor.name.0), arm.into());
        session.serves = Some(Arc::clone(&arm));
        let skew_micros = Some(skew_micros);
        self.say(id, &Said::Serves { arm: Arc::clone(&arm), skew_micros });
        self.tell_conductor(Tidings::Serves { node, arm, skew_micros });
    }

    /// The same of bytes that were fetched in vain, as this member had ordered.
    pub(super) fn note_wasted(&mut self, id: SessionId, bytes: u64) {
        let Some(session) = self.sessions.get(&id) else { return };
        let name = session.descriptor.name.clone();
        let Some(fleet) = self.fleet.as_mut().filter(|_| bytes > 0) else { return };
        if fleet.outlets.say(&name, 0, &Said::Wasted { node: name.clone(), bytes }).is_err() {
            tracing::debug!(node = %name, bytes, "wasted bytes could not be told");
        }
        self.tell_conductor(Tidings::Wasted { node: name.0, bytes });
    }

    /// The same of requests that a node could not log.
    pub(super) fn note_dropped(&mut self, id: SessionId, count: u64) {
        let Some(session) = self.sessions.get(&id).filter(|_| count > 0) else { return };
        let node = Arc::clone(&session.descriptor.name.0);
        self.say(id, &Said::Dropped { count });
        self.tell_conductor(Tidings::Dropped { node, count });
    }
}

/// What fits a record of the bus with all else that is in it.
const TEXT_BYTES_MAX: usize = 900_000;
