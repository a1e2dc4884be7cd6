//! One client's request from its head to its last byte: what is reported, counted and logged of it.

use std::sync::Arc;

use http::StatusCode;
use nearcast_datasets::{ByteRange, RequestEvent, ServedFrom, Timestamp};
use nearcast_proto::message::Request;

use super::Front;
use crate::{
    clock::Stopwatch,
    core::MissCause,
    key::Key,
    link::{InForce, Report},
    shell::Delivery,
    watch::{Head, Seen},
};

/// Accumulates what one request came to; writes it down when dropped, which is when its last byte was handed over or
/// the client went away.
#[derive(Debug)]
pub(crate) struct Account {
    front: Arc<Front>,
    stopwatch: Stopwatch,
    at: Timestamp,
    client: Arc<str>,
    key: Key,
    size_bytes: u64,
    range: Option<ByteRange>,
    served: ServedFrom,
    cause: Option<MissCause>,
    sent_bytes: u64,
    /// What the client got; absent until the answer's head is made.
    status: Option<StatusCode>,
    /// What the request said, while somebody wants lines.
    head: Option<Arc<Head>>,
}

impl Account {
    pub(super) fn open(front: &Arc<Front>, at: Timestamp, client: Arc<str>, key: Key) -> Self {
        Self {
            front: Arc::clone(front),
            stopwatch: Stopwatch::start(),
            at,
            client,
            key,
            size_bytes: 0,
            range: None,
            served: ServedFrom::Error,
            cause: None,
            sent_bytes: 0,
            status: None,
            head: None,
        }
    }

    /// Keeps what the request said, for those who want lines.
    pub(super) fn with_head(mut self, head: Option<Arc<Head>>) -> Self {
        self.head = head;
        self
    }

    /// The answer's head is known: says who serves it, and tells the predictor, which need not wait for the last byte.
    pub(super) fn begin(
        &mut self,
        size_bytes: u64,
        range: Option<ByteRange>,
        served: ServedFrom,
        cause: Option<MissCause>,
    ) {
        self.size_bytes = size_bytes;
        self.range = range;
        self.served = served;
        self.cause = cause;
        self.report();
    }

    /// A later segment came. Of several sources, the slowest names the request.
    pub(super) fn add(&mut self, delivery: &Delivery) {
        if weight(delivery.served) > weight(self.served) {
            self.served = delivery.served;
            self.cause = delivery.cause;
        }
    }

    /// The answer broke off.
    pub(super) fn fail(&mut self) {
        self.served = ServedFrom::Error;
    }

    pub(super) fn count_sent(&mut self, bytes: u64) {
        self.sent_bytes += bytes;
    }

    /// The answer's head is made.
    pub(super) fn set_status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    fn seen(&self, latency_us: u64) -> Seen {
        Seen {
            at: self.at,
            client: Arc::clone(&self.client),
            key: Some(self.key.clone()),
            size_bytes: self.size_bytes,
            sent_bytes: self.sent_bytes,
            served: self.served,
            cause: self.cause,
            status: self.status,
            latency_us,
            head: self.head.clone(),
        }
    }

    fn report(&self) {
        let shell = &self.front.shell;
        if !shell.uplink.is_wanted() || self.served == ServedFrom::Error {
            return;
        }
        shell.uplink.send(Report::Request(Request {
            timestamp: self.at,
            client: Arc::clone(&self.client),
            region: Arc::clone(&shell.config.region),
            key: self.key.shared(),
            size_bytes: self.size_bytes,
            range: self.range,
            served: self.served,
            latency: self.stopwatch.elapsed(),
        }));
    }

    fn event(&self, latency_us: u64) -> RequestEvent {
        let shell = &self.front.shell;
        let InForce { arm, model_version } = shell.uplink.in_force();
        RequestEvent {
            timestamp: self.at,
            client: self.client.to_string(),
            region: shell.config.region.to_string(),
            key: self.key.as_str().to_owned(),
            size_bytes: self.size_bytes,
            range: self.range,
            node: Some(shell.config.name.to_string()),
            outcome: Some(self.served),
            latency_us: Some(latency_us),
            arm,
            model_version,
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let latency = self.stopwatch.elapsed();
        let front = &self.front;
        let metrics = &front.shell.metrics;
        metrics.count_request(self.served, self.cause);
        metrics.count_status(self.status);
        metrics.count_sent(self.served, self.sent_bytes);
        metrics.latencies.observe(self.served, latency);
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(log) = &front.log {
            log.push(self.event(latency_us), metrics);
        }
        if front.is_watched() {
            front.show(self.seen(latency_us));
        }
    }
}

/// Slower sources weigh more.
fn weight(served: ServedFrom) -> u8 {
    match served {
        ServedFrom::Memory => 0,
        ServedFrom::Disk => 1,
        ServedFrom::Prefetched => 2,
        ServedFrom::Peer => 3,
        ServedFrom::Origin => 4,
        ServedFrom::Error => 5,
    }
}
