//! Streams on NATS.

use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::stream::{Config, DiscardPolicy, Stream},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    META_PARTITIONS, META_VERSION, NatsBus, number,
    publish::{Refused, publish},
    tail::NatsTail,
};
use crate::{
    Appended, Discard, DurableStream, Error, Extent, Partition, Result, Sequence, StreamSpec, Tail,
    spec::{check_id, check_payload},
};

/// A stream on NATS.
#[derive(Debug)]
pub(super) struct NatsStream {
    bus: NatsBus,
    spec: StreamSpec,
    refused: AtomicU64,
}

impl NatsStream {
    /// Opens or makes all of its partitions.
    pub(super) async fn open(bus: NatsBus, spec: StreamSpec) -> Result<Self> {
        let opened = Self { bus, spec, refused: AtomicU64::new(0) };
        // The first one is made first and says how many there are to be.
        opened.open_partition(Partition(0)).await?;
        opened.bus.check_clock(&opened.jetstream_name(Partition(0))).await?;
        let rest = stream::iter(1..opened.spec.partitions);
        let rest = rest.map(|partition| opened.open_partition(Partition(partition))).buffer_unordered(AT_ONCE);
        rest.try_collect::<()>().await?;
        Ok(opened)
    }

    async fn open_partition(&self, partition: Partition) -> Result<()> {
        let name = self.jetstream_name(partition);
        let wanted = self.config(partition);
        let context = &self.bus.0.context;
        let Some(found) = self.bus.find(&name).await? else {
            if !self.bus.0.create {
                return Err(Error::Missing { what: "stream", name: self.spec.name.clone() });
            }
            return match context.create_stream(wanted).await {
                Ok(_) => Ok(()),
                // Another has just made it, in another way perhaps.
                Err(error) => match self.bus.find(&name).await? {
                    Some(found) => self.check(&found.cached_info().config),
                    None => Err(Error::away("making a stream")(error)),
                },
            };
        };
        let config = &found.cached_info().config;
        self.check(config)?;
        let is_as_wanted = config.max_bytes == wanted.max_bytes
            && config.discard == wanted.discard
            && config.duplicate_window == wanted.duplicate_window
            && config.num_replicas == wanted.num_replicas
            && number(config, META_VERSION) == Some(self.spec.version);
        if !is_as_wanted {
            context.update_stream(wanted).await.map_err(Error::away("changing a stream's limits"))?;
        }
        Ok(())
    }

    fn check(&self, config: &Config) -> Result<()> {
        let name = || self.spec.name.clone();
        let damaged = || Error::Damaged { what: "stream", name: name() };
        let version = number(config, META_VERSION).ok_or_else(damaged)?;
        if version > self.spec.version {
            let known = self.spec.version;
            return Err(Error::Newer { what: "stream", name: name(), found: version, known });
        }
        let partitions = number(config, META_PARTITIONS).ok_or_else(damaged)?;
        if partitions != self.spec.partitions {
            return Err(Error::Partitions { name: name(), found: partitions, asked: self.spec.partitions });
        }
        Ok(())
    }

    fn config(&self, partition: Partition) -> Config {
        let discard = match self.spec.discard {
            Discard::Oldest => DiscardPolicy::Old,
            Discard::Newest => DiscardPolicy::New,
        };
        let metadata = [(META_VERSION, self.spec.version), (META_PARTITIONS, self.spec.partitions)];
        Config {
            name: self.jetstream_name(partition),
            subjects: vec![self.subject(partition)],
            max_bytes: i64::try_from(self.spec.bytes_max).unwrap_or(i64::MAX),
            discard,
            duplicate_window: self.spec.duplicates_within,
            num_replicas: self.bus.0.settings.replicas,
            metadata: metadata.map(|(key, value)| (key.to_owned(), value.to_string())).into_iter().collect(),
            ..Config::default()
        }
    }

    fn jetstream_name(&self, partition: Partition) -> String {
        format!("{}_{}_{:04}", self.bus.0.settings.prefix, self.spec.name, partition.0)
    }

    fn subject(&self, partition: Partition) -> String {
        format!("{}.{}.{}", self.bus.0.settings.prefix, self.spec.name, partition.0)
    }

    async fn jetstream(&self, partition: Partition) -> Result<Stream<()>> {
        self.spec.check_partition(partition)?;
        let stream = self.bus.0.context.get_stream_no_info(self.jetstream_name(partition)).await;
        stream.map_err(Error::away("opening a stream"))
    }
}

#[async_trait]
impl DurableStream for NatsStream {
    fn spec(&self) -> &StreamSpec {
        &self.spec
    }

    async fn append(&self, partition: Partition, id: &str, payload: Bytes) -> Result<Appended> {
        self.spec.check_partition(partition)?;
        check_id(id)?;
        check_payload(payload.len())?;
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        match publish(&self.bus.0.context, self.subject(partition), headers, payload).await {
            Ok(ack) => Ok(Appended { sequence: Sequence(ack.sequence), is_duplicate: ack.duplicate }),
            Err(Refused::Full | Refused::Conflict) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(self.spec.full(partition))
            }
            Err(Refused::Other(error)) => Err(error),
        }
    }

    async fn tail(&self, partition: Partition, from: Sequence) -> Result<Box<dyn Tail>> {
        let stream = self.jetstream(partition).await?;
        Ok(Box::new(NatsTail::new(stream, from.max(Sequence::FIRST), self.bus.0.connections.clone())))
    }

    async fn extent(&self, partition: Partition) -> Result<Extent> {
        let info = self.jetstream(partition).await?.get_info().await.map_err(Error::away("asking about a stream"))?;
        let next = Sequence(info.state.last_sequence).next();
        let first = if info.state.messages == 0 { next } else { Sequence(info.state.first_sequence) };
        Ok(Extent { first, next, bytes: info.state.bytes })
    }

    async fn trim(&self, partition: Partition, before: Sequence) -> Result<()> {
        // Purging beyond the end would move the end.
        let before = before.min(self.extent(partition).await?.next);
        if before <= Sequence::FIRST {
            return Ok(());
        }
        let stream = self.jetstream(partition).await?;
        stream.purge().sequence(before.0).await.map_err(Error::away("trimming a stream"))?;
        Ok(())
    }

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Partitions that are opened at a time.
const AT_ONCE: usize = 16;
