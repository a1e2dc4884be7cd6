//! Replica sets by marginal benefit, under capacity.
//!
//! Placing replicas so that reads wait least under node capacities is a facility-location problem with knapsacks. Its
//! Lagrangian splits by key: given a price per byte at each node, every key's replicas can be chosen alone, greedily by
//! marginal net benefit, which for this submodular benefit is near the best. The prices are found by tâtonnement on a
//! sample of the keys: a node that would be over its capacity becomes dearer, one with room cheaper. A last pass goes
//! through all keys by falling benefit per byte and respects capacities exactly.

use nearcast_datasets::KeyId;

use super::{
    DemandTable, NodeSet, Plan, Sites,
    decider::{Decider, Decision, Question, Rates, Work},
    demand::padded,
    lanes::{Lanes, groups},
    prices::{Prices, Sample, question},
};

/// What bounds a [`Planner`].
///
/// | field | default | meaning |
/// | --- | --- | --- |
/// | `transfer_price` | 1e-8 s/B | seconds of waiting that a byte moved in vain is worth; what keeps replicas where they are |
/// | `sample_max` | 20,000 | keys that prices are found on |
/// | `rounds_max` | 24 | rounds of finding prices; of many keys, twice as many on few of them at first |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlannerConfig {
    /// Seconds per byte moved in vain.
    pub transfer_price: f32,
    /// Keys that prices are found on.
    pub sample_max: usize,
    /// Rounds of finding prices.
    pub rounds_max: usize,
}

impl Default for PlannerConfig {
    fn default() -> Self {
        Self { transfer_price: 1e-8, sample_max: 20_000, rounds_max: 24 }
    }
}

/// Plans replica sets; remembers prices, which change little from one plan to the next.
#[derive(Clone, Debug)]
pub struct Planner {
    config: PlannerConfig,
    sites: Sites,
    decider: Decider,
    prices: Prices,
    /// Nodes with room for nothing.
    closed: NodeSet,
}

/// A plan in the making.
#[derive(Debug)]
struct Filling {
    /// By place among the rows of the demand, the worthiest first.
    nodes: Vec<NodeSet>,
    saved_seconds: Vec<f32>,
    /// Bytes that are left, by node.
    left: Vec<u64>,
    /// The least that is left at any node that is not closed.
    least_left: u64,
    closed: NodeSet,
    /// Full is who has turned away so much more than it has room for that trying goes nowhere.
    turned_away: Vec<u32>,
}

impl Planner {
    /// A planner for `sites`.
    pub fn new(config: PlannerConfig, sites: Sites) -> Self {
        let (decider, prices, closed) = (Decider::new(&sites), Prices::new(&sites), closed(&sites));
        Self { config, decider, prices, closed, sites }
    }

    /// The sites that it plans for.
    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    /// Plans for other sites from now on: nodes came, went or changed their capacity, or links changed. Where only links
    /// did, prices go on from what they were.
    pub fn handle_sites(&mut self, sites: Sites) {
        let next = Self::new(self.config, sites);
        let prices = self.sites.has_room_as(&next.sites).then(|| std::mem::take(&mut self.prices));
        *self = Self { prices: prices.unwrap_or_else(|| next.prices.clone()), ..next };
    }

    pub(super) fn prices(&self) -> &Prices {
        &self.prices
    }

    /// Goes on from another planner's prices.
    pub(super) fn take_over(&mut self, prices: &Prices) {
        self.prices.take_over(prices);
    }

