//! One seed: each arm alone, then the experiment by each design.

use std::time::Duration;

use nearcast_experiment::{
    Alpha, Interval,
    design::{Analysis, Arm, Assignment, CellHistory, Claim, Measured, Plan, PlanRequest, plan},
    verdict::{Better, Metric, Role, Verdict, judge},
};

use crate::cells::{Cache, Log, Prefetcher, RATES, Request};

/// Blocks of the experiment.
pub(crate) const BLOCKS: usize = 40;
/// Blocks of history before it.
const HISTORY: usize = 8;
/// The designs compared, the chosen one first.
pub(crate) const DESIGNS: [&str; 3] =
    ["paired switchback with burn-in", "paired switchback without burn-in", "clients split over shared caches"];

/// Who is to replace the champion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenger {
    Junk,
    Better,
}

impl Challenger {
    fn prefetcher(self) -> Prefetcher {
        match self {
            Self::Junk => Prefetcher::Junk,
            Self::Better => Prefetcher::Better,
        }
    }
}

/// What was measured before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Design {
    /// The longest turnover of any cell under either arm.
    pub(crate) turnover: Duration,
}

impl Design {
    /// What the planner makes of the turnover; the trial's assertion holds it to that.
    pub(crate) fn burn_in(self) -> Duration {
        self.turnover * 3
    }

    pub(crate) fn block(self) -> Duration {
        self.burn_in() * 3
    }
}

/// What one seed gave.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) control: f64,
    pub(crate) truth: f64,
    pub(crate) reach: f64,
    /// By design.
    pub(crate) found: [Interval; 3],
    pub(crate) verdict: Verdict,
}

/// Hits and requests.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    hits: f64,
    requests: f64,
}

impl Tally {
    fn add(&mut self, is_hit: bool) {
        self.requests += 1.0;
        self.hits += f64::from(u8::from(is_hit));
    }

    fn measured(self) -> Measured {
        Measured { requests: self.requests, mean: self.hits / self.requests.max(1.0) }
    }
}

/// Measures the turnover in the shadow of both arms, on a log that no trial uses.
pub(crate) fn measure(challenger: Challenger) -> Design {
    let mut longest = Duration::ZERO;
    for prefetcher in [Prefetcher::Champion, challenger.prefetcher()] {
        for cell in 0..RATES.len() {
            let mut cache = Cache::new(u64::MAX, cell);
            for request in Log::new(u64::MAX, cell).take(40_000) {
                cache.serve(&request, prefetcher);
            }
            longest = longest.max(cache.turnover.measure().expect("caches are small"));
        }
    }
    Design { turnover: longest }
}

/// Runs one seed.
pub(crate) fn trial(challenger: Challenger, design: &Design, seed: u64) -> Trial {
    let alone = |prefetcher| {
        let mut total = Tally::default();
        let mut history = Vec::new();
        for cell in 0..RATES.len() {
            let (tallies, blocks) = play(seed, cell, design.block(), design.burn_in(), |_, _| prefetcher);
            total.hits += tallies.iter().map(|tally| tally.hits).sum::<f64>();
            total.requests += tallies.iter().map(|tally| tally.requests).sum::<f64>();
            let blocks = blocks[..HISTORY].iter().map(|tally| tally.measured()).collect();
            history.push(CellHistory { name: format!("cell-{cell}"), blocks });
        }
        (total.measured().mean, history)
    };
    let (control, histories) = alone(Prefetcher::Champion);
    let (treated, _) = alone(challenger.prefetcher());
    let plan = planned(&histories, design, seed);
    let [with_burn_in, without] = switchback(challenger, &plan, &histories, seed);
    let effect = with_burn_in;
    let goal = Role::Goal { least: 0.0 };
    let metric = Metric { name: "hit_ratio".to_owned(), role: goal, better: Better::Higher, effect, control };
    let verdict = judge(&[metric], Vec::new()).verdict;
    let found = [with_burn_in, without, by_client(challenger, &plan, seed)];
    Trial { control, truth: treated - control, reach: plan.reach, found, verdict }
}

