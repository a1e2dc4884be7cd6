//! Forecast, planner and guard put together: what a placement does all day.

mod ghost;
mod saved;
mod schedule;
mod sites;
mod weigh;

use std::{fmt, sync::Arc, time::Duration};

use nearcast_datasets::{KeyId, Map, RegionId, Timestamp};
use nearcast_models::Model;
use serde::{Deserialize, Serialize};

use super::{
    DecayedAverage, DemandTable, Forecast, Guard, GuardChoice, KeyDemand, Learned, NodeSet, Plan, Planner, Sites,
    Trained, Volley, budget::WasteBudget, prices::Prices,
};

pub use self::saved::SavedStrategy;
use self::{ghost::Ghost, schedule::Reach};

/// Who holds what, as the cache map knows it.
pub trait Holdings {
    /// The nodes that hold all of `key`.
    fn holders(&self, key: KeyId) -> NodeSet;
}

impl<F: Fn(KeyId) -> NodeSet> Holdings for F {
    fn holders(&self, key: KeyId) -> NodeSet {
        self(key)
    }
}

/// When a [`Strategy`] plans, and for what.
///
/// | field | default | meaning |
/// | --- | --- | --- |
/// | `interval` | 15 min | least time between two plans, and the horizon at most times |
/// | `requests_min` | 500 | least requests between two plans; where fewer come the horizon grows |
/// | `keys_max` | 1,000,000 | keys that are planned for; of more the ones asked for last |
/// | `pushes` | true | whether keys that become known between two plans are placed at once |
/// | `waste_share` | 0.3 | bytes that may be moved in vain, as a share of what misses fetch; none: any number |
/// | `replicas_min` | 1 | fewest replicas of a key that is placed |
/// | `link_share` | none | share of each link's bandwidth that moves may take; none: links carry whatever is planned |
/// | `bytes_per_second` | any number | what all moves together may take, where links are bounded |
/// | `ahead_max` | 4 h | how far a plan looks ahead at most where links take long to carry it out |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StrategyConfig {
    /// Least time between two plans.
    pub interval: Duration,
    /// Least requests between two plans.
    pub requests_min: u64,
    /// Most keys that are planned for.
    pub keys_max: usize,
    /// Whether young keys are placed between plans.
    pub pushes: bool,
    /// Bytes that may be moved in vain, as a share of what misses fetch; without it nothing bounds them.
    pub waste_share: Option<f64>,
    /// Fewest replicas of a key that is placed.
    pub replicas_min: u8,
    /// Share of each link's bandwidth that moves may take; without it links carry whatever is planned.
    pub link_share: Option<f64>,
    /// What all moves together may take, where links are bounded.
    pub bytes_per_second: f64,
    /// How far a plan looks ahead at most.
    pub ahead_max: Duration,
}

impl Default for StrategyConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(900),
            requests_min: 500,
            keys_max: 1_000_000,
            pushes: true,
            waste_share: Some(0.3),
            replicas_min: 1,
            link_share: None,
            bytes_per_second: f64::INFINITY,
            ahead_max: Duration::from_secs(4 * 3_600),
        }
    }
}

/// What makes plans of forecasts.
#[derive(Clone, Debug)]
pub enum Placer {
    /// Any number of replicas.
    Replicas(Box<Planner>),
    /// One copy.
    Single(Volley),
}

impl Placer {
    fn plan(&mut self, demand: &DemandTable) -> Plan {
        match self {
            Self::Replicas(planner) => planner.plan(demand),
            Self::Single(volley) => volley.plan(demand),
        }
    }

    fn sites(&self) -> &Sites {
        match self {
            Self::Replicas(planner) => planner.sites(),
            Self::Single(volley) => volley.sites(),
        }
    }
}

/// Something to be done at a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Move {
    /// What.
    pub kind: MoveKind,
    /// With which key.
    pub key: KeyId,
    /// Bytes of it.
    pub bytes: u64,
    /// Where.
    pub node: usize,
    /// Seconds of waiting that it is expected to save; zero for a release.
    pub value_seconds: f32,
}

/// What a [`Move`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MoveKind {
    /// No longer exempt from eviction.
    Release,
    /// To be held until released, from when it is there: fetching it ahead of a reader is not worth its bytes.
    Await,
    /// To be held until released, fetched first where it is not.
    Hold,
    /// The same for demand that comes later: what is to be held for now is fetched before.
    Ahead,
    /// To be fetched, and to prove itself.
    Push,
}

