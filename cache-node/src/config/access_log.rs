//! `[access_log]`: lines of text for other tools.

use std::path::PathBuf;

use serde::Deserialize;

use super::{raw::RawAccessLog, sections::positive};
use crate::{error::Error, watch::ClientName};

/// `[access_log]`: a line of text for each request, off without this section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// The file that lines are appended to. It may be moved away at any time: within a second or so, it is begun anew.
    pub path: PathBuf,
    /// How a line is written. Default `combined`.
    pub format: AccessLogFormat,
    /// Who asked, in a line. Default `pseudonym`.
    pub client: ClientName,
    /// Whether a combined line ends with outcome, miss cause and time taken. Default false.
    pub extra_fields: bool,
    /// Lines waiting to be written; more are dropped and counted. Default 65,536.
    pub queue_max: usize,
}

/// How a line of the access log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// As Apache and nginx call it.
    #[default]
    Combined,
    /// One JSON object.
    Json,
}

impl TryFrom<RawAccessLog> for AccessLogConfig {
    type Error = Error;

    fn try_from(raw: RawAccessLog) -> Result<Self, Error> {
        Ok(Self {
            path: raw.path,
            format: raw.format.unwrap_or_default(),
            client: raw.client.unwrap_or(ClientName::Pseudonym),
            extra_fields: raw.extra_fields.unwrap_or(false),
            queue_max: positive("access_log.queue_max", raw.queue_max, 65_536)?,
        })
    }
}
