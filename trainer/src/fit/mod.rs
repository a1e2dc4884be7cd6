//! Fitting: from features of the training range to the parts of a model.

mod blend;
mod catalogue;
mod coaccess;
mod gate;
mod placement;
mod sequence;

pub(crate) use self::{
    blend::BlendPlan,
    catalogue::{Catalogue, ItemMap},
    coaccess::fit_coaccess,
    gate::GatePlan,
    placement::{DemandAsk, DemandSet, PlacementPlan, RegionMap, fit_placement, query},
    sequence::{EarlyStop, FitPlan, find_best_epoch, fit_sequence},
};
pub use self::{
    blend::BlendReport,
    gate::{GateReport, GateTrial, GateTrials},
    sequence::EpochReport,
};