/// A placement at work: told of every request, it plans at intervals and says what to move.
pub struct Strategy {
    config: StrategyConfig,
    forecast: Box<dyn Forecast>,
    placer: Placer,
    ghost: Option<Ghost>,
    plan: Plan,
    keys: Map<KeyId, Active>,
    planned_at: Option<Timestamp>,
    plan_due: Timestamp,
    requests: u64,
    expected: Vec<f32>,
    budget: Option<WasteBudget>,
    reach: Reach,
    /// What another one's prices were, for the first plan.
    restored: Option<Prices>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Active {
    bytes: u64,
    first: Timestamp,
    last: Timestamp,
    /// Requests since the last plan.
    requests: u32,
}

impl Strategy {
    /// Places by `forecast`; without a guard.
    pub fn new(config: StrategyConfig, forecast: Box<dyn Forecast>, placer: Placer) -> Self {
        let regions = placer.sites().regions();
        let plan = Plan::new(placer.sites().nodes());
        let room: u64 = (0..placer.sites().nodes()).map(|node| placer.sites().capacity(node)).sum();
        let budget = config.waste_share.map(|share| WasteBudget::new(share, SAVED_UP * room as f64));
        Self {
            budget,
            config,
            forecast,
            placer,
            ghost: None,
            plan,
            keys: Map::default(),
            planned_at: None,
            plan_due: Timestamp::MIN,
            requests: 0,
            reach: Reach::default(),
            expected: vec![0.0; regions],
            restored: None,
        }
    }

    /// Places by a decayed average of that half-life.
    pub fn reactive(config: StrategyConfig, planner: Planner, half_life: Duration) -> Self {
        let forecast = DecayedAverage::new(planner.sites().regions(), half_life);
        Self::new(config, Box::new(forecast), Placer::Replicas(Box::new(planner)))
    }

    /// Places by what is learned online of regions of these names, with a version's head as one more expert, and falls back
    /// on a decayed average of that half-life while it would do better.
    pub fn gapa<S: AsRef<str>>(
        config: StrategyConfig,
        planner: Planner,
        half_life: Duration,
        model: Option<&Arc<Model>>,
        regions: &[S],
    ) -> Self {
        let forecast: Box<dyn Forecast> = match model {
            Some(model) => Box::new(Trained::new(Arc::clone(model), regions)),
            None => Box::new(Learned::new(regions.len())),
        };
        let ghost = planner.clone();
        Self::new(config, forecast, Placer::Replicas(Box::new(planner))).guarded(half_life, ghost)
    }

    /// The same, falling back on a decayed average of that half-life while it would do better.
    #[must_use]
    pub fn guarded(mut self, half_life: Duration, planner: Planner) -> Self {
        let (nodes, regions) = (planner.sites().nodes(), planner.sites().regions());
        self.ghost = Some(Ghost {
            guard: Guard::default(),
            forecast: DecayedAverage::new(regions, half_life),
            planner,
            plans: (Plan::new(nodes), Plan::new(nodes)),
            came: Map::default(),
        });
        self
    }

    /// What is meant to be held where.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the guard says, if there is one.
    pub fn guard(&self) -> Option<&Guard> {
        self.ghost.as_ref().map(|ghost| &ghost.guard)
    }

    /// A client, by a hash of who it is, is about to ask for a key: what the same clients ask for together is expected
    /// together.
    pub fn note_client(&mut self, now: Timestamp, client: u64, key: KeyId) {
        self.forecast.note_client(now, client, key);
    }

    /// One request; `name` is the key's. Appends what is worth moving at once to `moves`.
    pub fn handle_request(
        &mut self,
        now: Timestamp,
        key: (KeyId, &str),
        region: RegionId,
        bytes: u64,
        held: &dyn Holdings,
        moves: &mut Vec<Move>,
    ) {
        let (key, name) = key;
        self.requests += 1;
        let new = Active { bytes, first: now, last: now, requests: 0 };
        let active = self.keys.entry(key).or_insert_with(|| {
            self.forecast.learn_key(key, name);
            new
        });
        (active.bytes, active.last, active.requests) = (bytes, now, active.requests + 1);
        let is_worth_a_thought = active.requests.is_power_of_two() || now.since(active.first) < YOUNG;
        if let Some(budget) = &mut self.budget
            && !held.holders(key).contains(self.placer.sites().nearest(usize::from(region.0)))
        {
            budget.earn(bytes);
        }
        self.forecast.record(now, key, region);
        if let Some(ghost) = &mut self.ghost {
            ghost.record(now, key, region, bytes);
        }
        if is_worth_a_thought && self.config.pushes {
            self.consider(now, key, bytes, held, moves);
        }
    }

