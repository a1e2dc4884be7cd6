//! Turns messages into calls of the engine and its orders into commands. Synchronous: it never waits.

mod answers;
mod arms;
mod ledger;
mod orders;
mod reports;
mod tally;

use std::{collections::BTreeMap, sync::Arc};

use nearcast_datasets::{SegmentId, Timestamp};
use nearcast_models::Model;
use nearcast_proto::message::{Command, Member, NodeDescriptor};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use self::ledger::Ledger;
pub(super) use self::{
    answers::{Facts, KeyStory},
    arms::ArmFacts,
    tally::{NodeTally, Outcomes, Tallies},
};
use super::{
    input::{InForce, Input, JoinRefused, Joined, SessionId},
    members::Members,
    status::{ModelRefused, ModelStatus, NodeStatus, SCHEMA, StatusDocument},
};
use crate::{
    engine::{Arm, Engine, NodeIndex},
    events::{EventBus, kind, rfc3339},
    generation::Generation,
    metrics::{Metrics, ModelLabel, NodeLabel},
    purges::PurgeLog,
};

/// Owns the engine and everything that belongs to connected nodes.
#[derive(Debug)]
pub(super) struct Controller {
    engine: Engine,
    generation: Generation,
    purges: Arc<PurgeLog>,
    alias: String,
    commands_max: usize,
    members: Members,
    sessions: BTreeMap<SessionId, Session>,
    by_node: BTreeMap<NodeIndex, SessionId>,
    sessions_started: u64,
    model: Option<ModelStatus>,
    model_refused: Option<ModelRefused>,
    in_force: watch::Sender<InForce>,
    tallies: Tallies,
    ledger: Ledger,
    events: EventBus,
    metrics: Metrics,
}

/// A connected node.
#[derive(Debug)]
struct Session {
    node: NodeIndex,
    descriptor: NodeDescriptor,
    label: NodeLabel,
    commands: mpsc::Sender<Command>,
    taken: watch::Sender<u64>,
    /// Whether the last page of the inventory has come.
    inventory_complete: bool,
    sequence: Option<u64>,
}

impl Controller {
    pub(super) fn new(
        engine: Engine,
        generation: Generation,
        purges: Arc<PurgeLog>,
        alias: String,
        commands_max: usize,
        events: EventBus,
        metrics: Metrics,
    ) -> Self {
        let (in_force, _) = watch::channel(InForce { arm: engine.arm(), model_version: Arc::from("") });
        Self {
            engine,
            generation,
            purges,
            alias,
            commands_max,
            members: Members::new(generation),
            sessions: BTreeMap::new(),
            by_node: BTreeMap::new(),
            sessions_started: 0,
            model: None,
            model_refused: None,
            in_force,
            tallies: Tallies::default(),
            ledger: Ledger::default(),
            events,
            metrics,
        }
    }

