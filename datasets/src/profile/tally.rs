//! What a profile counts while the log streams by.

use super::{Compulsory, Gap, Gaps, Profile, RegionProfile, zipf};
use crate::{ClientId, Dictionaries, EventChunk, KeyId, RegionId, Set, Timestamp, time::rfc3339};

/// Counts over the rows seen so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    request_count: u64,
    requested_bytes: u64,
    first_bytes: u64,
    span: Option<(Timestamp, Timestamp)>,
    key_counts: Vec<u64>,
    key_sizes: Vec<u64>,
    regions: Vec<RegionTally>,
    region_keys: Set<(RegionId, KeyId)>,
    region_clients: Set<(RegionId, ClientId)>,
    /// The longest gaps, longest first, with the instant before each.
    gaps: Vec<(u64, Timestamp)>,
    long_gaps: Vec<u64>,
}

#[derive(Clone, Debug, Default)]
struct RegionTally {
    request_count: u64,
    key_count: u64,
    client_count: u64,
}

impl Tally {
    pub(super) const fn request_count(&self) -> u64 {
        self.request_count
    }

    pub(super) fn add(&mut self, chunk: &EventChunk) {
        for row in 0..chunk.len() {
            self.add_time(chunk.timestamps[row]);
            let (key, region, size) = (chunk.keys[row], chunk.regions[row], chunk.sizes_bytes[row]);
            self.add_key(key, size);
            let region_index = usize::from(region.0);
            if region_index >= self.regions.len() {
                self.regions.resize(region_index + 1, RegionTally::default());
            }
            let tally = &mut self.regions[region_index];
            tally.request_count += 1;
            tally.key_count += u64::from(self.region_keys.insert((region, key)));
            tally.client_count += u64::from(self.region_clients.insert((region, chunk.clients[row])));
        }
        self.request_count += chunk.len() as u64;
    }

    pub(super) fn finish(self, log: String, dictionaries: &Dictionaries) -> Profile {
        let requests = self.request_count;
        let keys = self.key_counts.len() as u64;
        let (first, last) = self.span.unwrap_or_default();
        let span_seconds = last.since(first).as_secs_f64();
        let one_hits = self.key_counts.iter().filter(|count| **count == 1).count() as u64;
        let compulsory = Compulsory {
            ever: share(keys, requests),
            in_region: share(self.region_keys.len() as u64, requests),
            bytes_ever: share(self.first_bytes, self.requested_bytes),
        };
        Profile {
            schema: "nearcast.profile/1",
            log,
            requests,
            keys,
            clients: dictionaries.clients.len() as u64,
            first: rfc3339(first),
            last: rfc3339(last),
            span_seconds,
            requested_bytes: self.requested_bytes,
            distinct_bytes: self.key_sizes.iter().fold(0, |sum, size| sum.saturating_add(*size)),
            one_hit_share: share(one_hits, keys),
            zipf_exponent: zipf::exponent(&self.key_counts),
            compulsory,
            gaps: self.gaps(span_seconds),
            regions: self.region_profiles(dictionaries),
        }
    }

    fn add_time(&mut self, time: Timestamp) {
        let (first, last) = self.span.unwrap_or((time, time));
        let gap = u64::try_from(time.since(last).as_micros()).unwrap_or(u64::MAX);
        if self.gaps.len() < LONGEST_GAPS || self.gaps.last().is_some_and(|shortest| gap > shortest.0) {
            let place = self.gaps.partition_point(|kept| kept.0 >= gap);
            self.gaps.insert(place, (gap, last));
            self.gaps.truncate(LONGEST_GAPS);
        }
        // Whether it is long is known at the end only; so many hours fit into no log that this could grow large.
        if gap > HOUR_MICROS {
            self.long_gaps.push(gap);
        }
        self.span = Some((first, time));
    }

    fn add_key(&mut self, key: KeyId, size: u64) {
        let index = key.0 as usize;
        if index >= self.key_counts.len() {
            self.key_counts.resize(index + 1, 0);
            self.key_sizes.resize(index + 1, 0);
        }
        if self.key_counts[index] == 0 {
            self.first_bytes = self.first_bytes.saturating_add(size);
        }
        self.key_counts[index] += 1;
        self.key_sizes[index] = size;
        self.requested_bytes = self.requested_bytes.saturating_add(size);
    }

    fn gaps(&self, span_seconds: f64) -> Gaps {
        let mean_seconds = span_seconds / (self.request_count.max(2) - 1) as f64;
        let seconds = |micros: u64| micros as f64 / 1e6;
        let long_count = self.long_gaps.iter().filter(|gap| seconds(**gap) > 100.0 * mean_seconds).count() as u64;
        let longest = self.gaps.iter().filter(|gap| gap.0 > 0);
        let longest = longest.map(|(gap, after)| Gap { after: rfc3339(*after), seconds: seconds(*gap) });
        Gaps { mean_seconds, long_count, longest: longest.collect() }
    }

    fn region_profiles(&self, dictionaries: &Dictionaries) -> Vec<RegionProfile> {
        let mut regions_of_key = vec![0_u32; self.key_counts.len()];
        for (_, key) in &self.region_keys {
            regions_of_key[key.0 as usize] += 1;
        }
        let mut shared = vec![0_u64; self.regions.len()];
        for (region, key) in &self.region_keys {
            shared[usize::from(region.0)] += u64::from(regions_of_key[key.0 as usize] > 1);
        }
        let name = |index: usize| dictionaries.regions.name(u32::try_from(index).ok()?).map(|name| name.to_string());
        let profiles = self.regions.iter().zip(shared).enumerate().map(|(index, (tally, shared))| RegionProfile {
            name: name(index).unwrap_or_default(),
            requests: tally.request_count,
            request_share: share(tally.request_count, self.request_count),
            keys: tally.key_count,
            clients: tally.client_count,
            compulsory: share(tally.key_count, tally.request_count),
            shared_keys: share(shared, tally.key_count),
        });
        let mut profiles: Vec<RegionProfile> = profiles.collect();
        profiles.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.name.cmp(&b.name)));
        profiles
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How many of the longest gaps a profile names.
const LONGEST_GAPS: usize = 3;
const HOUR_MICROS: u64 = 3_600_000_000;
