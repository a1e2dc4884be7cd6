//! The append-only record of an experiment, one JSON line a change, each holding the hash of the one before.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Action, By};
use crate::verdict::Verdict;

/// A BLAKE3 hash in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(String);

impl Hash {
    fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).to_hex().to_string())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// What a change rests on: a verdict, and the hash of everything that led to it, which is kept beside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The word.
    pub verdict: Verdict,
    /// Of the document.
    pub hash: Hash,
}

impl Evidence {
    /// Of a document, byte by byte as it is kept.
    pub fn of(verdict: Verdict, document: &[u8]) -> Self {
        Self { verdict, hash: Hash::of(document) }
    }

    /// Whether `document` is what this evidence was made from.
    pub fn is_of(&self, document: &[u8]) -> bool {
        self.hash == Hash::of(document)
    }
}

/// One entry of the record. The field names are a contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// From 1, without a gap.
    pub number: u64,
    /// Since the Unix epoch, in microseconds.
    pub at_micros: u64,
    /// A person, or the part of the program that acted by itself.
    pub who: String,
    /// In words.
    pub why: String,
    /// What it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// What was done.
    #[serde(flatten)]
    pub action: Action,
    /// The hash of the line before; empty for the first.
    pub before: Hash,
}

impl Change {
    /// The change as one line of the record, without a line's end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a change has string keys and no number that JSON lacks")
    }

    /// When it was made, since the Unix epoch.
    pub fn at(&self) -> Duration {
        Duration::from_micros(self.at_micros)
    }
}

/// Why a record is not read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A line that is no change.
    #[error("line {line} is not a change")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A line that does not follow the one before: the record was altered.
    #[error("line {line} does not follow the line before it: the record was altered")]
    Altered {
        /// Which line, from 1.
        line: usize,
    },
}

/// All changes of an experiment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    changes: Vec<Change>,
    last: Hash,
}

impl Record {
    /// Reads a record. A last line without its end was being written when the writer died: nobody has acted on it, and
    /// it is left out.
    ///
    /// # Errors
    /// When any other line is not a change, or does not follow the one before.
    pub fn from_lines(text: &str) -> Result<Self, RecordError> {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut record = Self::default();
        for (index, line) in whole.lines().enumerate() {
            let number = index + 1;
            let change: Change =
                serde_json::from_str(line).map_err(|source| RecordError::Line { line: number, source })?;
            if change.number != number as u64 || change.before != record.last {
                return Err(RecordError::Altered { line: number });
            }
            record.last = Hash::of(line.as_bytes());
            record.changes.push(change);
        }
        Ok(record)
    }

    /// The record as it is kept.
    pub fn to_lines(&self) -> String {
        self.changes.iter().map(|change| change.to_line() + "\n").collect()
    }

    /// The changes, oldest first.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// A change that follows the last.
    pub(super) fn next(&self, action: Action, by: By<'_>) -> Change {
        Change {
            number: self.changes.len() as u64 + 1,
            at_micros: u64::try_from(by.at.as_micros()).unwrap_or(u64::MAX),
            who: by.who.to_owned(),
            why: by.why.to_owned(),
            evidence: by.evidence,
            action,
            before: self.last.clone(),
        }
    }

    /// Writes down what [`Self::next`] gave.
    pub(super) fn push(&mut self, change: Change) -> &Change {
        self.last = Hash::of(change.to_line().as_bytes());
        let place = self.changes.len();
        self.changes.push(change);
        &self.changes[place]
    }
}
