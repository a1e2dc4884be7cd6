//! Carrying purges out.

use std::sync::Arc;

use nearcast_datasets::KeyId;

use super::{Shell, State};
use crate::{
    clock,
    key::Key,
    object::Object,
    purge::{Purge, PurgeEffect, PurgeOrder, PurgeOrderError},
    record::ChangeKind,
};

/// Why a purge was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PurgeError {
    /// The order is none.
    #[error(transparent)]
    Order(#[from] PurgeOrderError),
    /// It holds until the node ends, but could not be written down.
    #[error("purged, but a restart may bring it back: cannot write {path}: {problem}")]
    Log { path: String, problem: String },
    /// Too many within the time in which transfers may still be under way.
    #[error("too many purges within the hour: name more in each of them")]
    TooMany,
}

impl Shell {
    /// Purges what `order` names and returns how many objects were held of it. Once this returns, nothing of it is
    /// served again, also after a crash.
    ///
    /// # Errors
    /// When the order is none, or could not be written down.
    pub(crate) async fn purge(self: &Arc<Self>, order: PurgeOrder) -> Result<u64, PurgeError> {
        // First of all, so that no transfer that is under way lands unseen.
        let purge = {
            let mut state = self.state();
            let purge = Arc::new(order.at(clock::now())?);
            if !state.remember_purge(Arc::clone(&purge)) {
                return Err(PurgeError::TooMany);
            }
            purge
        };
        let written = tokio::task::spawn_blocking({
            let (shell, purge) = (Arc::clone(self), Arc::clone(&purge));
            move || shell.purges.append(&purge)
        });
        let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let count = match purge.only_keys() {
            Some(keys) => self.purge_keys(&purge, keys),
            None => self.purge_all(&purge).await,
        };
        self.metrics.purges.inc();
        self.metrics.purged_objects.inc_by(count);
        let path = self.purges.path().display().to_string();
        written.map_err(|error| PurgeError::Log { path, problem: error.to_string() })?;
        Ok(count)
    }

    fn purge_keys(&self, purge: &Purge, keys: &[String]) -> u64 {
        let mut state = self.state();
        let keys = keys.iter().filter_map(|key| Key::parse(key).ok());
        let ids: Vec<KeyId> = keys.flat_map(|key| state.all_variants(&key)).collect();
        ids.into_iter().map(|id| self.apply_purge(&mut state, purge, id)).sum()
    }

    /// Looks at every object. In steps, so that no request waits for long.
    async fn purge_all(&self, purge: &Purge) -> u64 {
        let (mut next, mut count) = (0, 0);
        loop {
            {
                let mut state = self.state();
                let bound = state.key_bound();
                if next >= bound {
                    return count;
                }
                let step = next..bound.min(next + STEP);
                next = step.end;
                count += step.map(|number| self.apply_purge(&mut state, purge, KeyId(number))).sum::<u64>();
            }
            tokio::task::yield_now().await;
        }
    }

    fn apply_purge(&self, state: &mut State, purge: &Purge, id: KeyId) -> u64 {
        let Some(entry) = state.entries.get_mut(&id) else { return 0 };
        match purge.effect(&entry.object, entry.object.received_at) {
            None => return 0,
            Some(PurgeEffect::Gone) => self.expire(state, clock::now(), id),
            Some(PurgeEffect::Stale(at)) => {
                let stale = Arc::new(entry.object.staled(at));
                self.journal.append(ChangeKind::Object(stale.to_record()));
                entry.object = stale;
            }
        }
        1
    }
}

impl State {
    /// What the purges so far do to an object that was asked for at `asked_at`.
    pub(super) fn purged(&self, object: &Object, asked_at: nearcast_datasets::Timestamp) -> Option<PurgeEffect> {
        let since = object.received_at.min(asked_at);
        let later = self.purges.iter().rev().take_while(|purge| purge.at() >= since);
        let mut effects = later.filter_map(|purge| purge.effect(object, asked_at));
        let latest = effects.next()?;
        Some(effects.find(|effect| *effect == PurgeEffect::Gone).unwrap_or(latest))
    }

    /// Keeps a purge in mind for as long as a transfer may have been under way when it was ordered; false when there are
    /// too many of them.
    fn remember_purge(&mut self, purge: Arc<Purge>) -> bool {
        let at = purge.at();
        while self.purges.front().is_some_and(|oldest| oldest.at().after(REMEMBERED) < at) {
            self.purges.pop_front();
        }
        let is_room = self.purges.len() < PURGES_MAX;
        if is_room {
            self.purges.push_back(purge);
        }
        is_room
    }
}

/// Keys looked at while requests wait.
const STEP: u32 = 1_024;
/// Longer than any transfer takes.
const REMEMBERED: std::time::Duration = std::time::Duration::from_secs(3_600);
const PURGES_MAX: usize = 65_536;
