//! One pass over rows in time order that finds every pair of a partition.

use nearcast_datasets::KeyId;

use super::{Aging, PairScope, fixed, sums::PairSums};
use crate::{Result, features::scan::Rows};

/// What a [`PairStream`] looks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct PairPlan {
    pub(super) scope: PairScope,
    /// Which share of the work is this stream's: of the clients, or of the source keys.
    pub(super) partition: usize,
    pub(super) partitions: usize,
    /// Whether clients, too, are shared out by source keys: every stream sees all of them then, and no two streams sum
    /// the same pair. Regions always are.
    pub(super) is_by_source: bool,
    /// How many requests ahead a pair may reach.
    pub(super) window: usize,
    /// The longest silence within a session.
    pub(super) gap_micros: i64,
    pub(super) clients: usize,
    pub(super) regions: usize,
    pub(super) aging: Aging,
}

impl PairPlan {
    /// Which clients are this stream's, by the remainder of their codes.
    fn client_partitions(&self) -> (usize, usize) {
        if self.is_by_source { (0, 1) } else { (self.partition, self.partitions) }
    }

    /// Which source keys are this stream's, by the remainder of their codes.
    fn source_partitions(&self) -> (u32, u32) {
        (self.partition as u32, self.partitions as u32)
    }
}

/// The last requests of each client of the partition, or of each region.
#[derive(Debug)]
pub(super) struct PairStream {
    plan: PairPlan,
    /// When the client asked last; not used for regions.
    last_at: Vec<i64>,
    /// `window` places per client or region, a ring.
    recent: Vec<Recent>,
    /// Requests in the ring, at most `window`, and the place of the next.
    fill: Vec<(u8, u8)>,
}

/// A request that later ones may follow.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    key: u32,
    /// Who asked; not used for clients.
    client: u32,
    factor: f32,
}

impl PairStream {
    pub(super) fn new(plan: PairPlan) -> Self {
        let lanes = match plan.scope {
            PairScope::Client => plan.clients.div_ceil(plan.client_partitions().1),
            PairScope::Region => plan.regions,
        };
        let last_at = if plan.scope == PairScope::Client { vec![i64::MIN; lanes] } else { Vec::new() };
        Self { plan, last_at, recent: vec![Recent::default(); lanes * plan.window], fill: vec![(0, 0); lanes] }
    }

    /// Adds the pairs that end in these rows; rows come in time order.
    pub(super) fn push(&mut self, rows: Rows<'_>, sums: &mut PairSums<'_>) -> Result<()> {
        match self.plan.scope {
            PairScope::Client => self.push_clients(rows, sums),
            PairScope::Region => self.push_regions(rows, sums),
        }
    }

    fn push_clients(&mut self, rows: Rows<'_>, sums: &mut PairSums<'_>) -> Result<()> {
        let (partition, partitions) = self.plan.client_partitions();
        let (share, shares) = if self.plan.is_by_source { self.plan.source_partitions() } else { (0, 1) };
        for ((at, client), key) in rows.at.iter().zip(rows.client).zip(rows.key) {
            let client = *client as usize;
            if client % partitions != partition {
                continue;
            }
            let lane = client / partitions;
            let last = std::mem::replace(&mut self.last_at[lane], *at);
            // An instant that cannot be far enough from the first one means no request before.
            if last == i64::MIN || *at - last > self.plan.gap_micros {
                self.fill[lane].0 = 0;
            }
            self.follow(lane, *key, sums, |before| shares == 1 || before.key % shares == share)?;
            self.remember(lane, Recent { key: *key, client: 0, factor: self.plan.aging.factor(*at) });
        }
        Ok(())
    }

    fn push_regions(&mut self, rows: Rows<'_>, sums: &mut PairSums<'_>) -> Result<()> {
        let (partition, partitions) = self.plan.source_partitions();
        for (((at, client), region), key) in rows.at.iter().zip(rows.client).zip(rows.region).zip(rows.key) {
            let (lane, client) = (*region as usize, *client);
            self.follow(lane, *key, sums, |before| before.client != client && before.key % partitions == partition)?;
            self.remember(lane, Recent { key: *key, client, factor: self.plan.aging.factor(*at) });
        }
        Ok(())
    }

    /// Counts `key` as a successor of the lane's last requests that `counts` holds for.
    fn follow(&self, lane: usize, key: u32, sums: &mut PairSums<'_>, counts: impl Fn(&Recent) -> bool) -> Result<()> {
        let window = self.plan.window;
        let ring = &self.recent[lane * window..][..window];
        let (count, next) = self.fill[lane];
        for distance in 1..=usize::from(count) {
            let before = &ring[(usize::from(next) + window - distance) % window];
            if before.key != key && counts(before) {
                sums.add((KeyId(before.key), KeyId(key)), fixed(distance as i64, before.factor))?;
            }
        }
        Ok(())
    }

    fn remember(&mut self, lane: usize, request: Recent) {
        let window = self.plan.window;
        let (count, next) = &mut self.fill[lane];
        self.recent[lane * window + usize::from(*next)] = request;
        // The window is at most 16.
        *count = (*count + 1).min(window as u8);
        *next = (*next + 1) % window as u8;
    }
}
