//! The `Content-Range` header of a partial response.

use http::{HeaderMap, header};

/// Which bytes of how many a partial response carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// First byte; `None` in an answer that nothing could be satisfied.
    pub(crate) first_and_last: Option<(u64, u64)>,
    /// Bytes of the whole object, when the origin says.
    pub(crate) size_bytes: Option<u64>,
}

impl ContentRange {
    /// Reads it from a response; `None` when it is missing or malformed.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(header::CONTENT_RANGE)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let size_bytes = if size == "*" { None } else { Some(digits(size)?) };
        if range == "*" {
            return Some(Self { first_and_last: None, size_bytes });
        }
        let (first, last) = range.split_once('-')?;
        let (first, last) = (digits(first)?, digits(last)?);
        let is_sound = first <= last && size_bytes.is_none_or(|size| last < size);
        is_sound.then_some(Self { first_and_last: Some((first, last)), size_bytes })
    }
}

/// A number without sign or spaces.
pub(crate) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_sound_ranges() {
        let range = |first, last, size| Some(ContentRange { first_and_last: Some((first, last)), size_bytes: size });
        assert_eq!(ContentRange::parse("bytes 0-9/10"), range(0, 9, Some(10)));
        assert_eq!(ContentRange::parse("bytes 5-9/*"), range(5, 9, None));
        assert_eq!(ContentRange::parse("bytes */0"), Some(ContentRange { first_and_last: None, size_bytes: Some(0) }));
        for unsound in ["bytes 9-0/10", "bytes 0-10/10", "bytes +1-2/5", "items 0-9/10", "bytes 0-9", "bytes -9/10"] {
            assert_eq!(ContentRange::parse(unsound), None, "{unsound}");
        }
    }
}
