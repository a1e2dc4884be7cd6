//! Variants: one key's answers that depend on request headers, told apart by what `Vary` names (RFC 9111, section 4.1).

use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};

use crate::{digest, key::Key};

/// The request headers by which a key's answers vary, in order and without repetition.
pub(crate) type VaryNames = Arc<[HeaderName]>;

/// Whether no other request can be known to get the same answer: `Vary: *`, or something that is no list of names.
pub(super) fn varies_by_everything(headers: &HeaderMap) -> bool {
    names(headers).any(|name| name.is_none())
}

/// By which request headers an answer varies; none for most answers.
///
/// `Accept-Encoding` is not among them: what this node asks origins for is always plain.
pub(crate) fn vary_names(headers: &HeaderMap) -> VaryNames {
    let mut found: Vec<HeaderName> = names(headers).flatten().filter(|name| *name != header::ACCEPT_ENCODING).collect();
    found.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    found.dedup();
    found.into()
}

/// The key by which an answer with these headers to `asked` is kept: `key`, or that of a variant.
pub(crate) fn answer_key(key: &Key, headers: &HeaderMap, asked: &HeaderMap) -> Key {
    let names = vary_names(headers);
    if names.is_empty() { key.clone() } else { key.variant(selection(&names, asked)) }
}

/// A number for what a request says in the headers that `names` lists. How values are spaced and split over lines makes
/// no difference.
pub(crate) fn selection(names: &[HeaderName], asked: &HeaderMap) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(name.as_str().as_bytes()).update(&[0]);
        for value in asked.get_all(name) {
            for part in value.as_bytes().split(|byte| *byte == b',') {
                hasher.update(part.trim_ascii()).update(&[1]);
            }
        }
        hasher.update(&[2]);
    }
    digest::truncated(&hasher.finalize()) as u64
}

fn names(headers: &HeaderMap) -> impl Iterator<Item = Option<HeaderName>> {
    let values = headers.get_all(header::VARY).iter();
    let listed = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    listed.filter(|name| !name.is_empty()).map(|name| match name {
        b"*" => None,
        name => HeaderName::from_bytes(name).ok(),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|(name, value)| _ = headers.append(*name, HeaderValue::from_static(value)));
        headers
    }

    #[test]
    fn names_are_a_set_and_a_star_among_them_is_everything() {
        let listed = vary_names(&of(&[("vary", "Foo, , bar"), ("vary", "FOO, accept-encoding")]));
        assert_eq!(listed.iter().map(HeaderName::as_str).collect::<Vec<_>>(), ["bar", "foo"]);
        for star in ["*", "foo, *", "*, *", "bad name"] {
            assert!(varies_by_everything(&of(&[("vary", star)])), "{star}");
        }
        assert!(!varies_by_everything(&of(&[("vary", "foo")])));
    }

    #[test]
    fn a_selection_follows_values_and_not_their_spelling() {
        let names = vary_names(&of(&[("vary", "foo, bar")]));
        let select = |lines| selection(&names, &of(lines));
        assert_eq!(select(&[("foo", "1, 2")]), select(&[("foo", "1"), ("foo", " 2")]));
        assert_eq!(select(&[("foo", "1"), ("baz", "9")]), select(&[("foo", "1")]));
        for other in [&[][..], &[("foo", "2")], &[("bar", "1")], &[("foo", "1"), ("bar", "")]] {
            assert_ne!(select(&[("foo", "1")]), select(other), "{other:?}");
        }
    }
}
