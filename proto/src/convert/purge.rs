//! Purges.

use std::sync::Arc;

use super::{
    BATCH_ENTRIES_MAX,
    check::{at_most, key, name},
};
use crate::{
    Error, Result,
    message::{Purge, PurgePosition, PurgeUpdate},
    wire,
};

impl From<PurgePosition> for wire::PurgePosition {
    fn from(position: PurgePosition) -> Self {
        Self { log: position.log.as_ref().to_owned(), epoch: position.epoch }
    }
}

pub(super) fn position(wire: wire::PurgePosition) -> Result<PurgePosition> {
    Ok(PurgePosition { log: name("log", wire.log)?, epoch: wire.epoch })
}

impl From<&Purge> for wire::Purge {
    fn from(purge: &Purge) -> Self {
        let Purge { epoch, keys, prefixes, tags, soft } = purge.clone();
        Self { epoch, keys, prefixes, tags, soft }
    }
}

impl TryFrom<wire::Purge> for Purge {
    type Error = Error;

    fn try_from(wire: wire::Purge) -> Result<Self> {
        let wire::Purge { epoch, keys, prefixes, tags, soft } = wire;
        let count = keys.len() + prefixes.len() + tags.len();
        at_most("keys, prefixes and tags", count, BATCH_ENTRIES_MAX)?;
        if count == 0 {
            return Err(Error::MissingField { message: "purge", field: "keys, prefixes or tags" });
        }
        for text in keys.iter().chain(&prefixes).chain(&tags) {
            key(text.clone())?;
        }
        Ok(Self { epoch, keys, prefixes, tags, soft })
    }
}

impl From<PurgeUpdate> for wire::PurgeUpdate {
    fn from(update: PurgeUpdate) -> Self {
        Self {
            log: update.log.as_ref().to_owned(),
            purges: update.purges.iter().map(|purge| purge.as_ref().into()).collect(),
            upto: update.upto,
            has_gap: update.has_gap,
            latest: update.latest,
        }
    }
}

impl TryFrom<wire::PurgeUpdate> for PurgeUpdate {
    type Error = Error;

    fn try_from(wire: wire::PurgeUpdate) -> Result<Self> {
        at_most("purges", wire.purges.len(), BATCH_ENTRIES_MAX)?;
        let purges =
            wire.purges.into_iter().map(|purge| Purge::try_from(purge).map(Arc::new)).collect::<Result<_>>()?;
        let log = name("log", wire.log)?;
        Ok(Self { log, purges, upto: wire.upto, has_gap: wire.has_gap, latest: wire.latest })
    }
}
