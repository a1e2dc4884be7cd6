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
    prices::{Decider, Prices, Question},
};

/// What bounds a [`Planner`].
///
/// | field | default | meaning |
/// | --- | --- | --- |
/// | `transfer_price` | 1e-8 s/B | seconds of waiting that a byte moved in vain is worth; what keeps replicas where they are |
/// | `sample_max` | 20,000 | keys that prices are found on |
/// | `rounds_max` | 24 | rounds of finding prices |
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
    /// Nodes with room for anything.
    open: NodeSet,
}

impl Planner {
    /// A planner for `sites`.
    pub fn new(config: PlannerConfig, sites: Sites) -> Self {
        let decider = Decider::new(&sites);
        let prices = Prices { room: Vec::new(), transfer: config.transfer_price };
        Self { config, decider, prices, open: open(&sites), sites }
    }

    /// The sites that it plans for.
    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    /// Plans for other sites from now on: nodes came, went or changed their capacity.
    pub fn handle_sites(&mut self, sites: Sites) {
        self.decider = Decider::new(&sites);
        self.open = open(&sites);
        self.prices.room.clear();
        self.sites = sites;
    }

    /// Replica sets for `demand` that no node's capacity is exceeded by.
    pub fn plan(&mut self, demand: &DemandTable) -> Plan {
        let mut plan = Plan::new(self.sites.nodes());
        if demand.is_empty() || self.open.is_empty() {
            return plan;
        }
        let worth: Vec<f32> = (0..demand.len()).map(|row| self.worth(demand, row)).collect();
        self.find_prices(demand, &worth);
        let room = self.prices.room.clone();
        let rows = by_falling(&worth);
        let mut last = f32::INFINITY;
        for factor in PASSES {
            let floor = factor * cheapest(&room);
            if floor >= last {
                continue;
            }
            last = floor;
            self.prices.room.iter_mut().zip(&room).for_each(|(price, found)| *price = factor * found);
            let worthy = rows.partition_point(|row| worth[*row as usize] > floor);
            let is_roomy = self.fill(demand, &rows[..worthy], &mut plan);
            let (load, room) = self
                .open
                .iter()
                .map(|node| (plan.load_bytes(node), self.sites.capacity(node)))
                .fold((0.0, 0.0), |sums, (load, room)| (sums.0 + load as f64, sums.1 + room as f64));
            if !is_roomy || load > FULL * room {
                break;
            }
        }
        self.prices.room = room;
        plan
    }

    /// Where else a key that just became known should be held under the prices of the last plan, and the seconds of
    /// waiting that this would save; nowhere before there was one. Capacity is not looked at: such replicas are held on
    /// probation until the next plan.
    pub fn consider(&mut self, requests: &[f32], bytes: u64, held: NodeSet) -> (NodeSet, f32) {
        if self.prices.room.is_empty() || requests.len() != self.sites.regions() {
            return (NodeSet::EMPTY, 0.0);
        }
        let (bytes, open) = (bytes.max(1) as f32, self.open);
        let question = Question { requests, bytes, held, already: held, open, replicas_min: 0 };
        let decision = self.decider.decide(&question, &self.prices);
        (decision.nodes, decision.saved_seconds)
    }

    /// Goes through `rows` while any node has room; returns whether one still has.
    fn fill(&mut self, demand: &DemandTable, rows: &[u32], plan: &mut Plan) -> bool {
        let mut open = self.open;
        // Full is who has turned away so much more than it has room for that trying goes nowhere.
        let mut turned_away = vec![0_u32; self.sites.nodes()];
        for row in rows {
            let row = *row as usize;
            let key = *demand.key(row);
            let fits = |node: &usize| plan.load_bytes(*node) + key.bytes <= self.sites.capacity(*node);
            let roomy: NodeSet = open.iter().filter(fits).collect();
            for node in open.minus(roomy).iter() {
                turned_away[node] += 1;
                if turned_away[node] >= TURNED_AWAY_MAX {
                    open = open.without(node);
                }
            }
            if roomy.is_empty() {
                if open.is_empty() {
                    return false;
                }
                continue;
            }
            let question = question(demand, row, plan.nodes(key.key), roomy);
            let decision = self.decider.decide(&question, &self.prices);
            plan.add(row, &key, decision.nodes, decision.saved_seconds);
        }
        !open.is_empty()
    }

