//! What each link between regions may carry for placement: a bucket of bytes per link, filled at a share of its bandwidth.

use std::time::Duration;

use nearcast_datasets::{Map, RegionId, Timestamp};

/// From a region, or the origin without one, to a region.
pub type Link = (Option<RegionId>, RegionId);

/// The buckets.
#[derive(Debug, Default)]
pub struct Links {
    share: f64,
    buckets: Map<Link, Bucket>,
    /// Transfers that had to wait.
    waits: u64,
    is_waiting: bool,
}

/// Bytes that may be fetched over a link before it has to be waited again.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    bytes: f64,
    at: Timestamp,
}

impl Links {
    /// Transfers may take so much of each link's bandwidth.
    pub fn new(share: f64) -> Self {
        Self { share, ..Self::default() }
    }

    /// Whether a transfer over a link of so many bytes per second may begin now. What began may be larger than what was
    /// left: the next one waits the longer.
    pub fn may_begin(&mut self, now: Timestamp, link: Link, bytes_per_second: f64) -> bool {
        let rate = bytes_per_second * self.share;
        let bucket = self.buckets.entry(link).or_insert(Bucket { bytes: rate * BURST.as_secs_f64(), at: now });
        bucket.bytes = (bucket.bytes + now.since(bucket.at).as_secs_f64() * rate).min(rate * BURST.as_secs_f64());
        bucket.at = now;
        let may_begin = bucket.bytes >= 0.0;
        self.waits += u64::from(!may_begin);
        self.is_waiting |= !may_begin;
        may_begin
    }

    /// When a transfer over a link of so many bytes per second may begin, if none does before.
    pub fn ready_at(&self, link: Link, bytes_per_second: f64) -> Timestamp {
        let Some(bucket) = self.buckets.get(&link) else { return Timestamp::MIN };
        // A microsecond later, so that nothing is asked for too early because of rounding.
        let seconds = (-bucket.bytes).max(0.0) / (bytes_per_second * self.share).max(f64::MIN_POSITIVE);
        bucket.at.after(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).saturating_add(TICK))
    }

    /// A transfer of so many bytes begins.
    pub fn begin(&mut self, link: Link, bytes: u64) {
        self.buckets.entry(link).and_modify(|bucket| bucket.bytes -= bytes as f64);
    }

    /// Whether something waits that was not looked at again yet.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// What waits is about to be looked at again.
    pub fn look_again(&mut self) {
        self.is_waiting = false;
    }

    /// Times that a transfer was found to have to wait.
    pub fn waits(&self) -> u64 {
        self.waits
    }
}

/// A link that was idle may carry so much at once.
const BURST: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_micros(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_carries_its_share_and_no_other_waits_for_it() {
        let mut links = Links::new(0.5);
        let at = |millis: i64| Timestamp::from_micros(1_000 * millis);
        let (near, far) = ((Some(RegionId(0)), RegionId(1)), (None, RegionId(1)));
        assert!(links.may_begin(at(0), far, 100.0));
        links.begin(far, 100);
        assert!(!links.may_begin(at(999), far, 100.0) && links.may_begin(at(1_000), far, 100.0));
        assert_eq!(links.ready_at(far, 100.0), at(1_000).after(TICK));
        links.begin(far, 100);
        assert!(!links.may_begin(at(1_001), far, 100.0) && links.may_begin(at(1_001), near, 100.0));
        assert_eq!((links.is_waiting(), links.waits()), (true, 2));
        links.look_again();
        assert!(!links.is_waiting());
    }
}
