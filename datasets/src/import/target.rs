//! Turns an HTTP request line into a key: escapes, absolute form, query strings and odd bytes.

use std::{borrow::Cow, fmt::Write};

use super::record::Reason;

/// How a request target becomes a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyRule {
    /// Whether everything from `?` on is dropped.
    pub strip_query: bool,
    /// Whether the host, where the line names one, stays in front of the path.
    pub keep_host: bool,
}

/// Method and target of a request line: `GET /a HTTP/1.1`, also with spaces in the target or without a protocol.
pub(crate) fn split_request(request: &[u8]) -> Result<(&[u8], &[u8]), Reason> {
    let space = request.iter().position(|byte| *byte == b' ').ok_or(Reason::BadRequestLine)?;
    let (method, rest) = (&request[..space], &request[space + 1..]);
    if method.is_empty() || !method.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')) {
        return Err(Reason::BadRequestLine);
    }
    let target = match rest.iter().rposition(|byte| *byte == b' ') {
        Some(last) if rest[last + 1..].starts_with(b"HTTP/") => &rest[..last],
        _ => rest,
    };
    Ok((method, target.trim_ascii()))
}

/// The key of a request target; `host` is the virtual host when the line has one of its own.
///
/// The absolute form `http://host/path` loses scheme and host unless the rule keeps hosts. Bytes that no URL may hold
/// (controls, spaces, what is not UTF-8) are percent-encoded; nothing is decoded or otherwise normalised.
pub(crate) fn key_of_target<'a>(target: &'a [u8], host: Option<&[u8]>, rule: KeyRule) -> Result<Cow<'a, str>, Reason> {
    let (named_host, mut path) = split_host(target)?;
    if rule.strip_query {
        path = before_query(path);
    }
    match named_host.or(host) {
        Some(host) if rule.keep_host => Ok(Cow::Owned([url_text(host), url_text(path)].concat())),
        _ => Ok(url_text(path)),
    }
}

/// A key from a field that is no request target: taken as it is, save for the query string.
pub(crate) fn key_of_field(field: Cow<'_, str>, rule: KeyRule) -> Cow<'_, str> {
    if !rule.strip_query {
        return field;
    }
    match field {
        Cow::Borrowed(text) => Cow::Borrowed(text.split_once('?').map_or(text, |(path, _)| path)),
        Cow::Owned(mut text) => {
            text.truncate(text.find('?').unwrap_or(text.len()));
            Cow::Owned(text)
        }
    }
}

/// Undoes `\xHH`, `\"`, `\\`, `\n`, `\r`, `\t`, `\b`, `\f` and `\v` as nginx and Apache write them; others stay.
pub(crate) fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let (plain_byte, used) = if byte == b'\\' { unescape_one(tail) } else { (byte, 0) };
        plain.push(plain_byte);
        rest = &tail[used..];
    }
    Cow::Owned(plain)
}

/// The byte meant by what follows a backslash, and how many bytes say so; a backslash itself when it escapes nothing.
fn unescape_one(tail: &[u8]) -> (u8, usize) {
    match tail {
        [b'x' | b'X', high, low, ..] => match (hex_digit(*high), hex_digit(*low)) {
            (Some(high), Some(low)) => (high << 4 | low, 3),
            _ => (b'\\', 0),
        },
        [quoted @ (b'"' | b'\\'), ..] => (*quoted, 1),
        [b'n', ..] => (b'\n', 1),
        [b'r', ..] => (b'\r', 1),
        [b't', ..] => (b'\t', 1),
        [b'b', ..] => (0x08, 1),
        [b'f', ..] => (0x0c, 1),
        [b'v', ..] => (0x0b, 1),
        _ => (b'\\', 0),
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Host, when the target is in absolute form, and path.
fn split_host(target: &[u8]) -> Result<(Option<&[u8]>, &[u8]), Reason> {
    if target.starts_with(b"/") {
        return Ok((None, target));
    }
    let scheme = [&b"http://"[..], b"https://", b"HTTP://", b"HTTPS://"].into_iter().find(|it| target.starts_with(it));
    let rest = &target[scheme.ok_or(Reason::BadRequestTarget)?.len()..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    Ok((Some(host), if path.is_empty() { b"/" } else { path }))
}

fn before_query(path: &[u8]) -> &[u8] {
    path.iter().position(|byte| *byte == b'?').map_or(path, |question| &path[..question])
}

/// The bytes as text, with those that no URL may hold percent-encoded.
fn url_text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !bytes.iter().any(|byte| is_odd(*byte))
    {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match u8::try_from(character) {
                Ok(byte) if is_odd(byte) => push_percent(&mut text, byte),
                _ => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_percent(&mut text, *byte));
    }
    Cow::Owned(text)
}

const fn is_odd(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

fn push_percent(text: &mut String, byte: u8) {
    write!(text, "%{byte:02X}").expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(request: &[u8], rule: KeyRule) -> Result<String, Reason> {
        let request = unescape(request);
        let (_, target) = split_request(&request)?;
        Ok(key_of_target(target, None, rule)?.into_owned())
    }

    #[test]
    fn request_lines_become_keys() {
        let cases: [(&[u8], Result<&str, Reason>); 14] = [
            (b"GET /a/b.gif HTTP/1.1", Ok("/a/b.gif")),
            (b"GET /a?x=1&y=2 HTTP/2.0", Ok("/a?x=1&y=2")),
            (b"GET /old", Ok("/old")),
            (b"GET /two words.html HTTP/1.0", Ok("/two%20words.html")),
            (b"GET http://example.org:8080/x?q HTTP/1.1", Ok("/x?q")),
            (b"GET https://example.org HTTP/1.1", Ok("/")),
            (b"GET /quote\\x22s HTTP/1.1", Ok("/quote\"s")),
            (b"GET /quote\\\"s\\\\ HTTP/1.1", Ok("/quote\"s\\")),
            (b"GET /caf\\xC3\\xA9 HTTP/1.1", Ok("/caf\u{e9}")),
            (b"GET /caf\\xe9 HTTP/1.1", Ok("/caf%E9")),
            (b"-", Err(Reason::BadRequestLine)),
            (b"", Err(Reason::BadRequestLine)),
            (b"\\x16\\x03\\x01\\x00 \\x01", Err(Reason::BadRequestLine)),
            (b"OPTIONS * HTTP/1.0", Err(Reason::BadRequestTarget)),
        ];
        for (request, expected) in cases {
            let found = key(request, KeyRule::default());
            assert_eq!(found.as_deref(), expected.as_ref().map(|key| *key), "{}", request.escape_ascii());
        }
    }

    #[test]
    fn rules_strip_queries_and_keep_hosts() {
        let both = KeyRule { strip_query: true, keep_host: true };
        assert_eq!(key(b"GET http://example.org/x?q HTTP/1.1", both).as_deref(), Ok("example.org/x"));
        assert_eq!(key_of_target(b"/x?q", Some(b"example.org:443"), both).as_deref(), Ok("example.org:443/x"));
        assert_eq!(key_of_field(Cow::Borrowed("a?b"), both), "a");
        assert_eq!(key_of_field(Cow::Borrowed("a?b"), KeyRule::default()), "a?b");
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(&*unescape(b"\\q\\x4\\xzz\\"), b"\\q\\x4\\xzz\\");
    }
}
