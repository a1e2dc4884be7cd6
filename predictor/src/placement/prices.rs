//! What a byte of each node costs, and one key's best replicas under such prices.

use super::{NodeSet, Sites};

/// Prices in seconds of waiting per byte over one horizon: what a replica must save to be worth its room.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Prices {
    /// Per node.
    pub(super) room: Vec<f32>,
    /// What moving a byte that will not be used costs.
    pub(super) transfer: f32,
}

/// Decides for one key after another; keeps its scratch space and the costs in an order that is quick to go through.
#[derive(Clone, Debug)]
pub(super) struct Decider {
    regions: usize,
    /// Row-major (node, region).
    round_trips: Vec<f32>,
    per_byte: Vec<f32>,
    origin_round_trips: Vec<f32>,
    origin_per_byte: Vec<f32>,
    /// Per region: its cheapest node, if that is cheaper than the origin, and what the next cheapest source costs.
    nearest: Vec<Option<usize>>,
    next_round_trips: Vec<f32>,
    next_per_byte: Vec<f32>,
    /// Per node: the region closest to it, whose requests are most likely to use what is moved there.
    homes: Vec<usize>,
    reads: Vec<f32>,
}

/// One key's replicas, and what they save over having none beyond `already`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Decision {
    pub(super) nodes: NodeSet,
    pub(super) saved_seconds: f32,
}

/// What is asked of a [`Decider`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) requests: &'a [f32],
    pub(super) bytes: f32,
    /// Nodes where a replica needs no transfer.
    pub(super) held: NodeSet,
    /// Nodes that have replicas whatever is decided.
    pub(super) already: NodeSet,
    /// Nodes that may get one.
    pub(super) open: NodeSet,
    pub(super) replicas_min: usize,
}

impl Decider {
    pub(super) fn new(sites: &Sites) -> Self {
        let (regions, nodes) = (sites.regions(), sites.nodes());
        let cells = (0..nodes).flat_map(|node| (0..regions).map(move |region| sites.link(region, node)));
        let (mut nearest, mut next) = (Vec::new(), Vec::new());
        for region in 0..regions {
            let origin = (sites.origin(region), None);
            let mut sources: Vec<_> = (0..nodes).map(|node| (sites.link(region, node), Some(node))).collect();
            sources.push(origin);
            sources.sort_by(|a, b| a.0.round_trip.total_cmp(&b.0.round_trip));
            nearest.push(sources[0].1);
            next.push(sources.get(1).map_or(origin.0, |source| source.0));
        }
        Self {
            regions,
            round_trips: cells.clone().map(|cost| cost.round_trip).collect(),
            per_byte: cells.map(|cost| cost.per_byte).collect(),
            origin_round_trips: (0..regions).map(|region| sites.origin(region).round_trip).collect(),
            origin_per_byte: (0..regions).map(|region| sites.origin(region).per_byte).collect(),
            nearest,
            next_round_trips: next.iter().map(|cost| cost.round_trip).collect(),
            next_per_byte: next.iter().map(|cost| cost.per_byte).collect(),
            homes: (0..nodes).map(|node| home(sites, node)).collect(),
            reads: vec![0.0; regions],
        }
    }

    /// The most that replicas of a key can save per byte, wherever they are.
    pub(super) fn worth_at_most(&self, requests: &[f32], bytes: f32) -> f32 {
        let costs = self.origin_round_trips.iter().zip(&self.origin_per_byte);
        let saved: f32 =
            requests.iter().zip(costs).map(|(count, (rtt, per_byte))| count * (rtt + per_byte * bytes)).sum();
        saved / bytes
    }

    /// The replicas worth their price: first those that pay even when every other node had one too, then greedily the
    /// one that nets the most until none nets anything.
    pub(super) fn decide(&mut self, question: &Question<'_>, prices: &Prices) -> Decision {
        let homes = std::mem::take(&mut self.homes);
        let decision = self.decide_at(question, prices, &homes);
        self.homes = homes;
        decision
    }

