//! What of a plan is worth fetching ahead of a reader, and what of that before the next plan.

use std::cmp::Ordering;

use nearcast_datasets::{KeyId, Timestamp};

use super::{Holdings, Strategy, expected_at, schedule::Budgets};
use crate::placement::{DemandTable, NodeSet, Plan, PlannedKey};

/// A key of which a replica is planned and not held, with its holders, and how many of its replicas are there.
#[derive(Clone, Copy, Debug)]
struct Short {
    key: KeyId,
    planned: PlannedKey,
    holders: NodeSet,
    there: usize,
}

/// A replica that is planned and not held.
#[derive(Clone, Copy, Debug)]
struct Lacking {
    /// Its key's place among those that lack any.
    place: u32,
    key: KeyId,
    node: u16,
    /// Whether most of the demand comes only after the next plan.
    is_ahead: bool,
    /// Seconds saved by a byte.
    per_byte: f32,
    /// What is expected at the node.
    requests: f32,
}

impl Short {
    fn new(key: KeyId, planned: PlannedKey, holders: NodeSet) -> Self {
        let there = planned.nodes.len() - planned.nodes.minus(holders).len();
        Self { key, planned, holders, there }
    }

    fn lacks(&self) -> NodeSet {
        self.planned.nodes.minus(self.holders)
    }

    fn value_seconds(&self) -> f32 {
        self.planned.saved_seconds / self.planned.nodes.len().max(1) as f32
    }
}

impl Lacking {
    /// What is needed first comes first, of that the best per byte, of a key where most is asked for.
    fn order(&self, other: &Self) -> Ordering {
        let by_time = self.is_ahead.cmp(&other.is_ahead);
        let by_worth = by_time.then(other.per_byte.total_cmp(&self.per_byte)).then(self.key.cmp(&other.key));
        by_worth.then(other.requests.total_cmp(&self.requests)).then(self.node.cmp(&other.node))
    }
}

impl Strategy {
    /// Spends what links can carry, and the budget of waste, on what is planned and not held. What the latter does not
    /// suffice for is to be kept from when it is there; what the former do not has to wait for a later plan. A key whose
    /// class asks for several replicas gets them in any case.
    pub(super) fn weigh(
        &mut self,
        now: Timestamp,
        (plan, demand): (&mut Plan, &DemandTable),
        held: &dyn Holdings,
        looks_ahead: bool,
    ) {
        if self.budget.is_none() && self.config.link_share.is_none() {
            return;
        }
        let all = plan.iter().map(|(key, planned)| Short::new(key, *planned, held.holders(key)));
        let mut keys: Vec<Short> = all.filter(|short| !short.lacks().is_empty()).collect();
        let lacking = self.lacking(now, &keys, demand, looks_ahead);
        let mut budgets = Budgets::new(self.placer.sites(), &self.config);
        for Lacking { place, key, node, is_ahead, requests, .. } in lacking {
            let (node, short) = (usize::from(node), &mut keys[place as usize]);
            let (bytes, value_seconds, holders) = (short.planned.bytes, short.value_seconds(), short.holders);
            let is_required = self.config.replicas_min > 1 && short.there < usize::from(self.config.replicas_min);
            let affords = self.budget.as_ref().is_none_or(|budget| budget.affords(bytes, requests, value_seconds));
            let may_begin = !(affords || is_required) || budgets.want(node, holders, bytes);
            if !may_begin && !is_required {
                plan.postpone_at(key, bytes, node);
            } else if self.budget.as_mut().is_none_or(|budget| budget.spend(bytes, requests, value_seconds))
                || is_required
            {
                budgets.take(node, holders, bytes);
                short.there += 1;
                if is_ahead {
                    plan.fetch_ahead_at(key, node);
                }
            } else {
                plan.await_at(key, node);
            }
        }
        self.reach.settle(&budgets);
    }

    /// What is lacking, in the order in which it should come.
    fn lacking(&mut self, now: Timestamp, keys: &[Short], demand: &DemandTable, looks_ahead: bool) -> Vec<Lacking> {
        let sites = self.placer.sites();
        let mut soon = vec![0.0; sites.regions()];
        let mut lacking = Vec::new();
        for (place, short) in keys.iter().enumerate() {
            if looks_ahead {
                self.forecast.expect_soon(now, short.key, &mut soon);
            }
            for node in short.lacks().iter() {
                let requests = expected_at(sites, demand.requests(short.planned.row as usize), node);
                let is_ahead = looks_ahead && expected_at(sites, &soon, node) < AHEAD_SHARE * requests;
                let per_byte = short.value_seconds() / short.planned.bytes.max(1) as f32;
                let (place, key, node) = (place as u32, short.key, node as u16);
                lacking.push(Lacking { place, key, node, is_ahead, per_byte, requests });
            }
        }
        lacking.sort_unstable_by(Lacking::order);
        lacking
    }
}

/// Of what is planned for on average, so much must come before the next plan of what is needed now.
const AHEAD_SHARE: f32 = 0.5;
