//! What goes down one node's stream.

use std::sync::Arc;

use futures::stream::{self, Stream};
use nearcast_proto::{
    convert::BATCH_ENTRIES_MAX,
    message::{CacheMap, Command, Epoch, PredictorNotice},
    wire,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    input::{InForce, Joined},
    inputs::EngineGone,
    streams::unavailable,
};
use crate::{placing::PlacementFeed, purges::PurgeFeed};

/// The ends that a stream's messages come from. Maps, acknowledgements and what is in force are always the latest, so
/// they need no queue; commands wait in a bounded one.
#[derive(Debug)]
pub(super) struct Outgoing {
    epoch: Epoch,
    in_force: watch::Receiver<InForce>,
    feeds: Feeds,
    commands: mpsc::Receiver<Command>,
    map: watch::Receiver<Arc<CacheMap>>,
    taken: watch::Receiver<u64>,
    /// Resolves when the node's half has ended, with a status if it was at fault.
    ending: oneshot::Receiver<Status>,
    shutdown: CancellationToken,
}

/// What a node may have missed while it was away.
#[derive(Debug)]
pub(super) struct Feeds {
    pub(super) purges: PurgeFeed,
    pub(super) placement: PlacementFeed,
}

impl Outgoing {
    pub(super) fn new(
        joined: Joined,
        feeds: Feeds,
        ending: oneshot::Receiver<Status>,
        shutdown: CancellationToken,
    ) -> Self {
        let Joined { session: _, epoch, mut in_force, commands, mut map, taken } = joined;
        // A stream begins with the welcome and the map, even if nothing changes.
        in_force.mark_changed();
        map.mark_changed();
        Self { epoch, in_force, feeds, commands, map, taken, ending, shutdown }
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
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Some(Err(unavailable(EngineGone))),
            status = &mut self.ending => status.ok().map(Err),
            // Before the map and the commands: a node is welcomed first, and logs under the version that commanded.
            changed = self.in_force.changed() => {
                changed.ok()?;
                let InForce { arm, model_version, assignment } = self.in_force.borrow_and_update().clone();
                Some(Ok(PredictorNotice::Welcome { epoch: self.epoch, arm, model_version, assignment }))
            }
            // Before the map: a node asks no peer for anything while it may hold what is purged.
            update = self.feeds.purges.next() => Some(Ok(PredictorNotice::Purges(update?))),
            changed = self.map.changed() => {
                changed.ok()?;
                Some(Ok(PredictorNotice::Map(CacheMap::clone(&self.map.borrow_and_update()))))
            }
            // After the map, which says who the nodes are that it names.
            update = self.feeds.placement.next() => Some(Ok(PredictorNotice::Placement(update?))),
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
