//! Describes a log in one pass: what there is to cache, and how hard that is.

mod tally;
mod zipf;

use serde::Serialize;

use self::tally::Tally;
use crate::{Dictionaries, Error, LogReader, LogSource, error::Result};

/// What a log holds. Shares are between 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// Names this document's form: `nearcast.profile/1`.
    pub schema: &'static str,
    /// The log.
    pub log: String,
    /// Number of requests.
    pub requests: u64,
    /// Number of distinct keys.
    pub keys: u64,
    /// Number of distinct clients.
    pub clients: u64,
    /// The first request's instant, RFC 3339 in UTC.
    pub first: String,
    /// The last request's instant, RFC 3339 in UTC.
    pub last: String,
    /// Seconds between the two.
    pub span_seconds: f64,
    /// Bytes of the objects asked for, counted at every request.
    pub requested_bytes: u64,
    /// Bytes of the distinct objects, at their last size: a cache of this size evicts nothing.
    pub distinct_bytes: u64,
    /// Share of the keys that are asked for just once.
    pub one_hit_share: f64,
    /// Exponent of the Zipf law most likely to yield the keys' request counts; 0 is uniform. `None` for a single key.
    pub zipf_exponent: Option<f64>,
    /// What no cache without prediction can answer.
    pub compulsory: Compulsory,
    /// Silent stretches.
    pub gaps: Gaps,
    /// The regions, busiest first.
    pub regions: Vec<RegionProfile>,
}

/// Shares of requests that are the first for their key: the misses of an infinite demand cache.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compulsory {
    /// Share of requests that are the first for their key anywhere.
    pub ever: f64,
    /// Share of requests that are the first for their key in their region.
    pub in_region: f64,
    /// Share of requested bytes that belong to a first request anywhere.
    pub bytes_ever: f64,
}

/// How evenly the requests lie in time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gaps {
    /// Mean seconds from one request to the next.
    pub mean_seconds: f64,
    /// Stretches longer than both an hour and a hundred times the mean: nights, or holes in the recording.
    pub long_count: u64,
    /// The longest stretches, longest first, at most three.
    pub longest: Vec<Gap>,
}

/// A stretch without a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// The request before it, RFC 3339 in UTC.
    pub after: String,
    /// Its length.
    pub seconds: f64,
}

/// One region's part of the log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegionProfile {
    /// The region.
    pub name: String,
    /// Number of its requests.
    pub requests: u64,
    /// Its share of all requests.
    pub request_share: f64,
    /// Number of distinct keys asked for in it.
    pub keys: u64,
    /// Number of distinct clients seen in it.
    pub clients: u64,
    /// Share of its requests that are the first for their key in it.
    pub compulsory: f64,
    /// Share of its distinct keys that another region asks for too: what regions can learn from each other.
    pub shared_keys: f64,
}

/// Reads the whole log once and describes it; `progress` is told the number of rows read so far.
///
/// Memory grows with the distinct keys, clients, and pairs of those with regions.
///
/// # Errors
/// Anything that reading raises.
pub fn profile(source: &LogSource, mut progress: impl FnMut(u64)) -> Result<Profile> {
    let mut reader = LogReader::open(source)?;
    let mut dictionaries = Dictionaries::default();
    let mut tally = Tally::default();
    while let Some(chunk) = reader.next_chunk(&mut dictionaries)? {
        tally.add(&chunk);
        progress(tally.request_count());
    }
    let log = source.to_string();
    if tally.request_count() == 0 { Err(Error::Empty { log }) } else { Ok(tally.finish(log, &dictionaries)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{event, write_file};

    #[test]
    fn counts_what_a_small_log_holds() {
        let folder = tempfile::tempdir().unwrap();
        let hour = 3_600;
        let rows = [
            event(0, "ann", "eu", "/a", 10),
            event(1, "ann", "eu", "/b", 20),
            event(1, "bob", "us", "/a", 10),
            event(2, "bob", "us", "/a", 10),
            event(5 * hour, "cid", "eu", "/a", 30),
        ];
        let source = write_file(&folder.path().join("log.parquet"), &rows);
        let mut seen = 0;
        let profile = profile(&source, |rows| seen = rows).unwrap();
        assert_eq!((seen, profile.requests, profile.keys, profile.clients), (5, 5, 2, 3));
        assert_eq!((profile.requested_bytes, profile.distinct_bytes), (80, 50));
        assert_eq!((profile.first.as_str(), profile.span_seconds), ("1970-01-01T00:00:00Z", 18_000.0));
        let expected = Compulsory { ever: 0.4, in_region: 0.6, bytes_ever: 30.0 / 80.0 };
        assert_eq!((profile.one_hit_share, &profile.compulsory), (0.5, &expected));
        assert_eq!(profile.gaps.longest[0], Gap { after: "1970-01-01T00:00:02Z".into(), seconds: 17_998.0 });
        assert_eq!(profile.gaps.long_count, 0, "five hours are not a hundred times the mean of 75 minutes");
        let eu = &profile.regions[0];
        assert_eq!((eu.name.as_str(), eu.requests, eu.keys, eu.clients), ("eu", 3, 2, 2));
        assert_eq!((eu.request_share, eu.shared_keys), (0.6, 0.5));
        assert!(profile.regions[1].shared_keys > 0.99);
    }
}
