//! Buckets on NATS.

use async_nats::{
    HeaderMap,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::{
        kv::{self, Operation, Store},
        stream::Config,
    },
};
use async_trait::async_trait;
use bytes::Bytes;

use super::{
    META_VERSION, NatsBus, number,
    publish::{Refused, publish},
    watch::NatsWatch,
};
use crate::{
    Bucket, BucketSpec, Entry, Error, Result, Revision, Watch,
    spec::{check_key, check_payload},
};

/// A bucket on NATS.
#[derive(Debug)]
pub(super) struct NatsBucket {
    bus: NatsBus,
    spec: BucketSpec,
    store: Store,
}

impl NatsBucket {
    /// Opens or makes it.
    pub(super) async fn open(bus: NatsBus, spec: BucketSpec) -> Result<Self> {
        let name = format!("{}_{}", bus.0.settings.prefix, spec.name);
        let jetstream_name = format!("KV_{name}");
        if bus.find(&jetstream_name).await?.is_none() {
            if !bus.0.create {
                return Err(Error::Missing { what: "bucket", name: spec.name });
            }
            // Another may just have made it; what counts is that it is there.
            drop(bus.0.context.create_key_value(config(&bus, &spec, name.clone())).await);
        }
        bus.check_clock(&jetstream_name).await?;
        let store = bus.0.context.get_key_value(name).await.map_err(Error::away("opening a bucket"))?;
        let bucket = Self { bus, spec, store };
        bucket.mark(&jetstream_name).await?;
        Ok(bucket)
    }

    /// Writes its version and limits down, unless it is newer.
    async fn mark(&self, jetstream_name: &str) -> Result<()> {
        let missing = || Error::Missing { what: "bucket", name: self.spec.name.clone() };
        let stream = self.bus.find(jetstream_name).await?.ok_or_else(missing)?;
        let config = &stream.cached_info().config;
        let (found, known) = (number(config, META_VERSION), self.spec.version);
        if let Some(found) = found.filter(|found| *found > known) {
            return Err(Error::Newer { what: "bucket", name: self.spec.name.clone(), found, known });
        }
        let max_bytes = i64::try_from(self.spec.bytes_max).unwrap_or(i64::MAX);
        if found != Some(known) || config.max_bytes != max_bytes {
            let mut config = Config { max_bytes, ..config.clone() };
            config.metadata.insert(META_VERSION.to_owned(), known.to_string());
            let updated = self.bus.0.context.update_stream(config).await;
            updated.map_err(Error::away("changing a bucket's limits"))?;
        }
        Ok(())
    }

    /// Writes if the key's last entry, removed or not, has this revision; zero where there was none.
    async fn put(&self, key: &str, mut headers: HeaderMap, value: Bytes, last: u64) -> Result<Revision> {
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string());
        let subject = format!("{}{key}", self.store.prefix);
        match publish(&self.bus.0.context, subject, headers, value).await {
            Ok(ack) => Ok(Revision(ack.sequence)),
            Err(Refused::Conflict) => Err(Error::Conflict { key: key.to_owned(), found: None }),
            Err(Refused::Full) => Err(self.spec.full()),
            Err(Refused::Other(error)) => Err(error),
        }
    }

    async fn entry(&self, key: &str) -> Result<Option<kv::Entry>> {
        self.store.entry(key).await.map_err(Error::away("reading a bucket"))
    }
}

#[async_trait]
impl Bucket for NatsBucket {
    fn spec(&self) -> &BucketSpec {
        &self.spec
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        check_key(key)?;
        let entry = self.entry(key).await?.filter(|entry| entry.operation == Operation::Put);
        Ok(entry.map(|entry| Entry { value: entry.value, revision: Revision(entry.revision) }))
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<Revision> {
        check_key(key)?;
        check_payload(value.len())?;
        match self.put(key, HeaderMap::new(), value.clone(), 0).await {
            Err(error) if error.is_conflict() => {}
            done => return done,
        }
        // There is an entry; it may say that it was removed.
        match self.entry(key).await? {
            Some(entry) if entry.operation == Operation::Put => {
                Err(Error::Conflict { key: key.to_owned(), found: Some(Revision(entry.revision)) })
            }
            entry => self.put(key, HeaderMap::new(), value, entry.map_or(0, |entry| entry.revision)).await,
        }
    }

    async fn update(&self, key: &str, value: Bytes, revision: Revision) -> Result<Revision> {
        check_key(key)?;
        check_payload(value.len())?;
        self.put(key, HeaderMap::new(), value, revision.0).await
    }

    async fn delete(&self, key: &str, revision: Revision) -> Result<Revision> {
        check_key(key)?;
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, OPERATION_DELETE);
        self.put(key, headers, Bytes::new(), revision.0).await
    }

    async fn watch(&self) -> Result<Box<dyn Watch>> {
        Ok(Box::new(NatsWatch::new(self.store.clone(), self.bus.0.connections.clone())))
    }
}

fn config(bus: &NatsBus, spec: &BucketSpec, bucket: String) -> kv::Config {
    kv::Config {
        bucket,
        history: 1,
        max_bytes: i64::try_from(spec.bytes_max).unwrap_or(i64::MAX),
        num_replicas: bus.0.settings.replicas,
        ..kv::Config::default()
    }
}

/// How NATS marks removed entries (its architecture decision ADR-8).
const OPERATION: &str = "KV-Operation";
const OPERATION_DELETE: &str = "DEL";
