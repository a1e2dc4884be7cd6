//! What a synthetic workload looks like.

use std::{str::FromStr, time::Duration};

use serde::Serialize;

use crate::{Error, Timestamp, error::Result};

/// A synthetic workload before it is checked.
///
/// | setting | default | meaning |
/// | --- | --- | --- |
/// | `request_count` | 1,000,000 | rows |
/// | `key_count` | 50,000 | keys that are alive at any time |
/// | `client_count` | 20,000 | clients, shared out by `regions[].share` |
/// | `regions` | eu +1 h, us −5 h, asia +8 h | names, time zones and shares of demand |
/// | `days` | 7 | expected span |
/// | `seed` | 1 | the same settings and seed give the same file, byte by byte |
/// | `zipf_exponent` | 0.9 | skew of popularity |
/// | `regional_share` | 0.3 | share of popularity that is a region's own taste |
/// | `daypart_share` | 0 | share of popularity that belongs to a part of the local day, each of [`DAYPARTS`] with a taste of its own |
/// | `follow_share` | 0.7 | share of requests within a session that follow the chain |
/// | `numbered_share` | 0.1 | share of keys in numbered families, such as `seg-00041.ts` |
/// | `drift_per_day` | 0.1 | swaps of two keys' popularity a day, as a share of the keys |
/// | `newborn_per_day` | 0.02 | keys born a day (as many retire), as a share of the keys |
/// | `diurnal_amplitude` | 0.8 | 0: no day and night; 1: no demand at all at the quietest hour |
/// | `session_requests_mean` | 10 | requests of a session, geometrically distributed |
/// | `think_mean` | 20 s | time between two requests of a session, exponential, at most 20 min |
/// | `size_median_bytes`, `size_sigma` | 20,000 and 1.5 | log-normal sizes, one per key |
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkloadConfig {
    /// Rows.
    pub request_count: u64,
    /// Keys alive at any time.
    pub key_count: u32,
    /// Clients.
    pub client_count: u32,
    /// Where clients are.
    pub regions: Vec<RegionConfig>,
    /// Expected span.
    pub days: f64,
    /// The instant at which it starts.
    pub start: Timestamp,
    /// Decides everything that is random.
    pub seed: u64,
    /// Skew of popularity.
    pub zipf_exponent: f64,
    /// Share of popularity that is a region's own taste.
    pub regional_share: f64,
    /// Share of popularity that belongs to a part of the local day.
    pub daypart_share: f64,
    /// Share of requests within a session that follow the chain.
    pub follow_share: f64,
    /// Share of keys in numbered families.
    pub numbered_share: f64,
    /// Swaps of popularity a day, as a share of the keys.
    pub drift_per_day: f64,
    /// Births a day, as a share of the keys.
    pub newborn_per_day: f64,
    /// Strength of day and night.
    pub diurnal_amplitude: f64,
    /// Mean requests of a session.
    pub session_requests_mean: f64,
    /// Mean time between two requests of a session.
    pub think_mean: Duration,
    /// Median size of an object.
    pub size_median_bytes: f64,
    /// Standard deviation of the logarithm of sizes.
    pub size_sigma: f64,
}

/// A region of a synthetic workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegionConfig {
    /// Its name.
    pub name: String,
    /// Its time zone.
    pub utc_offset_hours: f64,
    /// Its part of clients and demand, relative to the others'.
    pub share: f64,
}

impl FromStr for RegionConfig {
    type Err = String;

    /// Reads `name`, `name:+8` or `name:+8:0.5`.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default().trim().to_owned();
        let mut number = |default| match parts.next() {
            Some(part) => part.trim().parse().map_err(|_| format!("\"{part}\" in region \"{text}\" is no number")),
            None => Ok(default),
        };
        let (utc_offset_hours, share) = (number(0.0)?, number(1.0)?);
        if name.is_empty() || parts.next().is_some() {
            return Err(format!("\"{text}\" is not of the form name:utc-offset:share"));
        }
        Ok(Self { name, utc_offset_hours, share })
    }
}

impl Default for WorkloadConfig {
    fn default() -> Self {
        let region = |name: &str, utc_offset_hours, share| RegionConfig { name: name.into(), utc_offset_hours, share };
        Self {
            request_count: 1_000_000,
            key_count: 50_000,
            client_count: 20_000,
            regions: vec![region("eu", 1.0, 0.4), region("us", -5.0, 0.35), region("asia", 8.0, 0.25)],
            days: 7.0,
            // Monday, 1 January 2024.
            start: Timestamp::from_micros(1_704_067_200_000_000),
            seed: 1,
            zipf_exponent: 0.9,
            regional_share: 0.3,
            daypart_share: 0.0,
            follow_share: 0.7,
            numbered_share: 0.1,
            drift_per_day: 0.1,
            newborn_per_day: 0.02,
            diurnal_amplitude: 0.8,
            session_requests_mean: 10.0,
            think_mean: Duration::from_secs(20),
            size_median_bytes: 20_000.0,
            size_sigma: 1.5,
        }
    }
}

