//! One key's best replicas, under prices.
//!
//! Half of the time of a plan is spent here, a million times over, so that it is written for the machine: all rows are in
//! [`Lanes`], everything is inlined where it is called from, and what is sure is decided without looking at the rest.

use pulp::{Arch, NullaryFnOnce};

use super::{
    Cost, NodeSet, Sites,
    lanes::{LANES, Lanes, above_zero, bits, each, greatest, groups, least, sum},
};

/// Decides for one key after another; keeps its scratch space and the costs in the orders that are quick to go through.
#[derive(Clone, Debug)]
pub(super) struct Decider {
    regions: usize,
    nodes: usize,
    /// Row-major (node, group of regions).
    from_node: Vec<Cell>,
    /// Row-major (group of nodes, region).
    to_region: Vec<Cell>,
    /// By group of regions: the origin's cost, and what a read can save of it at most.
    origin: Vec<Cell>,
    savable: Vec<Cell>,
    /// By group of regions: what the cheapest node saves against the next cheapest source.
    lead: Vec<Cell>,
    /// Per region: the nearest node; where the origin is nearer, one that there is not, which costs more than anything.
    nearest: Vec<u16>,
    /// By group of regions: the least that a source costs.
    leasts: Vec<Cell>,
    /// Whether every node is in the region of its number, and every region nearest to the node of its number: then numbers
    /// of one are numbers of the other.
    is_paired: bool,
    /// Per node: the region closest to it, whose requests are most likely to use what is moved there.
    homes: Vec<u16>,
    scratch: Scratch,
}

/// One key's numbers.
#[derive(Clone, Debug, Default)]
struct Scratch {
    /// Per node, what a replica costs; infinite where there cannot be one more.
    prices: Vec<Lanes>,
    /// Per region, what a read costs.
    reads: Vec<Lanes>,
    /// Nodes, kept for its memory.
    taken: Vec<usize>,
    /// Regions that may still gain: which, their requests, and what a read costs.
    active: Vec<(u16, f32, f32)>,
    /// Regions to which a replica is nearer than what there was: which, their requests, what a read cost before, and how
    /// much less that is now.
    changes: Vec<(u16, f32, f32, f32)>,
    /// Per node, what one more replica nets.
    nets: Vec<Lanes>,
}

/// Costs of a group of regions or nodes.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    round_trips: Lanes,
    per_byte: Lanes,
}

impl Cell {
    fn new(cost: impl Fn(usize) -> Option<Cost>, group: usize) -> Self {
        let of = |lane: usize| cost(group * LANES + lane).unwrap_or_default();
        Self {
            round_trips: std::array::from_fn(|lane| of(lane).round_trip),
            per_byte: std::array::from_fn(|lane| of(lane).per_byte),
        }
    }

    #[inline(always)]
    fn seconds(&self, bytes: f32) -> Lanes {
        let mut seconds = self.round_trips;
        seconds.iter_mut().zip(&self.per_byte).for_each(|(seconds, per_byte)| *seconds += per_byte * bytes);
        seconds
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
    pub(super) requests: &'a [Lanes],
    pub(super) bytes: f32,
    /// Nodes where a replica needs no transfer.
    pub(super) held: NodeSet,
    /// Nodes that have replicas whatever is decided.
    pub(super) already: NodeSet,
    /// Nodes that may not get one.
    pub(super) closed: NodeSet,
    pub(super) replicas_min: usize,
}

/// What a byte costs while one key is decided upon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates<'a> {
    /// Per node, in groups of which one more than all nodes need; infinite where there is no room at all.
    pub(super) room: &'a [Lanes],
    /// Of moving a byte in vain.
    pub(super) transfer: f32,
}

/// Something that asks many questions, built once for each kind of processor and run in the one for this machine. All do
/// the same sums in the same order, so that plans are the same everywhere.
pub(super) trait Work {
    type Output;

    /// To be inlined, as all that it calls.
    fn run(self, decider: &mut Decider) -> Self::Output;
}

struct Dispatched<'a, W> {
    work: W,
    decider: &'a mut Decider,
}

impl<W: Work> NullaryFnOnce for Dispatched<'_, W> {
    type Output = W::Output;

    #[inline(always)]
    fn call(self) -> W::Output {
        self.work.run(self.decider)
    }
}

