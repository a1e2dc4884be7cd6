//! Keys: what names an object in logs, commands, the store and URLs, and the checks on text from outside.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use nearcast_datasets::schema::KEY_BYTES_MAX;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use thiserror::Error;

/// A checked key: UTF-8, starts with `/`, at most [`KEY_BYTES_MAX`] bytes, no NUL, no `..` segment.
///
/// It is the decoded path of the URL and, after the first `?`, the query as it was sent. A variant of it, where answers
/// depend on request headers, has a key of its own, which no client, log or command can name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(Arc<str>);

/// Why some text is no key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// The bytes are no UTF-8 once percent-decoded.
    #[error("the key is not valid UTF-8 once percent-decoded")]
    NotUtf8,
    /// It contains NUL or another control character.
    #[error("the key contains a control character")]
    Control,
    /// A `%` is not followed by two hexadecimal digits.
    #[error("the path has a `%` that is not followed by two hexadecimal digits")]
    Escape,
    /// The path contains a percent-encoded `?`, so that it would go by the key of a path with a query.
    #[error("the path contains a percent-encoded `?`")]
    QuestionMark,
    /// A path segment is `..`.
    #[error("the key contains a `..` segment")]
    ParentSegment,
    /// It is longer than [`KEY_BYTES_MAX`].
    #[error("the key is longer than {KEY_BYTES_MAX} bytes")]
    TooLong,
}

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

/// What a query must not contain unescaped. `%` may stay: the query is kept as it was sent.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

impl Key {
    /// The key that a request target names.
    ///
    /// # Errors
    /// When the target breaks one of the rules of [`Key`].
    pub(crate) fn from_target(path: &str, query: Option<&str>) -> Result<Self, KeyError> {
        // Decoding never lengthens, and what cannot fit need not be decoded.
        if path.len() > 3 * KEY_BYTES_MAX {
            return Err(KeyError::TooLong);
        }
        let is_escape =
            |after: &str| after.as_bytes().first_chunk::<2>().is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        if !path.split('%').skip(1).all(is_escape) {
            return Err(KeyError::Escape);
        }
        let decoded = percent_decode_str(path).decode_utf8().map_err(|_| KeyError::NotUtf8)?;
        if decoded.contains('?') {
            return Err(KeyError::QuestionMark);
        }
        match query {
            Some(query) => Self::parse(&format!("{decoded}?{query}")),
            None => Self::parse(&decoded),
        }
    }

    /// The key that a log or a command names; a missing leading slash is added.
    ///
    /// # Errors
    /// When the text breaks one of the rules of [`Key`].
    pub(crate) fn parse(text: &str) -> Result<Self, KeyError> {
        let slash = if text.starts_with('/') { "" } else { "/" };
        if slash.len() + text.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong);
        }
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err(KeyError::Control);
        }
        let path = text.split('?').next().unwrap_or_default();
        if path.split(['/', '\\']).any(|segment| segment == "..") {
            return Err(KeyError::ParentSegment);
        }
        Ok(Self(if slash.is_empty() { Arc::from(text) } else { Arc::from(format!("/{text}")) }))
    }

    /// The key that was written down, which may be a variant's; `None` when the text is none.
    pub(crate) fn from_record(text: &str) -> Option<Self> {
        match text.split_once(VARIANT_MARK) {
            None => Self::parse(text).ok(),
            Some((base, number)) => Some(Self::parse(base).ok()?.variant(u64::from_str_radix(number, 16).ok()?)),
        }
    }

    /// The variant of this key by that number.
    pub(crate) fn variant(&self, number: u64) -> Self {
        Self(Arc::from(format!("{}{VARIANT_MARK}{number:016x}", self.name())))
    }

    /// Whether it is a variant's.
    pub(crate) fn is_variant(&self) -> bool {
        self.0.contains(VARIANT_MARK)
    }

    /// The key that clients name.
    pub(crate) fn base(&self) -> Self {
        if self.is_variant() { Self(Arc::from(self.name())) } else { self.clone() }
    }

    /// What clients name: the text of the key or of a variant's base.
    pub(crate) fn name(&self) -> &str {
        self.0.split(VARIANT_MARK).next().unwrap_or_default()
    }

    /// The request target that names this key, percent-encoded.
    pub(crate) fn to_target(&self) -> String {
        let base = self.name();
        match base.split_once('?') {
            Some((path, query)) => format!("{}?{}", utf8_percent_encode(path, PATH), utf8_percent_encode(query, QUERY)),
            None => utf8_percent_encode(base, PATH).to_string(),
        }
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as it is written down.
    pub(crate) fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.0.as_bytes())
    }

    /// The text, shared.
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

/// Stands between a key and its variant's number: a control character, which no key contains.
const VARIANT_MARK: char = '\u{1}';

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_the_way_through_a_url() {
        for key in ["/a/b.gif", "/sp ace/ü%41", "/cgi-bin/map?99,176", "/odd[1]{2}", "/a?b=%20c?d"] {
            let target = Key::parse(key).unwrap().to_target();
            let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
            assert_eq!(Key::from_target(path, query).unwrap().as_str(), key, "{target}");
        }
        assert_eq!(Key::parse("block/12").unwrap().as_str(), "/block/12");
    }

    #[test]
    fn a_variant_goes_by_its_base_outside_and_is_found_again() {
        let key = Key::parse("/a?b=c").unwrap();
        let variant = key.variant(0xfe);
        assert!(variant.is_variant() && !key.is_variant() && variant != key);
        assert_eq!(
            (variant.to_target(), variant.base(), variant.variant(1)),
            (key.to_target(), key.clone(), key.variant(1))
        );
        assert_eq!(Key::from_record(variant.as_str()), Some(variant.clone()));
        assert_eq!(Key::from_record(key.as_str()), Some(key));
        assert_eq!(Key::parse(variant.as_str()), Err(KeyError::Control));
        assert_eq!(Key::from_record("/a\u{1}x"), None);
    }

    #[test]
    fn refuses_what_could_confuse_a_store_or_an_origin() {
        let check = |path: &str| Key::from_target(path, None).unwrap_err();
        assert_eq!(check("/a/../b"), KeyError::ParentSegment);
        assert_eq!(check("/a/%2e%2e/b"), KeyError::ParentSegment);
        assert_eq!(check("/a%00b"), KeyError::Control);
        assert_eq!(check("/%ff"), KeyError::NotUtf8);
        assert_eq!(check("/a%3Fb=c"), KeyError::QuestionMark);
        for escape in ["/%", "/a%4", "/%zz", "/%+1"] {
            assert_eq!(check(escape), KeyError::Escape, "{escape}");
        }
        let longest = "x".repeat(KEY_BYTES_MAX - 1);
        assert!(Key::from_target(&format!("/{longest}"), None).is_ok());
        assert_eq!(check(&format!("/{longest}x")), KeyError::TooLong);
        assert!(Key::from_target("/a..b/...", None).is_ok());
    }
}
