//! A member's task: keeps its membership, hears of the others, claims, and starts and stops work.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Counts, FleetPlace, FleetSettings, FleetView, Learners,
    records::{Key, claim_key, decode_claim, decode_member, encode_claim, encode_member, member_key},
    worker::work,
};
use crate::{
    Change, Holder, Lease, LeaseStep, Partition, Result, Revision, SharedClock, Token, Watch,
    claims::{Claim, ClaimStep, Claims, Membership, Resource},
};

/// What a member's tasks work with.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) place: FleetPlace,
    pub(super) learners: Arc<dyn Learners>,
    pub(super) settings: FleetSettings,
    pub(super) clock: SharedClock,
    pub(super) counts: Arc<Counts>,
}

/// A member's state.
#[derive(Debug)]
pub(super) struct Run {
    shared: Arc<Shared>,
    lease: Lease,
    claims: Claims,
    workers: BTreeMap<u32, Worker>,
    is_draining: bool,
    show: watch::Sender<FleetView>,
    /// Not before then is anything tried again that the bus did not answer.
    pause_until: Duration,
}

#[derive(Debug)]
struct Worker {
    token: Token,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<bool>,
}

impl Run {
    pub(super) fn new(shared: Arc<Shared>, show: watch::Sender<FleetView>) -> Self {
        let settings = &shared.settings;
        let me = Holder { name: settings.name.clone(), run: settings.run.clone() };
        let partitions = (0..shared.place.stream.spec().partitions).map(Resource::Partition);
        let offices = settings.offices.iter().cloned().map(Resource::Office);
        let claims = Claims::new(me.clone(), settings.lease, partitions.chain(offices));
        let lease = Lease::new(me, settings.lease);
        Self { lease, claims, shared, workers: BTreeMap::new(), is_draining: false, show, pause_until: Duration::ZERO }
    }

    /// Takes part until told to stop, then drains and leaves.
    pub(super) async fn until(mut self, mut changes: Box<dyn Watch>, mut stopped: oneshot::Receiver<()>) {
        loop {
            let wait = self.act().await;
            tokio::select! {
                change = changes.next() => match change {
                    Ok(change) => self.hear(&change),
                    Err(error) => {
                        tracing::debug!(%error, "the other members cannot be heard of now");
                        sleep(RETRY).await;
                    }
                },
                () = sleep(wait) => {}
                _ = &mut stopped, if !self.is_draining => {
                    self.is_draining = true;
                    let patience = self.shared.settings.lease.ttl;
                    if timeout(patience, self.drain(&mut *changes)).await.is_err() {
                        tracing::warn!("not everything was handed over in time; others take it when the membership is over");
                    }
                    return;
                }
            }
        }
    }

    /// Hands everything over, then ends the membership. Those who are left alone keep their claims to the end.
    async fn drain(&mut self, changes: &mut dyn Watch) {
        let workers = std::mem::take(&mut self.workers);
        for (partition, worker) in workers {
            let revision = Revision(worker.token.0);
            self.claims.handle_releasing(&Resource::Partition(partition), revision);
            drop(worker.stop);
            // A worker that is gone has nothing to hand over.
            let _ = worker.task.await;
            let _ = self.shared.place.members.delete(&claim_key(&Resource::Partition(partition)), revision).await;
        }
        // Not heard of yet, at worst: its revision is what counts.
        while let Ok(Ok(change)) = timeout(Duration::ZERO, changes.next()).await {
            self.hear(&change);
        }
        if let Some(revision) = self.lease.revision() {
            let _ = self.shared.place.members.delete(&member_key(&self.shared.settings.name), revision).await;
        }
        self.show.send_replace(FleetView::default());
    }

    fn hear(&mut self, change: &Change) {
        let now = self.shared.clock.elapsed();
        match Key::parse(&change.key) {
            Some(Key::Member(name)) => {
                let member = change.value.as_ref().and_then(|value| decode_member(change.revision, value));
                if name == self.shared.settings.name {
                    let is_news = self.lease.revision().is_none_or(|known| known < change.revision);
                    if member.is_some() || is_news {
                        let entry = member.clone().map(|(_, record)| (change.revision, record));
                        self.lease.handle_entry(now, entry);
                    }
                    // Changes come in order: what was there before one's own entry has been heard of.
                    if self.lease.held(now).is_some() {
                        self.claims.handle_caught_up();
                    }
                }
                self.claims.handle_member(now, &name, change.revision, member.map(|(member, _)| member));
            }
            Some(Key::Claim(resource)) => {
                let claim = change.value.as_ref().and_then(|value| decode_claim(value));
                self.claims.handle_claim(&resource, change.revision, claim);
            }
            None => {}
        }
    }

