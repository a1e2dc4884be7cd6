//! Requests as they end, for whoever watches them: the access log, `tail` and `top`.
//!
//! With nobody watching, a request pays one look at a counter. A watcher that is too slow loses requests, which is counted;
//! it never makes one wait.

mod filter;
mod hottest;

use std::{
    borrow::Cow,
    fmt,
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use nearcast_datasets::{ServedFrom, Timestamp};
use serde::Deserialize;
use tokio::sync::mpsc::{self, error::TrySendError};

pub(crate) use self::{
    filter::Filter,
    hottest::{By, Hottest, Weight},
};
use crate::{core::MissCause, key::Key, line::RequestLine, metrics::Metrics};

/// What a request said, kept only while somebody wants lines.
#[derive(Debug)]
pub(crate) struct Head {
    address: IpAddr,
    method: Method,
    uri: Uri,
    version: Version,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
}

impl Head {
    /// Takes what lines tell from a request.
    pub(crate) fn of<B>(address: IpAddr, request: &Request<B>) -> Self {
        let find = |headers: &HeaderMap, name| headers.get(name).cloned();
        Self {
            address,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            referer: find(request.headers(), header::REFERER),
            user_agent: find(request.headers(), header::USER_AGENT),
        }
    }
}

/// A request that has ended.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) at: Timestamp,
    /// Who asked, as logs name it.
    pub(crate) client: Arc<str>,
    /// Absent where the request was refused before there was one.
    pub(crate) key: Option<Key>,
    pub(crate) size_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) served: ServedFrom,
    pub(crate) cause: Option<MissCause>,
    /// Absent where the client left first.
    pub(crate) status: Option<StatusCode>,
    pub(crate) latency_us: u64,
    /// Absent where nobody wanted lines when the request began.
    pub(crate) head: Option<Arc<Head>>,
}

/// Who asked, in an access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientName {
    /// The connection's address.
    Address,
    /// The pseudonym that the request log has too.
    Pseudonym,
}

impl Seen {
    /// A request that was refused before it was for any object.
    pub(crate) fn refused(at: Timestamp, client: Arc<str>, status: StatusCode, head: Arc<Head>) -> Self {
        Self {
            at,
            client,
            key: None,
            size_bytes: 0,
            sent_bytes: 0,
            served: ServedFrom::Error,
            cause: None,
            status: Some(status),
            latency_us: 0,
            head: Some(head),
        }
    }

    /// The request as a line; `None` without its head.
    pub(crate) fn line(&self, node: &str, region: &str, client: ClientName) -> Option<RequestLine> {
        let head = self.head.as_deref()?;
        let text = |value: &Option<HeaderValue>| {
            value.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (time, time_us) = RequestLine::time_of(self.at);
        Some(RequestLine {
            time,
            time_us,
            node: node.to_owned(),
            region: region.to_owned(),
            client: match client {
                ClientName::Address => head.address.to_string(),
                ClientName::Pseudonym => self.client.to_string(),
            },
            method: head.method.to_string(),
            target: head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string),
            protocol: format!("{:?}", head.version),
            key: self.key.as_ref().map(|key| key.as_str().to_owned()),
            status: self.status.map_or(CLIENT_LEFT, |status| status.as_u16()),
            bytes: self.sent_bytes,
            size: self.size_bytes,
            outcome: Cow::Borrowed(self.served.as_str()),
            cause: self.cause.map(|cause| Cow::Borrowed(cause.as_str())),
            latency_us: self.latency_us,
            referer: text(&head.referer),
            user_agent: text(&head.user_agent),
        })
    }
}

/// Everybody who watches requests.
pub(crate) struct Watchers {
    taps: RwLock<Vec<Tap>>,
    /// How many there are, and how many of them want lines: found without the lock.
    count: AtomicUsize,
    line_count: AtomicUsize,
    next_id: AtomicU64,
    count_max: usize,
    queue_max: usize,
}

/// One watcher, as requests see it.
#[derive(Debug)]
struct Tap {
    id: u64,
    filter: Filter,
    sender: mpsc::Sender<Arc<Seen>>,
    lost: Arc<AtomicU64>,
}

/// One watcher's own end. Dropped, it leaves.
#[derive(Debug)]
pub(crate) struct Watch {
    /// What it sees.
    pub(crate) requests: mpsc::Receiver<Arc<Seen>>,
    lost: Arc<AtomicU64>,
    wants_lines: bool,
    id: u64,
    watchers: Arc<Watchers>,
    metrics: prometheus_client::metrics::gauge::Gauge,
}

