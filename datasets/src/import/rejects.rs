//! Keeps rejected lines, without the client in them, so that a person can see what is wrong.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    net::{IpAddr, SocketAddrV4},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Serialize;

use super::{error::ImportError, record::Reason};

/// Counts rejected lines and writes the first of them to a file, which exists only when a line was rejected.
#[derive(Debug)]
pub(crate) struct Rejects {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    kept_max: u64,
    counts: BTreeMap<Reason, u64>,
    total: u64,
}

/// One line of the rejects file.
#[derive(Debug, Serialize)]
struct Rejected<'a> {
    source: &'a str,
    line: u64,
    reason: &'static str,
    raw: &'a str,
}

impl Rejects {
    pub(crate) fn new(path: &Path, kept_max: u64) -> Self {
        Self { path: path.to_owned(), file: None, kept_max, counts: BTreeMap::new(), total: 0 }
    }

    /// Counts a line and keeps it, cut to [`RAW_BYTES_MAX`] and with `client` and every address taken out.
    pub(crate) fn push(
        &mut self,
        source: &str,
        line: u64,
        reason: Reason,
        raw: &[u8],
        client: Option<&[u8]>,
    ) -> Result<(), ImportError> {
        *self.counts.entry(reason).or_default() += 1;
        self.total += 1;
        if self.total > self.kept_max {
            return Ok(());
        }
        let raw = redact(&String::from_utf8_lossy(&raw[..raw.len().min(RAW_BYTES_MAX)]), client);
        let record = Rejected { source, line, reason: reason.as_str(), raw: &raw };
        self.write(&record).map_err(|source| ImportError::output(&self.path, source))
    }

    fn write(&mut self, record: &Rejected<'_>) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(File::create(&self.path)?)),
        };
        serde_json::to_writer(&mut *file, record)?;
        file.write_all(b"\n")
    }

    /// Brings the file to the disk.
    pub(crate) fn flush(&mut self) -> Result<(), ImportError> {
        let flushed = self.file.as_mut().map_or(Ok(()), BufWriter::flush);
        flushed.map_err(|source| ImportError::output(&self.path, source))
    }

    /// How many lines were rejected.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The file, when there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|_| &*self.path)
    }

    /// How often each reason occurred.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.iter().map(|(reason, count)| (reason.as_str().to_owned(), *count)).collect()
    }
}

/// Bytes of a rejected line that are kept.
const RAW_BYTES_MAX: usize = 1_024;

/// What stands where a client stood.
const REDACTED: &str = "<client>";

/// The text without the client and without anything that reads as an address.
fn redact(text: &str, client: Option<&[u8]>) -> String {
    let client = client.and_then(|client| std::str::from_utf8(client).ok()).filter(|client| client.len() > 1);
    let text = client.map_or_else(|| text.to_owned(), |client| text.replace(client, REDACTED));
    let mut redacted = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(start) = rest.find(is_address_part) {
        let (before, tail) = rest.split_at(start);
        let (word, after) = tail.split_at(tail.find(|character| !is_address_part(character)).unwrap_or(tail.len()));
        redacted.push_str(before);
        redacted.push_str(if is_address(word) { REDACTED } else { word });
        rest = after;
    }
    redacted + rest
}

fn is_address_part(character: char) -> bool {
    character.is_ascii_hexdigit() || matches!(character, '.' | ':')
}

fn is_address(word: &str) -> bool {
    let word = word.trim_end_matches(['.', ':']);
    IpAddr::from_str(word).is_ok() || SocketAddrV4::from_str(word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_lines_hold_no_client() {
        let text = "192.0.2.1, 2001:db8::7 [192.0.2.3:80] lee.example at 10:20:30 1.2.3 lee.example";
        let found = redact(text, Some(b"lee.example"));
        assert_eq!(found, "<client>, <client> [<client>] <client> at 10:20:30 1.2.3 <client>");
    }

    #[test]
    fn keeps_no_more_than_allowed_but_counts_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejects.jsonl");
        let mut rejects = Rejects::new(&path, 2);
        assert_eq!(rejects.path(), None);
        let long = vec![b'\xff'; 3_000];
        for line in 1..=3 {
            rejects.push("a.log", line, Reason::OpenQuote, &long, None).unwrap();
        }
        rejects.flush().unwrap();
        let text = std::fs::read_to_string(rejects.path().unwrap()).unwrap();
        assert_eq!((text.lines().count(), rejects.total()), (2, 3));
        assert_eq!(rejects.counts(), [("open_quote".to_owned(), 3)].into());
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((first["source"].as_str(), first["line"].as_u64()), (Some("a.log"), Some(1)));
        assert!(first["raw"].as_str().unwrap().chars().count() <= RAW_BYTES_MAX);
    }
}
