//! The gRPC service for operators' tools.

use std::{sync::Arc, time::Duration};

use nearcast_models::Registry;
use nearcast_proto::{
    AdminToken, config_file,
    message::{NodeName, Purge},
    wire,
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tonic::{Request, Response, Status};

use super::{
    experiment_control::{parse_action, status},
    fleet::{PurgeRefused, SharedPurges},
    input::{ExperimentAction, Input},
    inputs::Inputs,
    status::{NodeStatus, StatusDocument},
    streams::unavailable,
};
use crate::{engine::Arm, purges::PurgeLog};

/// Answers operators.
#[derive(Clone, Debug)]
pub(super) struct ControlService {
    pub(super) inputs: Inputs,
    pub(super) purges: Arc<PurgeLog>,
    /// What whoever changes something must know.
    pub(super) token: Option<AdminToken>,
    pub(super) versions: Option<Versions>,
    /// The way of purges in a fleet.
    pub(super) shared: Option<SharedPurges>,
}

#[tonic::async_trait]
impl wire::control_server::Control for ControlService {
    async fn status(&self, _request: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        let document = self.inputs.ask(Input::Status).await.map_err(unavailable)?;
        Ok(Response::new(status_reply(&document)?))
    }

    async fn locate(&self, request: Request<wire::LocateRequest>) -> Result<Response<wire::LocateReply>, Status> {
        let key = request.into_inner().key;
        let holders = self.inputs.ask(|reply| Input::Locate(key.into(), reply)).await.map_err(unavailable)?;
        Ok(Response::new(wire::LocateReply { holders: holders.into_iter().map(Into::into).collect() }))
    }

    async fn explain(&self, request: Request<wire::ExplainRequest>) -> Result<Response<wire::ExplainReply>, Status> {
        let key = request.into_inner().key;
        let document = self.inputs.ask(|reply| Input::Explain(key.into(), reply)).await.map_err(unavailable)?;
        let json = serde_json::to_string(&document).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(wire::ExplainReply { json }))
    }

    async fn drain(&self, request: Request<wire::DrainRequest>) -> Result<Response<wire::DrainReply>, Status> {
        self.check_token(&request)?;
        let wire::DrainRequest { node, undo } = request.into_inner();
        let name = NodeName::from(node.as_str());
        let drain = |reply| Input::Drain { node: name, undo, reply };
        let keys = self.inputs.ask(drain).await.map_err(unavailable)?;
        let keys = keys.ok_or_else(|| Status::not_found(format!("no node `{node}` has ever joined")))?;
        Ok(Response::new(wire::DrainReply { keys }))
    }

    async fn set_arm(&self, request: Request<wire::SetArmRequest>) -> Result<Response<wire::SetArmReply>, Status> {
        self.check_token(&request)?;
        let wire::SetArmRequest { arm, reset } = request.into_inner();
        let arm = parse_arm(&arm)?;
        self.set(arm, reset).await?;
        Ok(Response::new(wire::SetArmReply { arm: arm.name().to_owned() }))
    }

    async fn experiment(
        &self,
        request: Request<wire::ExperimentRequest>,
    ) -> Result<Response<wire::ExperimentReply>, Status> {
        let (action, deed) = parse_action(request.get_ref())?;
        if !matches!(action, ExperimentAction::Plan | ExperimentAction::Report | ExperimentAction::Status) {
            self.check_token(&request)?;
        }
        let json = self.answer(action, deed).await?;
        Ok(Response::new(wire::ExperimentReply { json }))
    }

    async fn purge(&self, request: Request<wire::PurgeRequest>) -> Result<Response<wire::PurgeReply>, Status> {
        self.check_token(&request)?;
        let wire::PurgeRequest { purge, wait_ms } = request.into_inner();
        let purge = purge.ok_or_else(|| Status::invalid_argument("the request names no purge"))?;
        let purge = Purge::try_from(purge).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let epoch = self.order_purge(purge).await?;
        let wait = Duration::from_millis(wait_ms.into()).min(WAIT_MAX);
        let nodes = self.await_purge(epoch, Instant::now() + wait).await?;
        Ok(Response::new(wire::PurgeReply { epoch, nodes }))
    }
}

/// Where versions are, and the alias that says which of them is in service.
#[derive(Clone, Debug)]
pub(super) struct Versions {
    pub(super) registry: Arc<Registry>,
    pub(super) alias: String,
}

