//! The cache node: synchronous node core and index, with store, HTTP front, peer transfer and log streamer.

pub mod core;
pub mod index;