    /// A key's number is about to be given to another, which is to inherit nothing.
    pub fn forget_key(&mut self, key: KeyId) {
        self.keys.remove(&key);
        self.forecast.forget_key(key);
        self.plan.forget(key);
        if let Some(ghost) = &mut self.ghost {
            ghost.forecast.forget_key(key);
            ghost.came.remove(&key);
            ghost.plans.0.forget(key);
            ghost.plans.1.forget(key);
        }
    }

    /// When the next plan is due.
    pub fn poll_timeout(&self) -> Timestamp {
        if self.requests >= self.config.requests_min || self.planned_at.is_none() {
            self.plan_due
        } else {
            Timestamp::MAX
        }
    }

    /// Plans when that is due, and appends what is to be moved to `moves`, for who wants to know: releases first, then the
    /// best per byte.
    pub fn handle_timeout(&mut self, now: Timestamp, held: &dyn Holdings, moves: Option<&mut Vec<Move>>) {
        if now < self.poll_timeout() {
            return;
        }
        if let (Some(prices), Placer::Replicas(planner)) = (self.restored.take(), &mut self.placer) {
            planner.take_over(&prices);
        }
        let horizon = self.planned_at.map_or(self.config.interval, |last| now.since(last).max(self.config.interval));
        self.forecast.begin(now, horizon);
        let mut horizons = self.reach.horizons(self.placer.sites(), &self.config, horizon);
        if horizons.iter().all(|horizons| *horizons == 1) {
            horizons.clear();
        } else {
            self.forecast.look_ahead(&horizons);
        }
        if let Some(ghost) = &mut self.ghost {
            ghost.forecast.begin(now, horizon);
            ghost.settle();
        }
        let mut demand =
            demand_of(&mut *self.forecast, now, &self.keys, self.config.replicas_min, held, &mut self.expected);
        let mut plan = self.placer.plan(&demand);
        self.forget_idle(now, &demand);
        if let Some(ghost) = &mut self.ghost {
            let (keys, expected) = (&self.keys, &mut self.expected);
            let reactive = demand_of(&mut ghost.forecast, now, keys, self.config.replicas_min, held, expected);
            ghost.plans = (plan, ghost.planner.plan(&reactive));
            plan = match ghost.guard.choice() {
                GuardChoice::Forecast => ghost.plans.0.clone(),
                GuardChoice::Reactive => {
                    demand = reactive;
                    horizons.clear();
                    ghost.plans.1.clone()
                }
            };
        }
        self.weigh(now, (&mut plan, &demand), held, !horizons.is_empty());
        if let Some(moves) = moves {
            self.list_moves(&plan, held, moves);
        }
        self.plan = plan;
        self.keys.values_mut().for_each(|active| active.requests = 0);
        (self.planned_at, self.plan_due, self.requests) = (Some(now), now.after(self.config.interval), 0);
    }

    fn consider(&mut self, now: Timestamp, key: KeyId, bytes: u64, held: &dyn Holdings, moves: &mut Vec<Move>) {
        let Placer::Replicas(planner) = &mut self.placer else { return };
        if self.ghost.as_ref().is_some_and(|ghost| ghost.guard.choice() == GuardChoice::Reactive) {
            return;
        }
        let holders = held.holders(key);
        if holders.len() == planner.sites().nodes() {
            return;
        }
        self.forecast.expect(now, key, &mut self.expected, false);
        let (nodes, saved_seconds) = planner.consider(&self.expected, bytes, holders);
        let nodes = nodes.minus(holders).minus(self.plan.waits(key).postponed);
        let value_seconds = saved_seconds / nodes.len().max(1) as f32;
        for node in nodes.iter() {
            let requests = expected_at(planner.sites(), &self.expected, node);
            if self.budget.as_mut().is_none_or(|budget| budget.spend(bytes, requests, value_seconds)) {
                let room = planner.sites().capacity(node) as f64 * (1.0 + BETWEEN_PLANS);
                let is_roomy = (self.plan.load_bytes(node) + bytes) as f64 <= room;
                if is_roomy {
                    self.plan.hold_also(key, bytes, node, value_seconds);
                }
                let kind = if is_roomy { MoveKind::Hold } else { MoveKind::Push };
                moves.push(Move { kind, key, bytes, node, value_seconds });
            }
        }
    }

