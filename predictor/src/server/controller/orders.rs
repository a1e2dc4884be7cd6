//! The engine's orders, as commands in the queues of nodes.

use std::sync::Arc;

use nearcast_datasets::Timestamp;
use nearcast_proto::message::{Action, Command, CommandStatus, SegmentSet, Source};
use serde_json::json;

use super::Controller;
use crate::{arms::ArmOrder, engine::OrderSource, events::kind};

impl Controller {
    /// Sends whatever the engine has decided.
    pub(super) fn send_orders(&mut self, now: Timestamp) {
        while let Some(order) = self.arms.poll_order(now, &mut self.engine) {
            let id = order.order.id;
            if !self.send(now, order) {
                self.arms.handle_result(now, id, CommandStatus::Rejected, 0, &mut self.engine);
            }
        }
    }

    /// Whether the node's queue took the command.
    fn send(&mut self, now: Timestamp, order: ArmOrder) -> bool {
        let ArmOrder { order, key, arm, version } = order;
        let Some(session) = self.by_node.get(&order.node).and_then(|id| self.sessions.get(id)) else {
            return false;
        };
        let sources = order.sources.iter().filter_map(|source| self.source(*source)).collect();
        let (bytes, segments) = (order.size_bytes, order.segments);
        let command = Command {
            id: self.generation.command(order.id),
            epoch: self.members.map().epoch,
            action: order.action,
            target: SegmentSet { key: Arc::clone(&key), size_bytes: bytes, segments },
            sources,
            deadline: order.deadline,
            probability: order.probability,
            expected_value_seconds: order.expected_value_seconds,
            model_version: if arm.is_some() { version.unwrap_or_default() } else { self.model_version() },
            arm: arm.unwrap_or_else(|| Arc::from(self.engine.arm().name())),
        };
        let data = json!({
            "command": command.id.0, "node": session.descriptor.name.0, "action": action_name(command.action),
            "segments": command.target.segments, "probability": command.probability,
        });
        let in_ledger = command.clone();
        if session.commands.try_send(command).is_err() {
            self.metrics.commands_dropped.get_or_create(&session.label).inc();
            return false;
        }
        self.metrics.commands_sent.get_or_create(&session.label).inc();
        self.ledger.issue(now, &session.descriptor.name.0, &in_ledger);
        self.events.publish(now, kind::COMMAND_ISSUED, &key, data);
        true
    }

    fn source(&self, source: OrderSource) -> Option<Source> {
        match source {
            OrderSource::Origin => Some(Source::Origin),
            OrderSource::Peer(node) => {
                let session = self.sessions.get(self.by_node.get(&node)?)?;
                Some(Source::Peer(session.descriptor.name.clone()))
            }
        }
    }
}

pub(super) fn action_name(action: Action) -> &'static str {
    match action {
        Action::Evict => "evict",
        Action::Pin => "pin",
        Action::Replicate => "replicate",
        Action::Unpin => "unpin",
    }
}
