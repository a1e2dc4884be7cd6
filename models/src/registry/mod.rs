//! Where model versions live: numbered, immutable, with aliases pointing at them.

mod name;
mod store;

pub use name::VersionName;
pub use store::{Registry, VersionSummary};
