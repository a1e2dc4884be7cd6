//! The planning thread: a strategy that is told of requests and makes plans, however long that takes.
//!
//! A plan for many keys takes seconds, during which the event task must go on. So the strategy lives on a thread of its
//! own; it is told things through a bounded queue, reads who holds what from [`SharedKnown`], and sends whole plans back.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use nearcast_datasets::{KeyId, Map, RegionId, Timestamp};
use nearcast_models::Model;

use super::{
    forecasts::Forecasts,
    known::SharedKnown,
    settings::{PlacementKind, PlacementSettings},
};
use crate::{
    clock,
    placement::{
        GuardChoice, Move, MoveKind, PlannedKey, Planner, PlannerConfig, Sites, Strategy, StrategyConfig, Waits,
    },
};

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Told {
    /// Somebody asked a node of a region for a key.
    Request { at: Timestamp, client: u64, key: KeyId, name: Arc<str>, region: RegionId, bytes: u64 },
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
    /// Which of that is not simply fetched.
    pub(super) waits: Map<KeyId, Waits>,
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
    /// Where what it knows is written down.
    pub(super) folder: PathBuf,
    /// Whether a former life's plan is in force, which the first of this one is not to overthrow before it knows as much.
    pub(super) is_restored: bool,
    /// What a former life had learned, under the numbers of this one.
    pub(super) forecasts: Option<Forecasts>,
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
    saved_at: Option<Timestamp>,
    is_failing: bool,
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
            saved_at: None,
            is_failing: false,
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
                Err(RecvTimeoutError::Disconnected) => {
                    self.save(clock::now());
                    return;
                }
            }
            let now = clock::now();
            if self.is_due(now)
                && let Some(planned) = self.plan(now)
            {
                publish(Planned::Whole(planned));
                if self.saved_at.is_none_or(|at| now.since(at) >= SAVE_PAUSE) {
                    self.save(now);
                }
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
            Told::Request { at, client, key, name, region, bytes } => {
                self.requests += 1;
                let Some(strategy) = &mut self.strategy else { return };
                strategy.note_client(at, client, key);
                strategy.handle_request(at, (key, &name), region, bytes, &self.begun.known, &mut self.moves);
            }
            Told::Reused(key) => {
                self.reuses += 1;
                self.strategy.iter_mut().for_each(|strategy| strategy.forget_key(key));
                if let Some(former) = &mut self.begun.forecasts {
                    former.strategy.renumber(&|other| (other != key).then_some(other));
                }
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

    fn new_strategy(&self, sites: Sites) -> Strategy {
        let settings = &self.begun.settings;
        let config = StrategyConfig {
            interval: settings.interval,
            requests_min: settings.requests_min,
            waste_share: Some(settings.waste_share).filter(|_| settings.kind == PlacementKind::Gapa),
            keys_max: settings.keys_max,
            pushes: settings.kind == PlacementKind::Gapa,
            replicas_min: settings.replicas_min,
            link_share: Some(settings.link_share),
            bytes_per_second: settings.bytes_per_second,
            ahead_max: settings.ahead_max,
        };
        let planner = Planner::new(PlannerConfig::default(), sites);
        if settings.kind == PlacementKind::Reactive {
            return Strategy::reactive(config, planner, settings.half_life);
        }
        Strategy::gapa(config, planner, settings.half_life, self.model.as_ref(), &self.regions)
    }

    /// A strategy that goes on from what a former life had learned.
    fn begin(&self, sites: Sites) -> Strategy {
        let mut strategy = self.new_strategy(sites);
        if let Some(former) = &self.begun.forecasts {
            strategy.restore(former.strategy.clone());
        }
        strategy
    }

    /// The first plan waits until enough was asked for, and until a plan of a former life has had its time and its nodes
    /// theirs to come back. With what that life had learned, it waits only until there is as much room as it had, or for
    /// that time.
    fn is_due(&self, now: Timestamp) -> bool {
        let Some(strategy) = &self.strategy else { return false };
        if self.has_planned {
            return strategy.poll_timeout() <= now;
        }
        let settings = &self.begun.settings;
        let has_had_its_time = now.since(self.started) >= settings.interval.max(settings.grace);
        if let (Some(former), Some(sites)) = (&self.begun.forecasts, &self.sites) {
            return sites.open_nodes() >= former.nodes || has_had_its_time;
        }
        let is_rested = !self.begun.is_restored || has_had_its_time;
        is_rested && self.requests >= settings.requests_min
    }

    fn wait(&self, now: Timestamp) -> Duration {
        let due = self.strategy.as_ref().filter(|_| self.has_planned).map(Strategy::poll_timeout);
        due.map_or(LOOK_AGAIN, |due| due.since(now)).min(LOOK_AGAIN)
    }

    /// Writes down what it knows, once that is more than what a former life knew.
    fn save(&mut self, now: Timestamp) {
        let (true, Some(strategy), Some(sites)) = (self.has_planned, &self.strategy, &self.sites) else { return };
        let Some(strategy) = strategy.save() else { return };
        let known = self.begun.known.lock();
        let name = |(key, ..): (KeyId, u64, Timestamp)| Some((key, Arc::clone(known.name(key)?)));
        let names = strategy.keys().filter_map(name).collect();
        drop(known);
        let forecasts = Forecasts { regions: self.regions.clone(), names, strategy, nodes: sites.open_nodes() };
        let written = forecasts.write(&self.begun.folder);
        if let (Err(error), false) = (&written, self.is_failing) {
            tracing::error!(%error, folder = %self.begun.folder.display(), "the forecasts cannot be written");
        }
        (self.saved_at, self.is_failing) = (Some(now), written.is_err());
    }

    fn plan(&mut self, now: Timestamp) -> Option<WholePlan> {
        let strategy = self.strategy.as_mut()?;
        // What to move follows from what nodes say they hold, which the shard manager compares the plan with.
        strategy.handle_timeout(now, &self.begun.known, None);
        // The plan has them all.
        self.moves.clear();
        self.has_planned = true;
        self.begun.forecasts = None;
        let plan = strategy.plan();
        let mut keys: Vec<(KeyId, PlannedKey)> = plan.iter().map(|(key, planned)| (key, *planned)).collect();
        let per_byte = |planned: &PlannedKey| planned.saved_seconds / planned.bytes.max(1) as f32;
        keys.sort_by(|a, b| per_byte(&b.1).total_cmp(&per_byte(&a.1)).then(a.0.cmp(&b.0)));
        let nodes = keys.iter().flat_map(|(_, planned)| planned.nodes.iter()).max().map_or(0, |last| last + 1);
        Some(WholePlan {
            guard: strategy.guard().map(|guard| (guard.choice(), guard.fallbacks())),
            load_bytes: (0..nodes).map(|node| plan.load_bytes(node)).collect(),
            waits: plan.all_waits().clone(),
            transfer_bytes: plan.transfer_bytes,
            saved_seconds: plan.saved_seconds,
            keys,
            took: clock::now().since(now),
            reuses: self.reuses,
        })
    }
}

/// What is known is written down after a plan, no more often than this, and at the end.
const SAVE_PAUSE: Duration = Duration::from_secs(60);
const BATCH_MAX: usize = 4_096;
/// The first plan comes due by requests, not by time.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use nearcast_proto::message::{Epoch, SegmentSet};

    use super::{
        super::{known::Forgettable, settings::RawPlacement},
        *,
    };
    use crate::placement::Cost;

    const OPEN: Forgettable = Forgettable { silent_since: Timestamp::MIN, reach: Epoch(0) };

    /// Keys by name, with their nodes.
    type Keys = Vec<(String, Vec<usize>)>;

    /// What a life of the thread plans last, by name, and how many bytes of it had to be moved.
    fn live(folder: &std::path::Path, known: &SharedKnown, told: Vec<Told>) -> Option<(Keys, u64)> {
        let raw =
            RawPlacement { kind: PlacementKind::Gapa, requests_min: 50, waste_share: 10.0, ..RawPlacement::default() };
        let mut forecasts = Forecasts::open(folder).unwrap();
        if let Some(forecasts) = &mut forecasts {
            forecasts.renumber(known, OPEN);
        }
        let settings = PlacementSettings::try_from(raw).unwrap();
        let (folder, is_restored) = (folder.to_owned(), forecasts.is_some());
        let planning = Planning { settings, known: known.clone(), folder, is_restored, forecasts };
        let (tell, receiver) = sync_channel(told.len());
        told.into_iter().for_each(|told| tell.send(told).unwrap());
        drop(tell);
        let mut plans = Vec::new();
        planning.run(&receiver, |planned| plans.extend(Some(planned)));
        let mut whole = plans.into_iter().filter_map(|planned| match planned {
            Planned::Whole(plan) => Some(plan),
            Planned::Between(..) => None,
        });
        let plan = whole.next_back()?;
        let known = known.lock();
        let mut keys: Keys = plan
            .keys
            .iter()
            .map(|(key, planned)| (known.name(*key).unwrap().to_string(), planned.nodes.iter().collect()))
            .collect();
        keys.sort();
        Some((keys, plan.transfer_bytes))
    }

    fn sites() -> Told {
        let link = |region: usize, node: usize| Cost { round_trip: 0.04 * region.abs_diff(node) as f32, per_byte: 0.0 };
        let far = |_| Cost { round_trip: 0.2, per_byte: 0.0 };
        let sites = Sites::new(3, vec![400; 3], link, far).unwrap();
        Told::Sites(sites, ["a", "b", "c"].map(Arc::from).to_vec())
    }

    fn requests(known: &SharedKnown) -> Vec<Told> {
        let (now, mut told) = (clock::now(), vec![sites()]);
        for step in 0..600_u32 {
            let name: Arc<str> = format!("/{}", step * step % 13).into();
            let key = known.lock().intern(&name, OPEN, |_| false).unwrap();
            let at = now.before(Duration::from_secs(u64::from(600 - step)));
            known.lock().note_asked(at, key, 100);
            let region = RegionId((step % 13 % 3) as u16);
            told.push(Told::Request { at, client: u64::from(step % 7), key, name, region, bytes: 100 });
        }
        told
    }

    #[test]
    fn a_restarted_thread_plans_at_once_what_it_had_planned_and_moves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let known = SharedKnown::new(100);
        let (before, moved) = live(folder.path(), &known, requests(&known)).expect("enough was asked for");
        assert!(before.len() >= 4 && moved > 0, "{before:?}");

        // Another life, whose numbers are others, with nodes that hold what was planned.
        let known = SharedKnown::new(100);
        known.lock().intern(&Arc::from("/another"), OPEN, |_| false).unwrap();
        for (name, nodes) in before.iter().rev() {
            let key = known.lock().intern(&Arc::from(name.as_str()), OPEN, |_| false).unwrap();
            let set = SegmentSet { key: Arc::from(name.as_str()), size_bytes: 100, segments: vec![0] };
            for node in nodes {
                known.lock().note_gained(key, *node, &set, 1_000);
            }
        }
        assert_eq!(live(folder.path(), &known, vec![sites()]), Some((before, 0)), "without a single request");

        // Without its file, or with a damaged one, it knows nothing.
        let path = super::super::forecasts::path(folder.path());
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(live(folder.path(), &known, vec![sites()]), None);
        assert!(path.with_extension("damaged").exists() && !path.exists());
    }
}
