//! An origin's response body: whatever its source, with a limit on how long it may pause.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use thiserror::Error;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep},
};

/// Why a body ended early.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum BodyError {
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Connection(#[from] hyper::Error),
    /// Nothing came for too long.
    #[error("nothing came for {} ms", .0.as_millis())]
    Stalled(Duration),
    /// The object store failed.
    #[error("the object store failed: {0}")]
    Store(#[from] object_store::Error),
}

enum Source {
    Bytes(Option<Bytes>),
    Incoming(Incoming),
    Stream { stream: BoxStream<'static, object_store::Result<Bytes>>, remaining_bytes: u64 },
}

/// The body of an origin's response. Holds the permit of its request until it is dropped.
pub(crate) struct OriginBody {
    source: Source,
    pause: Option<(Duration, Pin<Box<Sleep>>)>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl OriginBody {
    /// A body from an object store.
    pub(super) fn stream(stream: BoxStream<'static, object_store::Result<Bytes>>, size_bytes: u64) -> Self {
        Self { source: Source::Stream { stream, remaining_bytes: size_bytes }, pause: None, _permit: None }
    }

    /// The same body, failing when nothing comes for `pause_max`.
    pub(super) fn bounded(self, pause_max: Duration, permit: OwnedSemaphorePermit) -> Self {
        Self { pause: Some((pause_max, Box::pin(sleep(pause_max)))), _permit: Some(permit), ..self }
    }
}

impl From<Bytes> for OriginBody {
    fn from(bytes: Bytes) -> Self {
        Self { source: Source::Bytes(Some(bytes)), pause: None, _permit: None }
    }
}

impl From<Incoming> for OriginBody {
    fn from(incoming: Incoming) -> Self {
        Self { source: Source::Incoming(incoming), pause: None, _permit: None }
    }
}

impl Body for OriginBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = match &mut this.source {
            Source::Bytes(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Incoming(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::from),
            Source::Stream { stream, remaining_bytes } => stream.as_mut().poll_next(cx).map(|item| {
                item.map(|chunk| {
                    let chunk = chunk?;
                    *remaining_bytes = remaining_bytes.saturating_sub(chunk.len() as u64);
                    Ok(Frame::data(chunk))
                })
            }),
        };
        let Some((pause_max, sleep)) = &mut this.pause else { return polled };
        if polled.is_ready() {
            sleep.as_mut().reset(Instant::now() + *pause_max);
            return polled;
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Stalled(*pause_max))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Bytes(bytes) => bytes.is_none(),
            Source::Incoming(incoming) => incoming.is_end_stream(),
            Source::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Bytes(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Source::Incoming(incoming) => incoming.size_hint(),
            Source::Stream { remaining_bytes, .. } => SizeHint::with_exact(*remaining_bytes),
        }
    }
}

impl fmt::Debug for OriginBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

/// Reads at most `bytes_max` bytes; what a frame brings beyond them goes into `rest`. Returns fewer at the body's end.
///
/// What is returned is kept, so it is copied: a frame is part of a connection's read buffer, all of which a piece of it
/// would keep alive.
pub(crate) async fn read_up_to(body: &mut OriginBody, bytes_max: u64, rest: &mut Bytes) -> Result<Bytes, BodyError> {
    let wanted = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut read = BytesMut::with_capacity(wanted.min(RESERVED_BYTES_MAX));
    let mut chunk = std::mem::take(rest);
    loop {
        let taken = chunk.split_to(chunk.len().min(wanted - read.len()));
        read.extend_from_slice(&taken);
        if read.len() == wanted {
            *rest = chunk;
            return Ok(exact(read));
        }
        match body.frame().await {
            None => return Ok(exact(read)),
            Some(frame) => chunk = frame?.into_data().unwrap_or_default(),
        }
    }
}

/// The bytes without the room that they did not need.
fn exact(read: BytesMut) -> Bytes {
    if read.capacity() - read.len() > read.len() / 8 { Bytes::copy_from_slice(&read) } else { read.freeze() }
}

/// Memory that is reserved before the bytes have come.
const RESERVED_BYTES_MAX: usize = 1 << 20;
