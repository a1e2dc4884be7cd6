//! What one arm's miniatures counted.

use serde::Serialize;

/// Sums over the requests for followed keys, by stratum and by group of keys.
///
/// A *stratum* is how long ago, and how often, a key had been asked for before: what its hit depends on most. Every
/// request of the whole stream counts in its stratum, so that a stratum's share is known and only what happens within it
/// is estimated from the sample (post-stratification: Cochran, Sampling Techniques, 1977, section 5A.9). A key's first
/// request, for one, misses under every arm and carries no error at all. *Groups* of keys tell how far the estimate may be
/// off: it is made again without each of them (the jackknife by groups: Shao and Tu, The Jackknife and Bootstrap, 1995).
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Every request, followed or not.
    pub(super) requests: u64,
    pub(super) request_bytes: u64,
    totals: Vec<Total>,
    /// By stratum and group.
    cells: Vec<[Cell; GROUPS]>,
    /// Prefetched bytes that landed.
    pub(super) prefetched_bytes: f64,
    /// Of those, those that left unused.
    pub(super) wasted_bytes: f64,
}

/// All requests of a stratum.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    requests: f64,
    bytes: f64,
}

/// The followed ones of a stratum and group.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    requests: f64,
    bytes: f64,
    misses: f64,
    miss_bytes: f64,
    origin_bytes: f64,
    wait_ms: f64,
    used: f64,
}

/// Where a request counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stratum(usize);

impl Stratum {
    /// Of a key that was asked for `count` times, the last time `since` requests of the whole stream ago.
    pub(super) fn of(count: u32, since: u64) -> Self {
        if count == 0 {
            return Self(0);
        }
        let recency = (u64::BITS - since.leading_zeros()).min(RECENCIES as u32 - 1) as usize;
        let often = ((u32::BITS - count.leading_zeros()) as usize / 2).min(COUNTS - 1);
        Self(1 + recency * COUNTS + often)
    }
}

/// What one followed request came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) bytes: u64,
    pub(super) is_missed: bool,
    pub(super) miss_bytes: u64,
    pub(super) origin_bytes: u64,
    pub(super) wait_seconds: f64,
    pub(super) is_prefetched: bool,
}

/// An estimate from a sample of the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sampled {
    /// The estimate.
    pub estimate: f64,
    /// How far from it the whole may be: 1.96 standard errors of the sampling of keys.
    pub error: f64,
}

/// An arm's miniatures, as `/status` shows them. Ratios are per request or byte of the whole stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ShadowAccount {
    /// Requests of the whole stream.
    pub requests: u64,
    /// Of those, for followed keys.
    pub requests_followed: u64,
    /// Requests that the node itself would have answered.
    pub hit_ratio: Sampled,
    /// Their bytes.
    pub byte_hit_ratio: Sampled,
    /// What a request would have waited for peers and origin, on average.
    pub wait_ms: Sampled,
    /// Bytes from the origin, on demand and ahead, per byte asked for.
    pub origin_ratio: Sampled,
    /// Bytes fetched ahead, per byte asked for.
    pub prefetched_ratio: f64,
    /// Bytes fetched ahead that nobody asked for before they left, per byte asked for.
    pub wasted_ratio: f64,
    /// First uses of prefetches, per request.
    pub used_ratio: f64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            requests: 0,
            request_bytes: 0,
            totals: vec![Total::default(); STRATA],
            cells: vec![Default::default(); STRATA],
            prefetched_bytes: 0.0,
            wasted_bytes: 0.0,
        }
    }
}

impl Tally {
    /// Counts any request.
    pub(super) fn add(&mut self, stratum: Stratum, bytes: u64) {
        self.requests += 1;
        self.request_bytes += bytes;
        let total = &mut self.totals[stratum.0];
        total.requests += 1.0;
        total.bytes += bytes as f64;
    }

    /// Counts what a followed request of a key with this hash came to.
    pub(super) fn add_followed(&mut self, stratum: Stratum, hash: u32, seen: &Seen) {
        let cell = &mut self.cells[stratum.0][hash as usize % GROUPS];
        cell.requests += 1.0;
        cell.bytes += seen.bytes as f64;
        cell.misses += f64::from(u8::from(seen.is_missed));
        cell.miss_bytes += seen.miss_bytes as f64;
        cell.origin_bytes += seen.origin_bytes as f64;
        cell.wait_ms += seen.wait_seconds * 1e3;
        cell.used += f64::from(u8::from(seen.is_prefetched));
    }

