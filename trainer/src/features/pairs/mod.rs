//! Co-access: which key follows which, how soon and how recently.
//!
//! One operator counts pairs in a single pass over rows in time order, holding the last few requests of each client or
//! region ([`stream`]); its sums stay within a bound of memory and spill beyond it ([`sums`]). Partitions run side by
//! side, each on its own share of the clients or source keys, and their sorted sums are merged. The operator takes and
//! yields plain ordered rows and its sums are integers, so partitions may as well run on other machines: the merge does
//! not care who summed what.

mod stream;
mod sums;

use std::{path::Path, time::Duration};

use nearcast_datasets::KeyId;
use serde::{Deserialize, Serialize};

pub(crate) use self::sums::Run;
use self::{
    stream::{PairPlan, PairStream},
    sums::{PairSums, merge},
};
use super::{Features, TimeRange, scan::scan};
use crate::{Error, Result, progress::OnProgress};

/// Who must have asked for both keys of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        progress: OnProgress<'_>,
        each: impl FnMut(&[Pair]) -> Result<()>,
    ) -> Result<()> {
        #[cfg(feature = "cluster")]
        if let Some(cluster) = self.engine.cluster() {
            return self.engine.wait(cluster.pairs(self.jobs(scope, range, limits), progress))?.for_each(each);
        }
        let _ = progress;
        for_each_head(self.pair_runs(scope, range, limits)?, limits.successors_max, each)
    }

    /// The heaviest successors of every key in `range`, ordered by `from` and then by falling weight.
    #[cfg(test)]
    pub(crate) fn pairs(&self, scope: PairScope, range: TimeRange, limits: PairLimits) -> Result<Vec<Pair>> {
        let mut all = Vec::new();
        self.for_each_source(scope, range, limits, &mut |_| (), |pairs| {
            all.extend_from_slice(pairs);
            Ok(())
        })?;
        Ok(all)
    }

    /// The sums of all pairs as sorted runs, counted by as many threads as there are partitions.
    fn pair_runs(&self, scope: PairScope, range: TimeRange, limits: PairLimits) -> Result<Vec<Run>> {
        let partitions = self.config.engine.partitions;
        let (file, scratch) = (self.log.file(), self.log.scratch());
        let count = |part| self.pair_count(scope, limits, part, false).run(&file, range, scratch);
        let count = &count;
        std::thread::scope(|threads| {
            let workers: Vec<_> = (0..partitions).map(|partition| threads.spawn(move || count(partition))).collect();
            let mut runs = Vec::new();
            for worker in workers {
                runs.extend(worker.join().map_err(|_| Error::PairWorker)??);
            }
            Ok(runs)
        })
    }

    pub(super) fn pair_count(
        &self,
        scope: PairScope,
        limits: PairLimits,
        part: usize,
        is_by_source: bool,
    ) -> PairCount {
        let engine = &self.config.engine;
        PairCount {
            scope,
            part,
            parts: engine.partitions,
            is_by_source,
            window: self.config.pair_window,
            gap_micros: self.config.session_gap_micros(),
            clients: self.log.clients,
            regions: self.log.regions.bound(),
            half_life: limits.half_life,
            memory_bytes: engine.memory_bytes / engine.partitions,
            spill_bytes: engine.spill_bytes / engine.partitions as u64,
        }
    }

    /// What a cluster's executors are sent: one job a part.
    #[cfg(feature = "cluster")]
    fn jobs(&self, scope: PairScope, range: TimeRange, limits: PairLimits) -> Vec<crate::cluster::PairsJob> {
        let job = |part| {
            let count = self.pair_count(scope, limits, part, true);
            crate::cluster::PairsJob {
                nearcast: env!("CARGO_PKG_VERSION").to_owned(),
                log: self.shared.to_string(),
                start: range.start.micros(),
                end: range.end.micros(),
                scope,
                part,
                parts: count.parts,
                window: count.window,
                gap_micros: count.gap_micros,
                clients: count.clients,
                regions: count.regions,
                half_life_micros: u64::try_from(count.half_life.as_micros()).unwrap_or(u64::MAX),
                successors_max: limits.successors_max,
                memory_bytes: count.memory_bytes,
                spill_bytes: count.spill_bytes,
            }
        };
        (0..self.config.engine.partitions).map(job).collect()
    }
}

/// One part of counting pairs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairCount {
    /// Who must have asked for both keys.
    pub(crate) scope: PairScope,
    /// Which part, from 0.
    pub(crate) part: usize,
    /// Parts in all.
    pub(crate) parts: usize,
    /// Whether parts are made by source keys, so that no two sum the same pair, or, where clients are followed, by
    /// clients, so that each has only its share of the work.
    pub(crate) is_by_source: bool,
    /// How many requests ahead a pair may reach.
    pub(crate) window: usize,
    /// The longest silence within a session.
    pub(crate) gap_micros: i64,
    /// One more than the largest client code.
    pub(crate) clients: usize,
    /// One more than the largest region code.
    pub(crate) regions: usize,
    /// The age at which a pair counts half.
    pub(crate) half_life: Duration,
    /// Memory before sums spill.
    pub(crate) memory_bytes: usize,
    /// Disk that sums may spill to.
    pub(crate) spill_bytes: u64,
}

impl PairCount {
    /// Counts the pairs of the coded log at `file`, spilling into `scratch`.
    pub(crate) fn run(&self, file: &Path, range: TimeRange, scratch: &Path) -> Result<Vec<Run>> {
        let mut stream = PairStream::new(PairPlan {
            scope: self.scope,
            partition: self.part,
            partitions: self.parts,
            is_by_source: self.is_by_source,
            window: self.window,
            gap_micros: self.gap_micros,
            clients: self.clients,
            regions: self.regions,
            aging: Aging::new(range, self.half_life),
        });
        let mut sums = PairSums::new(scratch, self.memory_bytes, self.spill_bytes);
        scan(file, range, |rows| stream.push(rows, &mut sums))?;
        sums.finish()
    }
}

/// Calls `each` with the heaviest successors of every key, by key, heaviest successor first, ties by key.
pub(crate) fn for_each_head(
    runs: Vec<Run>,
    successors_max: usize,
    mut each: impl FnMut(&[Pair]) -> Result<()>,
) -> Result<()> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut finish = |pairs: &mut Vec<Pair>| {
        pairs.sort_unstable_by(|a, b| b.weight.total_cmp(&a.weight).then(a.to.cmp(&b.to)));
        pairs.truncate(successors_max);
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
