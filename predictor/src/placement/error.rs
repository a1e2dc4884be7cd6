//! What placement refuses.

use thiserror::Error;

/// Why sites or a strategy were refused.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum PlacementError {
    /// There is no node, or there are too many for one plan.
    #[error("a plan is for 1 to {max} nodes, not {nodes}; plan larger clusters in groups of regions", max = super::NODES_MAX)]
    NodeCount {
        /// How many there are.
        nodes: usize,
    },
    /// A round trip or bandwidth makes no sense.
    #[error("a cost between a region and a node or the origin is not a finite number of seconds from 0 on")]
    BadCost,
}
