//! Which nodes are meant to be asked for which keys, as a predictor tells its nodes.

use std::sync::Arc;

use super::{Epoch, NodeName};

/// A version of a predictor's placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementPosition {
    /// Which one: a predictor that lost its data folder begins another one.
    pub map: Arc<str>,
    /// The version.
    pub epoch: Epoch,
}

/// Explicit replicas; keys that are not named fall back to rendezvous hashing. Long updates come in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementUpdate {
    /// Which placement.
    pub map: Arc<str>,
    /// The version that it leads on from; nothing to a full one.
    pub from: Epoch,
    /// The version that its last part leads to.
    pub epoch: Epoch,
    /// Whether this replaces the whole table rather than amends it.
    pub full: bool,
    /// This part's number, from zero on.
    pub part: u32,
    /// Whether it is the last part.
    pub last: bool,
    /// Keys and the nodes that are meant to hold them.
    pub placed: Vec<(Arc<str>, Vec<NodeName>)>,
    /// Keys that fall back to hashing again.
    pub removed: Vec<Arc<str>>,
}
