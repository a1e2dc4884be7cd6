//! Uploads in parts: what is larger than one part never has to fit one request, nor, from a file, memory.

use std::{io, path::Path as FilePath, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart, path::Path};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncWriteExt},
};

/// Why a file could not be sent.
#[derive(Debug)]
pub(super) enum Failed {
    Store(object_store::Error),
    File(io::Error),
}

/// Writes bytes, in parts when they are many. The object is there whole, or not at all.
pub(super) async fn bytes(store: Arc<dyn ObjectStore>, path: Path, bytes: Bytes) -> object_store::Result<()> {
    if bytes.len() <= PART_BYTES {
        return store.put(&path, bytes.into()).await.map(drop);
    }
    let mut parts = WriteMultipart::new_with_chunk_size(store.put_multipart(&path).await?, part_bytes(bytes.len()));
    let mut rest = bytes;
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(PART_BYTES));
        if let Err(error) = parts.wait_for_capacity(PARTS_AT_ONCE_MAX).await {
            return abandon(parts, error).await;
        }
        parts.put(part);
    }
    parts.finish().await.map(drop)
}

/// As [`bytes()`], from a local file, of which a few parts are in memory at a time.
pub(super) async fn file(store: Arc<dyn ObjectStore>, path: Path, from: &FilePath) -> Result<(), Failed> {
    let mut from = File::open(from).await.map_err(Failed::File)?;
    let size = from.metadata().await.map_err(Failed::File)?.len();
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size <= PART_BYTES {
        let mut content = Vec::with_capacity(size);
        from.read_to_end(&mut content).await.map_err(Failed::File)?;
        return bytes(store, path, content.into()).await.map_err(Failed::Store);
    }
    let upload = store.put_multipart(&path).await.map_err(Failed::Store)?;
    let mut parts = WriteMultipart::new_with_chunk_size(upload, part_bytes(size));
    loop {
        let mut part = BytesMut::with_capacity(PART_BYTES);
        if let Err(error) = fill(&mut from, &mut part).await {
            // Parts of an upload that never ends are the store's to remove; why it ended is what is told.
            let _ = parts.abort().await;
            return Err(Failed::File(error));
        }
        if part.is_empty() {
            return parts.finish().await.map(drop).map_err(Failed::Store);
        }
        if let Err(error) = parts.wait_for_capacity(PARTS_AT_ONCE_MAX).await {
            return abandon(parts, error).await.map_err(Failed::Store);
        }
        parts.put(part.freeze());
    }
}

/// The content of an object, into a local file.
pub(super) async fn fetch(store: Arc<dyn ObjectStore>, path: Path, to: &FilePath) -> Result<(), Failed> {
    let mut content = store.get(&path).await.map_err(Failed::Store)?.into_stream();
    let mut to = File::create(to).await.map_err(Failed::File)?;
    while let Some(part) = content.next().await {
        to.write_all(&part.map_err(Failed::Store)?).await.map_err(Failed::File)?;
    }
    to.flush().await.map_err(Failed::File)
}

async fn fill(from: &mut File, part: &mut BytesMut) -> io::Result<()> {
    while part.len() < PART_BYTES {
        let mut rest = (&mut *from).take((PART_BYTES - part.len()) as u64);
        if rest.read_buf(part).await? == 0 {
            break;
        }
    }
    Ok(())
}

async fn abandon(parts: WriteMultipart, error: object_store::Error) -> object_store::Result<()> {
    // See `file`.
    let _ = parts.abort().await;
    Err(error)
}

/// Stores take 10,000 parts at most.
fn part_bytes(size: usize) -> usize {
    PART_BYTES.max(size / PARTS_MAX + 1)
}

/// More than the 5 MiB that stores want at least.
pub(super) const PART_BYTES: usize = 8 << 20;
const PARTS_AT_ONCE_MAX: usize = 4;
const PARTS_MAX: usize = 9_000;