    /// Takes a message and sends the commands that follow from it.
    pub(super) fn apply(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Join(node, reply) => self.join_and_reply(now, node, reply),
            Input::Leave(session) => self.leave(now, session),
            Input::Report(session, report) => self.report(now, session, &report),
            Input::InstallModel { version, model } => self.install_model(now, version, model),
            Input::RefuseModel { version, reason } => self.refuse_model(now, version, reason),
            Input::SetArm { arm, reset, done } => {
                self.engine.set_arm(arm, reset);
                self.announce();
                self.events.publish(now, kind::ARM_SET, arm_name(arm), json!({ "reset": reset }));
                // The caller may have given up waiting; the arm is set all the same.
                let _ = done.send(());
            }
            Input::Status(reply) => drop(reply.send(self.status())),
            Input::Locate(key, reply) => drop(reply.send(self.locate(&key))),
            Input::Facts(reply) => drop(reply.send(self.facts())),
            Input::KeyStory(key, reply) => drop(reply.send(self.key_story(&key))),
        }
        self.send_orders(now);
    }

    /// When [`Controller::handle_timeout`] should be called next. Ask again after every call of another function.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.engine.poll_timeout()
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.engine.handle_timeout(now);
        self.send_orders(now);
    }

    fn join_and_reply(
        &mut self,
        now: Timestamp,
        node: NodeDescriptor,
        reply: oneshot::Sender<Result<Joined, JoinRefused>>,
    ) {
        let joined = self.join(now, node);
        // A node that hung up in the meantime would otherwise stay a member for ever.
        if let Err(Ok(unclaimed)) = reply.send(joined) {
            self.leave(now, unclaimed.session);
        }
    }

    fn join(&mut self, now: Timestamp, node: NodeDescriptor) -> Result<Joined, JoinRefused> {
        match self.members.find(&node.name) {
            Some(member) if member.alive => {
                let region = Arc::clone(&member.node.region);
                return Err(JoinRefused::NameTaken { name: node.name.0, region });
            }
            Some(_) => {}
            None => {
                let nodes_max = self.engine.config().settings().nodes_max;
                if self.members.len() >= nodes_max {
                    return Err(JoinRefused::TooManyNodes { nodes_max });
                }
            }
        }
        self.engine.topology().check_regions(&[&node.region]).map_err(JoinRefused::UnknownRegion)?;
        Ok(self.admit(now, node))
    }

    fn admit(&mut self, now: Timestamp, node: NodeDescriptor) -> Joined {
        let index = self.engine.handle_join(now, node.clone());
        self.sessions_started += 1;
        let id = SessionId(self.sessions_started);
        let (commands, commands_out) = mpsc::channel(self.commands_max);
        let (taken, taken_out) = watch::channel(0);
        self.events.publish(now, kind::NODE_JOINED, &node.name.0, json!({ "region": node.region, "url": node.url }));
        tracing::info!(node = %node.name, region = %node.region, "node joined");
        self.members.set(node.clone(), true);
        let label = NodeLabel { node: node.name.0.as_ref().to_owned() };
        self.metrics.add_node(&label);
        let session =
            Session { node: index, descriptor: node, label, commands, taken, inventory_complete: true, sequence: None };
        self.sessions.insert(id, session);
        self.by_node.insert(index, id);
        self.metrics.sessions.set(i64::try_from(self.sessions.len()).unwrap_or(i64::MAX));
        Joined {
            session: id,
            epoch: self.members.map().epoch,
            in_force: self.in_force.subscribe(),
            commands: commands_out,
            map: self.members.watch(),
            taken: taken_out,
        }
    }

    fn leave(&mut self, now: Timestamp, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.by_node.remove(&session.node);
        self.engine.handle_leave(now, session.node);
        self.events.publish(now, kind::NODE_LEFT, &session.descriptor.name.0, json!({}));
        tracing::info!(node = %session.descriptor.name, "node left");
        self.members.set(session.descriptor, false);
        self.metrics.sessions.set(i64::try_from(self.sessions.len()).unwrap_or(i64::MAX));
    }

    fn install_model(&mut self, now: Timestamp, version: Arc<str>, model: Arc<Model>) {
        self.engine.install_model(now, Arc::clone(&version), model);
        self.events.publish(now, kind::MODEL_INSTALLED, &version, json!({ "alias": self.alias }));
        tracing::info!(%version, "model in service");
        self.metrics.model_info.clear();
        let label = ModelLabel { version: version.as_ref().to_owned(), alias: self.alias.clone() };
        self.metrics.model_info.get_or_create(&label).set(1);
        self.metrics.model_swaps.inc();
        self.model_refused = None;
        self.model = Some(ModelStatus { version, since: rfc3339(now) });
        self.announce();
    }

    /// Tells every node which arm and model version are in force, so that what it logs from now on says so.
    fn announce(&self) {
        let now = InForce { arm: self.engine.arm(), model_version: self.model_version() };
        self.in_force.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
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

    fn status(&self) -> StatusDocument {
        let map = self.members.map();
        let incomplete = |name: &Arc<str>| {
            self.sessions.values().any(|session| session.descriptor.name.0 == *name && !session.inventory_complete)
        };
        let node = |member: &Member| NodeStatus {
            name: Arc::clone(&member.node.name.0),
            region: Arc::clone(&member.node.region),
            url: Arc::clone(&member.node.url),
            capacity_bytes: member.node.capacity_bytes,
            segment_bytes: member.node.segment_bytes,
            alive: member.alive,
            purge_epoch: self.purges.progress(&member.node.name).unwrap_or(0),
            inventory_complete: member.alive && !incomplete(&member.node.name.0),
        };
        StatusDocument {
            schema: SCHEMA,
            code_version: env!("CARGO_PKG_VERSION"),
            epoch: map.epoch.0,
            arm: self.engine.arm(),
            model: self.model.clone(),
            model_refused: self.model_refused.clone(),
            purge_epoch: self.purges.latest(),
            nodes: map.members.iter().map(node).collect(),
            account: self.engine.account().clone(),
        }
    }

    /// The live nodes that hold some segment of a key.
    fn locate(&mut self, key: &str) -> Vec<Member> {
        let key = self.engine.intern_key(key);
        let mut holders: Vec<Member> = Vec::new();
        for session in self.sessions.values() {
            let first = SegmentId { key, index: 0 };
            if self.engine.cache_map().holds(session.node, first) {
                holders.push(Member { node: session.descriptor.clone(), alive: true });
            }
        }
        holders.sort_by(|a, b| a.node.name.cmp(&b.node.name));
        holders
    }
}

/// The word for an arm.
pub(super) const fn arm_name(arm: Arm) -> &'static str {
    match arm {
        Arm::None => "none",
        Arm::Nearcast => "nearcast",
    }
}
