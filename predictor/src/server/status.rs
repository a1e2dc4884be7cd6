//! The state of the predictor as one document.

use std::sync::Arc;

use serde::Serialize;

use super::fleet::FleetStatus;
use crate::{
    arms::ArmsStatus,
    engine::{Account, Arm},
    experiments::TrialReport,
    placing::PlacementStatus,
};

/// What `/status` and the control service say; the schema is `nearcast.status/1`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StatusDocument {
    pub(super) schema: &'static str,
    pub(super) code_version: &'static str,
    /// Starts of the predictor on its data folder show in the upper half.
    pub(super) epoch: u64,
    pub(super) arm: Arm,
    /// Every arm: who is in force where, and what miniatures of all of them count.
    pub(super) arms: ArmsStatus,
    /// Every experiment, those under way first.
    pub(super) experiments: Vec<TrialReport>,
    /// A version behind the alias that waits until no experiment is under way.
    pub(super) version_held_back: Option<Arc<str>>,
    pub(super) model: Option<ModelStatus>,
    /// The version that could not be loaded, if that was the last thing to happen.
    pub(super) model_refused: Option<ModelRefused>,
    /// The latest purge.
    pub(super) purge_epoch: u64,
    pub(super) nodes: Vec<NodeStatus>,
    pub(super) account: Account,
    /// `None` without placement.
    pub(super) placement: Option<PlacementStatus>,
    /// `None` without `[bus]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fleet: Option<FleetStatus>,
}

/// The schema's name.
pub(super) const SCHEMA: &str = "nearcast.status/1";

/// The version in service.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ModelStatus {
    pub(super) version: Arc<str>,
    /// Since when, RFC 3339.
    pub(super) since: String,
}

/// A version that is not in service.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ModelRefused {
    pub(super) version: Arc<str>,
    pub(super) reason: String,
}

/// One node that ever joined.
#[derive(Clone, Debug, Serialize)]
pub(super) struct NodeStatus {
    pub(super) name: Arc<str>,
    pub(super) region: Arc<str>,
    pub(super) url: Arc<str>,
    pub(super) capacity_bytes: u64,
    pub(super) segment_bytes: u64,
    pub(super) alive: bool,
    /// Whether nobody is sent there although it is there.
    pub(super) draining: bool,
    /// The latest purge that it has carried out.
    pub(super) purge_epoch: u64,
    /// Whether its whole inventory has arrived.
    pub(super) inventory_complete: bool,
    /// Whether it says that it serves the arm that is in force there.
    pub(super) is_confirmed: bool,
    /// Whether it is connected to another predictor.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_elsewhere: bool,
}