fn planned(histories: &[CellHistory], design: &Design, seed: u64) -> Plan {
    let block = design.block();
    let request = PlanRequest {
        assignment: Assignment::Cell,
        cells: histories,
        turnover: Some(design.turnover),
        block: None,
        season_blocks: 1_000,
        start: block * HISTORY as u32,
        span: block * BLOCKS as u32,
        claim: Claim { effect: 0.5, alpha: Alpha::EFFECT, power: 0.8 },
        running: &[],
        seed,
    };
    let plan = plan(&request).expect("there are cells and time enough");
    assert_eq!((plan.block, plan.burn_in), (block, design.burn_in()), "the history was cut as the plan is");
    plan
}

/// Plays a cell's log; returns whole blocks after the history, and every block from its burn-in on.
fn play(
    seed: u64,
    cell: usize,
    block: Duration,
    burn_in: Duration,
    prefetcher: impl Fn(usize, usize) -> Prefetcher,
) -> (Vec<Tally>, Vec<Tally>) {
    let (mut whole, mut after) = (vec![Tally::default(); BLOCKS], vec![Tally::default(); HISTORY + BLOCKS]);
    serve(seed, cell, block, prefetcher, |number, request, is_hit| {
        if number >= HISTORY {
            whole[number - HISTORY].add(is_hit);
        }
        if request.at % block.as_secs_f64() >= burn_in.as_secs_f64() {
            after[number].add(is_hit);
        }
    });
    (whole, after)
}

/// Serves a cell's log through history and experiment; `prefetcher` is chosen by block and client, and `see` is told of
/// each request's block and whether it was a hit.
fn serve(
    seed: u64,
    cell: usize,
    block: Duration,
    prefetcher: impl Fn(usize, usize) -> Prefetcher,
    mut see: impl FnMut(usize, &Request, bool),
) {
    let mut cache = Cache::new(seed, cell);
    for request in Log::new(seed, cell) {
        let number = (request.at / block.as_secs_f64()) as usize;
        if number >= HISTORY + BLOCKS {
            return;
        }
        let is_hit = cache.serve(&request, prefetcher(number, request.client));
        see(number, &request, is_hit);
    }
}

/// The intervals with and without the burn-in left out.
fn switchback(challenger: Challenger, plan: &Plan, histories: &[CellHistory], seed: u64) -> [Interval; 2] {
    let cells: Vec<_> = (0..RATES.len())
        .map(|cell| {
            let arm = |block: usize, _| {
                let arm = block.checked_sub(HISTORY).and_then(|block| plan.schedule.arm(cell, block));
                if arm == Some(Arm::Treated) { challenger.prefetcher() } else { Prefetcher::Champion }
            };
            play(seed, cell, plan.block, plan.burn_in, arm)
        })
        .collect();
    let analyse = |of: &dyn Fn(usize, usize) -> Tally| {
        let mut analysis = Analysis::new(plan, histories).expect("cells vary");
        for block in 0..BLOCKS {
            let measured: Vec<_> = (0..RATES.len()).map(|cell| Some(of(cell, block).measured())).collect();
            analysis.handle_block(plan, &measured);
        }
        analysis.interval()
    };
    [analyse(&|cell, block| cells[cell].1[HISTORY + block]), analyse(&|cell, block| cells[cell].0[block])]
}

/// Every other client is treated, whatever its cell: the difference of the arms' hit ratios with a 95 % interval as a
/// test for independent requests would give it.
fn by_client(challenger: Challenger, plan: &Plan, seed: u64) -> Interval {
    let mut arms = [Tally::default(); 2];
    for cell in 0..RATES.len() {
        let arm = |number: usize, client: usize| {
            let is_treated = number >= HISTORY && client % 2 == 1;
            if is_treated { challenger.prefetcher() } else { Prefetcher::Champion }
        };
        serve(seed, cell, plan.block, arm, |number, request, is_hit| {
            if number >= HISTORY {
                arms[request.client % 2].add(is_hit);
            }
        });
    }
    let [control, treated] = arms.map(Tally::measured);
    let variance = |arm: Measured| arm.mean * (1.0 - arm.mean) / arm.requests;
    Interval::around(treated.mean - control.mean, 1.96 * (variance(control) + variance(treated)).sqrt())
}