    /// Replica sets for `demand` that no node's capacity is exceeded by.
    pub fn plan(&mut self, demand: &DemandTable) -> Plan {
        if demand.is_empty() || self.closed.len() == self.sites.nodes() {
            return Plan::new(self.sites.nodes());
        }
        let worth: Vec<f32> = (0..demand.len()).map(|row| self.worth(demand, row)).collect();
        let sample = Sample::new(demand, &worth, self.config.sample_max);
        // A round costs as much as it has keys and nodes; where it costs little, there are more of them.
        let is_small = sample.rows.len() * self.sites.nodes() <= SMALL;
        let rounds = (self.config.rounds_max, self.config.rounds_max / if is_small { 3 } else { 6 });
        self.prices.find(&sample, &self.sites, &mut self.decider, self.config.transfer_price, rounds);
        let rows = by_falling(&worth);
        let room: f64 = (0..self.sites.nodes()).map(|node| self.sites.capacity(node) as f64).sum();
        let mut filling = Filling::new(&self.sites, rows.len());
        let mut last = f32::INFINITY;
        for factor in PASSES {
            let prices = self.prices.times(factor);
            let floor = prices.cheapest();
            if floor >= last {
                continue;
            }
            last = floor;
            let worthy = rows.partition_point(|row| worth[*row as usize] > floor);
            filling.reopen(self.closed);
            let rates = prices.rates(self.config.transfer_price);
            self.decider.dispatch(Fill { demand, rows: &rows[..worthy], rates, filling: &mut filling });
            let left: f64 = filling.left.iter().map(|left| *left as f64).sum();
            if filling.closed.len() == self.sites.nodes() || left < (1.0 - FULL) * room {
                break;
            }
        }
        filling.plan(demand, &rows, &self.sites)
    }

    /// Where else a key that just became known should be held under the prices of the last plan, and the seconds of
    /// waiting that this would save; nowhere before there was one. Capacity is not looked at: such replicas are held on
    /// probation until the next plan.
    pub fn consider(&mut self, requests: &[f32], bytes: u64, held: NodeSet) -> (NodeSet, f32) {
        if !self.prices.is_known() || requests.len() != self.sites.regions() {
            return (NodeSet::EMPTY, 0.0);
        }
        let requests: Vec<Lanes> = padded(requests, groups(requests.len())).collect();
        let (bytes, closed) = (bytes.max(1) as f32, self.closed);
        let question = Question { requests: &requests, bytes, held, already: held, closed, replicas_min: 0 };
        let decision = self.decider.decide(&question, &self.prices.rates(self.config.transfer_price));
        (decision.nodes, decision.saved_seconds)
    }

    /// Whether a row of the demand is so far below what room costs anywhere that it need not be looked at for a while.
    pub(super) fn is_idle(&self, demand: &DemandTable, row: usize) -> bool {
        self.worth(demand, row) < IDLE_SHARE * self.prices.cheapest()
    }

    fn worth(&self, demand: &DemandTable, row: usize) -> f32 {
        self.decider.worth_at_most(demand.lanes(row), demand.key(row).bytes.max(1) as f32)
    }
}

/// Going through rows while any node has room.
struct Fill<'a> {
    demand: &'a DemandTable,
    rows: &'a [u32],
    rates: Rates<'a>,
    filling: &'a mut Filling,
}

impl Work for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, decider: &mut Decider) {
        let Self { demand, rows, rates, filling } = self;
        for (place, row) in rows.iter().map(|row| *row as usize).enumerate() {
            if place.is_multiple_of(AHEAD) {
                demand.touch(&rows[place..rows.len().min(place + AHEAD)]);
            }
            let bytes = demand.key(row).bytes;
            let closed = if bytes > filling.least_left { filling.turn_away(bytes) } else { filling.closed };
            if closed.len() == filling.left.len() {
                if filling.closed == closed {
                    break;
                }
                continue;
            }
            let decision = decider.decide(&question(demand, row, filling.nodes[place], closed), &rates);
            filling.add(place, bytes, &decision);
        }
    }
}

impl Filling {
    fn new(sites: &Sites, rows: usize) -> Self {
        Self {
            nodes: vec![NodeSet::EMPTY; rows],
            saved_seconds: vec![0.0; rows],
            left: (0..sites.nodes()).map(|node| sites.capacity(node)).collect(),
            least_left: 0,
            closed: NodeSet::EMPTY,
            turned_away: vec![0; sites.nodes()],
        }
    }

    /// All nodes but those have room again.
    fn reopen(&mut self, closed: NodeSet) {
        (self.closed, self.least_left) = (closed, 0);
        self.turned_away.fill(0);
    }

