//! What the task that owns the engine is told and asked.

use std::{sync::Arc, time::Duration};

use nearcast_bus::{Token, fleet::FleetView};
use nearcast_experiment::stage::Action;
use nearcast_models::Model;
use nearcast_proto::message::{
    CacheMap, Command, Epoch, Member, NodeDescriptor, NodeName, NodeReport, PlacementPosition, PurgePosition,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    controller::{ExplainDocument, Facts, KeyStory},
    fleet::{ConductorSeat, Loaded, NodeRecord, OrderRecord, Regime},
    status::{NodeStatus, StatusDocument},
};
use crate::{
    engine::{Arm, PartState, StateUnreadable},
    experiments::{Deed, FullReport, Problem},
    fleet::LogRecord,
    placing::{Placing, Planned},
};

/// One stream of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionId(pub(super) u64);

/// A message to the engine's task.
#[derive(Debug)]
pub(super) enum Input {
    /// A node has said hello.
    Join(Box<Arrival>, oneshot::Sender<Result<Joined, JoinRefused>>),
    /// A stream has ended.
    Leave(SessionId),
    /// A node has said something else.
    Report(SessionId, NodeReport),
    /// A version is loaded and to be put into service.
    InstallModel { version: Arc<str>, model: Arc<Model> },
    /// A version could not be loaded.
    RefuseModel { version: Arc<str>, reason: String },
    /// The champion is to do something else; refused while an experiment compares it.
    SetArm { arm: Arm, reset: bool, done: oneshot::Sender<Result<(), Problem>> },
    /// Somebody wants to know how things are.
    Status(oneshot::Sender<StatusDocument>),
    /// An operator wants something of, or about, experiments.
    Experiment {
        action: ExperimentAction,
        deed: Box<Deed>,
        /// The challenger's, for a start, and for an undo of a promotion that of the champion before.
        model: Option<(Arc<str>, Arc<Model>)>,
        reply: oneshot::Sender<Result<String, Problem>>,
    },
    /// Somebody wants to know which nodes hold a key.
    Locate(Arc<str>, oneshot::Sender<Vec<Member>>),
    /// A plan has been made.
    Planned(Planned),
    /// Somebody wants to know why a key is where it is.
    Explain(Arc<str>, oneshot::Sender<ExplainDocument>),
    /// A node is to be drained, or used again; the reply is how many keys are bound to it, `None` when nobody knows it.
    Drain { node: NodeName, undo: bool, reply: oneshot::Sender<Option<u64>> },
    /// Somebody wants to know every node that ever joined.
    Nodes(oneshot::Sender<Vec<NodeStatus>>),
    /// Somebody wants to know how things are, and what was counted.
    Facts(oneshot::Sender<Facts>),
    /// The same, and what led experiments to where they are.
    Page(oneshot::Sender<(Facts, Vec<FullReport>)>),
    /// Somebody wants to know about one key.
    KeyStory(Arc<str>, oneshot::Sender<KeyStory>),
    /// What follows exists in a fleet of predictors alone. A batch of a session is kept by the bus.
    Kept(SessionId, u64),
    /// A partition is owned from now on, and this is what is known of its clients.
    BeginPartition {
        partition: u32,
        token: Token,
        part: Option<Box<PartState>>,
        reply: oneshot::Sender<Result<(), StateUnreadable>>,
    },
    /// Batches of a partition are to be learnt from.
    Learn { partition: u32, token: Token, batches: Vec<LogRecord> },
    /// What was learnt of a partition is to be written down.
    PartState(u32, oneshot::Sender<Option<PartState>>),
    /// A partition is owned no more.
    EndPartition { partition: u32, token: Token },
    /// Another member says something of a node, or to us.
    Heard(NodeRecord),
    /// What other members said cannot be read any more.
    Missed,
    /// A member has given a command to a node.
    Order(OrderRecord),
    /// Who takes part, who owns what, and for how long this member does for sure.
    View(FleetView, Option<Duration>),
    /// This member places keys for all from now on, under a token.
    TakeOffice { token: Token, placing: Box<Placing> },
    /// It does so no more.
    EndOffice(Token),
    /// A plan has been made in a term of the office.
    OfficePlanned { token: Token, planned: Planned },
    /// What clients ask for, for whoever places keys.
    Demand(LogRecord),
    /// These arms are in force, and models of some of them are there, or cannot be had.
    Obey(Box<Regime>, Vec<(Arc<str>, Loaded)>),
    /// This member conducts experiments for all from now on.
    TakeExperiments { token: Token, seat: ConductorSeat },
    /// It does so no more.
    EndExperiments(Token),
    /// It should and cannot.
    ExperimentsTrouble(String),
    /// An operator wants something that whoever conducts experiments does: an action and a document.
    Relay { action: String, json: String, reply: oneshot::Sender<Relayed> },
    /// What another member asked for is done, or refused.
    Answer { of: u32, number: u64, code: i32, text: String },
}

/// What another member asks this one, for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RelayedAsk {
    /// The generation of that member.
    pub(super) from: u32,
    /// Its number of it.
    pub(super) number: u64,
    pub(super) action: String,
    pub(super) json: String,
}

/// What becomes of what an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Relayed {
    /// It is for this member.
    Here,
    /// Nobody conducts experiments, and perhaps why.
    Nobody(Option<String>),
    /// It is too long for the bus, and for this member.
    TooLong(String),
    /// Another member's answer, as a status code and a document or message.
    Answer { code: i32, text: String },
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExperimentAction {
    /// Where all experiments are.
    Status,
    /// What a question would come to.
    Plan,
    /// To begin one.
    Start,
    /// One with all that led to where it is.
    Report,
    /// Which version the alias is to point at before this goes on its record.
    Foresee(Action),
    /// Something that goes on its record.
    Change(Action),
}

/// A node that says hello.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) node: NodeDescriptor,
    /// Which start of the node it is: later ones have greater numbers.
    pub(super) stream: u64,
    pub(super) purges: Option<PurgePosition>,
    pub(super) placement: Option<PlacementPosition>,
}

/// A session's ends that its stream works with.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) session: SessionId,
    pub(super) epoch: Epoch,
    /// The arm and the model version in force, as they change.
    pub(super) in_force: watch::Receiver<InForce>,
    /// Commands for the node.
    pub(super) commands: mpsc::Receiver<Command>,
    /// The latest cache map.
    pub(super) map: watch::Receiver<Arc<CacheMap>>,
    /// The last batch of requests that was taken.
    pub(super) taken: watch::Receiver<u64>,
}

/// What nodes write beside every request they log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InForce {
    pub(super) arm: Arc<str>,
    /// Empty while there is no model.
    pub(super) model_version: Arc<str>,
    /// Rises with every change.
    pub(super) assignment: u64,
}

/// Why a node may not join.
#[derive(Debug, thiserror::Error)]
pub(super) enum JoinRefused {
    /// A live node has the name.
    #[error(
        "node `{name}` of region `{region}` is already connected; give each node its own name, or wait until the other one's connection is found dead"
    )]
    NameTaken { name: Arc<str>, region: Arc<str> },
    /// Another node would be one too many.
    #[error("{nodes_max} nodes have joined, which is the configured limit `engine.nodes_max`")]
    TooManyNodes { nodes_max: usize },
    /// The node's region has no place.
    #[error(transparent)]
    UnknownRegion(nearcast_proto::Error),
}
