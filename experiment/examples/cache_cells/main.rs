//! What each design makes of challengers whose true effect on the hit ratio is known: one that fetches junk and one that
//! is truly better, on caches that are the node's production index.
//!
//! Every seed draws a log of its own for six cells, plays each arm alone over all of it (the truth), then the experiment.
//!
//! `cargo run --release -p nearcast-experiment --example cache_cells [SEEDS [junk|better]]`

use std::{
    io::{self, Write},
    thread,
};

use nearcast_experiment::verdict::Verdict;

mod cells;
mod trial;

use trial::{Challenger, Trial, trial};

const SEEDS: u64 = 200;

fn main() -> io::Result<()> {
    let seeds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let only = std::env::args().nth(2);
    let mut out = io::stdout().lock();
    for (name, challenger) in [("junk", Challenger::Junk), ("better", Challenger::Better)] {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let design = trial::measure(challenger);
        writeln!(
            out,
            "{challenger:?}: turnover {:.0} s, burn-in {:.0} s, blocks of {:.0} s, {} pairs x {} blocks, {seeds} seeds",
            design.turnover.as_secs_f64(),
            design.burn_in().as_secs_f64(),
            design.block().as_secs_f64(),
            cells::RATES.len() / 2,
            trial::BLOCKS,
        )?;
        let trials = run(seeds, |seed| trial(challenger, &design, seed));
        report(&mut out, &trials)?;
    }
    Ok(())
}

/// On two threads; in the seeds' order.
fn run(seeds: u64, trial: impl Fn(u64) -> Trial + Sync) -> Vec<Trial> {
    let half = seeds / 2;
    thread::scope(|scope| {
        let first = scope.spawn(|| (0..half).map(&trial).collect::<Vec<_>>());
        let second: Vec<Trial> = (half..seeds).map(&trial).collect();
        let mut trials = first.join().expect("a trial does not panic");
        trials.extend(second);
        trials
    })
}

fn report(out: &mut impl Write, trials: &[Trial]) -> io::Result<()> {
    let count = trials.len() as f64;
    let mean = |value: &dyn Fn(&Trial) -> f64| trials.iter().map(value).sum::<f64>() / count;
    let share =
        |holds: &dyn Fn(&Trial) -> bool| trials.iter().filter(|trial| holds(trial)).count() as f64 / count * 100.0;
    let truth = mean(&|trial| trial.truth);
    writeln!(out, "  control alone {:.4}, true effect {truth:+.4}", mean(&|trial| trial.control))?;
    writeln!(out, "  {:<34} {:>9} {:>10} {:>12} {:>9}", "design", "estimate", "of truth", "within 10 %", "covered")?;
    for (index, name) in trial::DESIGNS.into_iter().enumerate() {
        let estimate = mean(&|trial| trial.found[index].estimate);
        let of_truth = mean(&|trial| trial.found[index].estimate / trial.truth) * 100.0;
        let within = share(&|trial| (trial.found[index].estimate / trial.truth - 1.0).abs() <= 0.1);
        let covered = share(&|trial| trial.found[index].covers(trial.truth));
        writeln!(out, "  {name:<34} {estimate:>+9.4} {of_truth:>8.1} % {within:>10.1} % {covered:>7.1} %")?;
    }
    let half_width = mean(&|trial| trial.found[0].half_width());
    writeln!(
        out,
        "  interval of the first: half-width {half_width:.4}, planned reach {:.4}",
        mean(&|trial| trial.reach)
    )?;
    let verdicts = [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive, Verdict::Invalid];
    let counts = verdicts.map(|verdict| {
        let count = trials.iter().filter(|trial| trial.verdict == verdict).count();
        format!("{verdict} {count}")
    });
    writeln!(out, "  verdicts of the first: {}\n", counts.join(", "))
}
