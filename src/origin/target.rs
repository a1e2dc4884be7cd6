//! How keys become request targets and back, the same way as cache nodes do it.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What a path must not contain unescaped. `%` is among it, so that encoding and decoding are inverse.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What a query must not contain unescaped. `%` may stay: a query is kept as it was sent.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// The key as nodes and origin know it: with a leading slash.
pub(crate) fn rooted(key: &str) -> Cow<'_, str> {
    if key.starts_with('/') { Cow::Borrowed(key) } else { Cow::Owned(format!("/{key}")) }
}

/// The request target that names a key, percent-encoded.
pub(crate) fn target(key: &str) -> String {
    let key = rooted(key);
    match key.split_once('?') {
        Some((path, query)) => format!("{}?{}", utf8_percent_encode(path, PATH), utf8_percent_encode(query, QUERY)),
        None => utf8_percent_encode(&key, PATH).to_string(),
    }
}

/// The key that a request target names, unless its bytes are no UTF-8.
pub(crate) fn key(path: &str, query: Option<&str>) -> Option<String> {
    let path = percent_decode_str(path).decode_utf8().ok()?;
    Some(query.map_or_else(|| path.to_string(), |query| format!("{path}?{query}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_the_way_through_a_url() {
        for name in ["/a/b.gif", "/sp ace/ü%41", "/cgi-bin/map?99,176", "/odd[1]{2}", "/a?b=%20c?d", "block/12"] {
            let target = target(name);
            let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
            assert_eq!(key(path, query).as_deref(), Some(&*rooted(name)), "{target}");
        }
        assert_eq!(key("/%ff", None), None);
    }
}
