//! Decayed request counts that need no decaying: favourites of a region, and of everybody.
//!
//! A request at time t is worth 2^(t / half-life), so that counts only ever grow and can be compared without looking at
//! the clock ("forward decay": Cormode et al., ICDE 2009). Such numbers are kept as their log2.

use nearcast_datasets::KeyId;

use crate::kernel;

/// log2 of nothing.
pub(super) const NOTHING: f64 = f64::NEG_INFINITY;

/// Which share of `all` a count is; both are log2 of forward-decayed counts.
#[inline(always)]
pub(super) fn share(count: f64, all: f64) -> f32 {
    kernel::exp((count - all).min(0.0) as f32 * std::f32::consts::LN_2)
}

/// log2(2^a + 2^b).
pub(super) fn add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == NOTHING { high } else { high + (low - high).exp2().ln_1p() * std::f64::consts::LOG2_E }
}

/// The keys with the highest decayed counts, kept approximately: a newcomer replaces the lowest when it is above it.
#[derive(Clone, Debug)]
pub(super) struct HotList {
    /// Keys with the log2 of their forward-decayed counts.
    keys: Vec<(KeyId, f64)>,
    /// No count of a full list is lower: what the lowest was when it was last looked for. Counts only grow.
    floor: f64,
}

impl Default for HotList {
    fn default() -> Self {
        Self { keys: Vec::new(), floor: NOTHING }
    }
}

impl HotList {
    /// A key is requested; `worth` is the time in half-lives. A newcomer claims what it displaces, as in space-saving
    /// (Metwally et al., ICDT 2005), since its earlier requests were not counted.
    pub(super) fn observe(&mut self, key: KeyId, worth: f64, keys_max: usize) {
        if let Some((_, count)) = self.keys.iter_mut().find(|(held, _)| *held == key) {
            *count = add(*count, worth);
        } else if self.keys.len() < keys_max {
            self.keys.push((key, worth));
        } else if let Some(lowest) = self.keys.iter_mut().min_by(|a, b| a.1.total_cmp(&b.1)) {
            *lowest = (key, add(lowest.1, worth));
        }
    }

    /// A key with a count that is known from elsewhere.
    pub(super) fn insert(&mut self, key: KeyId, count: f64, keys_max: usize) {
        if let Some(held) = self.keys.iter_mut().find(|(held, _)| *held == key) {
            held.1 = count;
        } else if self.keys.len() < keys_max {
            self.keys.push((key, count));
        } else if count > self.floor
            && let Some(lowest) = self.keys.iter_mut().min_by(|a, b| a.1.total_cmp(&b.1))
        {
            self.floor = lowest.1;
            if lowest.1 < count {
                *lowest = (key, count);
            }
        }
    }

    pub(super) fn forget(&mut self, key: KeyId) {
        self.keys.retain(|(held, _)| *held != key);
        self.floor = NOTHING;
    }

    /// In no order.
    pub(super) fn keys(&self) -> &[(KeyId, f64)] {
        &self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_with_plain_decay() {
        let (mut log, mut plain) = (NOTHING, 0.0_f64);
        for time in [0.0, 0.5, 3.0, 3.0, 10.0] {
            log = add(log, time);
            plain += f64::exp2(time);
        }
        assert!((log.exp2() - plain).abs() < 1e-9 * plain);
        assert!(add(NOTHING, NOTHING) < -1e300);
    }

    #[test]
    fn favourites_are_the_recently_frequent_keys() {
        let mut hot = HotList::default();
        for step in 0..400_u32 {
            let time = f64::from(step) / 20.0;
            let favourite = if step < 200 { 1 } else { 2 };
            hot.observe(KeyId(favourite), time, 4);
            hot.observe(KeyId(100 + step), time, 4);
        }
        let best = hot.keys().iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(key, _)| key.0);
        assert_eq!((best, hot.keys().len()), (Some(2), 4));
    }
}