impl ControlService {
    fn check_token<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = request.metadata().get("authorization");
        if given.is_some_and(|given| token.is_in(given.as_bytes())) {
            return Ok(());
        }
        Err(Status::unauthenticated("this needs the predictor's admin token"))
    }

    /// Has the champion do something else, in a fleet that of every member.
    pub(super) async fn set(&self, arm: Arm, reset: bool) -> Result<(), Status> {
        if self.relayed_arm(arm, reset).await? { Ok(()) } else { self.set_here(arm, reset).await }
    }

    pub(super) async fn set_here(&self, arm: Arm, reset: bool) -> Result<(), Status> {
        let asked = self.inputs.ask(|done| Input::SetArm { arm, reset, done }).await;
        asked.map_err(unavailable)?.map_err(|problem| status(&problem))
    }

    /// Writes a purge down, where all predictors of a fleet read it; its epoch.
    async fn order_purge(&self, purge: Purge) -> Result<u64, Status> {
        if let Some(shared) = &self.shared {
            return shared.order(&purge).await.map_err(|refused| purge_refused(&refused));
        }
        let purges = Arc::clone(&self.purges);
        let written = spawn_blocking(move || purges.append(purge)).await;
        let written = written.map_err(|error| Status::internal(error.to_string()))?;
        written.map_err(|error| Status::unavailable(format!("nothing is purged: the log cannot be written: {error}")))
    }

    /// Waits until every connected node has carried a purge out, or the time is over, and says which have.
    async fn await_purge(&self, epoch: u64, deadline: Instant) -> Result<Vec<wire::NodePurge>, Status> {
        let mut done = self.purges.watch_done();
        loop {
            done.mark_unchanged();
            let nodes = self.inputs.ask(Input::Nodes).await.map_err(unavailable)?;
            let entry = |node: &NodeStatus| {
                let objects = self.purges.objects(&NodeName(Arc::clone(&node.name)), epoch);
                wire::NodePurge { node: Some(node_entry(node)), objects }
            };
            let nodes: Vec<_> = nodes.iter().map(entry).collect();
            let is_pending =
                |purge: &wire::NodePurge| purge.objects.is_none() && purge.node.as_ref().is_some_and(|node| node.alive);
            if !nodes.iter().any(is_pending) {
                return Ok(nodes);
            }
            // A node that leaves says nothing any more, so there is a look from time to time as well.
            let next_look = deadline.min(Instant::now() + LOOK_AGAIN);
            if timeout_at(next_look, done.changed()).await.is_err() && Instant::now() >= deadline {
                return Ok(nodes);
            }
        }
    }
}

fn purge_refused(refused: &PurgeRefused) -> Status {
    match refused {
        PurgeRefused::Bus(nearcast_bus::Error::TooLarge { .. }) => {
            Status::invalid_argument(format!("{refused}, in several purges"))
        }
        _ => Status::unavailable(refused.to_string()),
    }
}

pub(super) fn parse_arm(name: &str) -> Result<Arm, Status> {
    ARMS.into_iter().find(|arm| arm.name() == name).ok_or_else(|| {
        let nearest = config_file::nearest(name, ARMS.map(Arm::name));
        let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
        Status::invalid_argument(format!("there is no arm `{name}`{hint}"))
    })
}

fn status_reply(document: &StatusDocument) -> Result<wire::StatusReply, Status> {
    Ok(wire::StatusReply {
        arm: document.arm.name().to_owned(),
        model_version: document.model.as_ref().map(|model| model.version.as_ref().to_owned()).unwrap_or_default(),
        epoch: document.epoch,
        nodes: document.nodes.iter().map(node_entry).collect(),
        json: serde_json::to_string(document).map_err(|error| Status::internal(error.to_string()))?,
    })
}

fn node_entry(node: &NodeStatus) -> wire::NodeEntry {
    wire::NodeEntry {
        node: node.name.as_ref().to_owned(),
        region: node.region.as_ref().to_owned(),
        url: node.url.as_ref().to_owned(),
        capacity_bytes: node.capacity_bytes,
        alive: node.alive,
        segment_bytes: node.segment_bytes,
    }
}

/// Every arm that can be put in force.
pub(super) const ARMS: [Arm; 2] = [Arm::None, Arm::Nearcast];
/// The longest that a caller may wait for nodes to purge.
const WAIT_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