impl Decider {
    /// Has work done with what this machine's processor is best at.
    pub(super) fn dispatch<W: Work>(&mut self, work: W) -> W::Output {
        Arch::new().dispatch(Dispatched { work, decider: self })
    }

    pub(super) fn new(sites: &Sites) -> Self {
        let (regions, nodes) = (sites.regions(), sites.nodes());
        let (mut nearest, mut least, mut lead) = (Vec::new(), Vec::new(), Vec::new());
        for region in 0..regions {
            let mut by_distance: Vec<usize> = (0..nodes).collect();
            let distance = |node: &usize| sites.link(region, *node).round_trip;
            by_distance.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
            let (first, origin) = (sites.link(region, by_distance[0]), sites.origin(region));
            let second = by_distance.get(1).map(|node| sites.link(region, *node));
            let next = second.filter(|second| second.round_trip <= origin.round_trip).unwrap_or(origin);
            lead.push(Cost {
                round_trip: next.round_trip - first.round_trip,
                per_byte: next.per_byte - first.per_byte,
            });
            nearest.push(if first.round_trip <= origin.round_trip { by_distance[0] } else { nodes } as u16);
            let sources = by_distance.iter().map(|node| sites.link(region, *node)).chain([origin]);
            least.push(sources.reduce(|a, b| Cost {
                round_trip: a.round_trip.min(b.round_trip),
                per_byte: a.per_byte.min(b.per_byte),
            }));
        }
        let least: Vec<Cost> = least.into_iter().flatten().collect();
        let by_region = |cost: &dyn Fn(usize) -> Cost| -> Vec<Cell> {
            (0..groups(regions)).map(|group| Cell::new(|it| (it < regions).then(|| cost(it)), group)).collect()
        };
        let from_node = (0..nodes).flat_map(|node| by_region(&|region| sites.link(region, node))).collect();
        let to_region = |cell: usize| {
            let link = |node: usize| (node < nodes).then(|| sites.link(cell % regions, node));
            Cell::new(link, cell / regions)
        };
        let savable = |region: usize| {
            let (origin, least) = (sites.origin(region), least[region]);
            Cost { round_trip: origin.round_trip - least.round_trip, per_byte: origin.per_byte - least.per_byte }
        };
        let is_paired =
            regions == nodes && (0..nodes).all(|node| sites.home(node) == node && usize::from(nearest[node]) == node);
        Self {
            regions,
            nodes,
            is_paired,
            leasts: by_region(&|region| least[region]),
            from_node,
            to_region: (0..groups(nodes) * regions).map(to_region).collect(),
            origin: by_region(&|region| sites.origin(region)),
            savable: by_region(&savable),
            lead: by_region(&|region| lead[region]),
            nearest,
            homes: (0..nodes).map(|node| sites.home(node) as u16).collect(),
            scratch: Scratch {
                prices: vec![[f32::INFINITY; LANES]; groups(nodes + 1)],
                reads: vec![[0.0; LANES]; groups(regions)],
                nets: vec![[0.0; LANES]; groups(nodes)],
                active: Vec::with_capacity(regions),
                taken: Vec::with_capacity(nodes),
                changes: Vec::with_capacity(regions),
            },
        }
    }

    /// The most that replicas of a key can save per byte, wherever they are.
    #[inline(always)]
    pub(super) fn worth_at_most(&self, requests: &[Lanes], bytes: f32) -> f32 {
        let mut saved = [0.0; LANES];
        for (requests, savable) in requests.iter().zip(&self.savable) {
            let seconds = savable.seconds(bytes);
            for lane in 0..LANES {
                saved[lane] += requests[lane] * seconds[lane];
            }
        }
        sum(saved) / bytes
    }

    /// The replicas worth their price: first those that pay even when every other node had one too, then greedily the one
    /// that nets the most until none nets anything.
    #[inline(always)]
    pub(super) fn decide(&mut self, question: &Question<'_>, rates: &Rates<'_>) -> Decision {
        self.set_prices(question, rates);
        let before = self.read_from(question);
        if before <= least(&self.scratch.prices) {
            return Decision::default();
        }
        let mut nodes = self.sure(question);
        self.read_also(question.bytes, nodes);
        if self.savable_at_most(question) > least(&self.scratch.prices) {
            self.set_nets(question);
            self.take_greedily(question, &mut nodes);
        }
        if nodes.is_empty() {
            return Decision::default();
        }
        if question.replicas_min > 1 {
            self.take_required(question, &mut nodes);
        }
        Decision { nodes, saved_seconds: above_zero(before - self.waiting(question)) }
    }