    fn decide_at(&mut self, question: &Question<'_>, prices: &Prices, homes: &[usize]) -> Decision {
        let bytes = question.bytes;
        let price = |node: usize| {
            let requests = homes.get(node).map_or(0.0, |home| question.requests[*home]);
            let transfer = if question.held.contains(node) { 0.0 } else { prices.transfer / (1.0 + requests) };
            bytes * (prices.room[node] + transfer)
        };
        let mut nodes = self.sure(question, &price);
        let before = self.read_from(question, question.already);
        let mut waiting = if nodes.is_empty() {
            before
        } else {
            let all = question.already.iter().chain(nodes.iter()).collect();
            self.read_from(question, all)
        };
        let cheapest = question.open.iter().map(&price).fold(f32::INFINITY, f32::min);
        while waiting > cheapest || nodes.len() < question.replicas_min {
            let free = question.open.minus(nodes).minus(question.already);
            let nets = free.iter().map(|node| (self.gain(question, node) - price(node), node));
            let Some((net, node)) = nets.max_by(|a, b| a.0.total_cmp(&b.0)) else { break };
            let is_required = !nodes.is_empty() && nodes.len() < question.replicas_min;
            if net <= 0.0 && !is_required {
                break;
            }
            nodes = nodes.with(node);
            waiting = self.read_also(question, node);
        }
        Decision { nodes, saved_seconds: (before - waiting).max(0.0) }
    }

    fn sure(&self, question: &Question<'_>, price: &impl Fn(usize) -> f32) -> NodeSet {
        let mut nodes = NodeSet::EMPTY;
        let free = question.open.minus(question.already);
        for (region, nearest) in self.nearest.iter().enumerate() {
            let Some(node) = nearest.filter(|node| free.contains(*node)) else { continue };
            let here = node * self.regions + region;
            let other = self.next_round_trips[region] + self.next_per_byte[region] * question.bytes;
            let own = self.round_trips[here] + self.per_byte[here] * question.bytes;
            if question.requests[region] * (other - own) > price(node) {
                nodes = nodes.with(node);
            }
        }
        nodes
    }

    /// Sets what a read costs each region when `holders` hold the key; returns what all requests wait.
    fn read_from(&mut self, question: &Question<'_>, holders: NodeSet) -> f32 {
        let costs = self.origin_round_trips.iter().zip(&self.origin_per_byte);
        for (read, (rtt, per_byte)) in self.reads.iter_mut().zip(costs) {
            *read = rtt + per_byte * question.bytes;
        }
        let mut waiting = self.reads.iter().zip(question.requests).map(|(read, count)| read * count).sum();
        for node in holders.iter() {
            waiting = self.read_also(question, node);
        }
        waiting
    }

    fn read_also(&mut self, question: &Question<'_>, node: usize) -> f32 {
        let row = node * self.regions..(node + 1) * self.regions;
        let costs = self.round_trips[row.clone()].iter().zip(&self.per_byte[row]);
        let mut waiting = 0.0;
        for ((read, (rtt, per_byte)), count) in self.reads.iter_mut().zip(costs).zip(question.requests) {
            *read = read.min(rtt + per_byte * question.bytes);
            waiting += *read * count;
        }
        waiting
    }

    /// What one more replica saves.
    fn gain(&self, question: &Question<'_>, node: usize) -> f32 {
        let row = node * self.regions..(node + 1) * self.regions;
        let (round_trips, per_byte) = (&self.round_trips[row.clone()], &self.per_byte[row]);
        let mut sums = [0.0_f32; LANES];
        let cells = self.reads.iter().zip(round_trips.iter().zip(per_byte)).zip(question.requests);
        for (place, ((read, (rtt, per_byte)), count)) in cells.enumerate() {
            sums[place % LANES] += count * (read - rtt - per_byte * question.bytes).max(0.0);
        }
        sums.iter().sum()
    }
}

fn home(sites: &Sites, node: usize) -> usize {
    let distance = |region: &usize| sites.link(*region, node).round_trip;
    (0..sites.regions()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

/// Sums that are kept apart, so that one need not wait for the other.
const LANES: usize = 8;
