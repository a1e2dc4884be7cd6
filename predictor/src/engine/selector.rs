//! The selector: how good a candidate must be so that the budget goes to the best ones.

/// Learns what the byte budget is worth: the ratio of value to expected waste above which candidates, taken all
/// together, waste just as much as is granted.
///
/// Candidates come one at a time, so "best first" needs a bar that is known before the better ones come. The selector
/// keeps a histogram of what was proposed lately (expected waste by ratio, in quarter octaves) beside the bytes that
/// were granted lately, and sets the bar where the waste above it would use them up.
#[derive(Debug)]
pub(super) struct Selector {
    waste: [f32; BINS],
    granted: f32,
    /// Weight of what is recorded now: later entries count more, instead of all earlier ones less.
    weight: f32,
    growth: f32,
    recorded: u32,
    bar: f64,
}

impl Selector {
    pub(super) fn new(half_life_requests: f64) -> Self {
        let growth = (std::f64::consts::LN_2 / half_life_requests).exp() as f32;
        Self { waste: [0.0; BINS], granted: 0.0, weight: 1.0, growth, recorded: 0, bar: 0.0 }
    }

    /// One request later: this many bytes were granted for it. `catch_up` scales what may be spent, above one when
    /// earlier allowance was left over.
    pub(super) fn advance(&mut self, granted_bytes: f64, catch_up: f64) {
        self.granted += granted_bytes as f32 * self.weight;
        self.weight *= self.growth;
        self.recorded += 1;
        if self.recorded.is_multiple_of(BAR_EVERY) {
            self.set_bar(catch_up);
        }
        if self.weight > WEIGHT_MAX {
            let factor = 1.0 / self.weight;
            self.waste.iter_mut().for_each(|bin| *bin *= factor);
            self.granted *= factor;
            self.weight = 1.0;
        }
    }

    /// A candidate was proposed: expected value in seconds per byte of expected waste.
    pub(super) fn record(&mut self, ratio: f64, waste_bytes: f64) {
        self.waste[bin(ratio)] += waste_bytes as f32 * self.weight;
    }

    /// The least ratio worth its budget, in seconds per byte; zero while the budget suffices for everything.
    pub(super) fn bar(&self) -> f64 {
        self.bar
    }

    fn set_bar(&mut self, catch_up: f64) {
        let room = self.granted * catch_up as f32;
        let mut waste = 0.0;
        self.bar = 0.0;
        for (index, bin) in self.waste.iter().enumerate().rev() {
            waste += bin;
            if waste > room {
                // The bin that straddles the bar is left in: the hard budget catches what is too much.
                self.bar = ratio_of(index);
                return;
            }
        }
    }
}

fn bin(ratio: f64) -> usize {
    let octaves = ratio.max(f64::MIN_POSITIVE).log2();
    ((octaves - LOWEST_OCTAVE) * BINS_PER_OCTAVE).clamp(0.0, (BINS - 1) as f64) as usize
}

fn ratio_of(bin: usize) -> f64 {
    (LOWEST_OCTAVE + bin as f64 / BINS_PER_OCTAVE).exp2()
}

const BINS: usize = 288;
const BINS_PER_OCTAVE: f64 = 4.0;
/// From a nanosecond per 128 MiB, which nobody would buy, up to 72 octaves more.
const LOWEST_OCTAVE: f64 = -57.0;
const BAR_EVERY: u32 = 16;
const WEIGHT_MAX: f32 = 1e12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_admits_just_the_best_that_the_budget_pays_for() {
        let mut selector = Selector::new(1_000.0);
        for step in 0..10_000 {
            // Ten equally wasteful classes, each twice as good as the one before; the budget pays for three.
            selector.record(1e-6 * f64::from(1 << (step % 10)), 1.0);
            selector.advance(0.31, 1.0);
        }
        let admitted = (0..10).filter(|class| 1e-6 * f64::from(1 << class) >= selector.bar()).count();
        assert!((3..=4).contains(&admitted), "{admitted} classes at bar {}", selector.bar());
    }

    #[test]
    fn bar_is_zero_while_the_budget_pays_for_everything() {
        let mut selector = Selector::new(100.0);
        for _ in 0..100 {
            selector.record(1e-9, 1.0);
            selector.advance(2.0, 1.0);
        }
        assert!(selector.bar() <= 0.0);
    }
}
