//! A lease's entry as bytes.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Holder, LeaseRecord, Token};
use crate::{Error, Result};

#[derive(Serialize, Deserialize)]
struct Stored {
    holder: String,
    run: String,
    ttl_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<u64>,
}

/// A lease's entry as JSON.
pub fn encode_lease(record: &LeaseRecord) -> Bytes {
    let stored = Stored {
        holder: record.holder.name.clone(),
        run: record.holder.run.clone(),
        ttl_ms: u64::try_from(record.ttl.as_millis()).unwrap_or(u64::MAX),
        token: record.token.map(|token| token.0),
    };
    serde_json::to_vec(&stored).expect("strings and numbers are JSON").into()
}

/// Reads a lease's entry.
///
/// # Errors
/// [`Error::Damaged`] when it is none.
pub fn decode_lease(key: &str, bytes: &[u8]) -> Result<LeaseRecord> {
    let damaged = |_| Error::Damaged { what: "lease", name: key.to_owned() };
    let stored: Stored = serde_json::from_slice(bytes).map_err(damaged)?;
    Ok(LeaseRecord {
        holder: Holder { name: stored.holder, run: stored.run },
        ttl: Duration::from_millis(stored.ttl_ms),
        token: stored.token.map(Token),
    })
}
