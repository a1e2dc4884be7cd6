//! What is planned, and what is refused.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::Alpha;

const HOUR: Duration = Duration::from_secs(3_600);

/// Cells whose metric shares a tide with one other cell: 0 with 1, 2 with 3 and so on, shuffled by `order`.
fn cells(order: &[usize]) -> Vec<CellHistory> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let tides: Vec<Vec<f64>> = (0..=order.len() / 2).map(|_| (0..48).map(|_| rng.random::<f64>()).collect()).collect();
    order
        .iter()
        .map(|cell| {
            let mean = |block: usize| 0.5 + 0.2 * tides[cell / 2][block] + 0.004 * rng.random::<f64>();
            let blocks = (0..48).map(mean).map(|mean| Measured { requests: 1_000.0, mean }).collect();
            CellHistory { name: format!("cell-{cell}"), blocks }
        })
        .collect()
}

fn request(cells: &[CellHistory]) -> PlanRequest<'_> {
    PlanRequest {
        assignment: Assignment::Cell,
        cells,
        turnover: Some(HOUR / 3),
        block: None,
        season_blocks: 8,
        start: HOUR * 1_000,
        span: HOUR * 24 * 7,
        claim: Claim { effect: 0.01, alpha: Alpha::EFFECT, power: 0.8 },
        running: &[],
        seed: 1,
    }
}

fn check_refused(request: &PlanRequest<'_>, expected: &str) {
    let refusal = plan(request).unwrap_err().to_string();
    assert!(refusal.contains(expected), "{refusal}");
}

#[test]
fn cells_that_rise_and_fall_together_are_paired() {
    let cells = cells(&[4, 0, 3, 1, 5, 2, 6]);
    let found = match_pairs(&cells, 8);
    let name = |cell: usize| cells[cell].name.as_str();
    let mut pairs: Vec<_> = found.pairs.iter().map(|pair| [name(pair.a), name(pair.b)]).collect();
    pairs.iter_mut().for_each(|pair| pair.sort_unstable());
    pairs.sort_unstable();
    assert_eq!(pairs, [["cell-0", "cell-1"], ["cell-2", "cell-3"], ["cell-4", "cell-5"]]);
    assert_eq!(found.spare.map(name), Some("cell-6"));
    assert!(found.pairs.iter().all(|pair| pair.correlation > 0.95), "{found:?}");
}

#[test]
fn a_plan_says_who_is_treated_when_and_what_can_be_found() {
    let cells = cells(&[0, 1, 2, 3, 4, 5]);
    let plan = plan(&request(&cells)).unwrap();
    assert_eq!((plan.block, plan.burn_in, plan.schedule.blocks()), (HOUR * 3, HOUR, 56));
    assert!(plan.reach <= 0.01 && plan.blocks_needed <= 56, "{} {}", plan.reach, plan.blocks_needed);
    for block in 0..56 {
        for pair in &plan.matching.pairs {
            let arms = [plan.schedule.arm(pair.a, block), plan.schedule.arm(pair.b, block)];
            assert!(arms.contains(&Some(Arm::Treated)) && arms.contains(&Some(Arm::Control)));
        }
    }
    let start = plan.start;
    assert_eq!(plan.block_at(start - HOUR), None);
    assert_eq!(plan.block_at(start), Some((0, false)));
    assert_eq!(plan.block_at(start + HOUR * 4), Some((1, true)));
    assert_eq!(plan.block_at(plan.end()), None);
    let again = super::plan(&request(&cells)).unwrap();
    assert_eq!(serde_json::to_string(&plan).unwrap(), serde_json::to_string(&again).unwrap());
    let other = super::plan(&PlanRequest { seed: 2, ..request(&cells) }).unwrap();
    assert_ne!(plan.schedule, other.schedule);
}

#[test]
fn what_cannot_be_answered_is_refused_with_what_can() {
    let cells = cells(&[0, 1, 2, 3]);
    let base = request(&cells);
    check_refused(&PlanRequest { assignment: Assignment::Client, ..base.clone() }, "share every cache");
    check_refused(&PlanRequest { cells: &cells[..1], ..base.clone() }, "1 cell(s)");
    let twice = [cells[0].clone(), cells[0].clone()];
    check_refused(&PlanRequest { cells: &twice, ..base.clone() }, "named twice");
    check_refused(&PlanRequest { turnover: None, ..base.clone() }, "evicted too little");
    check_refused(&PlanRequest { block: Some(HOUR * 2), ..base.clone() }, "make it 10800s");
    check_refused(&PlanRequest { span: HOUR * 6, ..base.clone() }, "4 units");
    let small = Claim { effect: 1e-5, ..base.claim };
    check_refused(&PlanRequest { claim: small, ..base.clone() }, "blocks would do");
    let none = Claim { effect: 0.0, ..base.claim };
    check_refused(&PlanRequest { claim: none, ..base.clone() }, "no number of blocks");
    let mut short = cells.clone();
    short[2].blocks.pop();
    check_refused(&PlanRequest { cells: &short, ..base.clone() }, "cell-2 has 47 blocks of history, 48 are needed");
}

#[test]
fn overlapping_experiments_are_refused_until_the_other_has_ended() {
    let cells = cells(&[0, 1, 2, 3]);
    let other = |until| [Running { name: "other".to_owned(), cells: vec!["cell-3".to_owned(), "x".to_owned()], until }];
    let running = other(HOUR * 1_001);
    check_refused(&PlanRequest { running: &running, ..request(&cells) }, "\"other\" has cell-3 until its end");
    assert!(plan(&PlanRequest { running: &other(HOUR * 1_000), ..request(&cells) }).is_ok());
}

#[test]
fn an_effect_is_found_that_the_tides_would_hide() {
    let order = [0, 1, 2, 3, 4, 5];
    let cells = cells(&order);
    let plan = plan(&request(&cells)).unwrap();
    let mut analysis = Analysis::new(&plan, &cells).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    assert_eq!(analysis.interval(), crate::Interval::UNKNOWN);
    for block in 0..plan.schedule.blocks() {
        let tides: [f64; 3] = rng.random();
        let measured: Vec<_> = (0..6)
            .map(|cell| {
                let effect = if plan.schedule.arm(cell, block) == Some(Arm::Treated) { 0.01 } else { 0.0 };
                let mean = 0.5 + 0.2 * tides[cell / 2] + 0.004 * rng.random::<f64>() + effect;
                Some(Measured { requests: if cell == 0 { 1_500.0 } else { 1_000.0 }, mean })
            })
            .collect();
        analysis.handle_block(&plan, &measured);
    }
    let found = analysis.interval();
    assert!(found.covers(0.01) && found.low > 0.0, "{found:?}");
    assert_eq!(analysis.units(), 168);
}
