//! Where a miss is answered from: holders of placed keys, the home of all others, the origin last.

mod rendezvous;
mod table;
#[cfg(test)]
mod tests;

pub use self::{
    rendezvous::key_hash,
    table::{FetchSource, Link, MemberId, RoutingConfig, RoutingTable},
};
