//! A partition's state and position, kept in a bucket in pieces.
//!
//! One entry per partition says which pieces belong together; it is replaced by revision, the pieces before it. Pieces
//! are named after the token that they were written under, so that two who both believe to own a partition do not write
//! over each other's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Error, Partition, Result, Revision, Sequence, SharedBucket, Token};

/// Where a partition's checkpoint is.
#[derive(Debug)]
pub(super) struct Checkpoint {
    bucket: SharedBucket,
    partition: Partition,
    token: Token,
    revision: Revision,
    index: Index,
}

/// A checkpoint as it was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The record to go on with.
    pub(super) next: Sequence,
    /// What was learnt before it, if anything was.
    pub(super) state: Option<Vec<u8>>,
}

/// The entry that says what belongs together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Index {
    /// The record to go on with.
    next: u64,
    /// Who owns the partition.
    token: u64,
    /// What the pieces are named after, and how many there are; none at first.
    written: Option<(u64, u64, usize)>,
    /// Of all pieces one after the other.
    blake3: String,
}

impl Checkpoint {
    /// Takes a partition's checkpoint over. From then on nobody who took it over before can replace it.
    ///
    /// # Errors
    /// A conflict when another takes it over at the same time, [`Error::Damaged`] when it cannot be read.
    pub(super) async fn take_over(bucket: SharedBucket, partition: Partition, token: Token) -> Result<(Self, Found)> {
        let key = key(partition);
        let damaged = || Error::Damaged { what: "checkpoint", name: key.clone() };
        let entry = bucket.get(&key).await?;
        let Some(entry) = entry else {
            let index = Index { next: Sequence::FIRST.0, token: token.0, ..Index::default() };
            let revision = bucket.create(&key, encode(&index)).await?;
            let found = Found { next: Sequence::FIRST, state: None };
            return Ok((Self { bucket, partition, token, revision, index }, found));
        };
        let mut index: Index = serde_json::from_slice(&entry.value).map_err(|_| damaged())?;
        if index.token > token.0 {
            return Err(Error::Conflict { key, found: Some(entry.revision) });
        }
        index.token = token.0;
        // First, so that what is read cannot change meanwhile.
        let revision = bucket.update(&key, encode(&index), entry.revision).await?;
        let state = match index.written {
            Some(written) => Some(read(&bucket, partition, written, &index.blake3).await?),
            None => None,
        };
        let found = Found { next: Sequence(index.next), state };
        Ok((Self { bucket, partition, token, revision, index }, found))
    }

    /// Writes a state down that all records before `next` have led to.
    ///
    /// # Errors
    /// A conflict when another has taken the partition over: it is lost, and nothing is changed.
    pub(super) async fn write(&mut self, next: Sequence, state: Vec<u8>) -> Result<()> {
        let hash = blake3::hash(&state).to_hex().to_string();
        let state = Bytes::from(state);
        let pieces = state.len().div_ceil(PIECE_BYTES);
        let written = (self.token.0, next.0, pieces);
        if self.index.written == Some(written) && self.index.blake3 == hash {
            return Ok(());
        }
        for piece in 0..pieces {
            let from = piece * PIECE_BYTES;
            let bytes = state.slice(from..state.len().min(from + PIECE_BYTES));
            self.put(&piece_key(self.partition, written, piece), bytes).await?;
        }
        let index = Index { next: next.0, token: self.token.0, written: Some(written), blake3: hash };
        self.revision = self.bucket.update(&key(self.partition), encode(&index), self.revision).await?;
        let old = std::mem::replace(&mut self.index, index);
        if let Some(old) = old.written.filter(|old| *old != written) {
            self.remove(old).await;
        }
        Ok(())
    }

    /// Puts a piece whatever was there: a write that failed half-way may be made again.
    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        match self.bucket.create(key, value.clone()).await {
            Err(Error::Conflict { .. }) => {}
            done => return done.map(|_| ()),
        }
        match self.bucket.get(key).await? {
            Some(entry) => self.bucket.update(key, value, entry.revision).await.map(|_| ()),
            None => self.bucket.create(key, value).await.map(|_| ()),
        }
    }

    /// Removes pieces that nobody needs any more; what cannot be removed is only in the way.
    async fn remove(&self, (token, next, pieces): (u64, u64, usize)) {
        for piece in 0..pieces {
            let key = piece_key(self.partition, (token, next, pieces), piece);
            if let Ok(Some(entry)) = self.bucket.get(&key).await {
                let _ = self.bucket.delete(&key, entry.revision).await;
            }
        }
    }
}

/// A partition's last checkpoint, to look at: the record that it goes on with and the state, if there is one.
///
/// # Errors
/// [`Error::Damaged`] when it cannot be read, a bus that is away.
pub async fn last_checkpoint(
    bucket: &SharedBucket,
    partition: Partition,
) -> Result<Option<(Sequence, Option<Vec<u8>>)>> {
    let key = key(partition);
    let Some(entry) = bucket.get(&key).await? else { return Ok(None) };
    let damaged = |_| Error::Damaged { what: "checkpoint", name: key };
    let index: Index = serde_json::from_slice(&entry.value).map_err(damaged)?;
    let state = match index.written {
        Some(written) => Some(read(bucket, partition, written, &index.blake3).await?),
        None => None,
    };
    Ok(Some((Sequence(index.next), state)))
}

async fn read(bucket: &SharedBucket, partition: Partition, written: (u64, u64, usize), hash: &str) -> Result<Vec<u8>> {
    let damaged = || Error::Damaged { what: "checkpoint", name: key(partition) };
    let mut state = Vec::new();
    for piece in 0..written.2 {
        let entry = bucket.get(&piece_key(partition, written, piece)).await?;
        state.extend_from_slice(&entry.ok_or_else(damaged)?.value);
    }
    if blake3::hash(&state).to_hex().as_str() != hash {
        return Err(damaged());
    }
    Ok(state)
}

fn key(partition: Partition) -> String {
    format!("partition.{partition}")
}

fn piece_key(partition: Partition, (token, next, _): (u64, u64, usize), piece: usize) -> String {
    format!("partition.{partition}.{token}.{next}.{piece}")
}

fn encode(index: &Index) -> Bytes {
    serde_json::to_vec(index).expect("strings and numbers are JSON").into()
}

/// Well below what one value may hold.
const PIECE_BYTES: usize = 900_000;
