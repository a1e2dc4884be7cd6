//! The gRPC service that nodes connect to: one stream each.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::stream::Stream;
use nearcast_proto::{
    message::{NodeName, NodeReport, PlacementPosition, RequestBatch},
    wire,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};

use super::{
    fleet::{Intake, RequestLog, catch_up},
    input::{Arrival, Input, JoinRefused, SessionId},
    inputs::{EngineGone, Inputs},
    outgoing::{Feeds, Outgoing},
};
use crate::{clock, metrics::Metrics, placing::Board, purges::PurgeLog};

/// Accepts nodes.
#[derive(Clone, Debug)]
pub(super) struct NodeStreams {
    pub(super) inputs: Inputs,
    pub(super) metrics: Metrics,
    pub(super) purges: Arc<PurgeLog>,
    /// The map that nodes route on.
    pub(super) board: Arc<Board>,
    /// How long a stream may take to say hello.
    pub(super) hello: Duration,
    pub(super) shutdown: CancellationToken,
    /// Every reading half.
    pub(super) readers: TaskTracker,
    /// Where requests go to in a fleet.
    pub(super) log: Option<RequestLog>,
}

#[tonic::async_trait]
impl wire::predictor_server::Predictor for NodeStreams {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<wire::PredictorMessage, Status>> + Send>>;

    async fn join(&self, request: Request<Streaming<wire::NodeMessage>>) -> Result<Response<Self::JoinStream>, Status> {
        let mut inbound = request.into_inner();
        let arrival = self.hello(&mut inbound).await?;
        let Arrival { node, stream, purges: position, placement } = arrival.clone();
        if let Some(position) =
            position.as_ref().filter(|position| self.log.is_some() && self.purges.is_of_log(position))
        {
            catch_up(&self.purges, position.epoch).await;
        }
        let name = node.name.clone();
        let joined = self.inputs.ask(|reply| Input::Join(Box::new(arrival), reply)).await.map_err(unavailable)?;
        let joined = joined.map_err(|refused| self.refuse_join(&refused))?;
        let (end, ending) = oneshot::channel();
        let feed = self.purges.join(name.clone(), position.as_ref());
        let (placement_feed, gap) = self.board.join(placement.as_ref());
        let session = joined.session;
        let intake = self.log.as_ref().map(|log| log.intake(self.inputs.clone(), session, node, stream));
        let reader = Reader { streams: self.clone(), session, name, inbound, gap, intake };
        let told = Input::Report(session, NodeReport::Placement { position: placement, has_gap: false });
        self.inputs.tell(told).await.map_err(unavailable)?;
        // The tracker is what it is awaited with.
        drop(self.readers.spawn(reader.run(end)));
        let feeds = Feeds { purges: feed, placement: placement_feed };
        Ok(Response::new(Box::pin(Outgoing::new(joined, feeds, ending, self.shutdown.clone()).into_stream())))
    }
}

impl NodeStreams {
    /// Waits for the message that every stream begins with.
    async fn hello(&self, inbound: &mut Streaming<wire::NodeMessage>) -> Result<Arrival, Status> {
        let first = tokio::select! {
            () = self.shutdown.cancelled() => return Err(unavailable(EngineGone)),
            first = timeout(self.hello, inbound.message()) => first,
        };
        let first =
            first.map_err(|_| self.refuse("no_hello", Status::deadline_exceeded("no hello came in time")))??;
        let Some(first) = first else {
            return Err(self.refuse("no_hello", Status::invalid_argument("the stream ended before the hello")));
        };
        match NodeReport::try_from(first) {
            Ok(NodeReport::Hello { node, purges, placement, stream, .. }) => {
                // One that numbers its batches anew in every stream: a later stream has a greater number.
                let stream = if stream > 0 { stream } else { u64::try_from(clock::now().micros()).unwrap_or(1) };
                Ok(Arrival { node, stream, purges, placement })
            }
            Ok(_) => Err(self.refuse("no_hello", Status::invalid_argument("the first message must be the hello"))),
            Err(error) => Err(self.refuse("malformed", Status::invalid_argument(error.to_string()))),
        }
    }

