//! What `/api/status` says. `docs/PAGE.md` is the contract.

use std::{collections::BTreeSet, sync::Arc};

use nearcast_proto::topology::Topology;
use serde::Serialize;

use super::{history::Sample, registry::Seen};
use crate::{
    experiments::FullReport,
    server::{controller::NodeTally, status::StatusDocument},
};

/// Everything the page shows but keys; the schema is `nearcast.page/1`.
#[derive(Debug, Serialize)]
pub(super) struct PageDocument {
    pub(super) schema: &'static str,
    /// Milliseconds since the Unix epoch.
    pub(super) now_ms: i64,
    /// The document that `/status` and the control service give.
    pub(super) status: StatusDocument,
    /// Experiments with all that led to where they are, those under way first.
    pub(super) experiments: Vec<FullReport>,
    /// Nodes that have reported requests.
    pub(super) nodes: Vec<NodeTally>,
    pub(super) regions: Regions,
    /// `None` where the predictor has no registry.
    pub(super) registry: Option<Seen>,
    pub(super) series: Series,
    pub(super) controls: Controls,
}

/// The schema's name.
pub(super) const SCHEMA: &str = "nearcast.page/1";

/// Samples with a number above the one that was asked for.
#[derive(Debug, Serialize)]
pub(super) struct Series {
    pub(super) sample_seconds: f64,
    pub(super) samples_max: usize,
    pub(super) samples: Vec<Sample>,
}

/// What can be changed from the page, and at which path.
#[derive(Debug, Serialize)]
pub(super) struct Controls {
    pub(super) set_arm: Option<&'static str>,
    pub(super) arms: Vec<&'static str>,
    /// Where experiments are acted on.
    pub(super) experiment: Option<&'static str>,
}

/// Where nodes are.
#[derive(Debug, Serialize)]
pub(super) struct Regions {
    /// Regions that nodes have joined from, ascending, at most [`REGIONS_TOLD_MAX`].
    names: Vec<Arc<str>>,
    regions_count: usize,
    origin_rtt_ms: Vec<f64>,
    /// Round trips of every pair, by the places of `names`.
    rtt_ms: Vec<Vec<f64>>,
}

impl Regions {
    pub(super) fn new(status: &StatusDocument, topology: &Topology) -> Self {
        let all: BTreeSet<Arc<str>> = status.nodes.iter().map(|node| Arc::clone(&node.region)).collect();
        let regions_count = all.len();
        let names: Vec<Arc<str>> = all.into_iter().take(REGIONS_TOLD_MAX).collect();
        let milliseconds = |rtt: std::time::Duration| rtt.as_secs_f64() * 1_000.0;
        let from = |a: &Arc<str>| {
            let to = |b: &Arc<str>| if a == b { 0.0 } else { milliseconds(topology.rtt(a, b)) };
            names.iter().map(to).collect()
        };
        Self {
            regions_count,
            origin_rtt_ms: names.iter().map(|name| milliseconds(topology.origin_rtt(name))).collect(),
            rtt_ms: names.iter().map(from).collect(),
            names,
        }
    }
}

/// More do not fit a picture; every node is in the table all the same.
const REGIONS_TOLD_MAX: usize = 64;
