//! One experiment: its design, where it stands, and what it has measured.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nearcast_datasets::{ServedFrom, Timestamp};
use nearcast_experiment::{
    Alpha, CONCENTRATION, ShareCheck,
    design::{Analysis, Arm, CellHistory, Measured, Plan},
    quality::{BlockLog, LogWatch, QualityLimits},
    stage::{Action, By, Change, Experiment, Routing, Stage, StageError},
    verdict::{Judgement, Metric, Role, judge},
};
use serde::{Deserialize, Serialize};

use super::{
    question::{MetricName, Question},
    slots::BlockTally,
};

/// What an experiment is made of, as it is kept in `plan.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Design {
    pub(super) schema: String,
    pub(super) question: Question,
    /// The champion's version when it was planned: what an undo goes back to.
    pub(super) control_version: Arc<str>,
    pub(super) plan: Plan,
    /// By metric, what the nodes measured before.
    pub(super) histories: BTreeMap<MetricName, Vec<CellHistory>>,
}

/// One finished block, as it is kept in `blocks.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Block {
    pub(super) block: usize,
    /// Which pairs switched; none for a block that does not count, as the assignment changed or nobody watched.
    pub(super) routing: Option<Routing>,
    pub(super) cells: Vec<CellBlock>,
}

/// One cell in a finished block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct CellBlock {
    /// By metric; empty without a log.
    measured: BTreeMap<MetricName, Measured>,
    served: Option<Arm>,
    logged: u64,
    served_count: Option<u64>,
    skew_micros: Option<i64>,
}

/// What is known of a cell now.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    confirmed: Option<Arm>,
    skew_micros: Option<i64>,
}

/// One metric on its way.
#[derive(Debug)]
struct Watched {
    name: MetricName,
    plan: Plan,
    analysis: Analysis,
    /// Sum of requests, and of the metric times requests, of control cells.
    control: (f64, f64),
}

/// What a block has brought so far.
#[derive(Clone, Debug, Default)]
struct Open {
    cells: Vec<BlockTally>,
    /// The arm that a cell had confirmed when its first row came: the last ones may come after the next assignment.
    served: Vec<Option<Arm>>,
    /// Requests that nodes say they could not log.
    dropped: Vec<u64>,
    routing: Option<Routing>,
    is_void: bool,
}

/// An experiment.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) design: Design,
    pub(super) arm: Arc<str>,
    pub(super) experiment: Experiment,
    places: BTreeMap<Arc<str>, usize>,
    cells: Vec<Cell>,
    metrics: Vec<Watched>,
    watch: LogWatch,
    exposure: ShareCheck,
    open: BTreeMap<usize, Open>,
    /// Blocks closed so far.
    pub(super) closed: usize,
    /// Of those, counted.
    pub(super) counted: usize,
    /// By counted block, the goal's interval.
    pub(super) timeline: Vec<(usize, nearcast_experiment::Interval)>,
    /// Nothing before this was watched.
    watched_since: Timestamp,
}

impl Trial {
    pub(super) fn new(design: Design, experiment: Experiment, now: Timestamp) -> nearcast_experiment::Result<Self> {
        let places: BTreeMap<Arc<str>, usize> =
            design.plan.cells.iter().enumerate().map(|(place, name)| (Arc::from(name.as_str()), place)).collect();
        let alpha = |metric| if metric == design.question.goal { design.plan.alpha } else { Alpha::EFFECT };
        let watched = design.histories.iter().map(|(name, cells)| {
            let plan = design.plan.of_metric(cells, alpha(*name));
            Ok(Watched { name: *name, analysis: Analysis::new(&plan, cells)?, plan, control: (0.0, 0.0) })
        });
        let metrics = watched.collect::<nearcast_experiment::Result<Vec<_>>>()?;
        Ok(Self {
            arm: design.question.challenger.name(),
            cells: vec![Cell::default(); places.len()],
            places,
            metrics,
            watch: LogWatch::new(limits(&design.plan)),
            exposure: ShareCheck::new(&[1.0, 1.0], CONCENTRATION)?,
            open: BTreeMap::new(),
            closed: 0,
            counted: 0,
            timeline: Vec::new(),
            experiment,
            design,
            watched_since: now,
        })
    }

