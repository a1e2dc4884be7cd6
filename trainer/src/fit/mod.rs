//! Fitting: from features of the training range to the parts of a model.

mod catalogue;
mod coaccess;
mod placement;
mod sequence;

pub use self::sequence::EpochReport;
pub(crate) use self::{
    catalogue::{Catalogue, ItemMap},
    coaccess::fit_coaccess,
    placement::{DemandAsk, DemandSet, PlacementPlan, RegionMap, fit_placement, query},
    sequence::{EarlyStop, FitPlan, find_best_epoch, fit_sequence},
};
