//! Sends requests when they are due, whatever became of those before, and reads and checks the answers.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};

use super::{
    cluster::Cluster,
    http::Http,
    schedule::{Planned, Schedule},
    tally::{CacheStatus, Ended, Tally, histogram},
};
use crate::{
    origin::{Objects, content, target},
    shutdown::shutdown_signal,
};

/// Plays schedules against a cluster.
#[derive(Clone, Debug)]
pub(super) struct Player {
    http: Http,
    cluster: Arc<Cluster>,
    /// What answers are compared with, if they are.
    objects: Option<Arc<Objects>>,
    concurrency: usize,
}

/// What a play came to.
#[derive(Debug)]
pub(super) struct Played {
    /// One for each node.
    pub(super) nodes: Vec<Tally>,
    /// From the first request's time to the last answer.
    pub(super) elapsed: Duration,
    /// Requests sent more than [`LATE_AFTER`] after they were due.
    pub(super) late_count: u64,
    /// How late requests were sent, in microseconds.
    pub(super) lateness: Histogram<u64>,
    /// Whether the user ended it before the log did.
    pub(super) is_interrupted: bool,
}

impl Player {
    pub(super) fn new(http: Http, cluster: Arc<Cluster>, objects: Option<Objects>, concurrency: usize) -> Self {
        Self { http, cluster, objects: objects.map(Arc::new), concurrency }
    }

    /// Plays a schedule to its end or until Ctrl-C or SIGTERM; `progress` is told how many requests ended.
    pub(super) async fn play(
        &self,
        mut schedule: Schedule,
        progress: impl Fn(u64, Option<u64>) + Send + Sync + 'static,
    ) -> anyhow::Result<Played> {
        let tallies: Arc<Vec<Mutex<Tally>>> =
            Arc::new(self.cluster.nodes.iter().map(|_| Mutex::new(Tally::new())).collect());
        let slots = Arc::new(Semaphore::new(self.concurrency));
        let (ended_count, progress) = (Arc::new(AtomicU64::new(0)), Arc::new(progress));
        let (mut late_count, mut lateness) = (0, histogram());
        let mut interrupt = pin!(shutdown_signal()?);
        let mut is_interrupted = false;
        let start = Instant::now();
        'play: while let Some(chunk) = schedule.planned.recv().await {
            for planned in chunk {
                let due = start + planned.due;
                let ready = async {
                    sleep_until(due).await;
                    Arc::clone(&slots).acquire_owned().await
                };
                let slot = tokio::select! {
                    biased;
                    () = &mut interrupt => {
                        is_interrupted = true;
                        break 'play;
                    }
                    slot = ready => slot?,
                };
                let late = due.elapsed();
                late_count += u64::from(late > LATE_AFTER);
                lateness.saturating_record(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
                let (player, tallies) = (self.clone(), Arc::clone(&tallies));
                let (ended_count, progress, total) = (Arc::clone(&ended_count), Arc::clone(&progress), schedule.total);
                tokio::spawn(async move {
                    let ended = player.request(&planned).await;
                    tallies[planned.node].lock().unwrap_or_else(PoisonError::into_inner).add(ended);
                    progress(ended_count.fetch_add(1, Ordering::Relaxed) + 1, total);
                    drop(slot);
                });
            }
        }
        // Every request ends within its timeout, so this does.
        let all = u32::try_from(self.concurrency).unwrap_or(u32::MAX);
        drop(slots.acquire_many(all).await?);
        let elapsed = start.elapsed();
        drop(schedule.planned);
        schedule.reader.await??;
        let nodes = tallies.iter().map(|tally| tally.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect();
        Ok(Played { nodes, elapsed, late_count, lateness, is_interrupted })
    }

    /// Sends one request and reads its answer to the end.
    async fn request(&self, planned: &Planned) -> Ended {
        let start = Instant::now();
        let mut ended = Ended { latency: Duration::ZERO, bytes: 0, said: CacheStatus::default(), failure: None };
        match timeout(REQUEST_TIMEOUT, self.exchange(planned, &mut ended)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => ended.failure = Some(failure),
            Err(_) => ended.failure = Some("timeout".into()),
        }
        ended.latency = start.elapsed();
        ended
    }

    async fn exchange(&self, planned: &Planned, ended: &mut Ended) -> Result<(), String> {
        let node = &self.cluster.nodes[planned.node];
        let mut request = Request::builder().uri(format!("{}{}", node.url, target::target(&planned.key)));
        // A pseudonym that no header can carry is left out rather than changed.
        if let Ok(client) = HeaderValue::try_from(&*planned.client) {
            request = request.header(CLIENT, client);
        }
        if let Some(range) = planned.range {
            request = request.header(header::RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        let request = request.body(Full::default()).map_err(|_| "key makes no URL".to_owned())?;
        let response = self.http.send(request).await.map_err(|error| {
            if error.is_connect() { "cannot connect".to_owned() } else { "connection broke".to_owned() }
        })?;
        let (head, mut body) = response.into_parts();
        ended.said = said(&head.headers);
        if !matches!(head.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Err(format!("status {}", head.status.as_u16()));
        }
        let is_part = head.status == StatusCode::PARTIAL_CONTENT;
        match self.expected(planned, is_part)? {
            Some(expected) => check(&mut body, expected, &mut ended.bytes).await,
            None => skim(&mut body, &mut ended.bytes).await,
        }
    }

    /// What the body must hold, if that is to be checked.
    fn expected(&self, planned: &Planned, is_part: bool) -> Result<Option<Expected>, String> {
        let Some(objects) = &self.objects else { return Ok(None) };
        let key = target::rooted(&planned.key).into_owned();
        let size = objects.size(&key).ok_or("key unknown to the log")?;
        let (start, end) = match planned.range.filter(|_| is_part) {
            Some(range) => (range.start, range.end.min(size)),
            None if is_part => return Err("a part nobody asked for".into()),
            None => (0, size),
        };
        Ok(Some(Expected { key, start, end }))
    }
}

/// A part of an object.
#[derive(Debug)]
struct Expected {
    key: String,
    start: u64,
    end: u64,
}

async fn check(body: &mut Incoming, expected: Expected, bytes: &mut u64) -> Result<(), String> {
    let mut content = content(&expected.key, expected.start);
    let length = expected.end.saturating_sub(expected.start);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| "body broke off".to_owned())?;
        let Some(data) = frame.data_ref() else { continue };
        *bytes += data.len() as u64;
        if !content.continues_with(data) {
            return Err(WRONG_CONTENT.into());
        }
    }
    if *bytes == length { Ok(()) } else { Err(WRONG_LENGTH.into()) }
}

async fn skim(body: &mut Incoming, bytes: &mut u64) -> Result<(), String> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| "body broke off".to_owned())?;
        *bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(())
}

fn said(headers: &HeaderMap) -> CacheStatus {
    let status = headers.get("cache-status").and_then(|status| status.to_str().ok());
    status.map_or_else(CacheStatus::default, CacheStatus::parse)
}

/// The failure of a body that differs from the origin's.
pub(super) const WRONG_CONTENT: &str = "wrong content";
/// The failure of a body that is shorter or longer than the origin's.
pub(super) const WRONG_LENGTH: &str = "wrong length";
/// By this header a node knows whom to take a request for.
const CLIENT: HeaderName = HeaderName::from_static("nearcast-client");
/// From how much on a request counts as sent late.
pub(super) const LATE_AFTER: Duration = Duration::from_millis(20);
/// How long an answer may take to its last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
