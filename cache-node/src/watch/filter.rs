//! Which requests a watcher wants to see.

use nearcast_datasets::ServedFrom;
use thiserror::Error;
use url::form_urlencoded;

use super::Seen;
use crate::core::MissCause;

/// Conditions that must all hold. Those that name several values hold when one of them fits.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    key_prefix: Option<String>,
    outcomes: Vec<ServedFrom>,
    /// Statuses by their digits; shorter ones are classes.
    statuses: Vec<String>,
    causes: Vec<MissCause>,
    slower_than_us: u64,
}

/// Why a filter cannot be understood.
#[derive(Debug, Error, PartialEq)]
pub(crate) enum BadFilter {
    /// Nobody is served so.
    #[error("`{0}` is no outcome; there are memory, disk, prefetched, peer, origin, error")]
    Outcome(String),
    /// No miss has it.
    #[error("`{0}` is no cause; there are capacity, elsewhere, expired, first, late_prefetch, rejected, uncacheable")]
    Cause(String),
    /// Neither a status nor a class of them.
    #[error("`{0}` is no status such as 404, and no class such as 5xx")]
    Status(String),
    /// No number.
    #[error("`{0}` is no number of microseconds")]
    Latency(String),
}

impl Filter {
    /// Reads the conditions in a query: `key_prefix`, `outcome`, `status`, `cause` and `slower_than_us`. Those that may
    /// have several values take them with commas between. Other names are somebody else's.
    pub(crate) fn parse(query: &str) -> Result<Self, BadFilter> {
        let mut filter = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let words = || value.split(',').filter(|word| !word.is_empty());
            match &*name {
                "key_prefix" => filter.key_prefix = Some(value.clone().into_owned()),
                "outcome" => {
                    for word in words() {
                        filter.outcomes.push(word.parse().map_err(|()| BadFilter::Outcome(word.to_owned()))?);
                    }
                }
                "cause" => {
                    for word in words() {
                        let cause = MissCause::ALL.into_iter().find(|cause| cause.as_str() == word);
                        filter.causes.push(cause.ok_or_else(|| BadFilter::Cause(word.to_owned()))?);
                    }
                }
                "status" => {
                    for word in words() {
                        let digits = word.trim_end_matches(['x', 'X']);
                        let is_status = word.len() == 3 && digits.starts_with(['2', '3', '4', '5']);
                        if !is_status || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                            return Err(BadFilter::Status(word.to_owned()));
                        }
                        filter.statuses.push(digits.to_owned());
                    }
                }
                "slower_than_us" => {
                    filter.slower_than_us = value.parse().map_err(|_| BadFilter::Latency(value.into_owned()))?;
                }
                _ => {}
            }
        }
        Ok(filter)
    }

    /// Whether all conditions hold.
    pub(super) fn admits(&self, seen: &Seen) -> bool {
        let is_one = |statuses: &[String]| {
            let status =
                seen.status.map_or_else(|| super::CLIENT_LEFT.to_string(), |status| status.as_str().to_owned());
            statuses.iter().any(|digits| status.starts_with(digits.as_str()))
        };
        seen.latency_us >= self.slower_than_us
            && (self.outcomes.is_empty() || self.outcomes.contains(&seen.served))
            && (self.causes.is_empty() || seen.cause.is_some_and(|cause| self.causes.contains(&cause)))
            && self
                .key_prefix
                .as_ref()
                .is_none_or(|prefix| seen.key.as_ref().is_some_and(|key| key.as_str().starts_with(prefix.as_str())))
            && (self.statuses.is_empty() || is_one(&self.statuses))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::seen, *};

    #[test]
    fn all_conditions_must_hold_and_one_of_their_values() {
        let check = |query: &str, expected: bool| {
            assert_eq!(Filter::parse(query).unwrap().admits(&seen("/img/a", 70)), expected, "{query}");
        };
        for query in [
            "",
            "by=key&limit=9",
            "key_prefix=/img/",
            "outcome=peer,origin",
            "status=404,2xx",
            "status=200",
            "cause=first",
            "slower_than_us=70",
            "key_prefix=%2Fimg&outcome=origin&status=20x&slower_than_us=1",
        ] {
            check(query, true);
        }
        for query in
            ["key_prefix=/css", "outcome=memory", "status=5xx", "cause=expired", "slower_than_us=71&outcome=origin"]
        {
            check(query, false);
        }
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        for (query, word) in [
            ("outcome=hit", "hit"),
            ("cause=bad", "bad"),
            ("status=20", "20"),
            ("status=x", "x"),
            ("slower_than_us=5ms", "5ms"),
        ] {
            let error = Filter::parse(query).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{word}` is no ")), "{error}");
        }
    }
}
