//! How much each link can carry before the next plan, and how far that makes it worth looking ahead.
//!
//! Where links carry all that a plan asks for at once, nothing is gained by sending it before it is wanted. Where they
//! take hours, what a region asks for in its evening is not there when its evening comes unless it was sent before, and
//! then what it displaces is missed before. Of a change that takes links some time, half is best sent before it is wanted
//! and half after: what is asked for most takes the place of what is asked for least, from both sides. So a plan is for
//! what each region asks for on average until half of the time that its links lately took for a plan has passed.

use std::time::Duration;

use nearcast_datasets::Map;
use serde::{Deserialize, Serialize};

use super::StrategyConfig;
use crate::placement::{Link, NodeSet, Sites};

/// How long links took for plans lately.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Reach {
    /// Seconds by node: the longest of late.
    drains: Vec<f64>,
}

/// What links can carry before the next plan.
#[derive(Debug)]
pub(super) struct Budgets<'a> {
    sites: &'a Sites,
    config: &'a StrategyConfig,
    seconds: f64,
    links: Map<Link, Line>,
    /// Of all links together.
    all: Line,
    /// By node, what is to be fetched over which link.
    wanted: Vec<Map<Link, u64>>,
}

/// One link, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    per_second: f64,
    taken: f64,
    wanted: f64,
}

impl Reach {
    /// By region, for how many horizons a plan is.
    pub(super) fn horizons(&self, sites: &Sites, config: &StrategyConfig, horizon: Duration) -> Vec<usize> {
        let most = (config.ahead_max.as_secs_f64() / horizon.as_secs_f64()).floor();
        let of = |region| {
            let drain = self.drains.get(sites.nearest(region)).copied().unwrap_or(0.0);
            1 + (drain / 2.0 / horizon.as_secs_f64()).round().min(most) as usize
        };
        (0..sites.regions()).map(of).collect()
    }

    /// A plan for so long has been made, with what it wants of the links.
    pub(super) fn settle(&mut self, budgets: &Budgets<'_>) {
        self.drains.resize(budgets.sites.nodes(), 0.0);
        let faded = (-budgets.seconds / MEMORY.as_secs_f64()).exp2();
        for (node, drain) in self.drains.iter_mut().enumerate() {
            *drain = budgets.drain_seconds(node).max(*drain * faded);
        }
    }
}

impl<'a> Budgets<'a> {
    /// What may be carried until the next plan.
    pub(super) fn new(sites: &'a Sites, config: &'a StrategyConfig) -> Self {
        let all = Line { per_second: config.bytes_per_second, ..Line::default() };
        let wanted = vec![Map::default(); sites.nodes()];
        Self { sites, config, seconds: config.interval.as_secs_f64(), links: Map::default(), all, wanted }
    }

    /// A node wants so many bytes of what these hold; whether its link has room for them before the next plan.
    pub(super) fn want(&mut self, node: usize, holders: NodeSet, bytes: u64) -> bool {
        let Some(share) = self.config.link_share else { return true };
        let seconds = self.seconds;
        let has_room = |line: &mut Line| {
            line.wanted += bytes as f64;
            line.taken < line.per_second * seconds
        };
        let Some((link, per_second)) = self.sites.source(node, holders) else { return has_room(&mut self.all) };
        *self.wanted[node].entry(link).or_default() += bytes;
        let line = self.links.entry(link).or_insert(Line { per_second: per_second * share, ..Line::default() });
        has_room(line) & has_room(&mut self.all)
    }

    /// That is fetched.
    pub(super) fn take(&mut self, node: usize, holders: NodeSet, bytes: u64) {
        self.all.taken += bytes as f64;
        let link = self.sites.source(node, holders).and_then(|(link, _)| self.links.get_mut(&link));
        link.into_iter().for_each(|line| line.taken += bytes as f64);
    }

    /// How long what a node wants takes, on average over its bytes.
    fn drain_seconds(&self, node: usize) -> f64 {
        let bytes: u64 = self.wanted[node].values().sum();
        let of = |(link, bytes): (&Link, &u64)| *bytes as f64 * self.links.get(link).map_or(0.0, Line::drain_seconds);
        let by_link = self.wanted[node].iter().map(of).sum::<f64>() / bytes.max(1) as f64;
        if bytes == 0 { 0.0 } else { by_link.max(self.all.drain_seconds()) }
    }
}

impl Line {
    fn drain_seconds(&self) -> f64 {
        self.wanted / self.per_second.max(f64::MIN_POSITIVE)
    }
}

/// How long a plan took counts half as much after a day: the next evening is a day away.
const MEMORY: Duration = Duration::from_secs(86_400);
