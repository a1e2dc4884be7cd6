//! Turns messages into calls of the engine and its orders into commands. Synchronous: it never waits.

mod answers;
mod arms;
mod experiments;
mod fleet;
#[cfg(test)]
mod fleet_tests;
mod ledger;
mod office;
mod orders;
mod placement;
mod regime;
mod reports;
mod tally;

pub(super) use self::{experiments::Resumed, fleet::FleetSide};

use std::{collections::BTreeMap, sync::Arc};

use nearcast_datasets::{Set, Timestamp};
use nearcast_models::Model;
use nearcast_proto::message::{Command, Member, NodeDescriptor, NodeName, NodeReport};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use self::ledger::Ledger;
pub(super) use self::{
    answers::{Facts, KeyStory},
    arms::ArmFacts,
    tally::{NodeTally, Outcomes, Tallies},
};
use super::{
    fleet::{Home, Said},
    input::{Arrival, InForce, Input, JoinRefused, Joined, SessionId},
    members::Members,
    status::{ModelRefused, ModelStatus, NodeStatus, SCHEMA, StatusDocument},
};
use crate::{
    PredictorConfig,
    arms::Arms,
    engine::{Arm, Engine, NodeIndex},
    events::{EventBus, kind, rfc3339},
    experiments::Experiments,
    generation::Generation,
    metrics::{Metrics, ModelLabel, NodeLabel},
    placing::Placing,
    purges::PurgeLog,
};

pub(super) use self::placement::ExplainDocument;

/// Owns the engine and everything that belongs to connected nodes.
#[derive(Debug)]
pub(super) struct Controller {
    /// The champion's.
    engine: Engine,
    /// Who is in force where, and every other engine.
    arms: Arms,
    /// This predictor's own; none in a fleet, where one conducts them for all.
    experiments: Option<Experiments>,
    /// When experiments want to be woken.
    due: Option<Timestamp>,
    /// A version that waits until no experiment is under way: what is compared must not change.
    held_back: Option<(Arc<str>, Arc<Model>)>,
    /// The version that was champion before the last promotion.
    retired: Option<Arc<str>>,
    generation: Generation,
    purges: Arc<PurgeLog>,
    alias: String,
    /// What the configuration has the champion do.
    arm: Arm,
    commands_max: usize,
    members: Members,
    sessions: BTreeMap<SessionId, Session>,
    by_node: BTreeMap<NodeIndex, SessionId>,
    sessions_started: u64,
    model: Option<ModelStatus>,
    model_refused: Option<ModelRefused>,
    tallies: Tallies,
    ledger: Ledger,
    events: EventBus,
    metrics: Metrics,
    placing: Option<Placing>,
    /// Nodes that nobody is sent to although they are there.
    draining: Set<NodeName>,
    /// By node: its start and the last batch of requests that was taken from that.
    reported: BTreeMap<NodeName, (u64, u64)>,
    /// What is shared with other predictors.
    fleet: Option<FleetSide>,
}

/// How commands get to a node.
#[derive(Debug)]
enum Way {
    /// It is connected here.
    Here(mpsc::Sender<Command>),
    /// It is connected to another predictor.
    At(Home),
}

/// A connected node.
#[derive(Debug)]
struct Session {
    node: NodeIndex,
    descriptor: NodeDescriptor,
    label: NodeLabel,
    way: Way,
    /// Which start of the node it is.
    stream: u64,
    /// Whether other predictors know less of it than they were to be told.
    is_unsaid: bool,
    /// Whether other predictors wait for the end of its inventory.
    is_asked: bool,
    /// Its position in placement, if it has one.
    position: Option<usize>,
    taken: watch::Sender<u64>,
    /// What is in force at the node.
    in_force: watch::Sender<InForce>,
    /// Whether the node says that it serves that.
    is_confirmed: bool,
    /// In a fleet, the arm that the node said last that it serves.
    serves: Option<Arc<str>>,
    /// Whether the last page of the inventory has come.
    inventory_complete: bool,
    sequence: Option<u64>,
}

