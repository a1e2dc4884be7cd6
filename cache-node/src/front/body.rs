//! The body of an answer: bytes at hand, segments as they are obtained, or an origin's body passed on.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Stream, future::BoxFuture, stream::FuturesOrdered};
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::sync::mpsc;

use super::{
    account::Account,
    plan::{Plan, Taken},
};
use crate::{
    origin::{BodyError, OriginBody},
    shell::{Ask, FetchError, Obtained, Shell},
};

/// Why an answer broke off: the connection is closed, so that the client does not take it for complete.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum SendError {
    /// The object changed while it was being sent.
    #[error("the object changed while it was being sent")]
    Changed,
    /// A later segment could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The origin's body, passed through, broke off.
    #[error(transparent)]
    Origin(#[from] BodyError),
}

/// An answer's body.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// Bytes that are at hand; what is accounted for when they are sent.
    Bytes([Option<Bytes>; 2], Option<Box<Account>>),
    /// An origin's body, passed on.
    Passed(Box<OriginBody>, Box<Account>),
    /// An object's segments.
    Segments(Box<SegmentsBody>),
    /// What somebody sends for as long as there is something to tell.
    Stream(mpsc::Receiver<Bytes>),
}

impl ResponseBody {
    /// A body of one piece, or of none.
    pub(super) fn bytes(bytes: impl Into<Bytes>, account: Option<Account>) -> Self {
        let bytes = bytes.into();
        Self::Bytes([(!bytes.is_empty()).then_some(bytes), None], account.map(Box::new))
    }

    /// Has a short answer accounted for when it is sent.
    pub(super) fn carry(&mut self, account: Account) {
        if let Self::Bytes(_, slot) = self {
            *slot = Some(Box::new(account));
        }
    }

    /// What is accounted for when it is sent.
    pub(super) fn account_mut(&mut self) -> Option<&mut Account> {
        match self {
            Self::Bytes(_, account) => account.as_deref_mut(),
            Self::Passed(_, account) => Some(account),
            Self::Segments(body) => Some(&mut body.account),
            Self::Stream(_) => None,
        }
    }

    /// A body of two pieces.
    pub(super) fn pieces([first, second]: [Bytes; 2]) -> Self {
        Self::Bytes([Some(first), Some(second)], None)
    }
}

/// What a [`Plan`] names of one state of an object, in order. How many segments are asked for ahead of what the client has
/// read is bounded, so a slow reader slows the transfers down.
pub(crate) struct SegmentsBody {
    pub(super) shell: Arc<Shell>,
    /// What the segment at hand was asked for with; its state of the object is pinned.
    pub(super) ask: Ask,
    /// What is still to be sent.
    pub(super) plan: Plan,
    /// The segment at hand, which the next part may need too.
    pub(super) current: Bytes,
    /// The segments after it that are on their way, at most [`Self::ahead_max`].
    pub(super) ahead: FuturesOrdered<BoxFuture<'static, (u32, Result<Obtained, FetchError>)>>,
    pub(super) ahead_max: usize,
    pub(super) account: Account,
}

impl SegmentsBody {
    /// Asks for the segments that come next, so that a long object does not cost a round trip per segment.
    fn ask_ahead(&mut self) {
        while self.ahead.len() < self.ahead_max
            && let Some(index) = self.plan.next_segment()
        {
            let (shell, ask) = (Arc::clone(&self.shell), Ask { index, ..self.ask.clone() });
            self.ahead.push_back(Box::pin(async move { (index, shell.obtain(&ask).await) }));
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SendError>>> {
        loop {
            match self.plan.take(self.ask.index, &self.current) {
                Taken::Piece(piece) => return Poll::Ready(Some(Ok(piece))),
                Taken::End => return Poll::Ready(None),
                Taken::OtherSegment => {}
            }
            self.ask_ahead();
            let obtained = ready!(Pin::new(&mut self.ahead).poll_next(cx));
            let error = match obtained {
                Some((index, Ok(Obtained::Segment(delivery)))) => {
                    self.account.add(&delivery);
                    self.ask.index = index;
                    self.current = delivery.bytes;
                    continue;
                }
                Some((_, Err(error))) => error.into(),
                // A segment that ends early leaves its bytes wanted with nothing left to ask for.
                None | Some((_, Ok(_))) => SendError::Changed,
            };
            self.account.fail();
            return Poll::Ready(Some(Err(error)));
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let (polled, account) = match &mut *self {
            Self::Bytes(pieces, account) => {
                let piece = pieces.iter_mut().find_map(Option::take);
                (Poll::Ready(piece.map(|piece| Ok(Frame::data(piece)))), account.as_deref_mut())
            }
            Self::Passed(body, account) => {
                (Pin::new(body).poll_frame(cx).map_err(SendError::from), Some(&mut **account))
            }
            Self::Segments(body) => {
                let polled = body.poll_piece(cx).map_ok(Frame::data);
                (polled, Some(&mut body.account))
            }
            Self::Stream(receiver) => (receiver.poll_recv(cx).map(|bytes| bytes.map(|it| Ok(Frame::data(it)))), None),
        };
        if let (Poll::Ready(Some(frame)), Some(account)) = (&polled, account) {
            match frame {
                Ok(frame) => account.count_sent(frame.data_ref().map_or(0, Bytes::len) as u64),
                Err(_) => account.fail(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(pieces, _) => pieces.iter().all(Option::is_none),
            Self::Passed(body, _) => body.is_end_stream(),
            Self::Segments(body) => body.plan.remaining_bytes() == 0,
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(pieces, _) => {
                SizeHint::with_exact(pieces.iter().flatten().map(|piece| piece.len() as u64).sum())
            }
            Self::Passed(body, _) => body.size_hint(),
            Self::Segments(body) => SizeHint::with_exact(body.plan.remaining_bytes()),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for SegmentsBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentsBody").field("key", &self.ask.key).field("plan", &self.plan).finish_non_exhaustive()
    }
}
