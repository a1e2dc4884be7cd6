//! What training and evaluating tell whoever watches.

use crate::EpochReport;

/// One step of the work. Counts only grow within a kind.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Rows of the log were read and coded.
    Reading {
        /// Rows so far.
        rows: u64,
        /// Rows in all, where the files say it.
        total: Option<u64>,
    },
    /// A stage without measurable parts began.
    Stage(&'a str),
    /// A cluster counted parts of the co-access.
    Counting {
        /// Parts so far.
        parts: u64,
        /// Parts in all.
        total: u64,
    },
    /// The sequence model learned from requests.
    Fitting {
        /// The pass over the sessions, from 1.
        epoch: usize,
        /// Requests learned from in this pass.
        requests: u64,
        /// Requests in this pass.
        total: u64,
        /// Mean loss of the pass so far, in nats per request.
        loss: f64,
    },
    /// A pass over the sessions ended.
    Epoch(&'a EpochReport),
    /// Predictions were ranked.
    Ranking {
        /// Predictions so far.
        predictions: u64,
        /// About as many as there will be.
        total: u64,
    },
}

/// Hears every [`Progress`].
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress<'_>);
