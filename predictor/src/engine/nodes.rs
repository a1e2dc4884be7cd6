//! The nodes that ever joined: where they are, how fast they turn over, and what each may be sent.

use std::{sync::Arc, time::Duration};

use nearcast_datasets::{KeyId, RegionId, Timestamp};
use nearcast_proto::{message::NodeDescriptor, topology::Topology};

use super::{
    KeySample, NodeIndex, OrderSource, budget::TokenBucket, config::EngineSettings, ghost::Ghost, harm::Harm,
    trust::Trust,
};

/// One node as the engine sees it.
#[derive(Debug)]
pub(super) struct Node {
    pub descriptor: NodeDescriptor,
    pub region: RegionId,
    pub alive: bool,
    /// Requests it has answered.
    pub requests: u64,
    /// Bytes per segment, at least one.
    pub segment_bytes: u64,
    pub bucket: TokenBucket,
    pub harm: Harm,
    pub trust: Trust,
    /// What it would hold without prefetching.
    pub ghost: Ghost,
    /// The keys that it follows when it is a miniature.
    pub sample: Option<KeySample>,
    stay: Stay,
    /// What part of a stay a prefetched segment that is used has waited by then.
    wait_share: f64,
    /// `None` until the first transfer ended.
    transfer_seconds: Option<f64>,
}

impl Node {
    /// How many of the node's requests a prefetched segment is kept for, unused: measured, and guessed from the
    /// capacity until then.
    pub(super) fn stay_requests(&self) -> u64 {
        self.stay.requests as u64
    }

    /// Whether it follows the key with this hash.
    pub(super) fn follows(&self, hash: u32) -> bool {
        self.sample.is_none_or(|sample| sample.holds(hash))
    }

    /// A prefetched segment left unused after this many requests.
    pub(super) fn handle_unused(&mut self, requests: u64) {
        self.stay.learn(requests);
    }

    /// A prefetched segment was used after this many requests.
    pub(super) fn handle_used(&mut self, requests: u64) {
        self.wait_share += WAIT_STEP * (self.stay_share(requests) - self.wait_share);
    }

    /// What part of a whole stay this many requests are.
    pub(super) fn stay_share(&self, requests: u64) -> f64 {
        (requests as f64 / self.stay.requests).min(1.0)
    }

    /// What part of a whole stay a segment is expected to take up room for that others could have used.
    pub(super) fn expected_stay_share(&self, probability: f64) -> f64 {
        probability.mul_add(self.wait_share - 1.0, 1.0)
    }

    /// How long a prefetch takes from order to arrival; no time until it was measured, or nothing would ever be tried
    /// where uses follow quickly.
    pub(super) fn transfer(&self) -> Duration {
        Duration::from_secs_f64(self.transfer_seconds.unwrap_or(0.0))
    }

    pub(super) fn handle_transferred(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.transfer_seconds = Some(self.transfer_seconds.map_or(took, |mean| mean + TRANSFER_STEP * (took - mean)));
    }

    /// How hard the node is pressed: one when what it is given leaves at once, near zero when it stays for long.
    pub(super) fn pressure(&self) -> f32 {
        (PRESSURE_REQUESTS / (PRESSURE_REQUESTS + self.stay.requests)) as f32
    }
}

/// A running mean of how long prefetched segments stay unused, in requests of the node.
#[derive(Debug)]
struct Stay {
    requests: f64,
    measured: u32,
    max: f64,
}

impl Stay {
    fn learn(&mut self, requests: u64) {
        self.measured = self.measured.saturating_add(1);
        let step = (1.0 / f64::from(self.measured)).max(STAY_STEP);
        self.requests += step * ((requests as f64).clamp(1.0, self.max) - self.requests);
    }
}

/// The nodes by number, and what it costs to bring a byte to each.
#[derive(Debug)]
pub(super) struct NodeTable {
    nodes: Vec<Node>,
    /// Links by destination, then source; the origin comes last in each row.
    links: Vec<Vec<Link>>,
    max: usize,
    pub refused: u64,
}

/// What a transfer costs.
#[derive(Clone, Copy, Debug)]
struct Link {
    rtt_seconds: f64,
    seconds_per_byte: f64,
}

impl Link {
    fn seconds(self, bytes: u64) -> f64 {
        self.seconds_per_byte.mul_add(bytes as f64, self.rtt_seconds)
    }
}

impl NodeTable {
    pub(super) fn new(max: usize) -> Self {
        Self { nodes: Vec::new(), links: Vec::new(), max, refused: 0 }
    }

