//! What goes up the link, and the bounded queue it waits in.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use nearcast_datasets::Timestamp;
use nearcast_proto::message::{CommandResult, Outcome, PlacementPosition, Request};
use tokio::sync::mpsc;

use crate::object::SharedObject;

/// One thing to tell the predictor.
#[derive(Clone, Debug)]
pub(crate) enum Report {
    /// A segment is held now.
    Gained(SegmentReport),
    /// A segment is no longer held.
    Lost(SegmentReport),
    /// What became of a prefetched segment.
    Outcome(Outcome),
    /// A client's request was answered.
    Request(Request),
    /// A command has ended.
    Result(CommandResult),
    /// A purge of the predictor's log is carried out.
    Purged { epoch: u64, objects: u64 },
    /// The placement that the node routes by now.
    Placement { position: Option<PlacementPosition>, has_gap: bool },
    /// The arm that the predictor named is in force.
    Assigned { assignment: u64, arm: Arc<str>, clock: Timestamp },
}

impl Report {
    /// Whether another predictor must hear of it, or the same one after a loss: what is held and in force it is told
    /// anew.
    pub(super) fn outlives_a_predictor(&self) -> bool {
        matches!(self, Self::Outcome(_) | Self::Request(_) | Self::Result(_))
    }
}

/// A segment, as the inventory names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentReport {
    pub(crate) key: Arc<str>,
    pub(crate) size_bytes: u64,
    pub(crate) index: u32,
}

impl SegmentReport {
    pub(crate) fn of(object: &SharedObject, index: u32) -> Self {
        Self { key: object.key.shared(), size_bytes: object.size_bytes, index }
    }
}

/// The sending end. Sending never waits: with a full queue the report is dropped and counted, and without a predictor all
/// but what outlives one.
#[derive(Clone, Debug)]
pub(crate) struct Uplink {
    sender: Option<mpsc::Sender<Report>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_connected: AtomicBool,
    /// A gain, a loss, a purge or a placement was dropped, so the predictor's picture of the inventory is wrong until it gets a new one.
    is_out_of_step: AtomicBool,
    dropped: AtomicU64,
    dropped_requests: AtomicU64,
    /// Requests that no predictor has acknowledged yet.
    unacknowledged: AtomicUsize,
    in_force: Mutex<InForce>,
}

/// The arm and model version in force, as the predictor last said.
#[derive(Clone, Debug, Default)]
pub(crate) struct InForce {
    pub(crate) arm: Option<String>,
    pub(crate) model_version: Option<String>,
}

impl Uplink {
    /// An uplink whose queue holds `queue_max` reports, and the queue's other end.
    pub(crate) fn bounded(queue_max: usize) -> (Self, mpsc::Receiver<Report>) {
        let (sender, receiver) = mpsc::channel(queue_max);
        (Self { sender: Some(sender), shared: Arc::default() }, receiver)
    }

    /// An uplink of a node that has no predictor.
    pub(crate) fn none() -> Self {
        Self { sender: None, shared: Arc::default() }
    }

    /// Queues a report.
    pub(crate) fn send(&self, report: Report) {
        let Some(sender) = &self.sender else { return };
        if !self.is_connected() && !report.outlives_a_predictor() {
            // A predictor that comes back gets the inventory.
            self.count_dropped(&report);
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(report) | mpsc::error::TrySendError::Closed(report)) =
            sender.try_send(report)
        {
            self.count_dropped(&report);
            if matches!(report, Report::Gained(_) | Report::Lost(_) | Report::Purged { .. } | Report::Placement { .. })
            {
                self.shared.is_out_of_step.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Whether there is a predictor to tell.
    pub(crate) fn is_wanted(&self) -> bool {
        self.sender.is_some()
    }

    /// The arm and model version in force.
    pub(crate) fn in_force(&self) -> InForce {
        self.shared.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The predictor said what is in force; an empty name stands for none. Whether another arm was before.
    pub(crate) fn set_in_force(&self, arm: &str, model_version: &str) -> bool {
        let name = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let in_force = InForce { arm: name(arm), model_version: name(model_version) };
        let mut shared = self.shared.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *shared, in_force);
        before.arm.is_some_and(|before| before != arm)
    }

    /// Whether the predictor listens.
    pub(crate) fn is_connected(&self) -> bool {
        self.shared.is_connected.load(Ordering::Relaxed)
    }

    /// Says whether the predictor listens.
    pub(crate) fn set_connected(&self, is_connected: bool) {
        self.shared.is_connected.store(is_connected, Ordering::Relaxed);
    }

    /// Whether a gain or loss was dropped since this was last asked.
    pub(crate) fn take_out_of_step(&self) -> bool {
        self.shared.is_out_of_step.swap(false, Ordering::Relaxed)
    }

    /// Reports dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Requests dropped since this was last asked.
    pub(crate) fn take_dropped_requests(&self) -> u64 {
        self.shared.dropped_requests.swap(0, Ordering::Relaxed)
    }

    /// Requests were kept for a predictor in vain.
    pub(super) fn count_lost(&self, requests: u64) {
        self.shared.dropped.fetch_add(requests, Ordering::Relaxed);
        self.shared.dropped_requests.fetch_add(requests, Ordering::Relaxed);
    }

    /// Requests that no predictor has acknowledged yet.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.shared.unacknowledged.load(Ordering::Relaxed)
    }

    /// Says how many those are.
    pub(super) fn set_unacknowledged(&self, requests: usize) {
        self.shared.unacknowledged.store(requests, Ordering::Relaxed);
    }

    fn count_dropped(&self, report: &Report) {
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        if matches!(report, Report::Request(_)) {
            self.shared.dropped_requests.fetch_add(1, Ordering::Relaxed);
        }
    }
}
