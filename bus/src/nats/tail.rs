//! Reading a partition on NATS.

use std::{fmt, time::Duration};

use async_nats::{
    header::NATS_MESSAGE_ID,
    jetstream::{
        Message,
        consumer::{DeliverPolicy, pull},
        stream::Stream,
    },
};
use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use tokio::{sync::watch::Receiver, time::timeout};

use crate::{Error, Read, Record, Result, Sequence, Tail};

/// Reads through an ordered consumer, which it replaces whenever it might have missed something.
pub(super) struct NatsTail {
    stream: Stream<()>,
    messages: Option<pull::Ordered>,
    next: Sequence,
    /// A record that was read after a gap, which is told of first.
    held: Option<Record>,
    connections: Receiver<u64>,
}

impl NatsTail {
    pub(super) fn new(stream: Stream<()>, next: Sequence, connections: Receiver<u64>) -> Self {
        Self { stream, messages: None, next, held: None, connections }
    }

    /// Waits for one record.
    async fn receive(&mut self) -> Result<Record> {
        loop {
            if self.connections.has_changed().unwrap_or(false) {
                // What was subscribed before the connection was lost may be gone.
                self.connections.mark_unchanged();
                self.messages = None;
            }
            let messages = match &mut self.messages {
                Some(messages) => messages,
                none => none.insert(subscribe(&self.stream, self.next).await?),
            };
            let received = tokio::select! {
                received = timeout(IDLE, messages.next()) => received,
                Ok(()) = self.connections.changed() => {
                    self.messages = None;
                    continue;
                }
            };
            match received {
                Ok(Some(Ok(message))) => {
                    let record = record(message)?;
                    // One consumer after another may tell of the same record.
                    if record.sequence >= self.next {
                        return Ok(record);
                    }
                }
                Ok(Some(Err(error))) => {
                    self.messages = None;
                    return Err(Error::away("reading a stream")(error));
                }
                Ok(None) => self.messages = None,
                Err(_idle) => {
                    let info = self.stream.get_info().await.map_err(Error::away("asking about a stream"))?;
                    if info.state.last_sequence >= self.next.0 {
                        self.messages = None;
                    }
                }
            }
        }
    }

    /// A record that has arrived already.
    fn receive_now(&mut self) -> Option<Result<Record>> {
        let message = self.messages.as_mut()?.next().now_or_never()??;
        match message {
            Ok(message) => Some(record(message)),
            Err(_) => {
                self.messages = None;
                None
            }
        }
    }
}

#[async_trait]
impl Tail for NatsTail {
    async fn next(&mut self, max: usize) -> Result<Read> {
        let first = match self.held.take() {
            Some(record) => record,
            None => self.receive().await?,
        };
        if first.sequence > self.next {
            let (from, to) = (self.next, first.sequence);
            self.next = to;
            self.held = Some(first);
            return Ok(Read::Gap { from, to });
        }
        self.next = first.sequence.next();
        let mut records = vec![first];
        while records.len() < max
            && let Some(Ok(record)) = self.receive_now()
        {
            if record.sequence > self.next {
                self.held = Some(record);
                break;
            }
            if record.sequence == self.next {
                self.next = record.sequence.next();
                records.push(record);
            }
        }
        Ok(Read::Records(records))
    }

    fn position(&self) -> Sequence {
        self.next
    }
}

impl fmt::Debug for NatsTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsTail").field("next", &self.next).finish_non_exhaustive()
    }
}

async fn subscribe(stream: &Stream<()>, from: Sequence) -> Result<pull::Ordered> {
    let config = pull::OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.0 },
        ..pull::OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(Error::away("reading a stream"))?;
    consumer.messages().await.map_err(Error::away("reading a stream"))
}

fn record(message: Message) -> Result<Record> {
    let damaged = |_| Error::Damaged { what: "stream", name: message.subject.to_string() };
    let sequence = Sequence(message.info().map_err(damaged)?.stream_sequence);
    let headers = message.headers.as_ref();
    let id = headers.and_then(|headers| headers.get(NATS_MESSAGE_ID)).map(|id| id.to_string());
    Ok(Record { sequence, id: id.unwrap_or_default(), payload: message.message.payload })
}

/// After so long without anything new it is asked whether there is something.
const IDLE: Duration = Duration::from_secs(2);
