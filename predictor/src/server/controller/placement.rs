//! Placement's part of the controller: its commands, draining, and why keys are where they are.

use std::sync::Arc;

use nearcast_cache_node::core::routing::{Link, RoutingConfig, RoutingTable, key_hash};
use nearcast_datasets::Timestamp;
use nearcast_proto::message::{Action, Command, CommandStatus, NodeName, PlacementPosition, RoundTrip};
use serde::Serialize;
use serde_json::json;

use super::Controller;
use crate::{
    events::kind,
    placing::{Explained, PlacementOrder, Planned},
    server::input::SessionId,
};

/// The document of `Explain`; its schema is `nearcast.map/1`.
#[derive(Clone, Debug, Serialize)]
pub(in crate::server) struct ExplainDocument {
    schema: &'static str,
    key: Arc<str>,
    /// `placed` for a key with explicit holders, `hashed` for one that has a home.
    how: &'static str,
    /// The node that fetches it from the origin for everybody while it is hashed.
    home: Option<Arc<str>>,
    /// Nodes that hold its first segment, as far as the predictor knows.
    holders: Vec<Arc<str>>,
    /// `None` without placement.
    placement: Option<Explained>,
}

impl Controller {
    /// Sends whatever placement has to say to nodes.
    pub(super) fn send_placement_orders(&mut self, now: Timestamp) {
        while let Some(order) = self.placing.as_mut().and_then(|placing| placing.poll_order(now)) {
            let id = order.id;
            if !self.send_placement_order(now, order)
                && let Some(placing) = &mut self.placing
            {
                placing.handle_result(now, id, CommandStatus::Rejected);
            }
        }
    }

    fn send_placement_order(&mut self, now: Timestamp, order: PlacementOrder) -> bool {
        let named = self.sessions.iter().find(|(_, session)| session.descriptor.name == order.node);
        let Some((id, in_force)) = named.map(|(id, session)| (*id, session.in_force.borrow().clone())) else {
            return false;
        };
        let command = Command {
            id: self.generation.command(order.id),
            epoch: self.members.map().epoch,
            action: order.action,
            target: order.target,
            sources: order.sources,
            deadline: order.deadline,
            probability: if order.action == Action::Replicate { 1.0 } else { 0.0 },
            expected_value_seconds: order.value_seconds,
            arm: Arc::clone(&in_force.arm),
            model_version: Arc::clone(&in_force.model_version),
        };
        let told = json!({
            "by": "placement", "epoch": command.epoch.0, "deadline_us": command.deadline.micros(),
        });
        self.deliver(now, id, command, told)
    }

    /// A plan has been made.
    pub(super) fn planned(&mut self, now: Timestamp, planned: &Planned) {
        let Some(placing) = &mut self.placing else { return };
        if !placing.handle_planned(now, planned) {
            return;
        }
        let data = serde_json::to_value(placing.status()).unwrap_or_default();
        let subject = data["map"].as_str().unwrap_or_default().to_owned();
        self.events.publish(now, kind::PLACEMENT_PLANNED, &subject, json!({ "last_plan": data["last_plan"] }));
    }

    /// A node says by which map it routes.
    pub(super) fn position(&mut self, now: Timestamp, id: SessionId, held: Option<&PlacementPosition>) {
        let position = self.sessions.get(&id).and_then(|session| session.position);
        if let (Some(placing), Some(position)) = (&mut self.placing, position) {
            placing.handle_position(now, position, held);
        }
    }

    /// A node says how long it waits for others.
    pub(super) fn round_trips(&mut self, now: Timestamp, id: SessionId, measured: &[RoundTrip]) {
        let position = self.sessions.get(&id).and_then(|session| session.position);
        if let (Some(placing), Some(position)) = (&mut self.placing, position) {
            placing.handle_round_trips(now, position, measured);
        }
    }

    /// A node is about to end: nobody is sent there any more.
    pub(super) fn leaving(&mut self, now: Timestamp, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (descriptor, position) = (session.descriptor.clone(), session.position);
        self.events.publish(now, kind::NODE_LEAVING, &descriptor.name.0, json!({}));
        self.members.set(descriptor, false);
        if let (Some(placing), Some(position)) = (&mut self.placing, position) {
            placing.handle_leaving(position);
        }
    }

    /// Drains a node, or takes it back; says how many keys are still bound to it, or that nobody knows it.
    /// In a fleet all members do.
    pub(super) fn drain(&mut self, now: Timestamp, node: &NodeName, undo: bool) -> Option<u64> {
        let bound = self.drain_here(now, node, undo)?;
        self.tell_drain(node, undo);
        Some(bound)
    }

    pub(super) fn drain_here(&mut self, now: Timestamp, node: &NodeName, undo: bool) -> Option<u64> {
        let member = self.members.find(node)?.clone();
        let has_changed = if undo { self.draining.remove(node) } else { self.draining.insert(node.clone()) };
        if has_changed {
            let is_connected = self.session_named(node).is_some();
            self.members.set(member.node, is_connected && undo);
            self.events.publish(now, kind::NODE_DRAINING, &node.0, json!({ "undo": undo }));
            tracing::info!(%node, undo, "drain");
        }
        let bound = self.placing.as_mut().and_then(|placing| placing.handle_drain(now, node, undo));
        // Whoever places keys knows of pins as well; the others know the map.
        let on_map = || self.fleet.as_ref().map_or(0, |fleet| fleet.board().keys_of(node));
        Some(bound.unwrap_or_else(on_map) as u64)
    }

    /// Why a key is where it is.
    pub(super) fn explain(&self, key: &Arc<str>) -> ExplainDocument {
        let placement = self.placing.as_ref().map(|placing| placing.explain(key));
        let is_on_map = || self.fleet.as_ref().is_some_and(|fleet| fleet.board().is_placed(key));
        let is_placed = placement.as_ref().map_or_else(is_on_map, Explained::is_placed);
        let holders = self.locate(key).into_iter().map(|member| member.node.name.0).collect();
        ExplainDocument {
            schema: "nearcast.map/1",
            key: Arc::clone(key),
            how: if is_placed { "placed" } else { "hashed" },
            home: self.home(key),
            holders,
            placement,
        }
    }

    /// As nodes find it, by the same code.
    fn home(&self, key: &str) -> Option<Arc<str>> {
        let mut table = RoutingTable::new(RoutingConfig::default(), &NodeName::from(""));
        let anywhere = Link { round_trip: std::time::Duration::ZERO, bandwidth: f64::INFINITY };
        table.install(&self.members.map(), |_| anywhere);
        table.home(key_hash(key)).and_then(|home| table.name(home)).map(|name| name.0)
    }
}
