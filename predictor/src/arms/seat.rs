//! One arm: its name, its version and what its miniatures hold.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ghosts::Ghosts;
use crate::engine::Engine;

/// What an arm is: a version of the model or none at all, and whether it learns from the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmSpec {
    /// The version of the model; none for an arm that goes by what it learns online alone.
    #[serde(default)]
    pub version: Option<Arc<str>>,
    /// Whether it learns from the stream and from outcomes.
    pub learning: bool,
    /// Whether it orders anything; *none* does not.
    pub orders: bool,
}

impl ArmSpec {
    /// The arm that orders nothing.
    pub fn none() -> Self {
        Self { version: None, learning: true, orders: false }
    }

    /// The name that logs and commands go by: `none`, a version, or either of those with `-fixed` when it does not learn.
    pub fn name(&self) -> Arc<str> {
        if !self.orders {
            return Arc::from("none");
        }
        let version = self.version.as_deref().unwrap_or("online");
        Arc::from(if self.learning { version.to_owned() } else { format!("{version}-fixed") })
    }
}

/// An arm without its engine.
#[derive(Debug)]
pub(super) struct Seat {
    /// None for the champion, whose name is what its engine does.
    pub(super) name: Option<Arc<str>>,
    pub(super) version: Option<Arc<str>>,
    pub(super) spec: Option<ArmSpec>,
    /// The upper bits of its orders' numbers.
    pub(super) slot: u64,
    pub(super) ghosts: Ghosts,
}

/// An arm beside the champion.
#[derive(Debug)]
pub(super) struct Rival {
    pub(super) seat: Seat,
    pub(super) engine: Engine,
}

impl Seat {
    pub(super) fn champion() -> Self {
        Self { name: None, version: None, spec: None, slot: 0, ghosts: Ghosts::default() }
    }

    pub(super) fn of(spec: ArmSpec, slot: u64) -> Self {
        let (name, version) = (Some(spec.name()), spec.version.clone());
        Self { name, version, spec: Some(spec), slot, ghosts: Ghosts::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_go_by_what_they_are() {
        let version = |learning| ArmSpec { version: Some("v0002".into()), learning, orders: true };
        assert_eq!((&*ArmSpec::none().name(), &*version(true).name()), ("none", "v0002"));
        assert_eq!(&*version(false).name(), "v0002-fixed");
        assert_eq!(&*ArmSpec { version: None, learning: true, orders: true }.name(), "online");
    }
}
