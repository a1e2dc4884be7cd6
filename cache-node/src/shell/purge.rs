//! Carrying purges out.

use std::sync::Arc;

use nearcast_datasets::{KeyId, Timestamp};
use nearcast_proto::message::{PurgePosition, PurgeUpdate};

use super::{Shell, State};
use crate::{
    clock,
    key::Key,
    link::Report,
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
        let (counts, written) = self.carry_out(vec![purge]).await;
        let path = self.purges.path().display().to_string();
        written.map_err(|error| PurgeError::Log { path, problem: error.to_string() })?;
        Ok(counts.into_iter().sum())
    }

    /// Carries out what the predictor's log says. Purges hold from now on, by this node's own clock: whatever it got
    /// before it heard of one may be older than that.
    ///
    /// # Errors
    /// When it cannot be written down, so that the node is not as far in the log as it should be.
    pub(crate) async fn handle_purges(self: &Arc<Self>, update: &PurgeUpdate) -> std::io::Result<()> {
        let position = |epoch| PurgePosition { log: Arc::clone(&update.log), epoch };
        let mut logged = Vec::with_capacity(update.purges.len() + 1);
        {
            let (mut state, now) = (self.state(), clock::now());
            if update.has_gap {
                tracing::warn!(
                    "purges were missed that are no longer known: the origin is asked about all that is held"
                );
                let before = update.purges.first().map_or(update.upto, |purge| purge.epoch.saturating_sub(1));
                logged.push(Arc::new(Purge::mark(position(before), true, now)));
                (state.doubted_before, state.lasting_doubt) = (Some(now), Some(now));
            }
            for purge in &update.purges {
                let purge = Arc::new(Purge::logged(purge, position(purge.epoch), now));
                state.remember_logged(Arc::clone(&purge));
                logged.push(purge);
            }
        }
        let reached = logged.last().map_or_else(|| self.purges.position(), |purge| purge.position().cloned());
        if reached != Some(position(update.upto)) {
            logged.push(Arc::new(Purge::mark(position(update.upto), false, clock::now())));
        }
        let marks_before = usize::from(update.has_gap);
        let (counts, written) = self.carry_out(logged).await;
        written?;
        for (purge, objects) in update.purges.iter().zip(counts.into_iter().skip(marks_before)) {
            self.uplink.send(Report::Purged { epoch: purge.epoch, objects });
        }
        if update.upto == update.latest {
            let mut state = self.state();
            state.doubted_before = state.lasting_doubt;
        }
        Ok(())
    }

    /// Does what purges ask for and writes them down, both at once. Returns how many objects each concerned.
    async fn carry_out(self: &Arc<Self>, purges: Vec<Arc<Purge>>) -> (Vec<u64>, std::io::Result<()>) {
        let written = tokio::task::spawn_blocking({
            let (shell, purges) = (Arc::clone(self), purges.clone());
            move || shell.purges.append(&purges)
        });
        let mut counts = vec![0; purges.len()];
        let mut wide = Vec::new();
        for (number, purge) in purges.iter().enumerate() {
            match purge.only_keys() {
                Some(keys) => counts[number] = self.purge_keys(purge, keys),
                None => wide.push((number, &**purge)),
            }
        }
        self.purge_all(&wide, &mut counts).await;
        self.metrics.purges.inc_by(purges.iter().filter(|purge| purge.only_keys() != Some(&[])).count() as u64);
        self.metrics.purged_objects.inc_by(counts.iter().sum());
        (counts, written.await.unwrap_or_else(|error| Err(std::io::Error::other(error))))
    }

    fn purge_keys(&self, purge: &Purge, keys: &[String]) -> u64 {
        let mut state = self.state();
        let keys = keys.iter().filter_map(|key| Key::parse(key).ok());
        let ids: Vec<KeyId> = keys.flat_map(|key| state.all_variants(&key)).collect();
        ids.into_iter().map(|id| self.apply_purge(&mut state, purge, id)).sum()
    }

    /// Looks at every object for purges that name more than keys, each with its place among `counts`. In steps, so that
    /// no request waits for long.
    async fn purge_all(&self, purges: &[(usize, &Purge)], counts: &mut [u64]) {
        if purges.is_empty() {
            return;
        }
        let mut next = 0;
        loop {
            {
                let mut state = self.state();
                let bound = state.key_bound();
                if next >= bound {
                    return;
                }
                let step = next..bound.min(next + STEP);
                next = step.end;
                for id in step.map(KeyId) {
                    for (number, purge) in purges {
                        counts[*number] += self.apply_purge(&mut state, purge, id);
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn apply_purge(&self, state: &mut State, purge: &Purge, id: KeyId) -> u64 {
        let Some(entry) = state.entries.get_mut(id) else { return 0 };
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
    pub(super) fn purged(&self, object: &Object, asked_at: Timestamp) -> Option<PurgeEffect> {
        let since = object.received_at.min(asked_at);
        let later = self.purges.iter().rev().take_while(|purge| purge.at() >= since);
        let mut effects = later.filter_map(|purge| purge.effect(object, asked_at));
        let latest = effects.next()?;
        Some(effects.find(|effect| *effect == PurgeEffect::Gone).unwrap_or(latest))
    }

    /// Whether an object is served only once the origin has confirmed it: it may have been purged without the node
    /// knowing.
    pub(super) fn is_doubted(&self, object: &Object) -> bool {
        self.doubted_before.is_some_and(|before| object.received_at < before)
    }

    /// Keeps a purge in mind for as long as a transfer may have been under way when it was ordered, and longer where
    /// there is room, since a peer may not have heard of it; false when there are too many of them.
    fn remember_purge(&mut self, purge: Arc<Purge>) -> bool {
        let at = purge.at();
        let is_over = |oldest: &Arc<Purge>| oldest.at().after(REMEMBERED) < at;
        if self.purges.len() >= PURGES_MAX && !self.purges.front().is_some_and(is_over) {
            return false;
        }
        self.remember_logged(purge);
        true
    }

    /// Keeps a purge of the predictor's log in mind, which cannot be refused.
    fn remember_logged(&mut self, purge: Arc<Purge>) {
        if self.purges.len() >= PURGES_MAX {
            self.purges.pop_front();
        }
        self.purges.push_back(purge);
    }
}

/// Keys looked at while requests wait.
const STEP: u32 = 1_024;
/// Longer than any transfer takes.
const REMEMBERED: std::time::Duration = std::time::Duration::from_secs(3_600);
const PURGES_MAX: usize = 65_536;
