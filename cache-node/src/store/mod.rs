//! The payload store: segments' bytes in memory and on disk, by number, surviving a restart.
//!
//! foyer keeps the bytes. It neither lists what it holds nor tells when its disk tier drops something, so it is never
//! asked *whether* a segment is held: the index and the [`Journal`] know that, and a payload that turns out to be gone
//! or damaged is reported to the index, which repairs itself.

mod claimed;
mod journal;
mod payload;

use std::{path::Path, time::Duration};

use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCachePolicy, LruConfig, PsyncIoEngineConfig,
    RecoverMode, Source, StorageFilter,
};

use self::claimed::Claimed;
pub(crate) use self::{
    journal::{Journal, Restored, RestoredObject, RestoredSegment},
    payload::Payload,
};
use crate::{
    config::StoreConfig,
    error::{Error, Result},
};

/// Which tier answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// The disk.
    Disk,
    /// The memory.
    Memory,
}

/// What reading a payload came to.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// Damaged, or the disk failed.
    Damaged,
    /// There, and its bytes match the digest that was stored with them.
    Intact(Payload, Tier),
    /// Not there.
    Gone,
}

/// Holds payloads by number. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    cache: HybridCache<u128, Payload>,
    claimed: Claimed,
}

impl Store {
    /// Opens or makes the store in `dir` and recovers what its disk tier holds.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub(crate) async fn open(dir: &Path, config: &StoreConfig) -> Result<Self> {
        let claimed = Claimed::default();
        let opened = build(dir, config, claimed.clone()).await;
        let cache = opened.map_err(|source| Error::Store { path: dir.to_path_buf(), source: Box::new(source) })?;
        Ok(Self { cache, claimed })
    }

    /// Keeps a payload; the disk tier writes it in the background.
    pub(crate) fn insert(&self, number: u128, payload: Payload) {
        self.claim(number);
        self.cache.insert(number, payload);
    }

    /// Declares a payload that a former run stored to be wanted still.
    pub(crate) fn claim(&self, number: u128) {
        self.claimed.insert(self.cache.memory().hash(&number));
    }

    /// Makes room for so many claims.
    pub(crate) fn reserve(&self, count: usize) {
        self.claimed.reserve(count);
    }

    /// Drops a payload.
    pub(crate) fn remove(&self, number: u128) {
        self.claimed.remove(self.cache.memory().hash(&number));
        self.cache.remove(&number);
    }

    /// A payload, if it is in memory.
    pub(crate) fn find_in_memory(&self, number: u128) -> Option<Payload> {
        self.cache.memory().get(&number).map(|entry| entry.value().clone())
    }

    /// A payload from either tier.
    pub(crate) async fn load(&self, number: u128) -> Loaded {
        match self.cache.get(&number).await {
            Ok(Some(entry)) => {
                let tier = if entry.source() == Source::Disk { Tier::Disk } else { Tier::Memory };
                Loaded::Intact(entry.value().clone(), tier)
            }
            Ok(None) => Loaded::Gone,
            Err(error) => {
                tracing::warn!(%error, "a payload could not be read from disk");
                Loaded::Damaged
            }
        }
    }

    /// Drops everything.
    pub(crate) async fn clear(&self) {
        self.claimed.clear();
        if let Err(error) = self.cache.clear().await {
            tracing::warn!(%error, "the payload store could not be cleared; the index is, so nothing of it is served");
        }
    }

    /// Writes out what waits to be written, as far as that goes within its time.
    pub(crate) async fn close(&self) {
        match tokio::time::timeout(CLOSE_TIMEOUT, self.cache.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the payload store could not be closed; what was not written will be fetched again");
            }
            Err(_) => {
                tracing::warn!("the payload store did not close in time; what was not written will be fetched again")
            }
        }
    }

    /// Bytes in the memory tier.
    pub(crate) fn memory_used_bytes(&self) -> usize {
        self.cache.memory().usage()
    }
}

async fn build(dir: &Path, config: &StoreConfig, claimed: Claimed) -> foyer::Result<HybridCache<u128, Payload>> {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let memory_bytes = size(config.memory_bytes);
    let device = FsDeviceBuilder::new(dir).with_capacity(size(config.disk_bytes)).build()?;
    let engine = BlockEngineConfig::new(device)
        .with_block_size(size(config.block_bytes))
        .with_buffer_pool_size(size(config.write_buffer_bytes))
        .with_submit_queue_size_threshold(size(config.write_queue_bytes))
        // What the index still claims moves on when its block is reclaimed; the rest goes.
        .with_reinsertion_filter(StorageFilter::new().with_condition(claimed));
    HybridCache::builder()
        .with_name("nearcast")
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .memory(memory_bytes)
        .with_shards((memory_bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX))
        .with_eviction_config(LruConfig::default())
        .with_weighter(|_: &u128, payload: &Payload| payload.weight())
        .storage()
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(engine)
        .with_recover_mode(RecoverMode::Quiet)
        .build()
        .await
}

/// How long a node that ends waits for its payloads to be on disk.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// A shard must hold several of the largest segments.
const SHARD_BYTES_MIN: usize = 64 << 20;
const SHARDS_MAX: usize = 8;
