//! What the predictor says.

use super::{
    MEMBERS_MAX,
    check::{free_text, list, name, node_name, optional_name, outward, present},
    node_report::segment_bytes,
};
use crate::{
    Error, Result,
    message::{CacheMap, Epoch, Member, NodeDescriptor, PredictorNotice},
    wire::{self, predictor_message::Body},
};

impl From<PredictorNotice> for wire::PredictorMessage {
    fn from(notice: PredictorNotice) -> Self {
        let body = match notice {
            PredictorNotice::Welcome { epoch, arm, model_version, assignment } => Body::Welcome(wire::Welcome {
                epoch: epoch.0,
                arm: arm.as_ref().to_owned(),
                model_version: model_version.as_ref().to_owned(),
                assignment,
            }),
            PredictorNotice::Commands(commands) => Body::Commands(wire::CommandBatch { commands: outward(commands) }),
            PredictorNotice::Placement(update) => Body::Placement(update.into()),
            PredictorNotice::Map(map) => {
                Body::MapUpdate(wire::MapUpdate { epoch: map.epoch.0, nodes: outward(map.members) })
            }
            PredictorNotice::Ack { sequence } => Body::Ack(wire::Ack { sequence }),
            PredictorNotice::Purges(update) => Body::Purges(update.into()),
        };
        Self { body: Some(body) }
    }
}

impl TryFrom<wire::PredictorMessage> for PredictorNotice {
    type Error = Error;

    fn try_from(wire: wire::PredictorMessage) -> Result<Self> {
        Ok(match present("predictor message", "body", wire.body)? {
            Body::Welcome(welcome) => Self::Welcome {
                epoch: Epoch(welcome.epoch),
                arm: name("arm", welcome.arm)?,
                model_version: optional_name("model_version", welcome.model_version)?,
                assignment: welcome.assignment,
            },
            Body::Commands(batch) => Self::Commands(batch.try_into()?),
            Body::Placement(update) => Self::Placement(update.try_into()?),
            Body::MapUpdate(update) => {
                Self::Map(CacheMap { epoch: Epoch(update.epoch), members: list("nodes", update.nodes, MEMBERS_MAX)? })
            }
            Body::Ack(ack) => Self::Ack { sequence: ack.sequence },
            Body::Purges(update) => Self::Purges(update.try_into()?),
        })
    }
}

impl From<Member> for wire::NodeEntry {
    fn from(member: Member) -> Self {
        Self {
            node: member.node.name.0.as_ref().to_owned(),
            region: member.node.region.as_ref().to_owned(),
            url: member.node.url.as_ref().to_owned(),
            capacity_bytes: member.node.capacity_bytes,
            alive: member.alive,
            segment_bytes: member.node.segment_bytes,
        }
    }
}

impl TryFrom<wire::NodeEntry> for Member {
    type Error = Error;

    fn try_from(wire: wire::NodeEntry) -> Result<Self> {
        let node = NodeDescriptor {
            name: node_name(wire.node)?,
            region: name("region", wire.region)?,
            url: free_text("url", wire.url)?.into(),
            capacity_bytes: wire.capacity_bytes,
            segment_bytes: segment_bytes(wire.segment_bytes)?,
        };
        Ok(Self { node, alive: wire.alive })
    }
}
