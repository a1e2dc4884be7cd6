//! What a byte of each node costs, found by trial: a node that would be over its capacity becomes dearer, one with room
//! cheaper.

use serde::{Deserialize, Serialize};

use super::{
    DemandTable, NodeSet, Sites,
    decider::{Decider, Question, Rates, Work},
    lanes::{LANES, Lanes, groups, least},
};

/// Prices in seconds of waiting per byte over one horizon: what a replica must save to be worth its room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Prices {
    /// Per node, in groups; infinite where there is no room at all.
    room: Vec<Lanes>,
    nodes: usize,
    is_known: bool,
    /// Per node.
    paces: Vec<Pace>,
}

/// How far a price follows what its node has too much or too little, learnt from how often that turned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Pace {
    pace: f32,
    /// The logarithm of the load against the capacity, last time.
    before: f32,
}

/// Keys to find prices on, the worthiest first, each of which stands for `step` keys.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    pub(super) demand: &'a DemandTable,
    pub(super) worth: &'a [f32],
    pub(super) rows: Vec<u32>,
    pub(super) step: usize,
}

impl Sample<'_> {
    /// Every so many rows of a demand that are worth anything.
    pub(super) fn new<'a>(demand: &'a DemandTable, worth: &'a [f32], keys_max: usize) -> Sample<'a> {
        let step = demand.len().div_ceil(keys_max.max(1)).max(1);
        let mut rows: Vec<u32> =
            (0..demand.len() as u32).step_by(step).filter(|row| worth[*row as usize] > 0.0).collect();
        rows.sort_by(|a, b| worth[*b as usize].total_cmp(&worth[*a as usize]).then(a.cmp(b)));
        Sample { demand, worth, rows, step }
    }

    /// Every so many of its keys.
    fn thinned(&self, keys_max: usize) -> Self {
        let thinner = self.rows.len().div_ceil(keys_max.max(1)).max(1);
        let rows = self.rows.iter().copied().step_by(thinner).collect();
        Self { demand: self.demand, worth: self.worth, rows, step: self.step * thinner }
    }
}

impl Prices {
    /// Unknown ones for `sites`.
    pub(super) fn new(sites: &Sites) -> Self {
        let nodes = sites.nodes();
        let mut room = vec![[f32::INFINITY; LANES]; groups(nodes + 1)];
        for (node, price) in room.as_flattened_mut()[..nodes].iter_mut().enumerate() {
            *price = if sites.capacity(node) > 0 { 0.0 } else { f32::INFINITY };
        }
        Self { room, nodes, is_known: false, paces: vec![Pace { pace: PACE, before: 0.0 }; nodes] }
    }

    /// Goes on from other ones for as many nodes. A node that had no room then begins as the cheapest.
    pub(super) fn take_over(&mut self, other: &Self) {
        let cheapest = other.cheapest();
        if !other.is_known || other.nodes != self.nodes || !cheapest.is_finite() {
            return;
        }
        let known = other.room.as_flattened();
        self.each(|node, price| *price = if known[node].is_finite() { known[node] } else { cheapest });
        self.paces.clone_from(&other.paces);
        self.is_known = true;
    }

    /// Whether they were ever found.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// The price of the cheapest node's room.
    pub(super) fn cheapest(&self) -> f32 {
        least(&self.room)
    }

