//! Why a key is where it is.

use std::sync::Arc;

use serde::Serialize;

use super::Placing;
use crate::placement::NodeSet;

/// What placement knows of one key.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Explained {
    /// The version of the map.
    epoch: u64,
    size_bytes: u64,
    nodes: Vec<ExplainedNode>,
    /// Seconds of waiting that the key's replicas are expected to save until the next plan.
    expected_saved_seconds: f32,
    /// Requests that its replicas have answered since it was placed.
    uses: u64,
    /// Seconds that those would have waited for the next best source. At most: what a node had pulled through by itself
    /// is counted as well.
    earned_seconds_at_most: f64,
}

/// One node's part in it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExplainedNode {
    name: Arc<str>,
    connected: bool,
    /// Whether it says that it holds all of the key.
    holds: bool,
    /// Whether it has confirmed that it keeps it.
    pinned: bool,
    /// Whether other nodes are told to ask it.
    on_map: bool,
    /// Why it is meant to hold it: `plan`, `hot`, `ahead` while it is on its way for a later time, `link` while its link has
    /// no room for it, or `reader` once a reader has brought it; `None` when it is not, and holds it of its own.
    reason: Option<&'static str>,
    expected_saved_seconds: f32,
    /// Where it would have to fetch it from otherwise: the node's name, or `origin`.
    next_source: Arc<str>,
    /// How long that takes to begin, and whether that is measured or the topology's.
    next_round_trip_ms: f64,
    next_is_measured: bool,
}

impl Explained {
    /// Whether the key has explicit holders, or is meant to.
    pub(crate) fn is_placed(&self) -> bool {
        self.nodes.iter().any(|node| node.reason.is_some() || node.on_map)
    }
}

impl Placing {
    /// What is known of a key.
    pub(crate) fn explain(&self, key: &str) -> Explained {
        let epoch = self.board.epoch().0;
        let known = self.known.lock();
        let Some(id) = known.find(key) else { return Explained { epoch, ..Explained::default() } };
        let (size_bytes, held) = (known.bytes(id), known.holders(id));
        drop(known);
        let wanted = self.wanted.get(&id).copied().unwrap_or_default();
        let share = wanted.saved_seconds / wanted.nodes.minus(wanted.hot).len().max(1) as f32;
        let pinned = self.shards.pinned(id);
        let on_map = self.board.holders(id);
        let concerned: NodeSet = held.iter().chain(wanted.nodes.iter()).chain(on_map.iter()).collect();
        let node = |position: usize| {
            let slot = self.nodes.get(position)?;
            let (is_hot, is_wanted) = (wanted.hot.contains(position), wanted.nodes.contains(position));
            let (next, next_round_trip, next_is_measured) = self.nodes.next_source(position, held);
            Some(ExplainedNode {
                name: Arc::clone(&slot.name.0),
                connected: slot.is_connected,
                holds: held.contains(position),
                pinned: pinned.contains(position),
                on_map: on_map.contains(position),
                reason: is_wanted.then(|| wanted.reason(position, held.contains(position))),
                expected_saved_seconds: if is_wanted && !is_hot { share } else { 0.0 },
                next_source: next.map_or_else(|| Arc::from("origin"), |name| name.0),
                next_round_trip_ms: next_round_trip.as_secs_f64() * 1e3,
                next_is_measured,
            })
        };
        Explained {
            epoch,
            size_bytes,
            nodes: concerned.iter().filter_map(node).collect(),
            expected_saved_seconds: wanted.saved_seconds,
            uses: wanted.uses,
            earned_seconds_at_most: wanted.earned_seconds,
        }
    }
}
