//! The state of placement, for operators.

use std::sync::Arc;

use serde::Serialize;

use super::{
    Placing,
    hot::HotCounters,
    measured::MeasuredLink,
    nodes::{EstimatedLink, Lies},
    settings::PlacementKind,
};
use crate::placement::{GuardChoice, ShardCounters};

/// The part of `nearcast.status/1` that is about placement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PlacementStatus {
    kind: PlacementKind,
    map: Arc<str>,
    /// The version of the map.
    epoch: u64,
    /// Keys with explicit holders on it.
    keys_placed: usize,
    /// Keys whose holders changed with its last version.
    keys_changed: usize,
    /// Keys that are meant to be held somewhere.
    keys_wanted: usize,
    keys_known: usize,
    /// Keys and segments that there was no room to know.
    keys_refused: u64,
    plans: u64,
    last_plan: Option<PlanStatus>,
    /// Which plan is carried out: the forecast's or the reactive one; `None` without a guard.
    guard: Option<GuardChoice>,
    guard_fallbacks: u64,
    /// Commands under way.
    transfers_in_flight: usize,
    /// Times that a transfer was found to have to wait for its link.
    link_waits: u64,
    commands: ShardCounters,
    hot: HotCounters,
    /// Requests and changes that the planning thread was not told, being too slow.
    untold: u64,
    nodes_refused: u64,
    nodes: Vec<PlacedNode>,
    /// Pairs of regions whose round trip the topology does not say.
    estimated_links: Vec<EstimatedLink>,
    /// Round trips that are measured, which go before the topology's.
    measured_links: Vec<MeasuredLink>,
    links_measured: usize,
    links_bounded: usize,
    /// Times that a measured round trip came, went or became another.
    measured_changes: u64,
}

/// The last plan.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PlanStatus {
    pub(super) at: String,
    pub(super) took_seconds: f64,
    pub(super) keys: usize,
    pub(super) transfer_bytes: u64,
    pub(super) expected_saved_seconds: f64,
}

#[derive(Clone, Debug, Serialize)]
struct PlacedNode {
    name: Arc<str>,
    connected: bool,
    draining: bool,
    planned_bytes: u64,
    held_bytes: u64,
    /// The version of the map that it says it routes by.
    epoch: Option<u64>,
    /// Seconds from the change to the node's word that it has that version.
    caught_up_seconds: Option<f64>,
    #[serde(flatten)]
    lies: Lies,
}

impl PlacementStatus {
    /// Numbers that are worth a time series, by name.
    pub(crate) fn quantities(&self) -> Vec<(&'static str, f64)> {
        let commands = &self.commands;
        let lies = |count: fn(&Lies) -> u64| self.nodes.iter().map(|node| count(&node.lies)).sum::<u64>() as f64;
        vec![
            ("epoch", self.epoch as f64),
            ("keys_placed", self.keys_placed as f64),
            ("keys_wanted", self.keys_wanted as f64),
            ("keys_known", self.keys_known as f64),
            ("keys_refused", self.keys_refused as f64),
            ("plans", self.plans as f64),
            ("plan_seconds", self.last_plan.as_ref().map_or(0.0, |plan| plan.took_seconds)),
            ("guard_is_reactive", f64::from(u8::from(self.guard == Some(GuardChoice::Reactive)))),
            ("guard_fallbacks", self.guard_fallbacks as f64),
            ("transfers_in_flight", self.transfers_in_flight as f64),
            ("link_waits", self.link_waits as f64),
            ("commands_issued", commands.issued as f64),
            ("commands_retried", commands.retried as f64),
            ("commands_given_up", commands.given_up as f64),
            ("commands_superseded", commands.superseded as f64),
            ("results_unexpected", commands.unexpected as f64),
            ("hot_holders_added", self.hot.holders_added as f64),
            ("hot_refused", self.hot.refused as f64),
            ("untold", self.untold as f64),
            ("nodes_refused", self.nodes_refused as f64),
            ("claims_beyond_capacity", lies(|lies| lies.claims_beyond_capacity)),
            ("epochs_from_the_future", lies(|lies| lies.epochs_from_the_future)),
            ("results_not_verified", lies(|lies| lies.results_not_verified)),
            ("catch_up_seconds_max", self.nodes.iter().filter_map(|node| node.caught_up_seconds).fold(0.0, f64::max)),
            ("links_estimated", self.estimated_links.len() as f64),
            ("links_measured", self.links_measured as f64),
            ("links_bounded", self.links_bounded as f64),
            ("measured_changes", self.measured_changes as f64),
            ("round_trips_absurd", lies(|lies| lies.round_trips_absurd)),
        ]
    }

    /// Bytes planned, by node.
    pub(crate) fn planned_bytes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.nodes.iter().map(|node| (&*node.name, node.planned_bytes))
    }
}

impl Placing {
    /// How things are.
    pub(crate) fn status(&self) -> PlacementStatus {
        let known = self.known.lock();
        let (keys_known, keys_refused) = (known.len(), known.refused());
        drop(known);
        PlacementStatus {
            kind: self.settings.kind,
            map: self.board.id(),
            epoch: self.board.epoch().0,
            keys_placed: self.board.len(),
            keys_changed: self.committed.1,
            keys_wanted: self.wanted.len(),
            keys_known,
            keys_refused,
            plans: self.plans,
            last_plan: self.last_plan.clone(),
            guard: self.guard.map(|(choice, _)| choice),
            guard_fallbacks: self.guard.map_or(0, |(_, fallbacks)| fallbacks),
            transfers_in_flight: self.shards.in_flight(),
            link_waits: self.links.waits(),
            commands: *self.shards.counters(),
            hot: self.hot.counters(),
            untold: self.untold,
            nodes_refused: self.nodes.refused(),
            nodes: self.nodes.iter().map(placed_node).collect(),
            estimated_links: self.nodes.estimated().iter().take(LINKS_MAX).cloned().collect(),
            measured_links: self.nodes.measured_links().take(LINKS_MAX).collect(),
            links_measured: self.nodes.measured.len(),
            links_bounded: self.nodes.measured_links().filter(MeasuredLink::is_bounded).count(),
            measured_changes: self.nodes.measured.changes(),
        }
    }
}

fn placed_node(slot: &super::nodes::Slot) -> PlacedNode {
    PlacedNode {
        name: Arc::clone(&slot.name.0),
        connected: slot.is_connected,
        draining: slot.is_draining,
        planned_bytes: slot.planned_bytes,
        held_bytes: slot.held_bytes,
        epoch: slot.epoch.map(|epoch| epoch.0),
        caught_up_seconds: slot.caught_up.map(|took| took.as_secs_f64()),
        lies: slot.lies,
    }
}

/// Estimated and measured pairs that are named one by one.
const LINKS_MAX: usize = 64;