    /// What a byte costs, so many times what was found.
    pub(super) fn rates(&self, transfer: f32) -> Rates<'_> {
        Rates { room: &self.room, transfer }
    }

    /// All of them times a factor.
    pub(super) fn times(&self, factor: f32) -> Self {
        let mut times = self.clone();
        times.each(|_, price| *price *= factor);
        times
    }

    fn each(&mut self, mut change: impl FnMut(usize, &mut f32)) {
        let prices = self.room.as_flattened_mut()[..self.nodes].iter_mut().enumerate();
        prices.filter(|(_, price)| price.is_finite()).for_each(|(node, price)| change(node, price));
    }

    /// Finds them anew from what they were. At first few keys will do; the last rounds are for the whole sample.
    pub(super) fn find(
        &mut self,
        sample: &Sample<'_>,
        sites: &Sites,
        decider: &mut Decider,
        transfer: f32,
        rounds: (usize, usize),
    ) {
        // Lower prices keep nobody out, and one that is next to nothing takes long to rise again.
        let last = sample.rows.last().map_or(0.0, |row| sample.worth[*row as usize]);
        let floor = (LEAST_SHARE * last).max(PRICE_MIN);
        if !self.is_known {
            let first = first_price(sample, sites).max(floor);
            self.each(|_, price| *price = first);
            self.is_known = true;
            let rough = sample.thinned(ROUGH_KEYS);
            let rounds = if rough.step > sample.step { 2 * rounds.0 } else { rounds.0 };
            self.settle(&rough, sites, decider, transfer, floor, rounds);
        }
        // Demand has moved on since a pace was learnt. The fewer nodes there are to stand in, the less a large step does harm.
        let least = PACE.min(2.0 / self.nodes as f32);
        self.paces.iter_mut().for_each(|pace| pace.pace = pace.pace.max(least));
        self.settle(sample, sites, decider, transfer, floor, rounds.1);
    }

    fn settle(
        &mut self,
        sample: &Sample<'_>,
        sites: &Sites,
        decider: &mut Decider,
        transfer: f32,
        floor: f32,
        rounds: usize,
    ) {
        for _ in 0..rounds {
            let loads = decider.dispatch(Loads { prices: self, sample, transfer });
            let mut paces = std::mem::take(&mut self.paces);
            let mut is_balanced = true;
            self.each(|node, price| {
                let over = (loads[node] * sample.step as f64 / sites.capacity(node) as f64) as f32;
                is_balanced &= (over - 1.0).abs() < BALANCED || (over < 1.0 && *price <= floor);
                *price = (*price * paces[node].step(over)).max(floor);
            });
            self.paces = paces;
            if is_balanced {
                break;
            }
        }
    }
}

impl Pace {
    /// By how much a price changes where so many times what there is room for is asked for. Nodes stand in for each other,
    /// so that all their prices swing when each follows its own load fully: a step that turns is halved.
    fn step(&mut self, over: f32) -> f32 {
        let wanted = over.clamp(0.1, 10.0).ln();
        let turns = wanted * self.before < 0.0;
        self.pace = (self.pace * if turns { 0.5 } else { 1.2 }).clamp(PACE_MIN, 1.0);
        self.before = wanted;
        (self.pace * wanted).exp()
    }
}

/// The bytes that a sample's keys would take at each node.
struct Loads<'a> {
    prices: &'a Prices,
    sample: &'a Sample<'a>,
    transfer: f32,
}

impl Work for Loads<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run(self, decider: &mut Decider) -> Vec<f64> {
        let Self { prices, sample, transfer } = self;
        let mut loads = vec![0.0; prices.nodes];
        let (floor, rates) = (prices.cheapest(), prices.rates(transfer));
        for row in sample.rows.iter().map(|row| *row as usize).take_while(|row| sample.worth[*row] > floor) {
            let nodes = decider.decide(&question(sample.demand, row, NodeSet::EMPTY, NodeSet::EMPTY), &rates).nodes;
            nodes.iter().for_each(|node| loads[node] += sample.demand.key(row).bytes as f64);
        }
        loads
    }
}

/// Where a row of the demand should be held beyond `already`, of the nodes that are not `closed`.
#[inline(always)]
pub(super) fn question(demand: &DemandTable, row: usize, already: NodeSet, closed: NodeSet) -> Question<'_> {
    let key = demand.key(row);
    Question {
        requests: demand.lanes(row),
        bytes: key.bytes.max(1) as f32,
        held: key.held,
        already,
        closed,
        replicas_min: usize::from(key.replicas_min),
    }
}

/// The price at which keys of that worth and above fill all nodes about half with one replica each.
fn first_price(sample: &Sample<'_>, sites: &Sites) -> f32 {
    let capacity: u64 = (0..sites.nodes()).map(|node| sites.capacity(node)).sum();
    let mut left = capacity as f64 / 2.0;
    for row in sample.rows.iter().map(|row| *row as usize) {
        left -= sample.demand.key(row).bytes as f64 * sample.step as f64;
        if left < 0.0 {
            return (sample.worth[row] / 2.0).max(PRICE_MIN);
        }
    }
    PRICE_MIN
}

/// Keys that prices are looked for on before the whole sample is: few, so that there can be many rounds.
const ROUGH_KEYS: usize = 1_000;
/// How far a price follows its node's load at first, and at least.
const PACE: f32 = 0.4;
const PACE_MIN: f32 = 0.05;
/// Prices are found when every load is so close to its capacity.
const BALANCED: f32 = 0.02;
const PRICE_MIN: f32 = 1e-18;
/// The least price, as a share of what the least worthy key of the sample saves per byte.
const LEAST_SHARE: f32 = 0.01;
