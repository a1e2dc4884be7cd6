//! What a request wants besides its object, read in one pass over its headers.

use http::{HeaderMap, HeaderName, header};

/// What a request's headers say to the cache. Most requests say none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// A condition on the object's state.
    pub(super) has_condition: bool,
    /// A part of the object.
    pub(super) has_range: bool,
    /// Nothing of the answer is to be kept.
    pub(super) no_store: bool,
    /// The origin is to be asked even if the object is fresh.
    pub(super) must_validate: bool,
    /// Nobody else is to be asked.
    pub(super) only_if_cached: bool,
}

impl Wants {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut wants = Self::default();
        let (mut has_cache_control, mut has_pragma) = (false, false);
        for (name, value) in headers {
            if *name == header::CACHE_CONTROL {
                has_cache_control = true;
                let directives = value.to_str().unwrap_or_default().split(',').map(str::trim);
                directives.for_each(|directive| wants.add(directive));
            } else if *name == header::PRAGMA {
                has_pragma |= value == "no-cache";
            } else if *name == header::RANGE {
                wants.has_range = true;
            } else if CONDITIONS.contains(name) {
                wants.has_condition = true;
            }
        }
        wants.must_validate |= has_pragma && !has_cache_control;
        wants
    }

    fn add(&mut self, directive: &str) {
        let is = |name: &str| directive.eq_ignore_ascii_case(name);
        self.no_store |= is("no-store");
        self.must_validate |= is("no-cache") || is("max-age=0");
        self.only_if_cached |= is("only-if-cached");
    }
}

const CONDITIONS: [HeaderName; 4] =
    [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn wants(lines: &[(&'static str, &'static str)]) -> Wants {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|(name, value)| _ = headers.append(*name, HeaderValue::from_static(value)));
        Wants::of(&headers)
    }

    #[test]
    fn reads_what_concerns_the_cache() {
        assert_eq!(wants(&[("host", "x"), ("accept", "*/*"), ("cache-control", "max-age=9")]), Wants::default());
        assert!(wants(&[("cache-control", "Max-Age=0")]).must_validate);
        assert!(wants(&[("pragma", "no-cache")]).must_validate);
        assert!(!wants(&[("pragma", "no-cache"), ("cache-control", "max-age=9")]).must_validate);
        let several = wants(&[("cache-control", "a, no-store"), ("cache-control", "ONLY-IF-CACHED")]);
        assert!(several.no_store && several.only_if_cached && !several.must_validate);
        assert!(wants(&[("range", "bytes=0-1")]).has_range);
        assert!(wants(&[("if-none-match", "*")]).has_condition && wants(&[("if-match", "*")]).has_condition);
    }
}
