//! What a byte of each node costs, and one key's best replicas under such prices.

use super::{Cost, NodeSet, Sites};

/// Prices in seconds of waiting per byte over one horizon: what a replica must save to be worth its room.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Prices {
    /// Per node.
    pub(super) room: Vec<f32>,
    /// What moving a byte that will not be used costs.
    pub(super) transfer: f32,
}

/// Decides for one key after another; keeps its scratch space and the costs in the orders that are quick to go through.
#[derive(Clone, Debug)]
pub(super) struct Decider {
    regions: usize,
    nodes: usize,
    /// Row-major (node, region).
    from_node: Costs,
    /// Row-major (region, node).
    to_region: Costs,
    origin: Costs,
    /// Per region: its cheapest node, if that is cheaper than the origin, the least that a
    /// source costs by round trip and by byte, and what the next cheapest source costs.
    nearest: Vec<Option<usize>>,
    least: Costs,
    next: Costs,
    /// Per node: the region closest to it, whose requests are most likely to use what is moved there.
    homes: Vec<usize>,
    reads: Vec<f32>,
    /// Per region, kept for its memory.
    parts: Vec<f32>,
    scratch: Scratch,
}

/// One key's numbers, per node.
#[derive(Clone, Debug, Default)]
struct Scratch {
    /// What a replica costs.
    prices: Vec<f32>,
    /// What a replica would save at most, of what is not saved yet.
    gains: Vec<f32>,
    /// Nodes that may get one, with what that nets.
    queue: Vec<(f32, usize)>,
}

/// Round trips and times per byte, apart.
#[derive(Clone, Debug, Default)]
struct Costs {
    round_trips: Vec<f32>,
    per_byte: Vec<f32>,
}

impl FromIterator<Cost> for Costs {
    fn from_iter<I: IntoIterator<Item = Cost>>(costs: I) -> Self {
        let (round_trips, per_byte) = costs.into_iter().map(|cost| (cost.round_trip, cost.per_byte)).unzip();
        Self { round_trips, per_byte }
    }
}

impl Costs {
    fn row(&self, row: usize, length: usize) -> impl Iterator<Item = (&f32, &f32)> {
        let range = row * length..(row + 1) * length;
        self.round_trips[range.clone()].iter().zip(&self.per_byte[range])
    }