    #[inline(always)]
    fn set_prices(&mut self, question: &Question<'_>, rates: &Rates<'_>) {
        let requests = question.requests.as_flattened();
        let (prices, bytes) = (&mut self.scratch.prices, question.bytes);
        for (group, (prices, room)) in prices.iter_mut().zip(rates.room).enumerate() {
            let mut used = [0.0; LANES];
            if self.is_paired {
                used = question.requests.get(group).copied().unwrap_or_default();
            } else {
                let homes = &self.homes[(group * LANES).min(self.nodes)..((group + 1) * LANES).min(self.nodes)];
                for (used, home) in used.iter_mut().zip(homes) {
                    *used = requests[usize::from(*home)];
                }
            }
            for lane in 0..LANES {
                prices[lane] = bytes * (room[lane] + rates.transfer / (1.0 + used[lane]));
            }
        }
        let (prices, room) = (prices.as_flattened_mut(), rates.room.as_flattened());
        question.held.iter().take_while(|node| *node < self.nodes).for_each(|node| prices[node] = bytes * room[node]);
        question.closed.iter().take_while(|node| *node < self.nodes).for_each(|node| prices[node] = f32::INFINITY);
    }

    /// Sets what a read costs each region as things are; returns what all requests wait.
    #[inline(always)]
    fn read_from(&mut self, question: &Question<'_>) -> f32 {
        for (read, origin) in self.scratch.reads.iter_mut().zip(&self.origin) {
            *read = origin.seconds(question.bytes);
        }
        self.read_also(question.bytes, question.already);
        self.waiting(question)
    }

    /// More replicas, which there cannot be others of.
    #[inline(always)]
    fn read_also(&mut self, bytes: f32, nodes: NodeSet) {
        let Scratch { prices, reads, taken, .. } = &mut self.scratch;
        taken.clear();
        taken.extend(nodes.iter().take_while(|node| *node < self.nodes));
        taken.iter().for_each(|node| prices.as_flattened_mut()[*node] = f32::INFINITY);
        let groups = reads.len();
        for (group, reads) in reads.iter_mut().enumerate() {
            let mut least = *reads;
            for node in taken.iter() {
                let other = self.from_node[node * groups + group].seconds(bytes);
                for lane in 0..LANES {
                    least[lane] = if other[lane] < least[lane] { other[lane] } else { least[lane] };
                }
            }
            *reads = least;
        }
    }

    /// What pays even when every other node had a replica too.
    #[inline(always)]
    fn sure(&self, question: &Question<'_>) -> NodeSet {
        let (mut nodes, prices) = (NodeSet::EMPTY, self.scratch.prices.as_flattened());
        for group in 0..question.requests.len() {
            let lead = self.lead[group].seconds(question.bytes);
            let mut saved = [0.0; LANES];
            for lane in 0..LANES {
                saved[lane] = question.requests[group][lane] * lead[lane];
            }
            let first = group * LANES;
            if self.is_paired {
                let prices = &self.scratch.prices[group];
                nodes = nodes.with_bits(first, u64::from(bits(|lane| saved[lane] > prices[lane])));
                continue;
            }
            for region in first..(first + LANES).min(self.regions) {
                let node = usize::from(self.nearest[region]);
                if saved[region - first] > prices[node] {
                    nodes = nodes.with(node);
                }
            }
        }
        nodes
    }

    /// Sets what one more replica at each node nets.
    #[inline(always)]
    fn set_nets(&mut self, question: &Question<'_>) {
        let Scratch { prices, reads, active, nets, .. } = &mut self.scratch;
        active.clear();
        for (group, (requests, reads)) in question.requests.iter().zip(reads.iter()).enumerate() {
            let least = self.leasts[group].seconds(question.bytes);
            let gains = bits(|lane| requests[lane] > 0.0 && reads[lane] > least[lane]);
            for lane in each(gains) {
                active.push(((group * LANES + lane) as u16, requests[lane], reads[lane]));
            }
        }
        for (group, nets) in nets.iter_mut().enumerate() {
            let mut gains = [0.0; LANES];
            let to_region = &self.to_region[group * self.regions..(group + 1) * self.regions];
            for (region, count, read) in active.iter().copied() {
                let other = to_region[usize::from(region)].seconds(question.bytes);
                for lane in 0..LANES {
                    gains[lane] += count * above_zero(read - other[lane]);
                }
            }
            for lane in 0..LANES {
                nets[lane] = gains[lane] - prices[group][lane];
            }
        }
    }

