//! Co-access: which key follows which, how soon and how recently.
//!
//! One operator counts pairs in a single pass over rows in time order, holding the last few requests of each client or
//! region ([`stream`]); its sums stay within a bound of memory and spill beyond it ([`sums`]). Partitions run side by
//! side, each on its own share of the clients or source keys, and their sorted sums are merged. The operator takes and
//! yields plain ordered rows and its sums are integers, so partitions may as well run on other machines: the merge does
//! not care who summed what.

mod stream;
mod sums;

use std::time::Duration;

use nearcast_datasets::KeyId;

use self::{
    stream::{PairPlan, PairStream},
    sums::{PairSums, Run, merge},
};
use super::{Features, TimeRange, scan::scan};
use crate::{Error, Result};

/// Who must have asked for both keys of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PairScope {
    /// The same client within one session.
    Client,
    /// Different clients of the same region.
    Region,
}

/// How many pairs are kept and how long they count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairLimits {
    /// Most successors of one key.
    pub(crate) successors_max: usize,
    /// The age at which a pair counts half.
    pub(crate) half_life: Duration,
}

/// Two keys requested one shortly after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    /// The earlier key.
    pub(crate) from: KeyId,
    /// The later key.
    pub(crate) to: KeyId,
    /// Times seen, each weighted by one over the distance and halved per half-life before the end of the range.
    pub(crate) weight: f64,
}

impl Features {
    /// How often each key was requested in `range`, halved per half-life before its end, ordered by key.
    pub(crate) fn occurrences(&self, range: TimeRange, half_life: Duration) -> Result<Vec<(KeyId, f64)>> {
        let mut sums = vec![0_i64; self.log.keys.bound()];
        let aging = Aging::new(range, half_life);
        self.scan(range, |rows| {
            for (at, key) in rows.at.iter().zip(rows.key) {
                sums[*key as usize] += fixed(1, aging.factor(*at));
            }
            Ok(())
        })?;
        let counted = (0..).zip(sums).filter(|(_, sum)| *sum > 0);
        Ok(counted.map(|(key, sum)| (KeyId(key), from_fixed(sum))).collect())
    }

    /// Calls `each` with the heaviest successors of every key in `range`, by key, heaviest successor first, ties by key.
    pub(crate) fn for_each_source(
        &self,
        scope: PairScope,
        range: TimeRange,
        limits: PairLimits,
        mut each: impl FnMut(&[Pair]) -> Result<()>,
    ) -> Result<()> {
        let runs = self.pair_runs(scope, range, limits)?;
        let mut pairs: Vec<Pair> = Vec::new();
        let mut finish = |pairs: &mut Vec<Pair>| {
            pairs.sort_unstable_by(|a, b| b.weight.total_cmp(&a.weight).then(a.to.cmp(&b.to)));
            pairs.truncate(limits.successors_max);
            let answer = if pairs.is_empty() { Ok(()) } else { each(pairs) };
            pairs.clear();
            answer
        };
        merge(runs, |(from, to), sum| {
            if pairs.last().is_some_and(|pair| pair.from != from) {
                finish(&mut pairs)?;
            }
            if sum > 0 {
                pairs.push(Pair { from, to, weight: from_fixed(sum) });
            }
            Ok(())
        })?;
        finish(&mut pairs)
    }

    /// The heaviest successors of every key in `range`, ordered by `from` and then by falling weight.
    #[cfg(test)]
    pub(crate) fn pairs(&self, scope: PairScope, range: TimeRange, limits: PairLimits) -> Result<Vec<Pair>> {
        let mut all = Vec::new();
        self.for_each_source(scope, range, limits, |pairs| {
            all.extend_from_slice(pairs);
            Ok(())
        })?;
        Ok(all)
    }

    /// The sums of all pairs as sorted runs, counted by as many threads as there are partitions.
    fn pair_runs(&self, scope: PairScope, range: TimeRange, limits: PairLimits) -> Result<Vec<Run>> {
        let engine = &self.config.engine;
        let partitions = engine.partitions;
        let (file, scratch) = (self.log.file(), self.log.scratch());
        let count = |partition: usize| -> Result<Vec<Run>> {
            let mut stream = PairStream::new(PairPlan {
                scope,
                partition,
                partitions,
                window: self.config.pair_window,
                gap_micros: self.config.session_gap_micros(),
                clients: self.log.clients,
                regions: self.log.regions.bound(),
                aging: Aging::new(range, limits.half_life),
            });
            let (memory, spill) = (engine.memory_bytes / partitions, engine.spill_bytes / partitions as u64);
            let mut sums = PairSums::new(scratch, memory, spill);
            scan(&file, range, |rows| stream.push(rows, &mut sums))?;
            sums.finish()
        };
        std::thread::scope(|threads| {
            let workers: Vec<_> = (0..partitions).map(|partition| threads.spawn(move || count(partition))).collect();
            let mut runs = Vec::new();
            for worker in workers {
                runs.extend(worker.join().map_err(|_| Error::PairWorker)??);
            }
            Ok(runs)
        })
    }
}

/// What a request counts by its age.
#[derive(Clone, Copy, Debug)]
struct Aging {
    end_micros: i64,
    per_micro: f64,
}

impl Aging {
    fn new(range: TimeRange, half_life: Duration) -> Self {
        Self { end_micros: range.end.micros(), per_micro: 1.0 / half_life.as_micros().max(1) as f64 }
    }

    fn factor(self, at_micros: i64) -> f32 {
        ((at_micros - self.end_micros) as f64 * self.per_micro).exp2() as f32
    }
}

/// The weight of one follow-up at `distance` in fixed point, whose sums do not depend on their order.
fn fixed(distance: i64, factor: f32) -> i64 {
    // Nothing is negative, so that half and floor round.
    ((WEIGHT_ONE / distance) as f64 * f64::from(factor) + 0.5) as i64
}

fn from_fixed(weight: i64) -> f64 {
    weight as f64 / WEIGHT_ONE as f64
}

/// The fixed-point value of a weight of one.
const WEIGHT_ONE: i64 = 1 << 20;
