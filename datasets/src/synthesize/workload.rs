//! Makes the requests of a synthetic workload one by one, in order of time.

use std::{cmp::Ordering, collections::BinaryHeap};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};

use super::{
    arrivals::Arrivals,
    config::{THINK_MAX, WorkloadConfig},
    keys::{Keys, random, scramble},
    popularity::{Popularity, Scene},
    truth::Oracle,
};
use crate::{Timestamp, error::Result};

/// A synthetic workload. It holds its keys, its clients and the sessions that are open, but no past requests.
#[derive(Clone, Debug)]
pub struct Workload {
    config: WorkloadConfig,
    keys: Keys,
    popularity: Popularity,
    arrivals: Vec<Arrivals>,
    pending: BinaryHeap<Pending>,
    oracle: Oracle,
    random: ChaCha8Rng,
    made_count: u64,
    order: u64,
    dropped_count: u64,
}

/// One request of a synthetic workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntheticRequest {
    /// When.
    pub timestamp: Timestamp,
    /// The client's number.
    pub client: u32,
    /// The position of its region in the configuration.
    pub region: usize,
    /// The key's number.
    pub key: u32,
    /// The key before it in the same session.
    pub last_key: Option<u32>,
}

impl Workload {
    /// A workload at its beginning.
    ///
    /// # Errors
    /// [`Error::BadWorkload`](crate::Error::BadWorkload) for settings that make none.
    pub fn new(config: &WorkloadConfig) -> Result<Self> {
        config.check()?;
        let stream = |purpose| random(config.seed, purpose);
        let mut keys = Keys::new(config, stream(0));
        let popularity = Popularity::new(config, &mut keys, stream(1));
        let mut arrivals: Vec<Arrivals> = Vec::new();
        let mut first_client = 0;
        for index in 0..config.regions.len() {
            arrivals.push(Arrivals::new(config, index, first_client, stream(3 + index as u64)));
            first_client += config.region_client_count(index);
        }
        let mut workload = Self {
            oracle: Oracle::new(config.follow_share, config.regions.len(), &popularity),
            config: config.clone(),
            keys,
            popularity,
            arrivals,
            pending: BinaryHeap::new(),
            random: stream(2),
            made_count: 0,
            order: 0,
            dropped_count: 0,
        };
        for region in 0..workload.arrivals.len() {
            workload.await_session(region, config.start);
        }
        Ok(workload)
    }

    /// The next request, or `None` when as many were made as were asked for.
    pub fn next_request(&mut self) -> Option<SyntheticRequest> {
        if self.made_count == self.config.request_count {
            return None;
        }
        loop {
            let Pending { at, region, what, .. } = self.pending.pop()?;
            self.popularity.advance(at, &mut self.keys);
            match what {
                What::Arrival => {
                    self.await_session(region, at);
                    match self.arrivals[region].take_client(at) {
                        Some(client) => return Some(self.make(at, region, client, None)),
                        None => self.dropped_count += 1,
                    }
                }
                What::Request { client, last_key } => return Some(self.make(at, region, client, Some(last_key))),
            }
        }
    }

    /// A key's name.
    pub fn key_name(&self, key: u32) -> &str {
        self.keys.name(key)
    }

    /// An object's size, in bytes.
    pub fn size_bytes(&self, key: u32) -> u64 {
        self.keys.size_bytes(key)
    }

    /// A client's pseudonym.
    pub fn client_name(client: u32) -> String {
        format!("c{:08x}", scramble(client))
    }

    /// How many keys were born so far, those that are there from the beginning included.
    pub fn born_key_count(&self) -> usize {
        self.keys.len()
    }

    /// Sessions that did not happen because no client was free.
    pub fn dropped_session_count(&self) -> u64 {
        self.dropped_count
    }

    pub(crate) fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    fn make(&mut self, at: Timestamp, region: usize, client: u32, last_key: Option<u32>) -> SyntheticRequest {
        let scene = Scene { region, daypart: self.config.daypart(region, at) };
        let key = self.draw_key(scene, last_key);
        if self.made_count.is_multiple_of(self.truth_stride()) {
            self.oracle.observe(last_key, scene, key, &self.keys, &self.popularity);
        }
        if self.random.random::<f64>() * self.config.session_requests_mean < 1.0 {
            self.arrivals[region].release_client(client, at);
        } else {
            let pause: f64 = Exp1.sample(&mut self.random);
            let pause = self.config.think_mean.mul_f64(pause).min(THINK_MAX);
            self.await_event(at.after(pause), region, What::Request { client, last_key: key });
        }
        self.made_count += 1;
        SyntheticRequest { timestamp: at, client, region, key, last_key }
    }

    fn draw_key(&mut self, scene: Scene, last_key: Option<u32>) -> u32 {
        if let Some(last) = last_key {
            let mut point = self.random.random::<f64>();
            if point < self.config.follow_share {
                point /= self.config.follow_share;
                let links = self.keys.links(last);
                for (link, weight) in links.iter().zip(self.keys.weights(last)) {
                    if point < *weight {
                        return *link;
                    }
                    point -= weight;
                }
                return links[links.len() - 1];
            }
        }
        self.popularity.draw(scene, &mut self.random)
    }

    /// Every how many requests the best accuracy is worked out: all, up to some millions.
    fn truth_stride(&self) -> u64 {
        (self.config.request_count / TRUTH_REQUESTS_MAX).max(1)
    }

    fn await_session(&mut self, region: usize, now: Timestamp) {
        let at = self.arrivals[region].next(now);
        self.await_event(at, region, What::Arrival);
    }

    fn await_event(&mut self, at: Timestamp, region: usize, what: What) {
        self.order += 1;
        self.pending.push(Pending { at, order: self.order, region, what });
    }
}

/// Contexts that the best accuracy is averaged over: its noise is then below a thousandth.
const TRUTH_REQUESTS_MAX: u64 = 4_000_000;

/// Something that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    at: Timestamp,
    /// Breaks ties, so that the order does not depend on the heap.
    order: u64,
    region: usize,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Arrival,
    Request { client: u32, last_key: u32 },
}

impl Ord for Pending {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
