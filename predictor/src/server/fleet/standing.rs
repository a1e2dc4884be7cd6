//! Whether and how this predictor takes part, for whoever asks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nearcast_bus::{Clock, SystemClock, claims::Resource, fleet::FleetView};
use serde::Serialize;
use tokio::sync::watch;

use super::{NODES_SPOOL_BYTES, ORDERS_SPOOL_BYTES, Spools};
use crate::metrics::Metrics;

/// What probes and metrics are answered from.
#[derive(Clone, Debug)]
pub(in crate::server) struct Standing {
    view: watch::Receiver<FleetView>,
    name: String,
    lease: Duration,
    spools: Spools,
    began: Duration,
}

/// A fleet as one member sees it, in `/status`.
#[derive(Clone, Debug, Serialize)]
pub(in crate::server) struct FleetStatus {
    /// This member.
    pub(in crate::server) name: String,
    /// Its number, which no other start of a member has.
    pub(in crate::server) generation: u32,
    /// The partitions that it learns from.
    pub(in crate::server) partitions: Vec<u32>,
    /// Every member, and how many partitions it has.
    pub(in crate::server) members: BTreeMap<String, u32>,
    /// Commands that were refused here, as their author owns no more what it gave them for.
    pub(in crate::server) orders_refused: u64,
    /// What one's own nodes said and the bus has not taken yet.
    pub(in crate::server) unsaid_records: u64,
    /// Attempts at publishing that were made again.
    pub(in crate::server) bus_retries: u64,
    /// The member that places keys, if anybody does.
    pub(in crate::server) places_keys: Option<String>,
    /// The member that conducts experiments, if anybody does: reports are there.
    pub(in crate::server) conducts_experiments: Option<String>,
    /// What keeps this member from conducting them, although it should.
    pub(in crate::server) experiments_trouble: Option<String>,
    /// By member, the challengers of experiments that it lacks, and why: their blocks do not count.
    pub(in crate::server) arms_lacking: BTreeMap<String, BTreeMap<Arc<str>, String>>,
    /// The version of the map that this member's nodes are told, and how many keys are on it.
    pub(in crate::server) map_epoch: u64,
    pub(in crate::server) map_keys: usize,
}

impl Standing {
    pub(super) fn new(view: watch::Receiver<FleetView>, name: String, lease: Duration, spools: Spools) -> Self {
        Self { view, name, lease, spools, began: SystemClock.elapsed() }
    }

    /// What keeps this predictor from taking part, if anything does.
    pub(in crate::server) fn trouble(&self) -> Option<String> {
        if self.is_member() {
            return None;
        }
        let view = self.view.borrow();
        let is_taken = view.members.contains_key(&self.name) && SystemClock.elapsed() > self.began + self.lease * 2;
        Some(if view.until.is_none() && is_taken {
            format!("the bus is away, or another predictor has the name `{}` (`bus.name`)", self.name)
        } else {
            "not a member: the bus is away, or has not answered yet".to_owned()
        })
    }

    /// Brings the metrics up to date that are read only when somebody asks.
    pub(in crate::server) fn show(&self, metrics: &Metrics) {
        let fleet = &metrics.fleet;
        fleet.is_member.set(i64::from(self.is_member()));
        {
            let view = self.view.borrow();
            let partitions = view.owned.keys().filter(|resource| matches!(resource, Resource::Partition(_))).count();
            fleet.members.set(i64::try_from(view.members.len()).unwrap_or(i64::MAX));
            fleet.partitions.set(i64::try_from(partitions).unwrap_or(i64::MAX));
        }
        let (log, bytes_max) = &self.spools.log;
        fleet.show_spool("log", log.counts(), *bytes_max);
        fleet.show_spool("nodes", self.spools.nodes.counts(), NODES_SPOOL_BYTES);
        fleet.show_spool("orders", self.spools.orders.counts(), ORDERS_SPOOL_BYTES);
    }

    fn is_member(&self) -> bool {
        self.view.borrow().until.is_some_and(|until| SystemClock.elapsed() < until)
    }
}
