//! The engine's orders, as commands in the queues of nodes.

use std::sync::Arc;

use nearcast_datasets::Timestamp;
use nearcast_proto::message::{Action, Command, CommandStatus, SegmentSet, Source};
use serde_json::{Value, json};

use super::{Controller, Way, ledger::Entry};
use crate::{arms::ArmOrder, engine::OrderSource, events::kind, server::input::SessionId};

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
        let Some(id) = self.by_node.get(&order.node).copied() else { return false };
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
        self.deliver(now, id, command, json!({ "by": "engine" }))
    }

    /// Puts a command into a node's queue and on record, with more that is to be told of it; whether the queue took it.
    pub(super) fn deliver(&mut self, now: Timestamp, id: SessionId, command: Command, mut told: Value) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        let entry = Entry::new(now, &session.descriptor.name.0, &command);
        told["command"] = command.id.0.into();
        told["node"] = (*session.descriptor.name.0).into();
        told["action"] = action_name(command.action).into();
        told["segments"] = command.target.segments.len().into();
        told["probability"] = command.probability.into();
        told["expected_value_seconds"] = command.expected_value_seconds.into();
        let key = Arc::clone(&command.target.key);
        let is_taken = match (&session.way, &mut self.fleet) {
            (Way::Here(queue), None) => queue.try_send(command).is_ok(),
            (Way::Here(queue), Some(fleet)) => fleet.may_give(now) && queue.try_send(command).is_ok(),
            (Way::At(_), Some(fleet)) => {
                let is_relayed = fleet.may_give(now) && fleet.relay(&session.descriptor.name, command);
                self.metrics.fleet.orders_relayed.inc_by(u64::from(is_relayed));
                is_relayed
            }
            (Way::At(_), None) => false,
        };
        if !is_taken {
            self.metrics.commands_dropped.get_or_create(&session.label).inc();
            return false;
        }
        self.metrics.commands_sent.get_or_create(&session.label).inc();
        self.ledger.issue(entry);
        self.events.publish(now, kind::COMMAND_ISSUED, &key, told);
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
