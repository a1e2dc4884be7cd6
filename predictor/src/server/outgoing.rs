//! What goes down one node's stream.

use std::sync::Arc;

use futures::stream::{self, Stream};
use nearcast_proto::{
    convert::BATCH_ENTRIES_MAX,
    message::{CacheMap, Command, PredictorNotice},
    wire,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{controller::arm_name, input::Joined, inputs::EngineGone, streams::unavailable};

/// The ends that a stream's messages come from. Maps and acknowledgements are always the latest, so they need no queue;
/// commands wait in a bounded one.
#[derive(Debug)]
pub(super) struct Outgoing {
    welcome: Option<PredictorNotice>,
    commands: mpsc::Receiver<Command>,
    map: watch::Receiver<Arc<CacheMap>>,
    taken: watch::Receiver<u64>,
    /// Resolves when the node's half has ended, with a status if it was at fault.
    ending: oneshot::Receiver<Status>,
    shutdown: CancellationToken,
}

impl Outgoing {
    pub(super) fn new(joined: Joined, ending: oneshot::Receiver<Status>, shutdown: CancellationToken) -> Self {
        let welcome = PredictorNotice::Welcome {
            epoch: joined.epoch,
            arm: Arc::from(arm_name(joined.arm)),
            model_version: joined.model_version,
        };
        let mut map = joined.map;
        // The first map follows the welcome even if nothing changes.
        map.mark_changed();
        Self { welcome: Some(welcome), commands: joined.commands, map, taken: joined.taken, ending, shutdown }
    }

    /// The stream that tonic sends.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<wire::PredictorMessage, Status>> + Send {
        stream::unfold(Some(self), |outgoing| async move {
            let mut outgoing = outgoing?;
            match outgoing.next().await? {
                Ok(notice) => Some((Ok(notice.into()), Some(outgoing))),
                // Nothing may follow a status.
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    async fn next(&mut self) -> Option<Result<PredictorNotice, Status>> {
        if let Some(welcome) = self.welcome.take() {
            return Some(Ok(welcome));
        }
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Some(Err(unavailable(EngineGone))),
            status = &mut self.ending => status.ok().map(Err),
            changed = self.map.changed() => {
                changed.ok()?;
                Some(Ok(PredictorNotice::Map(CacheMap::clone(&self.map.borrow_and_update()))))
            }
            // Before the acknowledgement, so that what a batch led to has arrived when it is acknowledged.
            count = self.commands.recv_many(&mut batch, BATCH_ENTRIES_MAX) => {
                (count > 0).then_some(Ok(PredictorNotice::Commands(batch)))
            }
            changed = self.taken.changed() => {
                changed.ok()?;
                Some(Ok(PredictorNotice::Ack { sequence: *self.taken.borrow_and_update() }))
            }
        }
    }
}
