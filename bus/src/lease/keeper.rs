//! Keeps one lease on a bus.

use std::time::Duration;

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Held, Holder, Lease, LeaseSettings, LeaseStep, decode_lease, encode_lease};
use crate::{Result, SharedBucket, SharedClock};

/// Tries to hold a lease as long as it lives, in a task of its own.
#[derive(Debug)]
pub struct LeaseKeeper {
    clock: SharedClock,
    held: watch::Receiver<Option<Held>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl LeaseKeeper {
    /// Begins to want the lease under a key of a bucket.
    pub fn start(bucket: SharedBucket, key: String, me: Holder, settings: LeaseSettings, clock: SharedClock) -> Self {
        let (told, held) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let task = Task { lease: Lease::new(me, settings), bucket, key, settings, clock: clock.clone(), told };
        Self { clock, held, stop, task: tokio::spawn(task.run(stopped)) }
    }

    /// The lease, if it is held now.
    pub fn held(&self) -> Option<Held> {
        (*self.held.borrow()).filter(|held| self.clock.elapsed() < held.until)
    }

    /// Waits until the lease is held.
    pub async fn acquired(&mut self) -> Option<Held> {
        loop {
            if let Some(held) = self.held() {
                return Some(held);
            }
            self.held.changed().await.ok()?;
        }
    }

    /// Gives the lease up at once, so that others need not wait until it is over.
    pub async fn release(self) {
        let _ = self.stop.send(());
        // A panic has been reported by the runtime.
        let _ = self.task.await;
    }
}

struct Task {
    lease: Lease,
    bucket: SharedBucket,
    key: String,
    settings: LeaseSettings,
    clock: SharedClock,
    told: watch::Sender<Option<Held>>,
}

impl Task {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let step = async {
                let wait = match self.step().await {
                    Ok(wait) => wait,
                    Err(error) => {
                        tracing::warn!(key = self.key, %error, "a lease cannot be seen to");
                        self.settings.ttl / 10
                    }
                };
                self.told.send_replace(self.lease.held(self.clock.elapsed()));
                sleep(wait.min(self.settings.renew_every())).await;
            };
            tokio::select! {
                () = step => {}
                _ = &mut stopped => break,
            }
        }
        self.told.send_replace(None);
        // Without an answer it is over when its time is.
        let _ = timeout(self.settings.ttl, self.give_up()).await;
    }

    /// Looks at the entry, does what is due, and says when to look again.
    async fn step(&mut self) -> Result<Duration> {
        let entry = self.bucket.get(&self.key).await?;
        let entry = entry.map(|entry| Ok((entry.revision, decode_lease(&self.key, &entry.value)?))).transpose()?;
        self.lease.handle_entry(self.clock.elapsed(), entry);
        let now = self.clock.elapsed();
        let (expected, record) = match self.lease.poll(now) {
            LeaseStep::Wait { until } => return Ok(until.saturating_sub(now)),
            LeaseStep::Write { expected, record } => (expected, record),
        };
        self.lease.handle_sending(now);
        let value = encode_lease(&record);
        let written = match expected {
            Some(revision) => self.bucket.update(&self.key, value, revision).await,
            None => self.bucket.create(&self.key, value).await,
        };
        match written {
            Ok(revision) => {
                self.lease.handle_written(self.clock.elapsed(), revision, record);
                Ok(self.settings.renew_every())
            }
            Err(error) if error.is_conflict() => Ok(Duration::ZERO),
            Err(error) => Err(error),
        }
    }

    async fn give_up(&self) {
        if let Some(revision) = self.lease.revision()
            && let Err(error) = self.bucket.delete(&self.key, revision).await
        {
            tracing::debug!(key = self.key, %error, "a lease was not given up; it will be over by itself");
        }
    }
}
