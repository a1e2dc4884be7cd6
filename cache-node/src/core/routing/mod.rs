//! Where a miss is answered from: holders of placed keys, the home of all others, the origin last.

mod placement;
mod rendezvous;
mod table;
#[cfg(test)]
mod tests;

pub use self::{
    placement::{Fit, PlacementCopy},
    rendezvous::key_hash,
    table::{FetchSource, Link, MemberId, RoutingConfig, RoutingTable},
};
