//! Placements: versions and updates.

use std::sync::Arc;

use super::{
    BATCH_ENTRIES_MAX, MEMBERS_MAX,
    check::{at_most, key, name, node_name},
};
use crate::{
    Error, Result,
    message::{Epoch, NodeName, PlacementPosition, PlacementUpdate},
    wire,
};

impl From<PlacementPosition> for wire::PlacementPosition {
    fn from(position: PlacementPosition) -> Self {
        Self { map: position.map.as_ref().to_owned(), epoch: position.epoch.0 }
    }
}

pub(super) fn position(wire: wire::PlacementPosition) -> Result<PlacementPosition> {
    Ok(PlacementPosition { map: name("map", wire.map)?, epoch: Epoch(wire.epoch) })
}

impl From<PlacementUpdate> for wire::PlacementUpdate {
    fn from(update: PlacementUpdate) -> Self {
        let entry = |(key, nodes): (Arc<str>, Vec<NodeName>)| wire::PlacementEntry {
            key: key.as_ref().to_owned(),
            nodes: nodes.iter().map(|node| node.0.as_ref().to_owned()).collect(),
        };
        Self {
            epoch: update.epoch.0,
            full: update.full,
            placed: update.placed.into_iter().map(entry).collect(),
            removed: update.removed.iter().map(|key| key.as_ref().to_owned()).collect(),
            map: update.map.as_ref().to_owned(),
            from: update.from.0,
            part: update.part,
            last: update.last,
        }
    }
}

impl TryFrom<wire::PlacementUpdate> for PlacementUpdate {
    type Error = Error;

    fn try_from(wire: wire::PlacementUpdate) -> Result<Self> {
        at_most("placed", wire.placed.len(), BATCH_ENTRIES_MAX)?;
        at_most("removed", wire.removed.len(), BATCH_ENTRIES_MAX)?;
        let entry = |entry: wire::PlacementEntry| {
            at_most("nodes", entry.nodes.len(), MEMBERS_MAX)?;
            let nodes = entry.nodes.into_iter().map(node_name).collect::<Result<_>>()?;
            Ok((key(entry.key)?, nodes))
        };
        Ok(Self {
            map: name("map", wire.map)?,
            from: Epoch(wire.from),
            epoch: Epoch(wire.epoch),
            full: wire.full,
            part: wire.part,
            last: wire.last,
            placed: wire.placed.into_iter().map(entry).collect::<Result<_>>()?,
            removed: wire.removed.into_iter().map(key).collect::<Result<_>>()?,
        })
    }
}
