//! The calibrator: what the gate's probabilities turn out to mean.

use nearcast_models::gate::features::log_odds;

/// P(used) of a candidate, as the gate sees it and as it is corrected.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claim {
    pub raw: f32,
    pub corrected: f32,
}

/// Corrects claimed probabilities by what became of earlier claims like them.
///
/// The gate is linear in its features, so where it is surest it may be wrong in one direction. Claims are counted in
/// bins of log-odds with what came of them, old ones fading; a claim is moved, on the log-odds scale, as far as those
/// of its neighbourhood were off on average. Without evidence nothing is moved.
#[derive(Debug)]
pub(super) struct Calibrator {
    bins: [Bin; BINS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    count: f32,
    claimed: f32,
    used: f32,
}

impl Default for Calibrator {
    fn default() -> Self {
        Self { bins: [Bin::default(); BINS] }
    }
}

impl Calibrator {
    /// What became of a claim.
    pub(super) fn learn(&mut self, claimed: f32, used: bool) {
        let bin = &mut self.bins[place(claimed).0];
        bin.count = bin.count.mul_add(KEPT, 1.0);
        bin.claimed = bin.claimed.mul_add(KEPT, claimed);
        bin.used = bin.used.mul_add(KEPT, f32::from(u8::from(used)));
    }

    /// The probability that a claim stands for.
    pub(super) fn correct(&self, claimed: f32) -> f32 {
        let (bin, offset) = place(claimed);
        let towards = if offset < 0.0 { bin.saturating_sub(1) } else { (bin + 1).min(BINS - 1) };
        let share = offset.abs();
        let shift = (1.0 - share) * self.bins[bin].shift() + share * self.bins[towards].shift();
        let odds = log_odds(claimed) + shift;
        1.0 / (1.0 + (-odds).exp())
    }
}

impl Bin {
    /// How far claims were off, in log-odds, shrunk towards nothing where there are few.
    fn shift(&self) -> f32 {
        if self.count < 1.0 {
            return 0.0;
        }
        let mean = self.claimed / self.count;
        let used = PRIOR_CLAIMS.mul_add(mean, self.used) / (self.count + PRIOR_CLAIMS);
        log_odds(used) - log_odds(mean)
    }
}

/// The bin of a claim and how far it lies from the bin's middle, in bins: -0.5 to 0.5.
fn place(claimed: f32) -> (usize, f32) {
    let position = ((log_odds(claimed) - LEAST_ODDS) * BINS_PER_UNIT).clamp(0.0, BINS as f32 - 0.5);
    (position as usize, position.fract() - 0.5)
}

/// Two bins per unit of log-odds, from P = 0.002 to P = 0.998.
const BINS: usize = 24;
const BINS_PER_UNIT: f32 = 2.0;
const LEAST_ODDS: f32 = -6.0;
/// Claims that are taken to have come true as claimed before there were any.
const PRIOR_CLAIMS: f32 = 20.0;
/// What remains of a bin with every claim that falls in: a memory of about a thousand.
const KEPT: f32 = 0.999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_claims_to_what_became_of_them_and_leaves_others_alone() {
        let mut calibrator = Calibrator::default();
        assert!((calibrator.correct(0.3) - 0.3).abs() < 1e-4);
        for step in 0..10_000_usize {
            calibrator.learn([0.75, 0.87, 0.8, 0.84][step / 2 % 4], step % 2 == 0);
            calibrator.learn(0.1, step % 10 == 0);
        }
        assert!((calibrator.correct(0.8) - 0.5).abs() < 0.05, "{}", calibrator.correct(0.8));
        assert!((calibrator.correct(0.1) - 0.1).abs() < 0.02, "{}", calibrator.correct(0.1));
        assert!((calibrator.correct(0.002) - 0.002).abs() < 1e-3, "{}", calibrator.correct(0.002));
    }

    #[test]
    fn extremes_stay_probabilities() {
        let mut calibrator = Calibrator::default();
        (0..5_000).for_each(|_| calibrator.learn(1.0, false));
        for claimed in [0.0, 0.5, 1.0] {
            assert!((0.0..=1.0).contains(&calibrator.correct(claimed)));
        }
    }
}
