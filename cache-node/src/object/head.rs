//! The headers that are kept of a response, in one piece of memory.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Response headers in a compact form: a tenth of a [`HeaderMap`]'s memory, and nothing in it holds on to the buffer
/// that a response was read into.
///
/// Field after field: a name's number in [`NAMES`], or 0 with the name's length and text; then the value's length and
/// bytes. Lengths are 1 byte, or 255 with 4 more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head(Bytes);

impl Head {
    /// These headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum();
        let mut buffer = BytesMut::with_capacity(bytes);
        for (name, value) in headers {
            match NAMES.iter().position(|known| known == name) {
                Some(position) => buffer.put_u8(u8::try_from(position + 1).expect("fewer than 255 names")),
                None => {
                    buffer.put_u8(0);
                    put(&mut buffer, name.as_str().as_bytes());
                }
            }
            put(&mut buffer, value.as_bytes());
        }
        // Exactly as long as it must be: there may be millions of them.
        Self(Bytes::copy_from_slice(&buffer))
    }

    /// What was written down as these bytes. Damage shows as fields that are missing.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }

    /// The form in which it is written down.
    pub(crate) fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The headers, with room for `more`.
    pub(crate) fn to_map(&self, more: usize) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(FIELDS_USUAL + more);
        for (name, value) in self.fields() {
            map.append(name, value);
        }
        map
    }

    /// The first value of a header.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<HeaderValue> {
        self.get_all(name).next()
    }

    /// Every value of a header.
    pub(crate) fn get_all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = HeaderValue> + 'a {
        self.fields().filter(move |(own, _)| own == name).map(|(_, value)| value)
    }

    /// The fields in their order; values share the head's memory.
    fn fields(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let mut rest = self.0.clone();
        std::iter::from_fn(move || {
            let name = match take_byte(&mut rest)? {
                0 => HeaderName::from_bytes(&take(&mut rest)?).ok()?,
                number => NAMES.get(usize::from(number) - 1)?.clone(),
            };
            Some((name, HeaderValue::from_maybe_shared(take(&mut rest)?).ok()?))
        })
    }
}

fn put(buffer: &mut BytesMut, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(length) if length < LONG => buffer.put_u8(length),
        _ => {
            buffer.put_u8(LONG);
            buffer.put_u32_le(u32::try_from(text.len()).expect("a header is far below 4 GiB"));
        }
    }
    buffer.put_slice(text);
}

fn take_byte(rest: &mut Bytes) -> Option<u8> {
    rest.has_remaining().then(|| rest.get_u8())
}

fn take(rest: &mut Bytes) -> Option<Bytes> {
    let length = match take_byte(rest)? {
        LONG if rest.len() >= size_of::<u32>() => rest.get_u32_le() as usize,
        LONG => return None,
        length => usize::from(length),
    };
    (length <= rest.len()).then(|| rest.split_to(length))
}

/// Stands for a length that follows.
const LONG: u8 = 255;
const FIELD_OVERHEAD: usize = 11;
/// Headers that most responses have no more of.
const FIELDS_USUAL: usize = 10;

/// Names that are written as a number. Only ever added to at the end: journals hold the numbers.
static NAMES: [HeaderName; 28] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CACHE_CONTROL,
    header::ETAG,
    header::LAST_MODIFIED,
    header::DATE,
    header::EXPIRES,
    header::SERVER,
    header::VARY,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_DISPOSITION,
    header::ACCEPT_RANGES,
    header::LINK,
    header::LOCATION,
    header::VIA,
    header::AGE,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::STRICT_TRANSPORT_SECURITY,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_FRAME_OPTIONS,
    header::CONTENT_SECURITY_POLICY,
    header::REFERRER_POLICY,
    header::ALT_SVC,
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("cache-tag"),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
        let name = prop_oneof![
            prop::sample::select(NAMES.to_vec()),
            "[a-z][a-z0-9-]{0,300}".prop_map(|name| HeaderName::try_from(name).expect("a name")),
        ];
        let value = prop::collection::vec(prop_oneof![0x20..0x7f_u8, 0x80..=0xff_u8], 0..600);
        (name, value.prop_map(|value| HeaderValue::try_from(value).expect("a value")))
    }

    proptest! {
        #[test]
        fn headers_come_back_as_they_were(fields in prop::collection::vec(field(), 0..12)) {
            let map: HeaderMap = fields.into_iter().collect();
            let head = Head::of(&map);
            prop_assert_eq!(&head.to_map(0), &map);
            prop_assert_eq!(&Head::from_bytes(&head.to_bytes()).to_map(3), &map);
            for name in map.keys() {
                prop_assert_eq!(head.get(name), map.get(name).cloned());
                prop_assert!(head.get_all(name).eq(map.get_all(name).iter().cloned()));
            }
        }

        #[test]
        fn damage_is_no_more_than_fields_that_are_missing(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Head::from_bytes(&bytes).to_map(0);
        }
    }
}