    /// The nodes that have no room for so many bytes.
    #[inline(never)]
    fn turn_away(&mut self, bytes: u64) -> NodeSet {
        let mut turned = self.closed;
        self.least_left = u64::MAX;
        for (node, left) in self.left.iter().enumerate().filter(|(node, _)| !self.closed.contains(*node)) {
            if *left < bytes {
                turned = turned.with(node);
                self.turned_away[node] += 1;
            }
            if self.turned_away[node] < TURNED_AWAY_MAX {
                self.least_left = self.least_left.min(*left);
            }
        }
        let is_full = |node: &usize| self.turned_away[*node] >= TURNED_AWAY_MAX;
        self.closed = turned.iter().filter(|node| self.closed.contains(*node) || is_full(node)).collect();
        turned
    }

    #[inline(always)]
    fn add(&mut self, place: usize, bytes: u64, decision: &Decision) {
        self.nodes[place] = self.nodes[place].union(decision.nodes);
        self.saved_seconds[place] += decision.saved_seconds;
        for node in decision.nodes.iter() {
            self.left[node] -= bytes;
            self.least_left = self.least_left.min(self.left[node]);
        }
    }

    fn plan(self, demand: &DemandTable, rows: &[u32], sites: &Sites) -> Plan {
        let mut plan = Plan::new(self.left.len());
        let last = (0..demand.len()).map(|row| demand.key(row).key.0).max().unwrap_or(0);
        plan.reserve(self.nodes.iter().filter(|nodes| !nodes.is_empty()).count(), last as usize + 1);
        plan.load(self.left.iter().enumerate().map(|(node, left)| sites.capacity(node) - left).collect());
        let mut filled = self.nodes.into_iter().zip(self.saved_seconds);
        for rows in rows.chunks(AHEAD) {
            plan.touch(demand, rows);
            for (row, (nodes, saved_seconds)) in rows.iter().map(|row| *row as usize).zip(&mut filled) {
                plan.put(row, demand.key(row), nodes, saved_seconds);
            }
        }
        plan
    }
}

fn closed(sites: &Sites) -> NodeSet {
    (0..sites.nodes()).filter(|node| sites.capacity(*node) == 0).collect()
}

/// The seconds that reads wait in all when `demand` comes as it says and `holders` hold each key.
pub(super) fn waiting_seconds(sites: &Sites, demand: &DemandTable, holders: impl Fn(KeyId) -> NodeSet) -> f64 {
    let row = |row: usize| {
        let (key, requests) = (demand.key(row), demand.requests(row));
        let nodes = holders(key.key);
        let asked = requests.iter().enumerate().filter(|(_, count)| **count > 0.0);
        asked.map(|(region, count)| f64::from(count * sites.read_seconds(region, key.bytes as f32, nodes))).sum::<f64>()
    };
    (0..demand.len()).map(row).sum()
}

/// The places of what is above zero, the greatest first.
fn by_falling(worth: &[f32]) -> Vec<u32> {
    // The bits of positive numbers are in the order of the numbers.
    let positive = worth.iter().enumerate().filter(|(_, worth)| **worth > 0.0);
    let mut order: Vec<u64> = positive.map(|(row, worth)| u64::from(!worth.to_bits()) << 32 | row as u64).collect();
    order.sort_unstable();
    order.into_iter().map(|place| place as u32).collect()
}

/// Once prices are found, what is left over is filled at lower ones.
const PASSES: [f32; 3] = [1.0, 0.3, 0.0];
/// Keys by nodes that prices are found for in no time.
const SMALL: usize = 1 << 18;
/// Of the cheapest room's price.
const IDLE_SHARE: f32 = 0.05;
/// A plan that has filled so much of the room is not worth another pass.
const FULL: f64 = 0.98;
/// Rows that are fetched from memory at a time.
const AHEAD: usize = 16;
/// Keys in a row that a node has no room for before it counts as full.
const TURNED_AWAY_MAX: u32 = 2_000;
