//! The only place where wire types become domain types and back.
//!
//! Outward is `From` and cannot fail. Inward is `TryFrom` and strict: an absent oneof, an unknown or unspecified enum
//! value, an oversize key or batch, a NUL or a range that is none is an [`Error`](crate::Error), never a default.

mod check;
mod command;
mod node_report;
mod placement;
mod predictor_notice;
mod purge;

/// The most bytes of a key.
pub const KEY_BYTES_MAX: usize = 2_048;
/// The most bytes of a node's, region's, client's, arm's or version's name.
pub const NAME_BYTES_MAX: usize = 256;
/// The most bytes of a URL or of an explanation.
pub const TEXT_BYTES_MAX: usize = 2_048;
/// The most entries of a list in one message: requests, outcomes, results, commands or segment sets.
pub const BATCH_ENTRIES_MAX: usize = 1_024;
/// The most segment positions of one segment set.
pub const SEGMENTS_MAX: usize = 65_536;
/// The most members of a cache map.
pub const MEMBERS_MAX: usize = 4_096;
/// The most sources of a command.
pub const SOURCES_MAX: usize = 64;

#[cfg(test)]
mod tests;
