//! One connection to the predictor, from hello to its loss.

use std::sync::Arc;

use nearcast_proto::{
    PredictorClient,
    message::{NodeDescriptor, NodeReport, PredictorNotice, SegmentSet},
    wire,
};
use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{Duration, Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, transport::Endpoint};
use url::Url;

use super::{
    Report, SegmentReport,
    batch::{Batch, sets},
    measure::measure,
    outbox::Outbox,
};
use crate::{clock, config::LinkConfig, shell::Shell, tls::ClientTls};

/// Why a session ended.
#[derive(Debug, Error)]
pub(super) enum SessionEnd {
    /// The predictor closed the stream.
    #[error("the predictor closed the stream")]
    Closed,
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificate(#[from] crate::Error),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// It sent something that makes no sense.
    #[error("it sent something that this version does not understand: {0}")]
    Misunderstood(#[from] nearcast_proto::Error),
    /// A gain or loss could not be reported, so the inventory must be sent anew.
    #[error("the report queue was full; the inventory is sent anew")]
    OutOfStep,
    /// A purge could not be written down, so the node is not as far as it should be.
    #[error("a purge cannot be written down: {0}")]
    Purge(#[from] std::io::Error),
    /// The configuration of the link has changed.
    #[error("its configuration has changed")]
    Reconfigured,
    /// The node ends, and has said so.
    #[error("the node ends")]
    Stopped,
    /// The stream broke.
    #[error("the stream broke: {}", .0.message())]
    Stream(#[from] Box<Status>),
}

/// One attempt to reach the predictor and what follows from it.
pub(super) struct Session<'a> {
    shell: &'a Arc<Shell>,
    config: &'a LinkConfig,
    /// The predictor's.
    url: &'a Url,
    own_url: &'a Url,
    outbox: &'a Outbox,
    was_welcomed: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        shell: &'a Arc<Shell>,
        config: &'a LinkConfig,
        (url, own_url): (&'a Url, &'a Url),
        outbox: &'a Outbox,
    ) -> Self {
        Self { shell, config, url, own_url, outbox, was_welcomed: false }
    }

    /// Whether the predictor had answered.
    pub(super) fn was_welcomed(&self) -> bool {
        self.was_welcomed
    }

    /// Connects, announces the inventory, and talks until the stream ends.
    pub(super) async fn run(
        &mut self,
        reports: &mut mpsc::Receiver<Report>,
        batch: &mut Batch,
        stop: &CancellationToken,
    ) -> SessionEnd {
        match self.talk(reports, batch, stop).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn talk(
        &mut self,
        reports: &mut mpsc::Receiver<Report>,
        batch: &mut Batch,
        stop: &CancellationToken,
    ) -> Result<std::convert::Infallible, SessionEnd> {
        let mut endpoint = Endpoint::from_shared(self.url.to_string())?
            .connect_timeout(self.config.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        if self.url.scheme() == "https" {
            // Read for each connection, so that renewed certificates are used from the next one on.
            let live = self.shell.live();
            endpoint = endpoint.tls_config(ClientTls::of_link(self.config, live.peers.tls.as_ref()).for_grpc()?)?;
        }
        let mut client = PredictorClient::new(endpoint.connect().await?);
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        let hello = NodeReport::Hello {
            node: self.descriptor(),
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            purges: self.shell.purge_position(),
            placement: self.shell.placement_position(),
            stream: self.outbox.stream,
        };
        send(&sender, hello).await?;
        let notices = client.join(ReceiverStream::new(receiver)).await.map_err(Box::new)?.into_inner();
        let (shell, config, outbox) = (self.shell, self.config, self.outbox);
        // Both at once: neither end may wait for the other to read. Telling first: what follows from the welcome, as that
        // an arm is served, would otherwise be left out, as what is said to nobody is.
        tokio::select! {
            biased;
            end = tell((shell, config, outbox), sender.clone(), reports, batch) => end,
            end = self.listen(notices) => end,
            end = measure(shell, sender.clone()) => end,
            () = stop.cancelled() => Err(say_goodbye(sender).await),
        }
    }

    fn descriptor(&self) -> NodeDescriptor {
        let config = &self.shell.config;
        NodeDescriptor {
            name: config.name.clone(),
            region: Arc::clone(&config.region),
            url: Arc::from(self.own_url.as_str().trim_end_matches('/')),
            capacity_bytes: config.core.index.capacity_bytes,
            segment_bytes: config.segment_bytes,
        }
    }

    /// Does what the predictor says.
    async fn listen(
        &mut self,
        mut notices: Streaming<wire::PredictorMessage>,
    ) -> Result<std::convert::Infallible, SessionEnd> {
        while let Some(message) = notices.message().await.map_err(Box::new)? {
            match PredictorNotice::try_from(message)? {
                PredictorNotice::Welcome { epoch, arm, model_version, assignment } => {
                    tracing::info!(%arm, %model_version, "the predictor says what is in force");
                    // A later one announces another arm or version, not another predictor.
                    if !std::mem::replace(&mut self.was_welcomed, true) {
                        self.shell.metrics.link_connects.inc();
                        self.shell.handle_welcome(epoch);
                    }
                    self.shell.handle_assignment(&arm, &model_version, assignment);
                }
                PredictorNotice::Commands(commands) => {
                    commands.iter().for_each(|command| self.shell.handle_command(command));
                }
                PredictorNotice::Placement(update) => self.shell.handle_placement(&update),
                PredictorNotice::Purges(update) => self.shell.handle_purges(&update).await?,
                PredictorNotice::Map(map) => self.shell.handle_map(&map),
                PredictorNotice::Ack { sequence } => {
                    self.outbox.acknowledge(sequence);
                    self.shell.uplink.set_unacknowledged(self.outbox.len());
                }
            }
        }
        Err(SessionEnd::Closed)
    }
}

/// Tells the predictor what is held, then what no predictor has acknowledged, then what happens, in batches.
async fn tell(
    (shell, config, outbox): (&Arc<Shell>, &LinkConfig, &Outbox),
    sender: mpsc::Sender<wire::NodeMessage>,
    reports: &mut mpsc::Receiver<Report>,
    batch: &mut Batch,
) -> Result<std::convert::Infallible, SessionEnd> {
    for page in inventory(shell, config, reports, batch) {
        send(&sender, page).await?;
    }
    let (again, lost) = outbox.again(clock::now());
    shell.uplink.count_lost(lost);
    for requests in again {
        send(&sender, NodeReport::Requests(requests)).await?;
    }
    let mut received = Vec::with_capacity(config.batch_max);
    loop {
        let deadline = Instant::now() + config.flush_interval;
        while batch.len() < config.batch_max {
            let room = config.batch_max - batch.len();
            tokio::select! {
                count = reports.recv_many(&mut received, room) => {
                    if count == 0 {
                        return Err(SessionEnd::Closed);
                    }
                    received.drain(..).for_each(|report| batch.add(report));
                }
                () = sleep_until(deadline) => break,
            }
        }
        if shell.uplink.take_out_of_step() {
            return Err(SessionEnd::OutOfStep);
        }
        let number = |requests, dropped_count| outbox.keep(requests, dropped_count, config.unacknowledged_max);
        let messages = batch.take(shell.uplink.take_dropped_requests(), number);
        shell.uplink.set_unacknowledged(outbox.len());
        for message in messages {
            send(&sender, message).await?;
        }
    }
}

/// Tells the predictor that the node ends, so that it need not wait whether it comes back.
async fn say_goodbye(sender: mpsc::Sender<wire::NodeMessage>) -> SessionEnd {
    if timeout(GOODBYE, send(&sender, NodeReport::Leaving)).await.is_ok() {
        // The stream is what takes it out of the queue.
        let _ = timeout(GOODBYE, sender.reserve_many(MESSAGES_MAX)).await;
        tokio::time::sleep(GOODBYE / 4).await;
    }
    SessionEnd::Stopped
}

/// What is held, in pages. From here on changes are queued, so that none falls between the inventory and them.
fn inventory(
    shell: &Shell,
    config: &LinkConfig,
    reports: &mut mpsc::Receiver<Report>,
    batch: &mut Batch,
) -> Vec<NodeReport> {
    let mut held: Vec<SegmentReport> = {
        let state = shell.state();
        batch.forget_state();
        while let Ok(report) = reports.try_recv() {
            if report.outlives_a_predictor() {
                batch.add(report);
            }
        }
        shell.uplink.take_out_of_step();
        shell.uplink.set_connected(true);
        state.inventory().map(|(object, index)| SegmentReport::of(object, index)).collect()
    };
    held.sort_unstable_by(|left, right| (&left.key, left.index).cmp(&(&right.key, right.index)));
    let sets: Vec<SegmentSet> = sets(held.into_iter());
    let pages = sets.len().div_ceil(config.inventory_page_max).max(1);
    let mut chunks = sets.chunks(config.inventory_page_max).map(<[SegmentSet]>::to_vec);
    (1..=pages)
        .map(|page| NodeReport::Inventory { held: chunks.next().unwrap_or_default(), last: page == pages })
        .collect()
}

pub(super) async fn send(sender: &mpsc::Sender<wire::NodeMessage>, report: NodeReport) -> Result<(), SessionEnd> {
    sender.send(report.into()).await.map_err(|_| SessionEnd::Closed)
}

/// A silent connection is probed after this long and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a node that ends takes to say so.
const GOODBYE: Duration = Duration::from_millis(200);
/// Messages waiting for the stream; the reports behind them wait in the uplink's queue.
const MESSAGES_MAX: usize = 16;