    /// Takes the candidate that nets the most, until none nets anything. What the others save is kept up: a replica changes
    /// what few regions wait.
    #[inline(always)]
    fn take_greedily(&mut self, question: &Question<'_>, nodes: &mut NodeSet) {
        // What candidates net only falls: a group in which none nets anything need not be looked at again.
        let mut open = (1_u32 << self.scratch.nets.len()) - 1;
        while let Some(node) = greatest(&self.scratch.nets) {
            *nodes = nodes.with(node);
            let Scratch { prices, reads, changes, nets, .. } = &mut self.scratch;
            (prices.as_flattened_mut()[node], nets.as_flattened_mut()[node]) = (f32::INFINITY, f32::NEG_INFINITY);
            let from_node = &self.from_node[node * self.origin.len()..(node + 1) * self.origin.len()];
            changes.clear();
            for (group, (reads, from_node)) in reads.iter_mut().zip(from_node).enumerate() {
                let (before, other) = (*reads, from_node.seconds(question.bytes));
                let requests = &question.requests[group];
                for lane in 0..LANES {
                    reads[lane] = if other[lane] < before[lane] { other[lane] } else { before[lane] };
                }
                for lane in each(bits(|lane| requests[lane] > 0.0 && other[lane] < before[lane])) {
                    let saved = before[lane] - other[lane];
                    changes.push(((group * LANES + lane) as u16, requests[lane], before[lane], saved));
                }
            }
            for group in each(open) {
                let (mut left, to_region) =
                    (nets[group], &self.to_region[group * self.regions..(group + 1) * self.regions]);
                for (region, count, read, saved) in changes.iter().copied() {
                    let seconds = to_region[usize::from(region)].seconds(question.bytes);
                    for lane in 0..LANES {
                        let gain = above_zero(read - seconds[lane]);
                        left[lane] -= count * if gain < saved { gain } else { saved };
                    }
                }
                nets[group] = left;
                let is_closed = bits(|lane| left[lane] > 0.0) == 0;
                open &= !(u32::from(is_closed) << group);
            }
        }
    }

    /// Takes as many as the key's class asks for, whatever they net.
    #[inline(never)]
    fn take_required(&mut self, question: &Question<'_>, nodes: &mut NodeSet) {
        while nodes.union(question.already).len() < question.replicas_min {
            let free = |node: &usize| self.scratch.prices.as_flattened()[*node] < f32::INFINITY;
            let net = |node: usize| (self.gain(question, node) - self.scratch.prices.as_flattened()[node], node);
            let best = (0..self.nodes).filter(free).map(net).max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            let Some((_, node)) = best else { break };
            *nodes = nodes.with(node);
            self.read_also(question.bytes, NodeSet::EMPTY.with(node));
        }
    }

    /// What no further replicas can save more than, wherever they are.
    #[inline(always)]
    fn savable_at_most(&self, question: &Question<'_>) -> f32 {
        let mut saved = [0.0; LANES];
        for ((read, least), requests) in self.scratch.reads.iter().zip(&self.leasts).zip(question.requests) {
            let least = least.seconds(question.bytes);
            for lane in 0..LANES {
                saved[lane] += requests[lane] * above_zero(read[lane] - least[lane]);
            }
        }
        sum(saved)
    }

    /// What all requests wait as things are.
    #[inline(always)]
    fn waiting(&self, question: &Question<'_>) -> f32 {
        let mut waiting = [0.0; LANES];
        for (read, requests) in self.scratch.reads.iter().zip(question.requests) {
            for lane in 0..LANES {
                waiting[lane] += read[lane] * requests[lane];
            }
        }
        sum(waiting)
    }

    /// What one more replica saves.
    #[inline(always)]
    fn gain(&self, question: &Question<'_>, node: usize) -> f32 {
        let groups = self.scratch.reads.len();
        let from = &self.from_node[node * groups..(node + 1) * groups];
        let mut gain = [0.0; LANES];
        for ((read, from), requests) in self.scratch.reads.iter().zip(from).zip(question.requests) {
            let other = from.seconds(question.bytes);
            for lane in 0..LANES {
                gain[lane] += requests[lane] * above_zero(read[lane] - other[lane]);
            }
        }
        sum(gain)
    }
}