impl WorkloadConfig {
    /// Refuses settings that make no workload.
    ///
    /// # Errors
    /// [`Error::BadWorkload`] names the setting and says what would do.
    pub(crate) fn check(&self) -> Result<()> {
        check(self.request_count > 0, "requests", "at least one is needed")?;
        check(self.key_count >= KEY_COUNT_MIN, "keys", "at least 64 are needed")?;
        check(self.key_count <= KEY_COUNT_MAX, "keys", "at most 1,000,000,000 can be held")?;
        check((1..=1_024).contains(&self.regions.len()), "regions", "1 to 1,024 are needed")?;
        check(self.days > 0.0 && self.days <= 36_500.0, "days", "must be above 0 and at most 36,500")?;
        check((0.0..=4.0).contains(&self.zipf_exponent), "zipf", "must be from 0 to 4")?;
        for (setting, share) in [
            ("regional-share", self.regional_share),
            ("dayparts", self.daypart_share),
            ("follow", self.follow_share),
            ("numbered", self.numbered_share),
            ("amplitude", self.diurnal_amplitude),
        ] {
            check((0.0..=1.0).contains(&share), setting, "must be from 0 to 1")?;
        }
        check((0.0..=100.0).contains(&self.drift_per_day), "drift", "must be from 0 to 100")?;
        let born = self.newborn_per_day * self.days * f64::from(self.key_count);
        check(self.newborn_per_day >= 0.0, "newborn", "must not be negative")?;
        check(born <= f64::from(KEY_COUNT_MAX), "newborn", "more keys would be born than can be held")?;
        check((1.0..=1e6).contains(&self.session_requests_mean), "session-requests", "must be from 1 to 1,000,000")?;
        let think = self.think_mean.as_secs_f64();
        check((0.001..=300.0).contains(&think), "think-seconds", "must be from 0.001 to 300")?;
        check((1.0..=1e12).contains(&self.size_median_bytes), "size-median", "must be from 1 byte to 1 TB")?;
        check((0.0..=5.0).contains(&self.size_sigma), "size-sigma", "must be from 0 to 5")?;
        self.check_regions()
    }

    /// Sessions of the whole workload that are to be expected.
    pub(crate) fn session_count(&self) -> f64 {
        self.request_count as f64 / self.session_requests_mean
    }

    /// Which part of its local day a region is in.
    pub(crate) fn daypart(&self, region: usize, at: Timestamp) -> usize {
        let local_hours = at.micros() as f64 / 3_600e6 + self.regions[region].utc_offset_hours;
        ((local_hours.rem_euclid(24.0) / 24.0 * DAYPARTS as f64) as usize).min(DAYPARTS - 1)
    }

    /// The region's part of the whole.
    pub(crate) fn share(&self, region: usize) -> f64 {
        self.regions[region].share / self.regions.iter().map(|region| region.share).sum::<f64>()
    }

    /// Clients that live in a region.
    pub(crate) fn region_client_count(&self, region: usize) -> u32 {
        (f64::from(self.client_count) * self.share(region)).round() as u32
    }

    fn check_regions(&self) -> Result<()> {
        for (index, region) in self.regions.iter().enumerate() {
            let twice = self.regions[..index].iter().any(|other| other.name == region.name);
            check(!twice, "regions", "a name occurs twice")?;
            check(region.share > 0.0 && region.share.is_finite(), "regions", "shares must be above 0")?;
            check((-24.0..=24.0).contains(&region.utc_offset_hours), "regions", "time zones reach from -24 to +24 h")?;
        }
        for index in 0..self.regions.len() {
            let peak = 1.0 + self.diurnal_amplitude;
            let sessions_per_second = self.session_count() * self.share(index) * peak / (self.days * 86_400.0);
            let busy_seconds = self.session_requests_mean * self.think_mean.as_secs_f64() + SESSION_GAP.as_secs_f64();
            let needed = (2.0 * sessions_per_second * busy_seconds).ceil().max(1.0);
            if f64::from(self.region_client_count(index)) < needed {
                return Err(Error::BadWorkload {
                    setting: "clients",
                    problem: format!(
                        "region {} needs at least {needed} of its own so that no client is in two sessions at once; raise --clients (to about {}) or --days",
                        self.regions[index].name,
                        (needed / self.share(index)).ceil() + 1.0,
                    ),
                });
            }
        }
        Ok(())
    }
}

/// Parts of a day whose tastes differ: four hours each.
pub const DAYPARTS: usize = 6;

/// A client is silent for at least this long between two sessions, so that a reader can tell sessions apart.
pub(crate) const SESSION_GAP: Duration = Duration::from_secs(30 * 60);

/// No two requests of one session are further apart than this.
pub(crate) const THINK_MAX: Duration = Duration::from_secs(20 * 60);

const KEY_COUNT_MIN: u32 = 64;
const KEY_COUNT_MAX: u32 = 1_000_000_000;

fn check(holds: bool, setting: &'static str, problem: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::BadWorkload { setting, problem: problem.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_workload_are_named() {
        let default = WorkloadConfig::default();
        default.check().unwrap();
        for (config, setting) in [
            (WorkloadConfig { request_count: 0, ..default.clone() }, "requests"),
            (WorkloadConfig { key_count: 63, ..default.clone() }, "keys"),
            (WorkloadConfig { follow_share: f64::NAN, ..default.clone() }, "follow"),
            (WorkloadConfig { client_count: 10, ..default.clone() }, "clients"),
            (WorkloadConfig { regions: vec![], ..default.clone() }, "regions"),
            (WorkloadConfig { regions: vec![default.regions[0].clone(); 2], ..default.clone() }, "regions"),
        ] {
            assert!(matches!(config.check(), Err(Error::BadWorkload { setting: found, .. }) if found == setting));
        }
        WorkloadConfig { key_count: 64, ..default }.check().unwrap();
    }

    #[test]
    fn regions_read_name_offset_and_share() {
        let region =
            |name: &str, utc_offset_hours, share| Ok(RegionConfig { name: name.into(), utc_offset_hours, share });
        assert_eq!("a".parse(), region("a", 0.0, 1.0));
        assert_eq!("a:+5.5:2".parse(), region("a", 5.5, 2.0));
        for bad in ["", ":1", "a:b", "a:1:2:3"] {
            assert!(bad.parse::<RegionConfig>().is_err(), "{bad}");
        }
    }
}