    /// What leads to `plan`. What is planned and not held is asked for again: an order may have been lost or refused.
    fn list_moves(&self, plan: &Plan, held: &dyn Holdings, moves: &mut Vec<Move>) {
        let first = moves.len();
        for (key, old) in self.plan.iter() {
            for node in old.nodes.minus(plan.nodes(key)).iter() {
                moves.push(Move { kind: MoveKind::Release, key, bytes: old.bytes, node, value_seconds: 0.0 });
            }
        }
        for (key, new) in plan.iter() {
            let (before, holders, waits) = (self.plan.nodes(key), held.holders(key), plan.waits(key));
            let value_seconds = new.saved_seconds / new.nodes.len().max(1) as f32;
            for node in new.nodes.iter().filter(|node| !(before.contains(*node) && holders.contains(*node))) {
                let is_awaited = holders.contains(node) || waits.awaited.contains(node);
                let kind = match (is_awaited, waits.ahead.contains(node)) {
                    (true, _) => MoveKind::Await,
                    (false, true) => MoveKind::Ahead,
                    (false, false) => MoveKind::Hold,
                };
                moves.push(Move { kind, key, bytes: new.bytes, node, value_seconds });
            }
        }
        let per_byte = |it: &Move| it.value_seconds / it.bytes.max(1) as f32;
        moves[first..].sort_by(|a, b| {
            let order = a.kind.cmp(&b.kind).then(per_byte(b).total_cmp(&per_byte(a)));
            order.then(a.key.cmp(&b.key)).then(a.node.cmp(&b.node))
        });
    }

    /// Drops keys that nobody has asked for in a day and that are not expected to earn their room, and beyond the bound
    /// those not asked for the longest. With its next request a key is back.
    fn forget_idle(&mut self, now: Timestamp, demand: &DemandTable) {
        if let Placer::Replicas(planner) = &self.placer {
            for row in 0..demand.len() {
                let key = demand.key(row).key;
                let is_silent = |active: &Active| now.since(active.last) > IDLE_AFTER;
                if self.keys.get(&key).is_some_and(is_silent) && planner.is_idle(demand, row) {
                    self.keys.remove(&key);
                }
            }
        }
        if self.keys.len() > self.config.keys_max {
            let mut last: Vec<Timestamp> = self.keys.values().map(|active| active.last).collect();
            let place = last.len() - self.config.keys_max;
            let (_, limit, _) = last.select_nth_unstable(place);
            let limit = *limit;
            self.keys.retain(|_, active| active.last >= limit);
        }
    }
}

impl fmt::Debug for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strategy")
            .field("forecast", &self.forecast)
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// Asks a forecast about every active key and those that it foresees.
fn demand_of(
    forecast: &mut dyn Forecast,
    now: Timestamp,
    keys: &Map<KeyId, Active>,
    replicas_min: u8,
    held: &dyn Holdings,
    expected: &mut [f32],
) -> DemandTable {
    let mut demand = DemandTable::new(expected.len());
    for (key, active) in keys {
        forecast.expect(now, *key, expected, true);
        demand.push(KeyDemand { key: *key, bytes: active.bytes, held: held.holders(*key), replicas_min }, expected);
    }
    for (key, bytes) in forecast.foreseen() {
        if !keys.contains_key(&key) {
            forecast.expect(now, key, expected, true);
            demand.push(KeyDemand { key, bytes, held: held.holders(key), replicas_min }, expected);
        }
    }
    demand
}

/// Requests expected of the regions whose clients ask `node`.
fn expected_at(sites: &Sites, requests: &[f32], node: usize) -> f32 {
    let here = requests.iter().enumerate().filter(|(region, _)| sites.nearest(*region) == node);
    here.map(|(_, count)| count).sum()
}

/// A key is kept in mind for so long whatever is expected of it: it may be for another time of day.
const IDLE_AFTER: Duration = Duration::from_secs(86_400);
/// What may be held beyond a node's capacity for replicas until the next plan, as a share of it.
const BETWEEN_PLANS: f64 = 0.05;
/// Waste that may be saved up, as a share of all nodes' room.
const SAVED_UP: f64 = 0.02;
/// A key this young is looked at with each request.
const YOUNG: Duration = Duration::from_secs(600);
