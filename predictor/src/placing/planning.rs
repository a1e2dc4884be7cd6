//! The planning thread: a strategy that is told of requests and makes plans, however long that takes.
//!
//! A plan for many keys takes seconds, during which the event task must go on. So the strategy lives on a thread of its
//! own; it is told things through a bounded queue, reads who holds what from [`SharedKnown`], and sends whole plans back.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use nearcast_datasets::{KeyId, RegionId, Timestamp};
use nearcast_models::Model;

use super::{
    known::SharedKnown,
    settings::{PlacementKind, PlacementSettings},
};
use crate::{
    clock,
    placement::{GuardChoice, Move, MoveKind, PlannedKey, Planner, PlannerConfig, Sites, Strategy, StrategyConfig},
};

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Told {
    /// Somebody asked a node of a region for a key.
    Request { at: Timestamp, key: KeyId, name: Arc<str>, region: RegionId, bytes: u64 },
    /// A number is another key's from now on.
    Reused(KeyId),
    /// Nodes came, went or changed; with the names of regions by number.
    Sites(Sites, Vec<Arc<str>>),
    /// A version is in service.
    Model(Arc<Model>),
}

/// What the thread says.
#[derive(Debug)]
pub(crate) enum Planned {
    /// A plan.
    Whole(WholePlan),
    /// What became known since the last plan and is worth holding at once, and how many numbers had gone to other keys
    /// by then.
    Between(Vec<Move>, u64),
}

/// A plan.
#[derive(Debug)]
pub(crate) struct WholePlan {
    /// What should be held where, best per byte first.
    pub(super) keys: Vec<(KeyId, PlannedKey)>,
    /// Which plan the guard chose, and how often it fell back so far; `None` without a guard.
    pub(super) guard: Option<(GuardChoice, u64)>,
    /// Bytes planned, by node.
    pub(super) load_bytes: Vec<u64>,
    pub(super) transfer_bytes: u64,
    pub(super) saved_seconds: f64,
    pub(super) took: Duration,
    /// How many numbers had gone to other keys when it was made.
    pub(super) reuses: u64,
}

/// What the thread begins with. A strategy never leaves the thread that it is made on.
#[derive(Debug)]
pub(super) struct Planning {
    pub(super) settings: PlacementSettings,
    pub(super) known: SharedKnown,
    /// Whether a former life's plan is in force, which the first of this one is not to overthrow before it knows as much.
    pub(super) is_restored: bool,
}

/// The thread's state.
#[derive(Debug)]
struct Work {
    begun: Planning,
    regions: Vec<Arc<str>>,
    started: Timestamp,
    requests: u64,
    reuses: u64,
    has_planned: bool,
    model: Option<Arc<Model>>,
    sites: Option<Sites>,
    strategy: Option<Strategy>,
    /// What became worth moving since it was last said.
    moves: Vec<Move>,
}

impl Planning {
    /// Works until nobody can tell it anything any more. Blocks its thread.
    pub(super) fn run(self, told: &Receiver<Told>, publish: impl FnMut(Planned)) {
        let work = Work {
            begun: self,
            regions: Vec::new(),
            started: clock::now(),
            requests: 0,
            reuses: 0,
            has_planned: false,
            model: None,
            sites: None,
            strategy: None,
            moves: Vec::new(),
        };
        work.run(told, publish);
    }
}

