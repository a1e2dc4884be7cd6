//! Common and Combined access logs, as nginx, Apache and many others write them.
//!
//! `address ident user [time] "request" status bytes` and, combined, `"referer" "user agent"`; whatever follows is
//! ignored, and so is a virtual host and port in front (Apache's `vhost_combined`).

use std::{borrow::Cow, net::IpAddr, str::FromStr};

use super::{
    record::{Filter, LineParser, Parsed, Reason, Record, SizeClue},
    target::{KeyRule, key_of_target, split_request, unescape},
    time::read_access_log,
};

/// Reads access-log lines.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    /// Whether referer and user agent must follow.
    pub(crate) combined: bool,
    /// Which requests are kept.
    pub(crate) filter: Filter,
    /// How targets become keys.
    pub(crate) key_rule: KeyRule,
}

impl LineParser for AccessLog {
    fn parse<'a>(&mut self, line: &'a [u8]) -> Result<Parsed<'a>, Reason> {
        let (start, rest) = split_at_time(line)?;
        let timestamp = read_access_log(rest.get(..TIME_BYTES).unwrap_or_default()).ok_or(Reason::BadTimestamp)?;
        let rest = &rest[TIME_BYTES + 1..];
        let (request, rest) = quoted(rest.trim_ascii_start())?;
        let (status, rest) = token(rest);
        let (bytes, rest) = token(rest);
        let status = number(status).filter(|status| (100..1_000).contains(status)).ok_or(Reason::BadStatus)?;
        let status = u16::try_from(status).map_err(|_| Reason::BadStatus)?;
        let body_bytes = body_bytes(bytes)?;
        if self.combined {
            let (_, rest) = quoted(rest.trim_ascii_start())?;
            quoted(rest.trim_ascii_start())?;
        }
        // A failed request may hold anything in its request line, so the status is looked at first.
        if let Some(skip) = self.filter.check_status(status) {
            return Ok(Parsed::Skipped(skip));
        }
        let (key, method) = match unescape(request) {
            Cow::Borrowed(request) => {
                let (method, target) = split_request(request)?;
                (key_of_target(target, start.host, self.key_rule)?, Cow::Borrowed(method))
            }
            Cow::Owned(request) => {
                let (method, target) = split_request(&request)?;
                let key = key_of_target(target, start.host, self.key_rule)?.into_owned();
                (Cow::Owned(key), Cow::Owned(method.to_vec()))
            }
        };
        if let Some(skip) = self.filter.check_method(&method) {
            return Ok(Parsed::Skipped(skip));
        }
        let size = SizeClue::of_response(status, &method, body_bytes);
        let client = Cow::Borrowed(start.client);
        Ok(Parsed::Record(Record { timestamp, client, region: None, key, size, range: None }))
    }

    fn client<'a>(&self, line: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Borrowed(Start::of(line).client))
    }
}

/// What stands before the time.
struct Start<'a> {
    host: Option<&'a [u8]>,
    client: &'a [u8],
}

impl<'a> Start<'a> {
    fn of(text: &'a [u8]) -> Self {
        let (first, rest) = token(text);
        let (second, _) = token(rest);
        if names_port(first) && is_address(second) {
            Self { host: Some(first), client: second }
        } else {
            Self { host: None, client: first }
        }
    }
}

/// Splits before a valid `[time]`: user names are the client's own words and may hold spaces and brackets.
fn split_at_time(line: &[u8]) -> Result<(Start<'_>, &[u8]), Reason> {
    let mut from = 0;
    let mut brackets = false;
    while let Some(found) = line[from..].windows(2).position(|pair| pair == b" [") {
        let at = from + found;
        let rest = &line[at + 2..];
        brackets = true;
        if rest.get(TIME_BYTES) == Some(&b']') && read_access_log(&rest[..TIME_BYTES]).is_some() {
            let start = Start::of(&line[..at]);
            return if start.client.is_empty() { Err(Reason::MissingField) } else { Ok((start, rest)) };
        }
        from = at + 2;
    }
    Err(if brackets { Reason::BadTimestamp } else { Reason::MissingField })
}

/// The inside of a quoted field and what follows it. Quotes inside are escaped, or at least not followed by a space.
fn quoted(text: &[u8]) -> Result<(&[u8], &[u8]), Reason> {
    let Some((b'"', text)) = text.split_first() else { return Err(Reason::MissingField) };
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' if !escaped && matches!(text.get(at + 1), None | Some(b' ')) => {
                return Ok((&text[..at], &text[at + 1..]));
            }
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    Err(Reason::OpenQuote)
}

/// The next run of non-spaces and what follows it.
fn token(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    text.split_at(text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len()))
}

/// The byte count: `-` is Apache's zero.
fn body_bytes(field: &[u8]) -> Result<Option<u64>, Reason> {
    match field {
        b"" => Err(Reason::MissingField),
        b"-" => Ok(Some(0)),
        digits => number(digits).map(Some).ok_or(Reason::BadBytes),
    }
}

fn number(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| u64::from_str(text).ok())?
}

fn names_port(field: &[u8]) -> bool {
    let Some(colon) = field.iter().rposition(|byte| *byte == b':') else { return false };
    let (host, port) = (&field[..colon], &field[colon + 1..]);
    let bare = !host.contains(&b':') || host.ends_with(b"]");
    bare && !host.is_empty() && !port.is_empty() && port.iter().all(u8::is_ascii_digit)
}