    /// Numbers a node, or finds the number it had. Beyond the bound a node shares the last number and is left alone.
    pub(super) fn join(
        &mut self,
        now: Timestamp,
        descriptor: NodeDescriptor,
        region: RegionId,
        topology: &Topology,
        settings: &EngineSettings,
    ) -> NodeIndex {
        let known = self.nodes.iter().position(|node| node.descriptor.name == descriptor.name);
        if known.is_none() && self.nodes.len() >= self.max {
            self.refused += 1;
            return number(self.nodes.len());
        }
        let node = Node {
            region,
            alive: true,
            requests: 0,
            segment_bytes: descriptor.segment_bytes.max(1),
            bucket: TokenBucket::new(now, settings.node_bytes_per_second, settings.node_burst_seconds),
            harm: Harm::new(settings.dropped_max),
            trust: Trust::default(),
            ghost: Ghost::new(descriptor.capacity_bytes, settings.policy, settings.ghost_entries_max),
            sample: None,
            stay: Stay { requests: settings.stay_requests, measured: 0, max: settings.stay_requests_max },
            wait_share: WAIT_SHARE,
            transfer_seconds: None,
            descriptor,
        };
        let index = if let Some(index) = known {
            let old = &mut self.nodes[index];
            old.alive = true;
            old.ghost = node.ghost;
            // What was learnt of it holds while it is the same machine in the same place.
            (old.descriptor, old.region, old.segment_bytes) = (node.descriptor, node.region, node.segment_bytes);
            index
        } else {
            self.nodes.push(node);
            self.nodes.len() - 1
        };
        self.measure_links(topology);
        number(index)
    }

    pub(super) fn get(&self, node: NodeIndex) -> Option<&Node> {
        self.nodes.get(usize::from(node.0))
    }

    pub(super) fn get_mut(&mut self, node: NodeIndex) -> Option<&mut Node> {
        self.nodes.get_mut(usize::from(node.0))
    }

    /// The nodes that are there, with their numbers.
    pub(super) fn alive(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.alive).map(|(index, node)| (number(index), node))
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.iter()
    }

    /// A key's number is about to be given to another.
    pub(super) fn forget_key(&mut self, key: KeyId) {
        self.nodes.iter_mut().for_each(|node| node.ghost.forget(key));
    }

    /// Forgets what was learnt of every node.
    pub(super) fn reset(&mut self, settings: &EngineSettings) {
        for node in &mut self.nodes {
            node.harm = Harm::new(settings.dropped_max);
            node.trust = Trust::default();
            // Arms are compared from empty caches: what a ghost held of the arm before would count against this one.
            node.ghost = Ghost::new(node.descriptor.capacity_bytes, settings.policy, settings.ghost_entries_max);
            node.stay = Stay { requests: settings.stay_requests, measured: 0, max: settings.stay_requests_max };
        }
    }

    /// Seconds that a node needs to get bytes from the nearest of these holders that is there, or from the origin.
    pub(super) fn fetch_seconds(&self, to: NodeIndex, bytes: u64, holders: impl Iterator<Item = NodeIndex>) -> f64 {
        let Some(links) = self.links.get(usize::from(to.0)) else { return 0.0 };
        let from_peers = holders.filter(|peer| self.could_deliver(*peer, to));
        let seconds = from_peers.filter_map(|peer| links.get(usize::from(peer.0))).map(|link| link.seconds(bytes));
        let origin = links.last().map_or(0.0, |link| link.seconds(bytes));
        seconds.fold(origin, f64::min)
    }

    /// The holders that can deliver to a node faster than the origin, nearest first, then the origin.
    pub(super) fn sources(
        &self,
        to: NodeIndex,
        bytes: u64,
        holders: impl Iterator<Item = NodeIndex>,
    ) -> Vec<OrderSource> {
        let Some(links) = self.links.get(usize::from(to.0)) else { return vec![OrderSource::Origin] };
        let origin = links.last().map_or(0.0, |link| link.seconds(bytes));
        let mut peers: Vec<(f64, NodeIndex)> = holders
            .filter(|peer| self.could_deliver(*peer, to))
            .filter_map(|peer| Some((links.get(usize::from(peer.0))?.seconds(bytes), peer)))
            .filter(|(seconds, _)| *seconds < origin)
            .collect();
        peers.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        peers.truncate(SOURCES_MAX - 1);
        peers.into_iter().map(|(_, peer)| OrderSource::Peer(peer)).chain([OrderSource::Origin]).collect()
    }

    /// Whether one node can get something from another: not from what only its miniature holds, nor the other way round.
    fn could_deliver(&self, from: NodeIndex, to: NodeIndex) -> bool {
        let is_miniature = |node: &Node| node.sample.is_some();
        let (Some(source), Some(target)) = (self.get(from), self.get(to)) else { return false };
        from != to && source.alive && is_miniature(source) == is_miniature(target)
    }

    fn measure_links(&mut self, topology: &Topology) {
        let regions: Vec<Arc<str>> = self.nodes.iter().map(|node| Arc::clone(&node.descriptor.region)).collect();
        let link = |rtt: Duration, bandwidth: f64| Link {
            rtt_seconds: rtt.as_secs_f64(),
            seconds_per_byte: 1.0 / bandwidth.max(1.0),
        };
        let row = |to: &Arc<str>| {
            let peers = regions.iter().map(|from| link(topology.rtt(to, from), topology.bandwidth(to, from)));
            peers.chain([link(topology.origin_rtt(to), topology.origin_bandwidth(to))]).collect()
        };
        self.links = regions.iter().map(row).collect();
    }
}

fn number(index: usize) -> NodeIndex {
    NodeIndex(u16::try_from(index).unwrap_or(u16::MAX))
}

const SOURCES_MAX: usize = 4;
const STAY_STEP: f64 = 0.02;
const WAIT_SHARE: f64 = 0.3;
const WAIT_STEP: f64 = 0.01;
const TRANSFER_STEP: f64 = 0.05;
const PRESSURE_REQUESTS: f64 = 256.0;