    /// Does what is due and says how long nothing will be.
    async fn act(&mut self) -> Duration {
        let now = self.shared.clock.elapsed();
        if now < self.pause_until {
            self.settle(now).await;
            return self.pause_until - now;
        }
        // Not longer than a renewal may wait. What was sent and not answered is heard of like what others do.
        let patience = self.shared.settings.lease.renew_every();
        let is_done = match timeout(patience, self.act_on_bus()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the bus does not take part");
                false
            }
            Err(_) => false,
        };
        if !is_done {
            self.pause_until = self.shared.clock.elapsed() + RETRY;
        }
        let now = self.shared.clock.elapsed();
        self.settle(now).await;
        let renewal = match self.lease.poll(now) {
            LeaseStep::Write { .. } => RETRY,
            LeaseStep::Wait { until } => until.saturating_sub(now),
        };
        let over = self.claims.poll_timeout().map(|over| over.saturating_sub(now).max(RETRY));
        renewal.min(over.unwrap_or(renewal)).min(self.shared.settings.lease.renew_every())
    }

    async fn act_on_bus(&mut self) -> Result<()> {
        self.renew().await?;
        let now = self.shared.clock.elapsed();
        let held = self.lease.held(now).map(|held| held.token);
        for step in self.claims.poll(now, held) {
            let Some(token) = held else { break };
            self.step(step, token).await?;
        }
        Ok(())
    }

    async fn renew(&mut self) -> Result<()> {
        let now = self.shared.clock.elapsed();
        let LeaseStep::Write { expected, record } = self.lease.poll(now) else { return Ok(()) };
        self.lease.handle_sending(now);
        let (members, key) = (&self.shared.place.members, member_key(&self.shared.settings.name));
        let value = encode_member(&record, self.is_draining);
        let written = match expected {
            Some(revision) => members.update(&key, value.clone(), revision).await,
            None => members.create(&key, value.clone()).await,
        };
        let now = self.shared.clock.elapsed();
        match written {
            Ok(revision) => self.lease.handle_written(now, revision, record),
            Err(error) if error.is_conflict() => {
                let entry = members.get(&key).await?;
                let record =
                    |entry: crate::Entry| Some((entry.revision, decode_member(entry.revision, &entry.value)?.1));
                self.lease.handle_entry(now, entry.and_then(record));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn step(&mut self, step: ClaimStep, membership: Token) -> Result<()> {
        let members = &self.shared.place.members;
        match step {
            ClaimStep::Bury { member, revision } => {
                tracing::warn!(%member, "a member's time is over");
                let removed = lenient(members.delete(&member_key(&member), revision).await)?;
                if let Some(revision) = removed {
                    let now = self.shared.clock.elapsed();
                    self.claims.handle_member(now, &member, revision, None);
                }
            }
            ClaimStep::Claim { resource, expected } => {
                let claim = Claim { member: self.shared.settings.name.clone(), membership };
                let (key, value) = (claim_key(&resource), encode_claim(&claim));
                let written = match expected {
                    Some(revision) => members.update(&key, value, revision).await,
                    None => members.create(&key, value).await,
                };
                if let Some(revision) = lenient(written)? {
                    self.shared.counts.claimed.fetch_add(1, Ordering::Relaxed);
                    self.claims.handle_claim(&resource, revision, Some(claim));
                }
            }
            ClaimStep::Release { resource, revision } => {
                self.claims.handle_releasing(&resource, revision);
                let worker = match &resource {
                    Resource::Partition(partition) => self.workers.get_mut(partition),
                    Resource::Office(_) => None,
                };
                if let Some(worker) = worker {
                    drop(worker.stop.take());
                    if !worker.task.is_finished() {
                        // It is asked for again.
                        return Ok(());
                    }
                }
                if let Some(gone) = lenient(members.delete(&claim_key(&resource), revision).await)? {
                    self.claims.handle_claim(&resource, gone, None);
                }
            }
        }
        Ok(())
    }

    /// Lets work be done on exactly what is owned.
    async fn settle(&mut self, now: Duration) {
        let held = self.lease.held(now);
        let owned: BTreeMap<Resource, Token> = held
            .map(|held| self.claims.owned(held.token).map(|(resource, token)| (resource.clone(), token)).collect())
            .unwrap_or_default();
        let token = |partition: u32| owned.get(&Resource::Partition(partition)).copied();
        for (partition, worker) in std::mem::take(&mut self.workers) {
            if worker.task.is_finished() {
                continue;
            }
            let is_leaving = worker.stop.is_none() && held.is_some();
            if is_leaving || token(partition) == Some(worker.token) {
                self.workers.insert(partition, worker);
            } else {
                // The membership is over or the partition another's: what it does now would be in vain.
                self.shared.counts.fenced.fetch_add(1, Ordering::Relaxed);
                worker.task.abort();
                let _ = worker.task.await;
            }
        }
        for (resource, token) in &owned {
            let Resource::Partition(partition) = resource else { continue };
            if !self.workers.contains_key(partition) {
                let (stop, stopped) = oneshot::channel();
                let task = tokio::spawn(work(Arc::clone(&self.shared), Partition(*partition), *token, stopped));
                self.workers.insert(*partition, Worker { token: *token, stop: Some(stop), task });
            }
        }
        let owners = self.claims.owners().map(|(resource, owner)| (resource.clone(), owner.to_owned())).collect();
        let tokens = self.claims.tokens().map(|(resource, token)| (resource.clone(), token)).collect();
        let name = |member: &Membership| (member.holder.name.clone(), member.holder.run.clone());
        let members = self.claims.members().map(name).collect();
        let view = FleetView { owned, until: held.map(|held| held.until), owners, tokens, members };
        self.show.send_if_modified(|shown| {
            let is_new = *shown != view;
            *shown = view;
            is_new
        });
    }
}

/// A conflict only says that one has not heard of everything yet.
fn lenient<T>(written: Result<T>) -> Result<Option<T>> {
    match written {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_conflict() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_millis(50);
