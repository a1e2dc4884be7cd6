//! Works on one partition as long as it is owned.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::sleep};

use super::{Counts, Learner, LearnerError, checkpoint::Checkpoint, run::Shared};
use crate::{Error, Partition, Read, Result, Token};

/// Learns from a partition's records until it is told to stop, then writes down how far it has come. Returns whether it
/// has: otherwise another goes on from the checkpoint before.
pub(super) async fn work(
    shared: Arc<Shared>,
    partition: Partition,
    token: Token,
    mut stopped: oneshot::Receiver<()>,
) -> bool {
    let mut pause = RETRY;
    loop {
        match learn(&shared, partition, token, &mut stopped).await {
            Ok(()) => return true,
            Err(error) if error.is_conflict() => {
                // Another owns it.
                tracing::warn!(%partition, token = token.0, "a partition was taken over");
                Counts::add(&shared.counts.fenced, 1);
                return false;
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%partition, %error, source, "work on a partition has failed; it is begun again");
                Counts::add(&shared.counts.failed, 1);
            }
        }
        if stopped.is_terminated() {
            // It was told to stop, and what it learnt could not be written down.
            return false;
        }
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
            _ = &mut stopped => return false,
        }
    }
}

/// Learns until it is told to stop, from the last checkpoint on.
async fn learn(shared: &Shared, partition: Partition, token: Token, stopped: &mut oneshot::Receiver<()>) -> Result<()> {
    let (stream, learners) = (&shared.place.stream, &shared.learners);
    let (checkpoint, found) = Checkpoint::take_over(shared.place.checkpoints.clone(), partition, token).await?;
    if stream.extent(partition).await?.next < found.next {
        // The stream is not the one that the checkpoint is of: to go on would skip what is appended now.
        return Err(Error::Damaged {
            what: "stream (it ends before its checkpoint)",
            name: stream.spec().name.clone(),
        });
    }
    let learner = learners.begin(partition, token, found.state).await.map_err(stopped_learning)?;
    let tail = stream.tail(partition, found.next).await?;
    tracing::info!(%partition, token = token.0, next = found.next.0, "working on a partition");
    let now = shared.clock.elapsed();
    let mut work = Work { shared, partition, learner, checkpoint, written: (now, found.next) };
    work.run(tail, stopped).await
}

struct Work<'a> {
    shared: &'a Shared,
    partition: Partition,
    learner: Box<dyn Learner>,
    checkpoint: Checkpoint,
    /// When a checkpoint was written last, and up to where.
    written: (Duration, crate::Sequence),
}

impl Work<'_> {
    async fn run(&mut self, mut tail: Box<dyn crate::Tail>, stopped: &mut oneshot::Receiver<()>) -> Result<()> {
        loop {
            let every = self.shared.settings.checkpoint_every;
            let due = (self.written.0 + every).saturating_sub(self.shared.clock.elapsed());
            tokio::select! {
                biased;
                _ = &mut *stopped => return self.write(tail.position()).await,
                () = sleep(due) => self.write(tail.position()).await?,
                read = tail.next(RECORDS_MAX) => match read {
                    Ok(Read::Records(records)) => {
                        let count = records.len() as u64;
                        self.learner.apply(records).await.map_err(stopped_learning)?;
                        Counts::add(&self.shared.counts.records, count);
                    }
                    Ok(Read::Gap { from, to }) => {
                        let lost = to.0 - from.0;
                        tracing::error!(partition = %self.partition, lost, "records were gone before they were learnt from");
                        Counts::add(&self.shared.counts.lost, lost);
                    }
                    Err(error) if error.is_transient() => {
                        tracing::debug!(partition = %self.partition, %error, "reading again");
                        sleep(RETRY).await;
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// Writes down how far it has come, and lets go of what need not be read again.
    async fn write(&mut self, next: crate::Sequence) -> Result<()> {
        if next > self.written.1 {
            let state = self.learner.checkpoint().await.map_err(stopped_learning)?;
            let written = self.checkpoint.write(next, state).await;
            match written {
                // What is learnt is kept here, and written when the bus is back.
                Err(error) if error.is_transient() => tracing::debug!(%error, "a checkpoint cannot be written now"),
                Err(error) => return Err(error),
                Ok(()) => {
                    Counts::add(&self.shared.counts.checkpoints, 1);
                    self.written.1 = next;
                    // A stream that is not trimmed is full one day; the next checkpoint trims it as well.
                    if let Err(error) = self.shared.place.stream.trim(self.partition, next).await {
                        tracing::debug!(%error, "the stream cannot be trimmed now");
                    }
                }
            }
        }
        self.written.0 = self.shared.clock.elapsed();
        Ok(())
    }
}

fn stopped_learning(source: LearnerError) -> Error {
    Error::Learner { source }
}

/// Records that are read at once.
const RECORDS_MAX: usize = 64;
/// Pause before work that failed is begun again; it doubles.
const RETRY: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
