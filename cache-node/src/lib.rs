//! The cache node: synchronous node core and index, with store, HTTP front, peer transfer and log streamer.

pub mod cli;
pub mod config;
pub mod core;
pub mod index;

mod clock;
mod digest;
mod error;
mod front;
mod key;
mod link;
mod log;
mod metrics;
mod object;
mod origin;
mod peers;
mod record;
mod server;
mod shell;
mod status;
mod store;

pub use self::{
    config::NodeConfig,
    error::{Error, Result},
    server::{bind, run},
};
