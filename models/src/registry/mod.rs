//! Where model versions live: numbered, immutable, with aliases pointing at them.

mod backend;
mod name;
mod store;
#[cfg(test)]
mod tests;

pub use name::VersionName;
pub use store::{Registry, VersionSummary};