fn is_address(field: &[u8]) -> bool {
    std::str::from_utf8(field).is_ok_and(|text| IpAddr::from_str(text).is_ok())
}

/// Bytes of `10/Oct/2000:13:55:36 -0700`.
const TIME_BYTES: usize = 26;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::import::record::Skip;

    fn parser(combined: bool) -> AccessLog {
        AccessLog { combined, filter: Filter::default(), key_rule: KeyRule::default() }
    }

    fn check(line: &str, expected: Result<(&str, &str, SizeClue), Reason>) {
        let combined = line.matches('"').count() > 2;
        let found = match parser(combined).parse(line.as_bytes()) {
            Ok(Parsed::Record(record)) => {
                let client = String::from_utf8_lossy(&record.client).into_owned();
                Ok((client, record.key.into_owned(), record.size))
            }
            Ok(other) => panic!("{line}: {other:?}"),
            Err(reason) => Err(reason),
        };
        assert_eq!(found, expected.map(|(client, key, size)| (client.into(), key.into(), size)), "{line}");
    }

    #[test]
    fn reads_what_nginx_and_apache_write() {
        let body = SizeClue::Body;
        for (line, client, key, size) in [
            (
                r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0100] "GET /a.css HTTP/1.1" 200 812"#,
                "192.0.2.7",
                "/a.css",
                body(812),
            ),
            (
                r#"2001:db8::5 - ann lee [05/Mar/2024:10:20:30 +0000] "GET / HTTP/2.0" 200 5"#,
                "2001:db8::5",
                "/",
                body(5),
            ),
            (
                r#"host.example - x [y] [05/Mar/2024:10:20:30 +0000] "GET /a HTTP/1.0" 304 -"#,
                "host.example",
                "/a",
                SizeClue::None,
            ),
            (
                r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0000] "GET /empty HTTP/1.1" 200 -"#,
                "192.0.2.7",
                "/empty",
                body(0),
            ),
            (
                r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0000] "GET /v.mp4 HTTP/1.1" 206 65536"#,
                "192.0.2.7",
                "/v.mp4",
                SizeClue::Part(65_536),
            ),
            (
                r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0000] "GET /a HTTP/1.1" 200 9 "-" "Agent \"7\"" rt=0.004 "-""#,
                "192.0.2.7",
                "/a",
                body(9),
            ),
            (
                r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0000] "GET /q\x22\x22 HTTP/1.1" 200 9 "http://h/\x22" "b\x5C""#,
                "192.0.2.7",
                "/q\"\"",
                body(9),
            ),
            (
                r#"www.example.org:443 192.0.2.9 - - [05/Mar/2024:10:20:30 +0000] "GET /a HTTP/1.1" 200 9"#,
                "192.0.2.9",
                "/a",
                body(9),
            ),
        ] {
            check(line, Ok((client, key, size)));
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_line() {
        for (line, reason) in [
            ("", Reason::MissingField),
            ("no log line", Reason::MissingField),
            (r#"192.0.2.7 - - [05/Mrz/2024:10:20:30 +0100] "GET / HTTP/1.1" 200 8"#, Reason::BadTimestamp),
            (r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0100] "GET / HTTP/1.1"#, Reason::OpenQuote),
            (r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0100] "GET / HTTP/1.1" 99 8"#, Reason::BadStatus),
            (r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0100] "GET / HTTP/1.1" 200"#, Reason::MissingField),
            (r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0100] "GET / HTTP/1.1" 200 8k"#, Reason::BadBytes),
            (r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0100] "-" 200 0"#, Reason::BadRequestLine),
            (r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0100] "GET x.gif HTTP/1.0" 200 8"#, Reason::BadRequestTarget),
            (r#" [05/Mar/2024:10:20:30 +0100] "GET / HTTP/1.1" 200 8"#, Reason::MissingField),
            (r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0100] "GET / HTTP/1.1" 200 8 "-" "cut"#, Reason::OpenQuote),
        ] {
            check(line, Err(reason));
        }
    }

    #[test]
    fn leaves_out_other_statuses_before_reading_the_request() {
        let hello = br#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0100] "\x16\x03\x01" 400 150"#;
        assert_eq!(parser(false).parse(hello), Ok(Parsed::Skipped(Skip::Status(400))));
        let post = br#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0100] "POST /form HTTP/1.1" 200 150"#;
        assert_eq!(parser(false).parse(post), Ok(Parsed::Skipped(Skip::Method)));
    }

    #[test]
    fn a_user_name_cannot_forge_the_time() {
        let line = br#"192.0.2.7 - a [05/Mar/2024:10:20 [05/Mar/2024:10:20:30 +0000] "GET /a HTTP/1.1" 200 1"#;
        assert!(matches!(parser(false).parse(line), Ok(Parsed::Record(_))));
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(line in proptest::collection::vec(any::<u8>(), 0..300), combined: bool) {
            let _ = parser(combined).parse(&line);
            let _ = parser(combined).client(&line);
        }

        #[test]
        fn never_panics_on_almost_a_line(line in r#"[ -~]{0,12} - .{0,6} \[05/Mar/2024:10:20:30 [+-][0-9]{4}\] "[ -~]{0,20}" [0-9]{0,4} [0-9-]{0,22}( "[ -~]{0,9}"){0,3}"#) {
            let _ = parser(true).parse(line.as_bytes());
            let _ = parser(false).parse(line.as_bytes());
        }
    }
}
