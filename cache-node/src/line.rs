//! One request as a line: of the access log, and of what follows requests live.

use std::{borrow::Cow, io::Write, time::Duration};

use chrono::DateTime;
use nearcast_datasets::{Timestamp, rfc3339};
use serde::{Deserialize, Serialize};

/// A request that has ended, as JSON lines carry it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestLine {
    /// When it arrived, as RFC 3339.
    pub time: String,
    /// The same in microseconds since the Unix epoch.
    pub time_us: i64,
    /// The node.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Who asked: a pseudonym, the name that the request gave, or, in an access log that is told so, an address.
    pub client: String,
    /// The method.
    pub method: String,
    /// The target as it was sent.
    pub target: String,
    /// The protocol, such as `HTTP/1.1`.
    pub protocol: String,
    /// The object's key; absent where the request was refused before there was one.
    pub key: Option<String>,
    /// The answer's status; 499 where the client left before there was one.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub bytes: u64,
    /// Bytes of the whole object.
    pub size: u64,
    /// Who answered.
    pub outcome: Cow<'static, str>,
    /// Why the node could not on its own.
    pub cause: Option<Cow<'static, str>>,
    /// From the request's head to the answer's last byte.
    pub latency_us: u64,
    /// Where the client says that it comes from.
    pub referer: Option<String>,
    /// What the client says that it is.
    pub user_agent: Option<String>,
}

impl RequestLine {
    /// Appends the line of the combined format of Apache and nginx, with its end. With `extra`, fields of our own follow:
    /// `cache=OUTCOME cause=CAUSE time=SECONDS`.
    pub fn write_combined(&self, extra: bool, out: &mut Vec<u8>) {
        escape(self.client.as_bytes(), true, out);
        let time = DateTime::from_timestamp_micros(self.time_us).unwrap_or_default();
        // Writing to a vector cannot fail.
        let _ = write!(out, " - - [{}] \"", time.format("%d/%b/%Y:%H:%M:%S +0000"));
        escape(self.method.as_bytes(), false, out);
        out.push(b' ');
        escape(self.target.as_bytes(), false, out);
        out.push(b' ');
        escape(self.protocol.as_bytes(), false, out);
        let _ = write!(out, "\" {} {} ", self.status, self.bytes);
        for field in [&self.referer, &self.user_agent] {
            out.push(b'"');
            escape(field.as_deref().unwrap_or("-").as_bytes(), false, out);
            out.extend_from_slice(b"\" ");
        }
        out.pop();
        if extra {
            let cause = self.cause.as_deref().unwrap_or("-");
            let seconds = self.latency_us as f64 / 1e6;
            let _ = write!(out, " cache={} cause={cause} time={seconds:.6}", self.outcome);
        }
        out.push(b'\n');
    }

    /// Appends the line as JSON, with its end.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        // Strings and numbers can always be written, and to a vector.
        let _ = serde_json::to_writer(&mut *out, self);
        out.push(b'\n');
    }

    /// How long it took.
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us)
    }

    pub(crate) fn time_of(at: Timestamp) -> (String, i64) {
        (rfc3339(at), at.micros())
    }
}

/// Appends what a client sent so that it stays within its field: as nginx does, quotes, backslashes and whatever is not
/// printable ASCII become `\xHH`; between blanks, so do blanks.
fn escape(bytes: &[u8], is_word: bool, out: &mut Vec<u8>) {
    if is_word && bytes.is_empty() {
        out.push(b'-');
    }
    for byte in bytes {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => _ = write!(out, "\\x{byte:02X}"),
            b' ' if is_word => out.extend_from_slice(b"\\x20"),
            byte => out.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn line() -> RequestLine {
        RequestLine {
            time: "2024-03-05T10:20:30Z".to_owned(),
            time_us: 1_709_634_030_000_000,
            node: "n1".to_owned(),
            region: "eu".to_owned(),
            client: "192.0.2.7".to_owned(),
            method: "GET".to_owned(),
            target: "/a?b".to_owned(),
            protocol: "HTTP/1.1".to_owned(),
            key: Some("/a?b".to_owned()),
            status: 200,
            bytes: 5,
            size: 5,
            outcome: Cow::Borrowed("memory"),
            cause: None,
            latency_us: 1_250,
            referer: None,
            user_agent: Some("curl/8".to_owned()),
        }
    }

    fn combined(line: &RequestLine, extra: bool) -> String {
        let mut out = Vec::new();
        line.write_combined(extra, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn the_combined_format_is_that_of_apache_and_nginx() {
        let plain = "192.0.2.7 - - [05/Mar/2024:10:20:30 +0000] \"GET /a?b HTTP/1.1\" 200 5 \"-\" \"curl/8\"";
        assert_eq!(combined(&line(), false), format!("{plain}\n"));
        assert_eq!(combined(&line(), true), format!("{plain} cache=memory cause=- time=0.001250\n"));
    }

    #[test]
    fn json_lines_read_back() {
        let mut out = Vec::new();
        line().write_json(&mut out);
        assert_eq!(serde_json::from_slice::<RequestLine>(&out).unwrap(), line());
    }

    proptest! {
        /// Whatever a client sends, the line is one line, and its fields stay where they belong.
        #[test]
        fn no_client_can_forge_a_line(client in ".{0,20}", target in ".{0,40}", agent in ".{0,40}", referer in ".{0,40}") {
            let forged = RequestLine { client, target, user_agent: Some(agent), referer: Some(referer), ..line() };
            let text = combined(&forged, true);
            prop_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte) || byte == b'\n'), "{text}");
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert_eq!(text.matches('"').count(), 6);
            prop_assert_eq!(text.split(" - - [").next().map(|client| client.contains(' ')), Some(false));
            prop_assert!(text.ends_with(" cache=memory cause=- time=0.001250\n"));
        }
    }
}
