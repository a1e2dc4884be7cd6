//! What `Cache-Control` says, and the field of RFC 9213 that is meant for caches like this one.

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};

/// The directives of a response that concern a shared cache.
///
/// A time is `Some(None)` where the directive is there but no number of seconds can be read from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CacheDirectives {
    pub(super) max_age: Option<Option<Duration>>,
    pub(super) s_maxage: Option<Option<Duration>>,
    pub(super) stale_while_revalidate: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    pub(super) public: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) must_understand: bool,
}

impl CacheDirectives {
    /// Reads `Cache-Control`. Of a directive that is there twice, the first counts.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for value in headers.get_all(header::CACHE_CONTROL) {
            for directive in split_unquoted(&String::from_utf8_lossy(value.as_bytes())) {
                let (name, argument) = match directive.split_once('=') {
                    Some((name, argument)) => (name, Some(argument)),
                    None => (directive, None),
                };
                directives.add(&name.trim().to_ascii_lowercase(), argument.map(seconds));
            }
        }
        directives
    }

    /// `argument` is `Some(None)` when there is one that is no number of seconds.
    fn add(&mut self, name: &str, argument: Option<Option<Duration>>) {
        match name {
            "max-age" => _ = self.max_age.get_or_insert_with(|| argument.flatten()),
            "s-maxage" => _ = self.s_maxage.get_or_insert_with(|| argument.flatten()),
            "stale-while-revalidate" => self.stale_while_revalidate = argument.flatten(),
            "stale-if-error" => self.stale_if_error = argument.flatten(),
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            _ => {}
        }
    }
}

/// What `CDN-Cache-Control` says (RFC 9213); `None` when it is missing, empty or no dictionary of RFC 9651, so that
/// `Cache-Control` and `Expires` apply. Members of another type than expected are ignored.
pub(super) fn targeted(headers: &HeaderMap) -> Option<CacheDirectives> {
    use sfv::{BareItem, Dictionary, ListEntry, Parser};

    let mut values = headers.get_all(CDN_CACHE_CONTROL).iter().map(|value| value.as_bytes());
    let joined =
        values.next().map(|first| values.fold(first.to_vec(), |all, next| [&all[..], next].join(&b", "[..])))?;
    let members: Dictionary = Parser::new(&joined[..]).parse().ok()?;
    let mut directives = CacheDirectives::default();
    let mut is_meant = false;
    for (name, member) in &members {
        let ListEntry::Item(item) = member else { continue };
        let argument = match &item.bare_item {
            BareItem::Boolean(true) => None,
            BareItem::Integer(number) => {
                let number = i64::from(*number);
                Some(u64::try_from(number).ok().map(Duration::from_secs))
            }
            _ => continue,
        };
        let takes_seconds = TIMES.contains(&name.as_str());
        if takes_seconds != argument.is_some() {
            continue;
        }
        directives.add(name.as_str(), argument);
        is_meant = true;
    }
    is_meant.then_some(directives)
}

/// The parts between commas that are not within quotes, trimmed, without empty ones.
fn split_unquoted(text: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(move |character| {
        let separates = character == ',' && !is_quoted;
        match character {
            '"' if !is_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        is_escaped = is_quoted && character == '\\' && !is_escaped;
        separates
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

/// A number of seconds, quoted or not; too large a number is as good as for ever.
fn seconds(argument: &str) -> Option<Duration> {
    let digits = argument.trim();
    let digits = digits.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(digits);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_secs(digits.parse().unwrap_or(FOR_EVER_SECONDS).min(FOR_EVER_SECONDS)))
}

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const TIMES: [&str; 4] = ["max-age", "s-maxage", "stale-if-error", "stale-while-revalidate"];
/// About 136 years: no cache lives to see the difference (RFC 9111, section 1.2.2).
const FOR_EVER_SECONDS: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        values.iter().for_each(|value| _ = headers.append(name, HeaderValue::from_static(value)));
        headers
    }

    #[test]
    fn directives_are_read_around_quotes_and_over_several_lines() {
        let read = |values: &[&'static str]| CacheDirectives::of(&of("cache-control", values));
        let seconds = |seconds| Some(Some(Duration::from_secs(seconds)));
        assert_eq!(read(&["Max-Age=5, PUBLIC"]).max_age, seconds(5));
        assert!(read(&["Max-Age=5, PUBLIC"]).public);
        assert_eq!(read(&["foo=\"max-age=9, no-store\", max-age=1"]).max_age, seconds(1));
        assert!(!read(&["foo=\"a\\\", no-store\", max-age=1"]).no_store);
        assert_eq!(read(&["max-age=007", "max-age=9"]).max_age, seconds(7));
        assert_eq!(read(&["max-age=\"8\""]).max_age, seconds(8));
        for broken in ["max-age=-1", "max-age", "max-age='5'", "max-age=1.5", "max-age=5s"] {
            assert_eq!(CacheDirectives::of(&of("cache-control", &[broken])).max_age, Some(None), "{broken}");
        }
        assert_eq!(read(&["max-age=99999999999999999999"]).max_age, seconds(FOR_EVER_SECONDS));
        assert!(read(&["no-cache=\"set-cookie\""]).no_cache);
    }

    #[test]
    fn the_targeted_field_is_a_dictionary_or_nothing() {
        let read = |values: &[&'static str]| targeted(&of("cdn-cache-control", values));
        assert_eq!(read(&["max-age=60"]).and_then(|it| it.max_age), Some(Some(Duration::from_secs(60))));
        assert!(read(&["max-age=60", "no-store"]).is_some_and(|it| it.no_store && it.max_age.is_some()));
        assert_eq!(read(&["unknown"]), Some(CacheDirectives::default()), "it is meant, and says nothing known");
        for ignored in ["", "max-age=\"60", "=", "max-age=\"60\"", "no-store=1"] {
            assert_eq!(targeted(&of("cdn-cache-control", &[ignored])), None, "{ignored}");
        }
    }
}