impl Controller {
    pub(super) fn new(
        engine: Engine,
        experiments: Option<Experiments>,
        generation: Generation,
        purges: Arc<PurgeLog>,
        config: &PredictorConfig,
        events: EventBus,
        metrics: Metrics,
    ) -> Self {
        let arms = Arms::new(config.shadow);
        Self {
            engine,
            // In a fleet each predictor sees but a part of a node's requests.
            arms: if experiments.is_some() { arms } else { arms.without_miniatures() },
            experiments,
            due: None,
            held_back: None,
            retired: None,
            generation,
            purges,
            alias: config.alias.clone(),
            arm: config.arm,
            commands_max: config.queues.commands_max,
            members: Members::new(generation),
            sessions: BTreeMap::new(),
            by_node: BTreeMap::new(),
            sessions_started: 0,
            model: None,
            model_refused: None,
            tallies: Tallies::default(),
            ledger: Ledger::default(),
            events,
            metrics,
            placing: None,
            draining: Set::default(),
            reported: BTreeMap::new(),
            fleet: None,
        }
    }

    /// The same, placing keys.
    pub(super) fn with_placing(mut self, placing: Option<Placing>) -> Self {
        self.draining = placing.iter().flat_map(Placing::draining).collect();
        self.placing = placing;
        self
    }