    /// The ratios, of miniatures that follow a share of the keys.
    pub(super) fn account(&self, share: f64) -> ShadowAccount {
        let ahead = |bytes: f64| if self.request_bytes > 0 { bytes / self.request_bytes as f64 } else { 0.0 };
        let of =
            |of: fn(&Cell) -> f64| self.sampled(share, Per::Request, &|stratum, group| of(self.cell(stratum, group)));
        let per_byte =
            |of: fn(&Cell) -> f64| self.sampled(share, Per::Byte, &|stratum, group| of(self.cell(stratum, group)));
        let origin = per_byte(|cell| cell.origin_bytes);
        let followed: f64 = self.cells.iter().flatten().map(|cell| cell.requests).sum();
        ShadowAccount {
            requests: self.requests,
            requests_followed: followed as u64,
            hit_ratio: of(|cell| cell.requests - cell.misses),
            byte_hit_ratio: per_byte(|cell| cell.bytes - cell.miss_bytes),
            wait_ms: of(|cell| cell.wait_ms),
            origin_ratio: Sampled { estimate: origin.estimate + ahead(self.prefetched_bytes), ..origin },
            prefetched_ratio: ahead(self.prefetched_bytes),
            wasted_ratio: ahead(self.wasted_bytes),
            used_ratio: of(|cell| cell.used).estimate,
        }
    }

    /// Hits per request more than `other` has. Both counted the same requests, so that most of the error cancels.
    pub(super) fn hits_more_than(&self, other: &Self, share: f64) -> Sampled {
        let more = |stratum, group| other.cell(stratum, group).misses - self.cell(stratum, group).misses;
        self.sampled(share, Per::Request, &more)
    }

    /// The same for milliseconds that a request waits less.
    pub(super) fn wait_ms_less_than(&self, other: &Self, share: f64) -> Sampled {
        let less = |stratum, group| other.cell(stratum, group).wait_ms - self.cell(stratum, group).wait_ms;
        self.sampled(share, Per::Request, &less)
    }

    fn cell(&self, stratum: usize, group: usize) -> &Cell {
        &self.cells[stratum][group]
    }

    fn sampled(&self, share: f64, per: Per, of: &dyn Fn(usize, usize) -> f64) -> Sampled {
        let sums: Vec<Sums> =
            (0..STRATA).map(|stratum| self.sums(stratum, per, of)).filter(|sums| sums.total > 0.0).collect();
        let estimate = estimate(&sums, None);
        let without: Vec<f64> = (0..GROUPS).map(|group| self::estimate(&sums, Some(group))).collect();
        let mean = without.iter().sum::<f64>() / GROUPS as f64;
        let squares: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
        let variance = squares * (GROUPS - 1) as f64 / GROUPS as f64;
        // The larger the share that is followed, the less is left to be wrong about.
        Sampled { estimate, error: 1.96 * (variance * (1.0 - share)).sqrt() }
    }

    fn sums(&self, stratum: usize, per: Per, of: &dyn Fn(usize, usize) -> f64) -> Sums {
        let mut sums = Sums { total: per.of_total(&self.totals[stratum]), ..Sums::default() };
        for group in 0..GROUPS {
            sums.values[group] = of(stratum, group);
            sums.bases[group] = per.of_cell(self.cell(stratum, group));
        }
        sums
    }
}

/// What a ratio is over.
#[derive(Clone, Copy, Debug)]
enum Per {
    Byte,
    Request,
}

impl Per {
    fn of_total(self, total: &Total) -> f64 {
        match self {
            Self::Byte => total.bytes,
            Self::Request => total.requests,
        }
    }

    fn of_cell(self, cell: &Cell) -> f64 {
        match self {
            Self::Byte => cell.bytes,
            Self::Request => cell.requests,
        }
    }
}

/// One stratum by group.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    total: f64,
    values: [f64; GROUPS],
    bases: [f64; GROUPS],
}

/// The mean over strata by their share of the whole stream, leaving a group out.
fn estimate(strata: &[Sums], without: Option<usize>) -> f64 {
    let (mut known, mut known_total, mut total) = (0.0, 0.0, 0.0);
    for sums in strata {
        let left = |of: &[f64; GROUPS]| of.iter().sum::<f64>() - without.map_or(0.0, |group| of[group]);
        let base = left(&sums.bases);
        total += sums.total;
        if base > 0.0 {
            known += left(&sums.values) / base * sums.total;
            known_total += sums.total;
        }
    }
    // Strata of which nothing was followed are taken to be like the others.
    if known_total > 0.0 && total > 0.0 { known / known_total } else { 0.0 }
}

const GROUPS: usize = 16;
/// Powers of two of requests since a key's last.
const RECENCIES: usize = 28;
/// Powers of four of how often a key was asked for.
const COUNTS: usize = 6;
const STRATA: usize = 1 + RECENCIES * COUNTS;
