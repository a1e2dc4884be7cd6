//! Which cells are compared with which.

use serde::{Deserialize, Serialize};

use super::{CellHistory, Forecast, Measured};
use crate::Moments;

/// Two cells that are compared with each other, by their place in the list of cells.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// One cell.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// The variance of a unit's score on past traffic, in squared metric times squared requests.
    pub variance: f64,
    /// How closely both cells' metrics went together.
    pub correlation: f64,
}

/// Cells in pairs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Matching {
    /// The pairs, best first.
    pub pairs: Vec<Pair>,
    /// The cell left over when their count is odd.
    pub spare: Option<usize>,
}

/// Matches cells so that the pairs' scores vary least: cells of about equal traffic that rise and fall together. Greedy,
/// then improved by exchanging partners until no exchange helps (2-opt), in a bounded number of rounds.
///
/// All histories must have the same length.
pub fn match_pairs(cells: &[CellHistory], season_blocks: usize) -> Matching {
    let errors: Vec<_> = cells.iter().map(|cell| Forecast::with_errors(&cell.blocks, season_blocks).1).collect();
    let cost = |a: usize, b: usize| score_variance(cells, &errors, a, b);
    let costs: Vec<Vec<f64>> = (0..cells.len()).map(|a| (0..cells.len()).map(|b| cost(a, b)).collect()).collect();
    let mut chosen = greedy(&costs);
    improve(&mut chosen, &costs);
    let spare = chosen.iter().find(|(_, b)| *b == NOBODY).map(|(a, _)| *a);
    let paired = chosen.iter().filter(|(_, b)| *b != NOBODY);
    let mut pairs: Vec<Pair> = paired
        .map(|(a, b)| {
            let (a, b) = (*a.min(b), *a.max(b));
            Pair { a, b, variance: costs[a][b], correlation: correlation(&cells[a], &cells[b]) }
        })
        .collect();
    pairs.sort_by(|one, other| one.variance.total_cmp(&other.variance).then(one.a.cmp(&other.a)));
    Matching { pairs, spare }
}

fn greedy(costs: &[Vec<f64>]) -> Vec<(usize, usize)> {
    let mut edges: Vec<(usize, usize)> =
        (0..costs.len()).flat_map(|a| (a + 1..costs.len()).map(move |b| (a, b))).collect();
    edges.sort_by(|(a, b), (c, d)| costs[*a][*b].total_cmp(&costs[*c][*d]));
    let mut taken = vec![false; costs.len()];
    let mut chosen = Vec::with_capacity(costs.len() / 2 + 1);
    for (a, b) in edges {
        if !taken[a] && !taken[b] {
            (taken[a], taken[b]) = (true, true);
            chosen.push((a, b));
        }
    }
    let spare = taken.iter().position(|taken| !taken);
    chosen.extend(spare.map(|spare| (spare, NOBODY)));
    chosen
}

fn improve(chosen: &mut [(usize, usize)], costs: &[Vec<f64>]) {
    let cost = |(a, b): (usize, usize)| if a == NOBODY || b == NOBODY { 0.0 } else { costs[a][b] };
    for _ in 0..ROUNDS_MAX {
        let mut improved = false;
        for first in 0..chosen.len() {
            for second in first + 1..chosen.len() {
                let ((a, b), (c, d)) = (chosen[first], chosen[second]);
                let now = cost((a, b)) + cost((c, d));
                for (one, other) in [((a, c), (b, d)), ((a, d), (b, c))] {
                    if cost(one) + cost(other) < now * (1.0 - 1e-12) {
                        (chosen[first], chosen[second], improved) = (ordered(one), ordered(other), true);
                        break;
                    }
                }
            }
        }
        if !improved {
            return;
        }
    }
}

/// Nobody always stands second.
fn ordered((a, b): (usize, usize)) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// What a unit's score varies by on past traffic, on average over pairs: what a metric's interval is tuned by.
pub(super) fn mean_variance(cells: &[CellHistory], pairs: &[Pair], season_blocks: usize) -> f64 {
    let errors: Vec<_> = cells.iter().map(|cell| Forecast::with_errors(&cell.blocks, season_blocks).1).collect();
    let sum: f64 = pairs.iter().map(|pair| score_variance(cells, &errors, pair.a, pair.b)).sum();
    sum / pairs.len().max(1) as f64
}

fn score_variance(cells: &[CellHistory], errors: &[Vec<f64>], a: usize, b: usize) -> f64 {
    let blocks = cells[a].blocks.iter().zip(&cells[b].blocks).zip(errors[a].iter().zip(&errors[b]));
    let score = |((a, b), (error_a, error_b)): ((&Measured, &Measured), (&f64, &f64))| {
        2.0 * (a.requests * error_a - b.requests * error_b)
    };
    let (mut sum, mut count) = (0.0, 0.0_f64);
    for block in blocks.filter(|((a, b), _)| a.is_measured() || b.is_measured()) {
        (sum, count) = (sum + score(block).powi(2), count + 1.0);
    }
    sum / count.max(1.0)
}

fn correlation(a: &CellHistory, b: &CellHistory) -> f64 {
    let mut both = Moments::default();
    let blocks = a.blocks.iter().zip(&b.blocks).filter(|(a, b)| a.is_measured() && b.is_measured());
    blocks.for_each(|(a, b)| both.add(a.mean, b.mean));
    both.correlation()
}

const NOBODY: usize = usize::MAX;
/// An exchange always lowers the sum, so that rounds end; this bounds how long a bad case takes.
const ROUNDS_MAX: usize = 100;