impl Work {
    fn run(mut self, told: &Receiver<Told>, mut publish: impl FnMut(Planned)) {
        loop {
            match told.recv_timeout(self.wait(clock::now())) {
                Ok(first) => {
                    self.take(first);
                    // Many at a time between two looks at the clock.
                    told.try_iter().take(BATCH_MAX).for_each(|next| self.take(next));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = clock::now();
            if self.is_due(now)
                && let Some(planned) = self.plan(now)
            {
                publish(Planned::Whole(planned));
            }
            // What nodes should only try is left to their readers: there is no room for it.
            self.moves.retain(|step| step.kind == MoveKind::Hold);
            if !self.moves.is_empty() {
                publish(Planned::Between(std::mem::take(&mut self.moves), self.reuses));
            }
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Request { at, key, name, region, bytes } => {
                self.requests += 1;
                let Some(strategy) = &mut self.strategy else { return };
                strategy.handle_request(at, (key, &name), region, bytes, &self.begun.known, &mut self.moves);
            }
            Told::Reused(key) => {
                self.reuses += 1;
                self.strategy.iter_mut().for_each(|strategy| strategy.forget_key(key));
            }
            Told::Sites(sites, regions) => {
                self.regions = regions;
                match &mut self.strategy {
                    Some(strategy) => strategy.handle_sites(clock::now(), &sites),
                    None => self.strategy = Some(self.begin(sites.clone())),
                }
                self.sites = Some(sites);
            }
            Told::Model(model) => {
                self.model = Some(model);
                // What a strategy has learnt since is worth more than a head that it would have to learn to trust.
                if !self.has_planned {
                    self.strategy = self.sites.clone().map(|sites| self.begin(sites));
                }
            }
        }
    }

    fn begin(&self, sites: Sites) -> Strategy {
        let settings = &self.begun.settings;
        let config = StrategyConfig {
            interval: settings.interval,
            requests_min: settings.requests_min,
            waste_share: Some(settings.waste_share).filter(|_| settings.kind == PlacementKind::Gapa),
            keys_max: settings.keys_max,
            pushes: settings.kind == PlacementKind::Gapa,
            replicas_min: settings.replicas_min,
        };
        let planner = Planner::new(PlannerConfig::default(), sites);
        if settings.kind == PlacementKind::Reactive {
            return Strategy::reactive(config, planner, settings.half_life);
        }
        Strategy::gapa(config, planner, settings.half_life, self.model.as_ref(), &self.regions)
    }

    /// The first plan waits until enough was asked for, and until a plan of a former life has had its time.
    fn is_due(&self, now: Timestamp) -> bool {
        let Some(strategy) = &self.strategy else { return false };
        if self.has_planned {
            return strategy.poll_timeout() <= now;
        }
        let is_rested = !self.begun.is_restored || now.since(self.started) >= self.begun.settings.interval;
        is_rested && self.requests >= self.begun.settings.requests_min
    }

    fn wait(&self, now: Timestamp) -> Duration {
        let due = self.strategy.as_ref().filter(|_| self.has_planned).map(Strategy::poll_timeout);
        due.map_or(LOOK_AGAIN, |due| due.since(now)).min(LOOK_AGAIN)
    }

    fn plan(&mut self, now: Timestamp) -> Option<WholePlan> {
        let strategy = self.strategy.as_mut()?;
        // What to move follows from what nodes say they hold, which the shard manager compares the plan with.
        strategy.handle_timeout(now, &self.begun.known, None);
        // The plan has them all.
        self.moves.clear();
        self.has_planned = true;
        let plan = strategy.plan();
        let mut keys: Vec<(KeyId, PlannedKey)> = plan.iter().map(|(key, planned)| (key, *planned)).collect();
        let per_byte = |planned: &PlannedKey| planned.saved_seconds / planned.bytes.max(1) as f32;
        keys.sort_by(|a, b| per_byte(&b.1).total_cmp(&per_byte(&a.1)).then(a.0.cmp(&b.0)));
        let nodes = keys.iter().flat_map(|(_, planned)| planned.nodes.iter()).max().map_or(0, |last| last + 1);
        Some(WholePlan {
            guard: strategy.guard().map(|guard| (guard.choice(), guard.fallbacks())),
            load_bytes: (0..nodes).map(|node| plan.load_bytes(node)).collect(),
            transfer_bytes: plan.transfer_bytes,
            saved_seconds: plan.saved_seconds,
            keys,
            took: clock::now().since(now),
            reuses: self.reuses,
        })
    }
}

const BATCH_MAX: usize = 4_096;
/// The first plan comes due by requests, not by time.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
