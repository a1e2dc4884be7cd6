//! The gRPC contract between cache nodes and the predictor.
//!
//! [`message`] holds the domain types that both sides decide with. [`topology`] says how far regions are apart, and
//! [`config_file`] reads the TOML files of every service.

pub mod config_file;
mod error;
pub mod message;
pub mod topology;

pub use error::{Error, Result};
