//! Makes seeded request logs whose best achievable accuracy is known.
//!
//! Regions live in their own time zones; their demand rises and falls with the local hour. Keys are popular by Zipf's law,
//! differently by region and, where asked for, by the part of the local day; popularity drifts and new keys are born. Clients walk along a chain over the keys that is known,
//! so that the best next-key accuracy that any predictor can reach is computed beside the log.

mod arrivals;
mod config;
mod keys;
mod popularity;
#[cfg(test)]
mod tests;
mod truth;
mod workload;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use config::{DAYPARTS, RegionConfig, WorkloadConfig};
pub use truth::{AccuracyAt, BestAccuracy};
pub use workload::{SyntheticRequest, Workload};

use crate::{Error, LogWriter, RequestEvent, Timestamp, WriteOptions, error::Result, rfc3339};

/// What is known about a synthetic log: the content of its `truth.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Truth {
    /// Names this document's shape.
    pub schema: &'static str,
    /// The settings.
    pub config: WorkloadConfig,
    /// A client is silent for longer than this between two sessions and never within one.
    pub session_gap_seconds: u64,
    /// The best accuracy for requests that follow another one in their session.
    pub next_key: BestAccuracy,
    /// The best accuracy for the first request of a session, which only popularity foretells.
    pub first_key: BestAccuracy,
    /// Both together: what a predictor could reach on all requests if it were told when a session starts.
    pub any_key: BestAccuracy,
}

/// The result of a synthesis.
#[derive(Clone, Debug, Serialize)]
pub struct SynthesizeReport {
    /// Names this document's shape.
    pub schema: &'static str,
    /// The log.
    pub output: PathBuf,
    /// Its files.
    pub files: Vec<PathBuf>,
    /// Bytes of the files together.
    pub bytes: u64,
    /// The file with the best achievable accuracy.
    pub truth_file: PathBuf,
    /// Requests written.
    pub requests: u64,
    /// Keys ever born; not all of them were asked for.
    pub born_keys: usize,
    /// Sessions that did not happen because no client was free.
    pub dropped_sessions: u64,
    /// The first request, RFC 3339.
    pub first: String,
    /// The last request, RFC 3339.
    pub last: String,
    /// The best achievable accuracy.
    pub truth: Truth,
}

/// Writes a synthetic log at `out`, a folder partitioned by date, or one file when its name ends in `.parquet`, and
/// what is known about it in `truth.json` in the folder, or beside the file. `progress` is told how many rows are made.
///
/// The same configuration gives the same files, byte by byte. Memory does not grow with the number of rows.
///
/// # Errors
/// [`Error::BadWorkload`] for settings that make no workload, those of [`LogWriter`], and [`Error::Io`].
pub fn synthesize(config: &WorkloadConfig, out: &Path, mut progress: impl FnMut(u64)) -> Result<SynthesizeReport> {
    let mut workload = Workload::new(config)?;
    let one_file = out.extension().is_some_and(|extension| extension == "parquet");
    let options = WriteOptions { partition_by_date: !one_file, ..WriteOptions::default() };
    let mut writer = LogWriter::create(out, options)?;
    let clients: Vec<Box<str>> = (0..client_count(config)).map(|it| Workload::client_name(it).into()).collect();
    let mut event = blank_event();
    let mut made_count = 0_u64;
    while let Some(request) = workload.next_request() {
        fill(&mut event, &request, &workload, config, &clients[request.client as usize]);
        writer.push(&event)?;
        made_count += 1;
        if made_count.is_multiple_of(PROGRESS_EVERY) {
            progress(made_count);
        }
    }
    let summary = writer.finish()?;
    let truth = truth(&workload, config);
    let truth_file = if one_file { out.with_extension("truth.json") } else { out.join("truth.json") };
    write_truth(&truth, &truth_file)?;
    Ok(SynthesizeReport {
        schema: "nearcast.synthesize/1",
        output: out.to_owned(),
        files: summary.files,
        bytes: summary.bytes,
        truth_file,
        requests: summary.row_count,
        born_keys: workload.born_key_count(),
        dropped_sessions: workload.dropped_session_count(),
        first: rfc3339(summary.first),
        last: rfc3339(summary.last),
        truth,
    })
}

fn truth(workload: &Workload, config: &WorkloadConfig) -> Truth {
    let oracle = workload.oracle();
    Truth {
        schema: "nearcast.truth/1",
        config: config.clone(),
        session_gap_seconds: config::SESSION_GAP.as_secs(),
        next_key: oracle.next_key.best(),
        first_key: oracle.first_key.best(),
        any_key: oracle.next_key.merge(&oracle.first_key).best(),
    }
}

fn write_truth(truth: &Truth, path: &Path) -> Result<()> {
    let failed = |source| Error::Io { action: "write", path: path.display().to_string(), source };
    let text = serde_json::to_string_pretty(truth).map_err(|error| failed(error.into()))?;
    std::fs::write(path, text + "\n").map_err(failed)
}

fn client_count(config: &WorkloadConfig) -> u32 {
    (0..config.regions.len()).map(|region| config.region_client_count(region)).sum()
}

const PROGRESS_EVERY: u64 = 16_384;

fn blank_event() -> RequestEvent {
    RequestEvent {
        timestamp: Timestamp::default(),
        client: String::new(),
        region: String::new(),
        key: String::new(),
        size_bytes: 0,
        range: None,
        node: None,
        outcome: None,
        latency_us: None,
        arm: None,
        model_version: None,
    }
}

/// Gives the event the request's content, reusing its strings.
fn fill(
    event: &mut RequestEvent,
    request: &SyntheticRequest,
    workload: &Workload,
    config: &WorkloadConfig,
    client: &str,
) {
    event.timestamp = request.timestamp;
    event.size_bytes = workload.size_bytes(request.key);
    let region = &config.regions[request.region].name;
    let names =
        [(&mut event.client, client), (&mut event.region, region), (&mut event.key, workload.key_name(request.key))];
    for (text, name) in names {
        text.clear();
        text.push_str(name);
    }
}
