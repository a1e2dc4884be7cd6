//! One transfer that requests wait for.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::Response;
use nearcast_datasets::SegmentId;
use tokio::sync::watch;

use super::{Answered, FetchError, SharedHead, Shell};
use crate::{
    clock,
    core::{FetchFailed, Fetched, FetchedFrom, Landed, MissCause},
    object::SharedObject,
    origin::OriginBody,
};

/// Who asked for a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A request.
    Demand,
    /// A command.
    Prefetch,
    /// A request whose object was stale: the core knows nothing of it.
    Revalidation,
}

/// How a transfer ended, for those who wait.
#[derive(Clone, Debug)]
pub(super) enum FlightEnd {
    /// The origin answered something else than the object, fit for everyone.
    Answered(Arc<Answered>),
    /// It failed.
    Failed(FetchError),
    /// The segment came.
    Landed { object: SharedObject, bytes: Bytes, from: FetchedFrom, cause: Option<MissCause> },
    /// The state of things changed: look again.
    LookAgain,
    /// It failed, but what is held may be served although it is stale.
    Stale,
    /// The answer is for one client only: each must ask for itself, but for the one whose request brought it.
    Uncacheable(Option<Arc<Passed>>),
}

/// An answer that is for one client only.
#[derive(Debug)]
pub(crate) struct Passed {
    /// The request that it answers.
    asked: SharedHead,
    response: Mutex<Option<Response<OriginBody>>>,
}

impl Passed {
    pub(super) fn new(asked: &SharedHead, response: Response<OriginBody>) -> Arc<Self> {
        Arc::new(Self { asked: Arc::clone(asked), response: Mutex::new(Some(response)) })
    }

    /// Hands the answer to the request that it is for; `None` for any other.
    pub(super) fn take(&self, asked: &SharedHead) -> Option<Response<OriginBody>> {
        let is_for = Arc::ptr_eq(&self.asked, asked);
        is_for.then(|| self.response.lock().unwrap_or_else(PoisonError::into_inner).take()).flatten()
    }
}

/// A transfer under way. Dropped without an end, it fails, so that nobody waits for ever.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) shell: Arc<Shell>,
    pub(super) segment: SegmentId,
    pub(super) purpose: Purpose,
    sender: watch::Sender<Option<FlightEnd>>,
    has_ended: bool,
}

impl Flight {
    /// Registers a transfer, so that requests can wait for it. The caller has told the core, and runs it.
    pub(super) fn register(
        shell: &Arc<Shell>,
        state: &mut super::State,
        segment: SegmentId,
        purpose: Purpose,
    ) -> (Self, watch::Receiver<Option<FlightEnd>>) {
        let (sender, receiver) = watch::channel(None);
        state.flights.insert(segment, receiver.clone());
        (Self { shell: Arc::clone(shell), segment, purpose, sender, has_ended: false }, receiver)
    }

    /// Ends the transfer for those who wait. The caller has told the core.
    pub(super) fn end(mut self, state: &mut super::State, end: FlightEnd) {
        self.conclude(state, end);
    }

    /// Tells the core that nothing that can be kept came, and ends the transfer for those who wait. Returns it instead
    /// when it was a prefetch for which demand waits: then somebody must fetch for them.
    pub(super) fn end_without_segment(mut self, end: FlightEnd) -> Option<Self> {
        let shell = Arc::clone(&self.shell);
        let mut state = shell.state();
        let landed = self.tell_core(&mut state, &end);
        shell.drain_events(&mut state);
        if landed.demand_waits && matches!(end, FlightEnd::Failed(_)) {
            self.purpose = Purpose::Demand;
            return Some(self);
        }
        self.conclude(&mut state, end);
        None
    }

    fn tell_core(&self, state: &mut super::State, end: &FlightEnd) -> Landed {
        let now = clock::now();
        let result = match end {
            FlightEnd::Answered(_) | FlightEnd::Uncacheable(_) => {
                Ok(Fetched { bytes: 0, from: FetchedFrom::Origin, is_cacheable: false })
            }
            FlightEnd::Failed(_) | FlightEnd::Landed { .. } | FlightEnd::LookAgain | FlightEnd::Stale => {
                Err(FetchFailed)
            }
        };
        match self.purpose {
            Purpose::Demand => state.core.handle_fetched(now, self.segment, result),
            Purpose::Prefetch => state.core.handle_prefetched(now, self.segment, result),
            Purpose::Revalidation => Landed::default(),
        }
    }

    fn conclude(&mut self, state: &mut super::State, end: FlightEnd) {
        self.has_ended = true;
        state.flights.remove(&self.segment);
        self.sender.send_replace(Some(end));
        self.shell.prefetch_wake.notify_one();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let shell = Arc::clone(&self.shell);
        let mut state = shell.state();
        let mut end = FlightEnd::Failed(FetchError::Aborted);
        if self.tell_core(&mut state, &end).demand_waits {
            // Requests joined a prefetch just as it was broken off: they look again, and one of them fetches.
            state.core.handle_fetched(clock::now(), self.segment, Err(FetchFailed));
            end = FlightEnd::LookAgain;
        }
        shell.drain_events(&mut state);
        self.conclude(&mut state, end);
    }
}

/// Waits for a transfer to end.
pub(super) async fn wait(mut receiver: watch::Receiver<Option<FlightEnd>>) -> FlightEnd {
    let ended = receiver.wait_for(Option::is_some).await;
    let end = ended.ok().and_then(|end| end.clone());
    end.unwrap_or(FlightEnd::Failed(FetchError::Aborted))
}
