//! Placement (GAPA's second half): which nodes should hold which keys over the next horizon.
//!
//! A [`Forecast`] says how often each region will ask for each key, a [`Planner`] turns that into replica sets under
//! node capacity, a [`Guard`] falls back on a simpler forecast while that one would have earned more, and a
//! [`Strategy`] joins them: it is told of every request, plans at intervals and returns [`Move`]s. Nothing here reads a
//! clock or does I/O: replay and the live service run the same types.

#[cfg(test)]
mod ahead_tests;
mod budget;
mod decider;
mod demand;
mod error;
pub mod forecast;
mod guard;
mod lanes;
mod links;
mod map;
mod node_set;
mod plan;
mod planner;
mod prices;
mod shards;
#[cfg(test)]
mod shards_tests;
mod sites;
mod strategy;
#[cfg(test)]
mod tests;
mod volley;

pub use self::{
    demand::{DemandTable, KeyDemand},
    error::PlacementError,
    forecast::{Counted, DecayedAverage, Forecast, Learned, SavedForecast, Trained},
    guard::{Guard, GuardChoice},
    links::{Link, Links},
    map::{Delta, GlobalMap},
    node_set::{NODES_MAX, NodeSet},
    plan::{Plan, PlannedKey, Waits},
    planner::{Planner, PlannerConfig},
    shards::{ShardCommand, ShardConfig, ShardCounters, ShardManager},
    sites::{Cost, Sites},
    strategy::{Holdings, Move, MoveKind, Placer, SavedStrategy, Strategy, StrategyConfig},
    volley::Volley,
};
