//! What is told to whichever predictor there is: it outlives connections.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nearcast_datasets::Timestamp;
use nearcast_proto::message::{Request, RequestBatch};
use tokio::sync::mpsc;

use super::{Report, Uplink, batch::Batch};

/// What waits to be told, and the requests that no predictor has acknowledged. The one who listens and the one who tells
/// share it.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Which start of the node it is.
    pub(super) stream: u64,
    unacknowledged: Mutex<Unacknowledged>,
}

#[derive(Debug, Default)]
struct Unacknowledged {
    sequence: u64,
    batches: VecDeque<RequestBatch>,
    /// Requests in them.
    requests: usize,
    /// Batches that made room for later ones before they were acknowledged, and the requests in them.
    let_go: VecDeque<(u64, u64)>,
}

impl Outbox {
    /// Nothing, of a node that started now.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { stream: u64::try_from(now.micros()).unwrap_or_default(), unacknowledged: Mutex::default() }
    }

    /// Numbers requests as a batch, and keeps it until it is acknowledged or more than `requests_max` wait.
    pub(super) fn keep(&self, requests: Vec<Request>, dropped_count: u64, requests_max: usize) -> RequestBatch {
        let mut kept = self.lock();
        kept.sequence += 1;
        let batch = RequestBatch { sequence: kept.sequence, requests, dropped_count };
        kept.requests += batch.requests.len();
        kept.batches.push_back(batch.clone());
        while kept.requests > requests_max
            && kept.batches.len() > 1
            && let Some(oldest) = kept.batches.pop_front()
        {
            kept.requests -= oldest.requests.len();
            kept.note_let_go(oldest.sequence, oldest.requests.len() as u64);
        }
        batch
    }

    /// A predictor has everything up to a number.
    pub(super) fn acknowledge(&self, sequence: u64) {
        let mut kept = self.lock();
        while let Some(batch) = kept.batches.pop_front_if(|batch| batch.sequence <= sequence) {
            kept.requests -= batch.requests.len();
        }
        while kept.let_go.pop_front_if(|(number, _)| *number <= sequence).is_some() {}
    }

    /// What a new connection has to tell again, and how many requests will never be told.
    pub(super) fn again(&self, now: Timestamp) -> (Vec<RequestBatch>, u64) {
        let mut kept = self.lock();
        let mut lost = kept.let_go.drain(..).map(|(_, requests)| requests).sum();
        let is_old = |batch: &mut RequestBatch| {
            batch.requests.last().is_some_and(|request| now.since(request.timestamp) > AGE_MAX)
        };
        while let Some(batch) = kept.batches.pop_front_if(is_old) {
            kept.requests -= batch.requests.len();
            lost += batch.requests.len() as u64;
        }
        (kept.batches.iter().cloned().collect(), lost)
    }

    /// Requests that wait to be acknowledged.
    pub(super) fn len(&self) -> usize {
        self.lock().requests
    }

    fn lock(&self) -> MutexGuard<'_, Unacknowledged> {
        self.unacknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unacknowledged {
    /// Notes a batch that has made room. Of very many the earliest are told apart no more.
    fn note_let_go(&mut self, sequence: u64, requests: u64) {
        self.let_go.push_back((sequence, requests));
        if self.let_go.len() > LET_GO_MAX
            && let Some((_, earliest)) = self.let_go.pop_front()
            && let Some((_, next)) = self.let_go.front_mut()
        {
            *next += earliest;
        }
    }
}

/// Takes what comes while there is no predictor, and keeps the requests. Ends when nobody sends any more.
pub(super) async fn absorb(
    reports: &mut mpsc::Receiver<Report>,
    batch: &mut Batch,
    (outbox, uplink): (&Outbox, &Uplink),
    (batch_max, requests_max): (usize, usize),
) {
    let mut received = Vec::with_capacity(batch_max);
    while reports.recv_many(&mut received, batch_max).await > 0 {
        received.drain(..).filter(Report::outlives_a_predictor).for_each(|report| batch.add(report));
        batch.bound(ENDS_MAX);
        let requests = batch.take_requests();
        if !requests.is_empty() {
            outbox.keep(requests, 0, requests_max);
            uplink.set_unacknowledged(outbox.len());
        }
    }
}

/// Requests that are older say nothing of what is asked for next.
const AGE_MAX: Duration = Duration::from_secs(600);
/// Batches that made room, told apart.
const LET_GO_MAX: usize = 1_024;
/// Outcomes and results that wait for a predictor.
const ENDS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nearcast_datasets::ServedFrom;

    use super::*;

    fn requests(count: usize, at: i64) -> Vec<Request> {
        let request = Request {
            timestamp: Timestamp::from_micros(at * 1_000_000),
            client: Arc::from("c"),
            region: Arc::from("eu"),
            key: Arc::from("/k"),
            size_bytes: 1,
            range: None,
            served: ServedFrom::Origin,
            latency: Duration::ZERO,
        };
        vec![request; count]
    }

    fn numbers(outbox: &Outbox, now: i64) -> (Vec<u64>, u64) {
        let (batches, lost) = outbox.again(Timestamp::from_micros(now * 1_000_000));
        (batches.iter().map(|batch| batch.sequence).collect(), lost)
    }

    #[test]
    fn what_is_not_acknowledged_is_told_again_in_order() {
        let outbox = Outbox::new(Timestamp::from_micros(7));
        assert_eq!((outbox.stream, numbers(&outbox, 0)), (7, (vec![], 0)));
        for number in 1..=4 {
            assert_eq!(outbox.keep(requests(2, 0), 0, 100).sequence, number);
        }
        outbox.acknowledge(2);
        assert_eq!((numbers(&outbox, 1), outbox.len()), ((vec![3, 4], 0), 4));
        outbox.acknowledge(9);
        assert_eq!((numbers(&outbox, 1), outbox.len()), ((vec![], 0), 0));
        assert_eq!(outbox.keep(requests(1, 0), 0, 100).sequence, 5);
    }

    #[test]
    fn the_oldest_make_room_and_count_as_lost_only_if_they_are_never_acknowledged() {
        let outbox = Outbox::new(Timestamp::default());
        for _ in 0..4 {
            outbox.keep(requests(10, 0), 0, 20);
        }
        outbox.acknowledge(1);
        assert_eq!(numbers(&outbox, 1), (vec![3, 4], 10), "the first was, the second was not");
        assert_eq!(numbers(&outbox, 1), (vec![3, 4], 0), "it is counted once");
        outbox.keep(requests(50, 0), 0, 20);
        assert_eq!((numbers(&outbox, 1), outbox.len()), ((vec![5], 20), 50), "one batch is kept however large");
    }

    #[test]
    fn without_a_predictor_for_long_nothing_grows() {
        let outbox = Outbox::new(Timestamp::default());
        for _ in 0..10_000 {
            outbox.keep(requests(2, 0), 0, 4);
        }
        assert_eq!(outbox.lock().let_go.len(), LET_GO_MAX);
        assert_eq!(numbers(&outbox, 1), (vec![9_999, 10_000], 2 * 9_998));
    }

    #[test]
    fn what_is_too_old_is_not_told() {
        let outbox = Outbox::new(Timestamp::default());
        outbox.keep(requests(3, 0), 0, 100);
        outbox.keep(requests(2, 500), 0, 100);
        assert_eq!((numbers(&outbox, 700), outbox.len()), ((vec![2], 3), 2));
    }
}