    fn refuse(&self, reason: &str, status: Status) -> Status {
        tracing::warn!(reason, message = status.message(), "stream refused");
        self.metrics.streams_refused.get_or_create(&reason.into()).inc();
        status
    }

    fn refuse_join(&self, refused: &JoinRefused) -> Status {
        let message = refused.to_string();
        match refused {
            JoinRefused::NameTaken { .. } => self.refuse("name_taken", Status::already_exists(message)),
            JoinRefused::TooManyNodes { .. } => self.refuse("too_many_nodes", Status::resource_exhausted(message)),
            JoinRefused::UnknownRegion(_) => self.refuse("unknown_region", Status::failed_precondition(message)),
        }
    }
}

/// The reading half of a node's stream.
#[derive(Debug)]
struct Reader {
    streams: NodeStreams,
    session: SessionId,
    name: NodeName,
    inbound: Streaming<wire::NodeMessage>,
    /// Where the node's copy of the map is, when it could not take over what it was told.
    gap: mpsc::Sender<Option<PlacementPosition>>,
    /// The way of requests in a fleet.
    intake: Option<Intake>,
}

impl Reader {
    /// Passes on what the node says until it ends, then tells the engine and the writing half.
    async fn run(mut self, end: oneshot::Sender<Status>) {
        let status = self.read().await;
        // The engine being gone is how the service ends; there is nobody to tell.
        let _ = self.streams.inputs.tell(Input::Leave(self.session)).await;
        if let Some(status) = status {
            // The writing half may be gone already, the connection being lost.
            let _ = end.send(status);
        }
    }

    /// Returns what to tell the node, if the stream ended by its fault.
    async fn read(&mut self) -> Option<Status> {
        loop {
            let message = tokio::select! {
                () = self.streams.shutdown.cancelled() => return None,
                // An error is a lost connection, which is no more than an end.
                message = self.inbound.message() => message.ok()??,
            };
            match NodeReport::try_from(message) {
                Ok(NodeReport::Hello { .. }) => {
                    let status = Status::invalid_argument("only the first message may be the hello");
                    return Some(self.streams.refuse("second_hello", status));
                }
                Ok(NodeReport::Purged { epoch, objects }) => {
                    self.streams.purges.note(&self.name, epoch, objects);
                    // In a fleet the others are told.
                    if self.intake.is_some() {
                        let told = NodeReport::Purged { epoch, objects };
                        self.streams.inputs.tell(Input::Report(self.session, told)).await.ok()?;
                    }
                }
                Ok(NodeReport::Requests(batch)) => self.requests(batch).await?,
                Ok(NodeReport::Placement { position, has_gap }) => {
                    if has_gap && self.gap.try_send(position.clone()).is_err() {
                        let status = Status::resource_exhausted("the placement map cannot be brought to the node");
                        return Some(self.streams.refuse("placement_gaps", status));
                    }
                    let told = NodeReport::Placement { position, has_gap };
                    self.streams.inputs.tell(Input::Report(self.session, told)).await.ok()?;
                }
                Ok(report) => self.streams.inputs.tell(Input::Report(self.session, report)).await.ok()?,
                Err(error) => {
                    let status = Status::invalid_argument(error.to_string());
                    return Some(self.streams.refuse("malformed", status));
                }
            }
        }
    }
}

impl Reader {
    /// Passes requests on: to the log, in a fleet, and in any case to be counted. `None` when the predictor ends.
    async fn requests(&self, batch: RequestBatch) -> Option<()> {
        if let Some(intake) = &self.intake {
            tokio::select! {
                () = self.streams.shutdown.cancelled() => return None,
                () = intake.take(&batch) => {}
            }
        }
        self.streams.inputs.tell(Input::Report(self.session, NodeReport::Requests(batch))).await.ok()
    }
}

/// Says that the service is about to end.
pub(super) fn unavailable(_gone: EngineGone) -> Status {
    Status::unavailable(EngineGone.to_string())
}