    fn all(&self) -> impl Iterator<Item = (&f32, &f32)> {
        self.round_trips.iter().zip(&self.per_byte)
    }
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
        let (mut nearest, mut least, mut next) = (Vec::new(), Vec::new(), Vec::new());
        for region in 0..regions {
            let origin = (sites.origin(region), None);
            let mut sources: Vec<_> = (0..nodes).map(|node| (sites.link(region, node), Some(node))).collect();
            sources.push(origin);
            sources.sort_by(|a, b| a.0.round_trip.total_cmp(&b.0.round_trip));
            nearest.push(sources[0].1);
            let per_byte = sources.iter().map(|source| source.0.per_byte).fold(f32::INFINITY, f32::min);
            least.push(Cost { per_byte, ..sources[0].0 });
            next.push(sources.get(1).map_or(origin.0, |source| source.0));
        }
        Self {
            regions,
            nodes,
            from_node: (0..nodes * regions).map(|cell| sites.link(cell % regions, cell / regions)).collect(),
            to_region: (0..nodes * regions).map(|cell| sites.link(cell / nodes, cell % nodes)).collect(),
            origin: (0..regions).map(|region| sites.origin(region)).collect(),
            nearest,
            least: least.into_iter().collect(),
            next: next.into_iter().collect(),
            homes: (0..nodes).map(|node| home(sites, node)).collect(),
            reads: vec![0.0; regions],
            parts: vec![0.0; regions],
            scratch: Scratch { prices: vec![0.0; nodes], gains: vec![0.0; nodes], queue: Vec::new() },
        }
    }

    /// The most that replicas of a key can save per byte, wherever they are.
    pub(super) fn worth_at_most(&self, requests: &[f32], bytes: f32) -> f32 {
        let costs = requests.iter().zip(self.origin.all());
        let saved: f32 = costs.map(|(count, (rtt, per_byte))| count * (rtt + per_byte * bytes)).sum();
        saved / bytes
    }

    /// The replicas worth their price: first those that pay even when every other node had one too, then greedily the
    /// one that nets the most until none nets anything.
    pub(super) fn decide(&mut self, question: &Question<'_>, prices: &Prices) -> Decision {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.set_prices(question, prices, &mut scratch.prices);
        let before = self.read_from(question, question.already);
        let nodes = self.sure(question, &scratch.prices);
        nodes.iter().for_each(|node| self.read_also(question.bytes, node));
        let (nodes, waiting) = self.extend(question, nodes, &mut scratch);
        self.scratch = scratch;
        Decision { nodes, saved_seconds: (before - waiting).max(0.0) }
    }

    fn set_prices(&self, question: &Question<'_>, prices: &Prices, out: &mut [f32]) {
        for (node, (out, (room, home))) in out.iter_mut().zip(prices.room.iter().zip(&self.homes)).enumerate() {
            let is_held = question.held.contains(node);
            let transfer = if is_held { 0.0 } else { prices.transfer / (1.0 + question.requests[*home]) };
            *out = question.bytes * (room + transfer);
        }
    }

    /// Adds to `nodes`, greedily. Returns them and what all requests wait then.
    fn extend(&mut self, question: &Question<'_>, mut nodes: NodeSet, scratch: &mut Scratch) -> (NodeSet, f32) {
        let Scratch { prices, gains, queue } = scratch;
        let count = nodes.len();
        let mut waiting = self.waiting(question);
        let open = question.open.minus(question.already);
        let cheapest = open.minus(nodes).iter().map(|node| prices[node]).fold(f32::INFINITY, f32::min);
        if waiting <= cheapest && nodes.len() >= question.replicas_min {
            return (nodes, waiting);
        }
        self.bound_gains(question, gains);
        // Gains only shrink as replicas are added (Minoux's lazy greedy): one that nets nothing is out for good. Those that
        // are left are gone through by falling net, and one that turns out to net much less than the next has to wait.
        queue.clear();
        queue.extend(open.minus(nodes).iter().map(|node| (gains[node] - prices[node], node)));
        let is_required = |nodes: NodeSet| !nodes.is_empty() && nodes.len() < question.replicas_min;
        let mut is_exact = true;
        loop {
            queue.retain(|(net, _)| *net > 0.0 || question.replicas_min > 1);
            queue.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let before = nodes;
            for place in 0..queue.len() {
                let (mut net, node) = queue[place];
                if !is_exact {
                    net = self.gain(question, node) - prices[node];
                }
                let next = queue.get(place + 1).map_or(0.0, |(net, _)| *net);
                queue[place].0 = net;
                if (net > 0.0 && net >= WAITS * next) || is_required(nodes) {
                    nodes = nodes.with(node);
                    queue[place].0 = f32::NEG_INFINITY;
                    self.read_also(question.bytes, node);
                    is_exact = false;
                }
            }
            queue.retain(|(net, _)| *net > f32::NEG_INFINITY);
            if nodes == before {
                break;
            }
        }
        if nodes.len() > count {
            waiting = self.waiting(question);
        }
        (nodes, waiting)
    }

    fn sure(&self, question: &Question<'_>, prices: &[f32]) -> NodeSet {
        let mut nodes = NodeSet::EMPTY;
        let free = question.open.minus(question.already);
        for (region, nearest) in self.nearest.iter().enumerate() {
            let Some(node) = nearest.filter(|node| free.contains(*node)) else { continue };
            let here = node * self.regions + region;
            let other = self.next.round_trips[region] + self.next.per_byte[region] * question.bytes;
            let own = self.from_node.round_trips[here] + self.from_node.per_byte[here] * question.bytes;
            if question.requests[region] * (other - own) > prices[node] {
                nodes = nodes.with(node);
            }
        }
        nodes
    }

    /// Sets what a read costs each region when `holders` hold the key; returns what all requests wait.
    fn read_from(&mut self, question: &Question<'_>, holders: NodeSet) -> f32 {
        for (read, (rtt, per_byte)) in self.reads.iter_mut().zip(self.origin.all()) {
            *read = rtt + per_byte * question.bytes;
        }
        holders.iter().for_each(|node| self.read_also(question.bytes, node));
        self.waiting(question)
    }

    fn read_also(&mut self, bytes: f32, node: usize) {
        for (read, (rtt, per_byte)) in self.reads.iter_mut().zip(self.from_node.row(node, self.regions)) {
            let other = rtt + per_byte * bytes;
            *read = if other < *read { other } else { *read };
        }
    }

    fn waiting(&mut self, question: &Question<'_>) -> f32 {
        for (part, (read, count)) in self.parts.iter_mut().zip(self.reads.iter().zip(question.requests)) {
            *part = read * count;
        }
        sum(&self.parts)
    }

    /// Sets what one more replica at each node saves.
    fn bound_gains(&self, question: &Question<'_>, gains: &mut [f32]) {
        gains.fill(0.0);
        let regions = self.reads.iter().zip(question.requests).zip(self.least.all());
        for (region, ((read, count), (rtt, per_byte))) in regions.enumerate() {
            let can_gain = *read > rtt + per_byte * question.bytes;
            if *count > 0.0 && can_gain {
                for (gain, (rtt, per_byte)) in gains.iter_mut().zip(self.to_region.row(region, self.nodes)) {
                    *gain += count * above_zero(read - rtt - per_byte * question.bytes);
                }
            }
        }
    }

    /// What one more replica saves.
    fn gain(&mut self, question: &Question<'_>, node: usize) -> f32 {
        let cells = self.reads.iter().zip(self.from_node.row(node, self.regions)).zip(question.requests);
        for (part, ((read, (rtt, per_byte)), count)) in self.parts.iter_mut().zip(cells) {
            *part = count * above_zero(read - rtt - per_byte * question.bytes);
        }
        sum(&self.parts)
    }
}

/// Not [`f32::max`], which minds what is not a number and takes thrice as long.
fn above_zero(number: f32) -> f32 {
    if number > 0.0 { number } else { 0.0 }
}

/// A sum whose parts need not wait for each other.
fn sum(numbers: &[f32]) -> f32 {
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, number)| *sum += number);
    }
    sums.iter().chain(rest).sum()
}

fn home(sites: &Sites, node: usize) -> usize {
    let distance = |region: &usize| sites.link(*region, node).round_trip;
    (0..sites.regions()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

/// A replica that nets less than so much of what the next one may net is looked at again after that.
const WAITS: f32 = 0.8;
/// Sums that are kept apart, so that one need not wait for the other.
const LANES: usize = 8;