    /// Takes a message and sends the commands that follow from it.
    pub(super) fn apply(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Join(arrival, reply) => self.join_and_reply(now, *arrival, reply),
            Input::Leave(session) => self.leave(now, session),
            Input::Report(session, report) => self.report(now, session, &report),
            Input::InstallModel { version, model } => self.install_model(now, version, model),
            Input::RefuseModel { version, reason } => self.refuse_model(now, version, reason),
            Input::SetArm { arm, reset, done } => self.set_arm(now, arm, reset, done),
            Input::Status(reply) => drop(reply.send(self.status(now))),
            Input::Experiment { action, deed, model, reply } => self.experiment(now, action, deed, model, reply),
            Input::Locate(key, reply) => drop(reply.send(self.locate(&key))),
            Input::Planned(planned) => self.planned(now, &planned),
            Input::Explain(key, reply) => drop(reply.send(self.explain(&key))),
            Input::Drain { node, undo, reply } => drop(reply.send(self.drain(now, &node, undo))),
            Input::Nodes(reply) => drop(reply.send(self.nodes())),
            Input::Facts(reply) => drop(reply.send(self.facts(now))),
            Input::Page(reply) => drop(reply.send((self.facts(now), self.experiment_reports(now)))),
            Input::KeyStory(key, reply) => drop(reply.send(self.key_story(&key))),
            input => self.apply_of_fleet(now, input),
        }
        self.send_orders(now);
        self.send_placement(now);
    }

    /// When [`Controller::handle_timeout`] should be called next. Ask again after every call of another function.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        let placing = self.placing.as_ref().and_then(Placing::poll_timeout);
        [self.arms.poll_timeout(&self.engine), self.due, placing].into_iter().flatten().min()
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.arms.handle_timeout(now, &mut self.engine);
        if let Some(placing) = &mut self.placing {
            placing.handle_timeout(now);
        }
        self.tick(now);
        self.send_orders(now);
        self.send_placement(now);
    }

    /// Nothing more will come: what must be known after a restart is written down.
    pub(super) fn close(&mut self) {
        self.experiments.iter_mut().for_each(Experiments::close);
        self.placing.iter().for_each(Placing::close);
    }

    fn join_and_reply(
        &mut self,
        now: Timestamp,
        arrival: Arrival,
        reply: oneshot::Sender<Result<Joined, JoinRefused>>,
    ) {
        let joined = self.join(now, arrival);
        // A node that hung up in the meantime would otherwise stay a member for ever.
        if let Err(Ok(unclaimed)) = reply.send(joined) {
            self.leave(now, unclaimed.session);
        }
    }

    fn join(&mut self, now: Timestamp, arrival: Arrival) -> Result<Joined, JoinRefused> {
        let name = &arrival.node.name;
        let mut moved = None;
        if let Some((id, session)) = self.session_of(name) {
            // The same start of it has but one connection: the other one is dead, and not found so yet. One that is
            // connected elsewhere has left there, but for the news of it.
            let is_another = matches!(session.way, Way::Here(_)) && arrival.stream != session.stream;
            if is_another || arrival.stream < session.stream {
                let region = Arc::clone(&session.descriptor.region);
                return Err(JoinRefused::NameTaken { name: Arc::clone(&name.0), region });
            }
            moved = Some(id);
        }
        self.check_arrival(&arrival.node)?;
        moved.into_iter().for_each(|id| self.leave(now, id));
        let hello = Said::Joined {
            stream: arrival.stream,
            hello: Box::new(NodeReport::Hello {
                node: arrival.node.clone(),
                code_version: String::new(),
                purges: arrival.purges.clone(),
                placement: arrival.placement.clone(),
                stream: arrival.stream,
            }),
        };
        let joined = self.admit(now, arrival, None);
        self.say(joined.session, &hello);
        Ok(joined)
    }

    /// Whether a node that is not connected may be.
    fn check_arrival(&self, node: &NodeDescriptor) -> Result<(), JoinRefused> {
        let nodes_max = self.engine.config().settings().nodes_max;
        if self.members.find(&node.name).is_none() && self.members.len() >= nodes_max {
            return Err(JoinRefused::TooManyNodes { nodes_max });
        }
        self.engine.topology().check_regions(&[&node.region]).map_err(JoinRefused::UnknownRegion)
    }

    /// Takes a node in that is connected here, or at another predictor.
    fn admit(&mut self, now: Timestamp, arrival: Arrival, home: Option<Home>) -> Joined {
        let Arrival { node, stream, .. } = arrival;
        let index = self.arms.handle_join(now, &node, &mut self.engine);
        self.note_known(&node.name, index);
        self.point(now, index, &node.name.0);
        self.sessions_started += 1;
        let id = SessionId(self.sessions_started);
        let (commands, commands_out) = mpsc::channel(self.commands_max);
        let (taken, taken_out) = watch::channel(0);
        let (in_force, in_force_out) = watch::channel(self.in_force(index, 1));
        self.events.publish(now, kind::NODE_JOINED, &node.name.0, json!({ "region": node.region, "url": node.url }));
        tracing::info!(node = %node.name, region = %node.region, "node joined");
        self.members.set(node.clone(), !self.draining.contains(&node.name));
        let position = self.placing.as_mut().and_then(|placing| placing.handle_join(&node));
        let label = NodeLabel { node: node.name.0.as_ref().to_owned() };
        self.metrics.add_node(&label);
        let session = Session {
            node: index,
            descriptor: node,
            label,
            way: home.map_or(Way::Here(commands), Way::At),
            stream,
            is_unsaid: false,
            is_asked: false,
            position,
            taken,
            in_force,
            is_confirmed: false,
            serves: None,
            inventory_complete: true,
            sequence: None,
        };
        self.sessions.insert(id, session);
        self.by_node.insert(index, id);
        self.show_sessions();
        Joined {
            session: id,
            epoch: self.members.map().epoch,
            in_force: in_force_out,
            commands: commands_out,
            map: self.members.watch(),
            taken: taken_out,
        }
    }

    fn leave(&mut self, now: Timestamp, id: SessionId) {
        self.say(id, &Said::Left);
        let Some(session) = self.sessions.remove(&id) else { return };
        if let Way::At(home) = session.way {
            self.note_gone(home);
        }
        self.by_node.remove(&session.node);
        self.arms.handle_leave(now, session.node, &mut self.engine);
        self.events.publish(now, kind::NODE_LEFT, &session.descriptor.name.0, json!({}));
        tracing::info!(node = %session.descriptor.name, "node left");
        self.members.set(session.descriptor, false);
        if let (Some(placing), Some(position)) = (&mut self.placing, session.position) {
            placing.handle_leave(now, position);
        }
        self.show_sessions();
    }

    fn show_sessions(&self) {
        let here = self.sessions.values().filter(|session| matches!(session.way, Way::Here(_))).count();
        self.metrics.sessions.set(i64::try_from(here).unwrap_or(i64::MAX));
    }

    fn install_model(&mut self, now: Timestamp, version: Arc<str>, model: Arc<Model>) {
        // As after a promotion, when the alias has followed.
        if self.model.as_ref().is_some_and(|running| running.version == version) {
            return;
        }
        if self.model.is_some() && self.is_comparing() {
            tracing::warn!(%version, "an experiment is under way: the version waits until it has ended");
            self.held_back = Some((version, model));
            return;
        }
        if let Some(placing) = &mut self.placing {
            placing.handle_model(Arc::clone(&model));
        }
        self.engine.install_model(now, Arc::clone(&version), model);
        self.events.publish(now, kind::MODEL_INSTALLED, &version, json!({ "alias": self.alias }));
        tracing::info!(%version, "model in service");
        self.metrics.model_swaps.inc();
        self.model_refused = None;
        self.model = Some(ModelStatus { version, since: rfc3339(now) });
        self.show_model();
        self.announce();
    }

    fn show_model(&self) {
        self.metrics.model_info.clear();
        if let Some(model) = &self.model {
            let label = ModelLabel { version: model.version.as_ref().to_owned(), alias: self.alias.clone() };
            self.metrics.model_info.get_or_create(&label).set(1);
        }
    }

    /// Tells every node which arm and model version are in force there, so that what it logs from now on says so.
    fn announce(&mut self) {
        let mut sessions = std::mem::take(&mut self.sessions);
        for session in sessions.values_mut() {
            let assignment = session.in_force.borrow().assignment;
            let now = self.in_force(session.node, assignment);
            if *session.in_force.borrow() != now {
                // A node that is connected elsewhere may have been told there already.
                session.is_confirmed = matches!(session.way, Way::At(_)) && session.serves.as_ref() == Some(&now.arm);
                session.in_force.send_replace(InForce { assignment: assignment + 1, ..now });
            }
        }
        self.sessions = sessions;
    }

    /// What is in force at a node.
    fn in_force(&self, node: NodeIndex, assignment: u64) -> InForce {
        match self.arms.at(node) {
            (Some(arm), version) => {
                let model_version = version.cloned().unwrap_or_else(|| Arc::from(""));
                InForce { arm: Arc::clone(arm), model_version, assignment }
            }
            (None, _) => {
                let arm = Arc::from(self.engine.arm().name());
                InForce { arm, model_version: self.model_version(), assignment }
            }
        }
    }

    fn refuse_model(&mut self, now: Timestamp, version: Arc<str>, reason: String) {
        tracing::error!(%version, %reason, "model refused; the running one stays in service");
        self.metrics.model_refusals.inc();
        self.events.publish(now, kind::MODEL_REFUSED, &version, json!({ "reason": reason }));
        self.model_refused = Some(ModelRefused { version, reason });
    }

    fn model_version(&self) -> Arc<str> {
        self.model.as_ref().map_or_else(|| Arc::from(""), |model| Arc::clone(&model.version))
    }

    /// Every node that ever joined.
    fn nodes(&self) -> Vec<NodeStatus> {
        let node = |member: &Member| {
            let session = self.session_named(&member.node.name);
            NodeStatus {
                name: Arc::clone(&member.node.name.0),
                region: Arc::clone(&member.node.region),
                url: Arc::clone(&member.node.url),
                capacity_bytes: member.node.capacity_bytes,
                segment_bytes: member.node.segment_bytes,
                alive: member.alive,
                draining: self.draining.contains(&member.node.name),
                purge_epoch: self.purges.progress(&member.node.name).unwrap_or(0),
                inventory_complete: member.alive && session.is_none_or(|session| session.inventory_complete),
                is_confirmed: session.is_some_and(|session| session.is_confirmed),
                is_elsewhere: session.is_some_and(|session| matches!(session.way, Way::At(_))),
            }
        };
        self.members.map().members.iter().map(node).collect()
    }

    fn session_named(&self, name: &NodeName) -> Option<&Session> {
        self.session_of(name).map(|(_, session)| session)
    }

    fn session_of(&self, name: &NodeName) -> Option<(SessionId, &Session)> {
        let mut sessions = self.sessions.iter();
        sessions.find(|(_, session)| session.descriptor.name == *name).map(|(id, session)| (*id, session))
    }

    fn status(&self, now: Timestamp) -> StatusDocument {
        StatusDocument {
            schema: SCHEMA,
            code_version: env!("CARGO_PKG_VERSION"),
            epoch: self.members.map().epoch.0,
            arm: self.engine.arm(),
            arms: self.arms.status(&self.engine),
            experiments: self.experiment_status(now),
            version_held_back: self.held_back.as_ref().map(|(version, _)| Arc::clone(version)),
            model: self.model.clone(),
            model_refused: self.model_refused.clone(),
            purge_epoch: self.purges.latest(),
            nodes: self.nodes(),
            account: self.engine.account().clone(),
            placement: self.placing.as_ref().map(Placing::status),
            fleet: self.fleet_status(),
        }
    }

    /// The live nodes that hold some segment of a key.
    fn locate(&self, key: &str) -> Vec<Member> {
        let holds =
            |session: &&Session| self.arms.engine_at(session.node, &self.engine).segments_held(key, session.node) > 0;
        let member = |session: &Session| Member { node: session.descriptor.clone(), alive: true };
        let mut holders: Vec<Member> = self.sessions.values().filter(holds).map(member).collect();
        holders.sort_by(|a, b| a.node.name.cmp(&b.node.name));
        holders
    }
}