    /// What an action would write down; nothing changes until [`Trial::commit`].
    pub(super) fn propose(&self, action: Action, by: By<'_>) -> Result<(Experiment, Change), StageError> {
        let mut next = self.experiment.clone();
        let change = next.act(action, by)?.clone();
        Ok((next, change))
    }

    /// Takes over what was proposed and is written down.
    pub(super) fn commit(&mut self, next: Experiment) {
        let before = self.experiment.routing();
        self.experiment = next;
        if self.experiment.routing() != before {
            // What a block saw of two assignments says nothing of either.
            self.open.values_mut().for_each(|open| open.is_void = true);
        }
    }

    /// Whether it still holds its cells.
    pub(super) fn is_running(&self) -> bool {
        !matches!(self.experiment.stage(), Stage::Promoted | Stage::RolledBack)
    }

    /// The arm that a cell is to serve now; none for a node that takes no part.
    pub(super) fn arm_of(&self, node: &str, now: Timestamp) -> Option<Arm> {
        let cell = *self.places.get(node)?;
        let plan = &self.design.plan;
        let scheduled = |pairs: &dyn Fn(usize) -> bool| {
            let pair = plan.schedule.pair_of(cell).filter(|pair| pairs(*pair));
            pair.and_then(|_| plan.schedule.arm(cell, plan.block_at(since_epoch(now))?.0))
        };
        Some(match self.experiment.routing() {
            Routing::All(arm) => arm,
            Routing::FirstPairs(count) => scheduled(&|pair| pair < count).unwrap_or(Arm::Control),
            Routing::AllButLastPair => {
                let last = plan.schedule.pairs().saturating_sub(1);
                scheduled(&|pair| pair == last).unwrap_or(Arm::Treated)
            }
        })
    }

    /// A node answered a request.
    pub(super) fn handle_request(
        &mut self,
        now: Timestamp,
        node: &str,
        at: Timestamp,
        served: ServedFrom,
        bytes: u64,
        latency: Duration,
    ) {
        let Some(cell) = self.places.get(node).copied() else { return };
        let Some((block, true)) = self.design.plan.block_at(since_epoch(at)) else { return };
        let confirmed = self.cells[cell].confirmed;
        if let Some(open) = self.opened(now, block) {
            open.cells[cell].add(served, bytes, latency);
            open.served[cell] = open.served[cell].or(confirmed);
        }
    }

    /// A node says how many requests it could not log.
    pub(super) fn handle_dropped(&mut self, now: Timestamp, node: &str, count: u64) {
        let Some(cell) = self.places.get(node).copied() else { return };
        let Some((block, _)) = self.design.plan.block_at(since_epoch(now)) else { return };
        if let Some(open) = self.opened(now, block) {
            open.dropped[cell] += count;
        }
    }

    /// Bytes that a node fetched ahead left it unused.
    pub(super) fn handle_wasted(&mut self, now: Timestamp, node: &str, bytes: u64) {
        let Some(cell) = self.places.get(node).copied() else { return };
        let Some((block, true)) = self.design.plan.block_at(since_epoch(now)) else { return };
        if let Some(open) = self.opened(now, block) {
            open.cells[cell].slot.wasted_bytes += bytes;
        }
    }

    /// A node says which arm it serves, and what its clock says.
    pub(super) fn handle_confirmed(&mut self, now: Timestamp, node: &str, arm: &str, clock: Timestamp) {
        let Some(cell) = self.places.get(node).copied() else { return };
        let arm = if *arm == *self.arm { Arm::Treated } else { Arm::Control };
        self.cells[cell] =
            Cell { confirmed: Some(arm), skew_micros: Some(clock.micros().saturating_sub(now.micros())) };
    }

    /// A node had confirmed an arm before this began; what its clock said then is not known any more.
    pub(super) fn note_serving(&mut self, node: &str, arm: &str) {
        if let Some(cell) = self.places.get(node).map(|place| &mut self.cells[*place]) {
            let arm = if *arm == *self.arm { Arm::Treated } else { Arm::Control };
            cell.confirmed = cell.confirmed.or(Some(arm));
        }
    }

    /// Cells that have confirmed what a promote or a rollback told them, and are not written down yet.
    pub(super) fn confirmed(&self) -> Vec<(String, u64)> {
        let is_there =
            |cell: &str, arm: Arm| self.places.get(cell).is_some_and(|place| self.cells[*place].confirmed == Some(arm));
        let pending = self.experiment.pending().into_iter();
        pending.filter(|pointer| is_there(&pointer.cell, pointer.arm)).map(|it| (it.cell, it.epoch)).collect()
    }