impl Watchers {
    /// Nobody, with bounds on how many there may be and how many requests wait for each.
    pub(crate) fn new(count_max: usize, queue_max: usize) -> Arc<Self> {
        Arc::new(Self {
            taps: RwLock::default(),
            count: AtomicUsize::new(0),
            line_count: AtomicUsize::new(0),
            next_id: AtomicU64::new(0),
            count_max,
            queue_max,
        })
    }

    /// A further watcher of the requests that `filter` admits; `None` when there are too many.
    pub(crate) fn join(self: &Arc<Self>, filter: Filter, wants_lines: bool, metrics: &Metrics) -> Option<Watch> {
        let mut taps = self.taps.write().unwrap_or_else(PoisonError::into_inner);
        if taps.len() >= self.count_max {
            metrics.watchers_full.inc();
            return None;
        }
        let (sender, requests) = mpsc::channel(self.queue_max);
        let (id, lost) = (self.next_id.fetch_add(1, Ordering::Relaxed), Arc::new(AtomicU64::new(0)));
        let tap = Tap { id, filter, sender, lost: Arc::clone(&lost) };
        taps.push(tap);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.line_count.fetch_add(usize::from(wants_lines), Ordering::Relaxed);
        metrics.watchers.inc();
        let metrics = metrics.watchers.clone();
        Some(Watch { requests, lost, wants_lines, id, watchers: Arc::clone(self), metrics })
    }

    /// Whether anybody watches.
    pub(crate) fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Whether anybody wants lines, for which a request's head is kept.
    pub(crate) fn want_lines(&self) -> bool {
        self.line_count.load(Ordering::Relaxed) > 0
    }

    /// Shows a request to everybody whose filter admits it.
    pub(crate) fn show(&self, seen: &Arc<Seen>, metrics: &Metrics) {
        for tap in &*self.taps.read().unwrap_or_else(PoisonError::into_inner) {
            if tap.filter.admits(seen)
                && let Err(TrySendError::Full(_)) = tap.sender.try_send(Arc::clone(seen))
            {
                tap.lost.fetch_add(1, Ordering::Relaxed);
                metrics.watch_lost.inc();
            }
        }
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Watch {
    /// Requests lost since this was last asked.
    pub(crate) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut taps = self.watchers.taps.write().unwrap_or_else(PoisonError::into_inner);
        taps.retain(|tap| tap.id != self.id);
        self.watchers.count.fetch_sub(1, Ordering::Relaxed);
        self.watchers.line_count.fetch_sub(usize::from(self.wants_lines), Ordering::Relaxed);
        self.metrics.dec();
    }
}

/// What nginx logs for a client that left before there was a status.
const CLIENT_LEFT: u16 = 499;

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn seen(key: &str, latency_us: u64) -> Arc<Seen> {
        Arc::new(Seen {
            at: Timestamp::from_micros(0),
            client: Arc::from("alice"),
            key: Some(Key::parse(key).unwrap()),
            size_bytes: 10,
            sent_bytes: 10,
            served: ServedFrom::Origin,
            cause: Some(MissCause::First),
            status: Some(StatusCode::OK),
            latency_us,
            head: None,
        })
    }

    #[test]
    fn a_slow_watcher_loses_what_does_not_fit_and_is_told_how_much() {
        let (watchers, metrics) = (Watchers::new(2, 3), Metrics::default());
        assert!(!watchers.is_any() && !watchers.want_lines());
        let mut slow = watchers.join(Filter::default(), true, &metrics).unwrap();
        let mut picky = watchers.join(Filter::parse("slower_than_us=50").unwrap(), false, &metrics).unwrap();
        assert!(watchers.join(Filter::default(), false, &metrics).is_none(), "two is the bound");
        assert!(watchers.is_any() && watchers.want_lines());
        (0..5).for_each(|number| watchers.show(&seen("/a", number * 20), &metrics));
        assert_eq!((slow.take_lost(), slow.take_lost(), picky.take_lost()), (2, 0, 0));
        let latencies = |watch: &mut Watch| {
            let mut all = Vec::new();
            while let Ok(seen) = watch.requests.try_recv() {
                all.push(seen.latency_us);
            }
            all
        };
        assert_eq!((latencies(&mut slow), latencies(&mut picky)), (vec![0, 20, 40], vec![60, 80]));
        drop(slow);
        assert!(watchers.is_any() && !watchers.want_lines());
        drop(picky);
        assert!(!watchers.is_any());
        assert_eq!((metrics.watch_lost.get(), metrics.watchers_full.get(), metrics.watchers.get()), (2, 1, 0));
    }
}