    /// Whether a row of the demand is so far below what room costs anywhere that it need not be looked at for a while.
    pub(super) fn is_idle(&self, demand: &DemandTable, row: usize) -> bool {
        self.worth(demand, row) < IDLE_SHARE * cheapest(&self.prices.room)
    }

    fn worth(&self, demand: &DemandTable, row: usize) -> f32 {
        self.decider.worth_at_most(demand.requests(row), demand.key(row).bytes.max(1) as f32)
    }

    fn find_prices(&mut self, demand: &DemandTable, worth: &[f32]) {
        let step = demand.len().div_ceil(self.config.sample_max.max(1)).max(1);
        let mut sample: Vec<usize> = (0..demand.len()).step_by(step).filter(|row| worth[*row] > 0.0).collect();
        sample.sort_by(|a, b| worth[*b].total_cmp(&worth[*a]).then(a.cmp(b)));
        // Lower prices keep nobody out, and one that is next to nothing takes long to rise again.
        let least = sample.last().map_or(PRICE_MIN, |row| (LEAST_SHARE * worth[*row]).max(PRICE_MIN));
        let mut rounds = self.config.rounds_max / 3;
        if self.prices.room.len() != self.sites.nodes() {
            self.prices.room = vec![self.first_price(demand, worth, &sample, step).max(least); self.sites.nodes()];
            rounds = self.config.rounds_max;
        }
        for round in 0..rounds {
            let loads = self.loads(demand, worth, &sample);
            let eagerness = 0.9 / (1.0 + 0.15 * round as f32);
            let mut is_balanced = true;
            for (node, load) in loads.iter().enumerate() {
                let over = (load * step as f64 / self.sites.capacity(node).max(1) as f64) as f32;
                is_balanced &= (over - 1.0).abs() < BALANCED || (over < 1.0 && self.prices.room[node] <= least);
                self.prices.room[node] *= over.clamp(0.1, 10.0).powf(eagerness);
                self.prices.room[node] = self.prices.room[node].max(least);
            }
            if is_balanced {
                break;
            }
        }
    }

    /// The price at which keys of that worth and above fill all nodes about half with one replica each.
    fn first_price(&self, demand: &DemandTable, worth: &[f32], sample: &[usize], step: usize) -> f32 {
        let capacity: u64 = (0..self.sites.nodes()).map(|node| self.sites.capacity(node)).sum();
        let mut left = capacity as f64 / 2.0;
        for row in sample {
            left -= demand.key(*row).bytes as f64 * step as f64;
            if left < 0.0 {
                return (worth[*row] / 2.0).max(PRICE_MIN);
            }
        }
        PRICE_MIN
    }

    /// Bytes that the sample's keys would take at each node under the present prices.
    fn loads(&mut self, demand: &DemandTable, worth: &[f32], sample: &[usize]) -> Vec<f64> {
        let mut loads = vec![0.0; self.sites.nodes()];
        let floor = cheapest(&self.prices.room);
        for row in sample.iter().copied().take_while(|row| worth[*row] > floor) {
            let question = question(demand, row, NodeSet::EMPTY, self.open);
            let nodes = self.decider.decide(&question, &self.prices).nodes;
            nodes.iter().for_each(|node| loads[node] += demand.key(row).bytes as f64);
        }
        loads
    }
}

fn open(sites: &Sites) -> NodeSet {
    (0..sites.nodes()).filter(|node| sites.capacity(*node) > 0).collect()
}

fn cheapest(room: &[f32]) -> f32 {
    room.iter().copied().fold(f32::INFINITY, f32::min)
}

/// Where a row of the demand should be held beyond `already`, of the nodes in `open`.
fn question(demand: &DemandTable, row: usize, already: NodeSet, open: NodeSet) -> Question<'_> {
    let key = demand.key(row);
    Question {
        requests: demand.requests(row),
        bytes: key.bytes.max(1) as f32,
        held: key.held,
        already,
        open,
        replicas_min: usize::from(key.replicas_min),
    }
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
/// Of the cheapest room's price.
const IDLE_SHARE: f32 = 0.05;
/// A plan that has filled so much of the room is not worth another pass.
const FULL: f64 = 0.98;
/// Prices are found when every load is so close to its capacity.
const BALANCED: f32 = 0.02;
/// Keys in a row that a node has no room for before it counts as full.
const TURNED_AWAY_MAX: u32 = 2_000;
const PRICE_MIN: f32 = 1e-18;
/// The least price, as a share of what the least worthy key of the sample saves per byte.
const LEAST_SHARE: f32 = 0.01;
