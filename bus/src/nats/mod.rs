//! The bus on NATS JetStream.
//!
//! Every partition is a JetStream stream of its own, `PREFIX_STREAM_0000` with subject `PREFIX.STREAM.0`, so that
//! sequences have no gaps but those that say that something is gone, and partitions spread over a cluster's servers. A
//! bucket is a JetStream key-value bucket. Metadata of both says what version and how many partitions they were made
//! with.

mod bucket;
mod connect;
mod publish;
mod stream;
mod tail;
mod watch;

use std::{sync::Arc, time::Duration};

use async_nats::{
    datetime::parse_rfc3339,
    jetstream::{
        Context, ErrorCode,
        context::GetStreamErrorKind,
        stream::{Config, Stream},
    },
};
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;

pub use self::connect::SERVER_VERSION_MIN;
use self::{bucket::NatsBucket, stream::NatsStream};
use crate::{
    BucketSpec, Error, NatsSettings, Result, SharedBucket, SharedClock, SharedStream, StreamSpec, spec::check_name,
};

/// A bus on NATS.
#[derive(Clone, Debug)]
pub(crate) struct NatsBus(Arc<Shared>);

/// What everything of one bus works with.
struct Shared {
    settings: NatsSettings,
    create: bool,
    skew_max: Duration,
    clock: SharedClock,
    context: Context,
    /// How often the connection was made: whoever reads from before must ask anew.
    connections: Receiver<u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsBus").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl NatsBus {
    pub(crate) async fn connect(
        settings: NatsSettings,
        create: bool,
        skew_max: Duration,
        clock: SharedClock,
    ) -> Result<Self> {
        check_name("bus.prefix", &settings.prefix)?;
        let (context, connections) = connect::connect(&settings).await?;
        Ok(Self(Arc::new(Shared { settings, create, skew_max, clock, context, connections })))
    }

    pub(crate) async fn stream(&self, spec: StreamSpec) -> Result<SharedStream> {
        spec.check()?;
        Ok(Arc::new(NatsStream::open(self.clone(), spec).await?))
    }

    pub(crate) async fn bucket(&self, spec: BucketSpec) -> Result<SharedBucket> {
        spec.check()?;
        Ok(Arc::new(NatsBucket::open(self.clone(), spec).await?))
    }

    /// Refuses to work on by a clock that is far from the server's.
    async fn check_clock(&self, jetstream_name: &str) -> Result<()> {
        let asked = self.0.clock.unix();
        let info: Value = self
            .0
            .context
            .request(format!("STREAM.INFO.{jetstream_name}"), &json!({}))
            .await
            .map_err(Error::away("asking for the time"))?;
        let answered = self.0.clock.unix();
        let Some(theirs) = info["ts"].as_str().and_then(|time| parse_rfc3339(time).ok()) else { return Ok(()) };
        let theirs = Duration::from_nanos(u64::try_from(theirs.unix_timestamp_nanos()).unwrap_or(0));
        let (behind, ahead) = (theirs.saturating_sub(answered), asked.saturating_sub(theirs));
        let (skew, direction) = if behind > ahead { (behind, "behind") } else { (ahead, "ahead of") };
        if skew > self.0.skew_max {
            return Err(Error::Clock { skew, direction, skew_max: self.0.skew_max });
        }
        Ok(())
    }

    /// A JetStream stream, if it is there.
    async fn find(&self, jetstream_name: &str) -> Result<Option<Stream>> {
        match self.0.context.get_stream(jetstream_name).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
                _ => Err(Error::away("opening a stream")(error)),
            },
        }
    }
}

/// A number of a stream's or bucket's metadata.
fn number(config: &Config, key: &str) -> Option<u32> {
    config.metadata.get(key)?.parse().ok()
}

const META_VERSION: &str = "nearcast-version";
const META_PARTITIONS: &str = "nearcast-partitions";
