//! Requests, shown to whoever watches them.

use std::sync::Arc;

use http::{Request, Response};
use nearcast_datasets::Timestamp;

use super::{Connection, Front, body::ResponseBody};
use crate::{
    clock,
    watch::{Head, Seen},
};

/// When a request arrived and what it said, if anybody wants to see that.
pub(super) type Arrival = Option<(Timestamp, Arc<Head>)>;

impl Front {
    /// Keeps what a request says, for its account and for [`Self::note_answer`].
    pub(super) fn note_arrival<B>(&self, connection: &Connection, request: &mut Request<B>) -> Arrival {
        if !self.wants_lines() {
            return None;
        }
        let head = Arc::new(Head::of(connection.peer.ip(), request));
        request.extensions_mut().insert(Arc::clone(&head));
        Some((clock::now(), head))
    }

    /// Tells a request's account its status, or shows it now when it was refused before it had an account.
    pub(super) fn note_answer(&self, connection: &Connection, arrival: Arrival, response: &mut Response<ResponseBody>) {
        let status = response.status();
        match (response.body_mut().account_mut(), arrival) {
            (Some(account), _) => account.set_status(status),
            (None, Some((at, head))) => {
                let client = self.pseudonyms.of_address(connection.peer.ip());
                self.show(Seen::refused(at, client, status, head));
            }
            (None, None) => {}
        }
    }

    /// Whether anybody looks at requests one by one, besides the request log.
    pub(super) fn is_watched(&self) -> bool {
        self.access_log.is_some() || self.watchers.is_any()
    }

    /// Whether anybody wants to see what requests say.
    fn wants_lines(&self) -> bool {
        self.access_log.is_some() || self.watchers.want_lines()
    }

    /// Shows a request that has ended to whoever looks.
    pub(super) fn show(&self, seen: Seen) {
        let seen = Arc::new(seen);
        if self.watchers.is_any() {
            self.watchers.show(&seen, &self.shell.metrics);
        }
        if let Some(log) = &self.access_log {
            log.push(seen, &self.shell.metrics);
        }
    }
}
