//! The gRPC service for operators' tools.

use nearcast_proto::{config_file, wire};
use tonic::{Request, Response, Status};

use super::{controller::arm_name, input::Input, inputs::Inputs, status::StatusDocument, streams::unavailable};
use crate::engine::Arm;

/// Answers operators.
#[derive(Clone, Debug)]
pub(super) struct ControlService {
    pub(super) inputs: Inputs,
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

    async fn set_arm(&self, request: Request<wire::SetArmRequest>) -> Result<Response<wire::SetArmReply>, Status> {
        let wire::SetArmRequest { arm, reset } = request.into_inner();
        let arm = parse_arm(&arm)?;
        self.inputs.ask(|done| Input::SetArm { arm, reset, done }).await.map_err(unavailable)?;
        Ok(Response::new(wire::SetArmReply { arm: arm_name(arm).to_owned() }))
    }
}

fn parse_arm(name: &str) -> Result<Arm, Status> {
    let arms = [Arm::None, Arm::Nearcast];
    arms.into_iter().find(|arm| arm_name(*arm) == name).ok_or_else(|| {
        let nearest = config_file::nearest(name, arms.map(arm_name));
        let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
        Status::invalid_argument(format!("there is no arm `{name}`{hint}"))
    })
}

fn status_reply(document: &StatusDocument) -> Result<wire::StatusReply, Status> {
    let entry = |node: &super::status::NodeStatus| wire::NodeEntry {
        node: node.name.as_ref().to_owned(),
        region: node.region.as_ref().to_owned(),
        url: node.url.as_ref().to_owned(),
        capacity_bytes: node.capacity_bytes,
        alive: node.alive,
        segment_bytes: node.segment_bytes,
    };
    Ok(wire::StatusReply {
        arm: arm_name(document.arm).to_owned(),
        model_version: document.model.as_ref().map(|model| model.version.as_ref().to_owned()).unwrap_or_default(),
        epoch: document.epoch,
        nodes: document.nodes.iter().map(entry).collect(),
        json: serde_json::to_string(document).map_err(|error| Status::internal(error.to_string()))?,
    })
}