    /// Another arm was named to a node: until it confirms, nothing is known of what it serves.
    pub(super) fn forget_confirmed(&mut self, node: &str) {
        if let Some(cell) = self.places.get(node) {
            self.cells[*cell].confirmed = None;
        }
    }

    /// When something is due next: a block begins, or can be closed.
    pub(super) fn poll_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.is_running() {
            return None;
        }
        let plan = &self.design.plan;
        let next_block = match plan.block_at(since_epoch(now)) {
            Some((block, _)) => Some(self.start_of(block + 1)),
            None => (since_epoch(now) < plan.start).then(|| self.start_of(0)),
        };
        let close = (self.closed < plan.schedule.blocks()).then(|| self.closes_at(self.closed));
        next_block.into_iter().chain(close).min()
    }

    /// Nothing before this was watched whole.
    pub(super) fn handle_unwatched(&mut self, now: Timestamp) {
        self.watched_since = self.watched_since.max(now);
    }

    /// The next block that can be closed now.
    pub(super) fn close_next(&mut self, now: Timestamp) -> Option<Block> {
        let block = self.closed;
        if block >= self.design.plan.schedule.blocks() || now < self.closes_at(block) {
            return None;
        }
        let open = self.open.remove(&block);
        let seen_whole = since_epoch(self.watched_since) <= since_epoch(self.start_of(block));
        let routing = open.as_ref().filter(|open| !open.is_void && seen_whole).and_then(|open| open.routing);
        let cell = |cell: usize| {
            let Some(open) = &open else { return CellBlock::default() };
            let tally = &open.cells[cell];
            let logged = tally.slot.requests;
            let measured = MetricName::ALL.into_iter().map(|metric| (metric, tally.measured(metric)));
            let is_heard = logged + open.dropped[cell] > 0;
            CellBlock {
                measured: if logged > 0 { measured.collect() } else { BTreeMap::new() },
                served: open.served[cell],
                logged,
                served_count: is_heard.then_some(logged + open.dropped[cell]),
                skew_micros: self.cells[cell].skew_micros,
            }
        };
        let cells = (0..self.places.len()).map(cell).collect();
        Some(Block { block, routing, cells })
    }

    /// Takes in a finished block that is written down.
    pub(super) fn take_in(&mut self, block: &Block) {
        self.closed = block.block + 1;
        let plan = self.design.plan.clone();
        let Some(routing) = block.routing else {
            let nothing = vec![None; self.places.len()];
            self.metrics.iter_mut().for_each(|metric| metric.analysis.handle_block(&metric.plan, &nothing));
            return;
        };
        let switches = |cell: usize| {
            plan.schedule.pair_of(cell).is_some_and(|pair| match routing {
                Routing::All(_) => false,
                Routing::FirstPairs(count) => pair < count,
                Routing::AllButLastPair => pair + 1 == plan.schedule.pairs(),
            })
        };
        let cells: Vec<(usize, Arm)> = (0..self.places.len())
            .filter(|cell| switches(*cell))
            .filter_map(|cell| Some((cell, plan.schedule.arm(cell, block.block)?)))
            .collect();
        self.counted += usize::from(!cells.is_empty());
        let mut logged = [0_u64; 2];
        for (cell, arm) in &cells {
            let seen = &block.cells[*cell];
            logged[usize::from(*arm == Arm::Treated)] += u64::from(seen.logged > 0);
            let log = BlockLog {
                arm: *arm,
                served: seen.served,
                logged: seen.logged,
                served_count: seen.served_count,
                expected_count: self.expected(*cell),
                skew_micros: seen.skew_micros,
            };
            self.watch.handle_block(&plan.cells[*cell], block.block, &log);
        }
        // Two arms, as the check was made for.
        let _ = self.exposure.handle_counts(&logged);
        for metric in &mut self.metrics {
            let mut measured = vec![None; self.places.len()];
            for (cell, arm) in &cells {
                let found = block.cells[*cell].measured.get(&metric.name).copied();
                measured[*cell] = found;
                if let (Some(found), Arm::Control) = (found, arm) {
                    metric.control.0 += found.requests;
                    metric.control.1 += found.requests * found.mean;
                }
            }
            metric.analysis.handle_block(&metric.plan, &measured);
            if metric.name == self.design.question.goal && !cells.is_empty() && self.timeline.len() < TIMELINE_MAX {
                self.timeline.push((block.block, metric.analysis.interval()));
            }
        }
    }

    /// Every metric as it stands.
    pub(super) fn metrics(&self) -> Vec<Metric> {
        let metric = |watched: &Watched| {
            let goal = Role::Goal { least: self.design.question.least };
            let is_goal = watched.name == self.design.question.goal;
            let role = if is_goal { goal } else { Role::Guardrail(self.design.question.margin(watched.name)) };
            let (requests, sum) = watched.control;
            let control = if requests > 0.0 { sum / requests } else { self.past(watched.name) };
            let effect = watched.analysis.interval();
            Metric { name: watched.name.as_str().to_owned(), role, better: watched.name.better(), effect, control }
        };
        self.metrics.iter().map(metric).collect()
    }

    /// The verdict as it stands.
    pub(super) fn judgement(&self) -> Judgement {
        judge(&self.metrics(), self.watch.flaws(&self.exposure))
    }

    /// Units that the goal's interval rests on.
    pub(super) fn units(&self) -> u64 {
        let goal = self.metrics.iter().find(|metric| metric.name == self.design.question.goal);
        goal.map_or(0, |metric| metric.analysis.units())
    }

    /// The nodes that take part.
    pub(super) fn nodes(&self) -> BTreeSet<Arc<str>> {
        self.places.keys().cloned().collect()
    }

    /// The block of now; none before the first and after the last.
    pub(super) fn block_now(&self, now: Timestamp) -> Option<usize> {
        Some(self.design.plan.block_at(since_epoch(now))?.0)
    }

    /// Notes which pairs switch in the block of now.
    pub(super) fn begin_block(&mut self, now: Timestamp) {
        if let Some(block) = self.block_now(now) {
            self.opened(now, block);
        }
    }

    fn opened(&mut self, now: Timestamp, block: usize) -> Option<&mut Open> {
        let is_near = self.block_now(now).is_none_or(|current| block <= current + 1);
        if block < self.closed || !is_near {
            return None;
        }
        let (cells, routing) = (self.places.len(), self.experiment.routing());
        Some(self.open.entry(block).or_insert_with(|| Open {
            cells: vec![BlockTally::default(); cells],
            served: vec![None; cells],
            dropped: vec![0; cells],
            routing: Some(routing),
            is_void: false,
        }))
    }

    fn expected(&self, cell: usize) -> f64 {
        let history = self.design.histories.get(&self.design.question.goal).and_then(|cells| cells.get(cell));
        history.map_or(0.0, |history| {
            history.blocks.iter().map(|block| block.requests).sum::<f64>() / history.blocks.len().max(1) as f64
        })
    }

    fn past(&self, metric: MetricName) -> f64 {
        let blocks = self.design.histories.get(&metric).into_iter().flatten().flat_map(|cell| &cell.blocks);
        let (requests, sum) = blocks
            .fold((0.0, 0.0), |(requests, sum), block| (requests + block.requests, sum + block.requests * block.mean));
        if requests > 0.0 { sum / requests } else { 0.0 }
    }

    fn start_of(&self, block: usize) -> Timestamp {
        let blocks = u32::try_from(block).unwrap_or(u32::MAX);
        moment(self.design.plan.start.saturating_add(self.design.plan.block.saturating_mul(blocks)))
    }

    /// What nodes have logged of a block has come by then.
    fn closes_at(&self, block: usize) -> Timestamp {
        self.start_of(block + 1).after((self.design.plan.block / 10).min(GRACE_MAX))
    }
}

/// Rows near a block's edge are in its burn-in, so that a clock may be wrong by a part of that.
fn limits(plan: &Plan) -> QualityLimits {
    let usual = QualityLimits::default();
    QualityLimits { skew_max: usual.skew_max.min(plan.burn_in / 2), ..usual }
}

pub(super) fn since_epoch(moment: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(moment.micros()).unwrap_or(0))
}

pub(super) fn moment(since_epoch: Duration) -> Timestamp {
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

/// How long rows of a block are waited for.
const GRACE_MAX: Duration = Duration::from_secs(5);
/// Looks of which the goal's interval is kept.
const TIMELINE_MAX: usize = 10_000;
