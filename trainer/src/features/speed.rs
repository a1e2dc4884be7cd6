//! How fast features are built, stage by stage.

use std::time::Duration;

use nearcast_datasets::{LogSource, Timestamp};
use nearcast_models::TrainedCoAccess;
use serde::Serialize;

use super::{Features, TimeRange};
use crate::{
    Result, TrainConfig,
    fit::{Catalogue, fit_coaccess},
};

/// One stage of building features.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct FeatureStage {
    /// What was done.
    pub name: &'static str,
    /// How long it took.
    pub seconds: f64,
    /// Processor time that it took on all cores together.
    pub processor_seconds: f64,
}

/// What building features from a log took.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FeatureSpeed {
    /// Requests in the log.
    pub events: u64,
    /// Keys with a row in the vocabulary.
    pub vocabulary_rows: u64,
    /// Sessions of all clients; `None` when they were left out.
    pub sessions: Option<u64>,
    /// Keys with successors by the same client.
    pub client_keys: u64,
    /// Keys with successors by other clients of the region.
    pub region_keys: u64,
    /// A hash of both tables, down to the last bit of every weight: the same wherever they were built.
    pub tables: String,
    /// The stages in the order in which they ran.
    pub stages: Vec<FeatureStage>,
}

/// Builds vocabulary, sessions and co-access from Parquet logs, as training does, and says what each stage took by
/// `clock`, which tells the time and the processor time spent so far. Sessions, which are held in memory for fitting, can be left out to measure co-access alone.
///
/// # Errors
/// What reading the logs or building the features raises.
pub fn measure_features(
    logs: &[LogSource],
    config: &TrainConfig,
    with_sessions: bool,
    clock: &dyn Fn() -> (Duration, Duration),
) -> Result<FeatureSpeed> {
    let mut stages = Vec::new();
    let mut began = clock();
    let mut stage = |name| {
        let now = clock();
        stages.push(FeatureStage {
            name,
            seconds: now.0.saturating_sub(began.0).as_secs_f64(),
            processor_seconds: now.1.saturating_sub(began.1).as_secs_f64(),
        });
        began = now;
    };
    let features = Features::prepare(logs, &config.features, &mut |_| ())?;
    stage("coding");
    let end = Timestamp::from_micros(features.log.last.micros().saturating_add(1));
    let range = TimeRange { start: features.log.first, end };
    let vocabulary_rows = Catalogue::build(&features, range, &config.model.vocabulary)?.vocabulary.len() as u64;
    stage("vocabulary");
    let sessions = with_sessions.then(|| features.sessions(range)).transpose()?.map(|sessions| sessions.len() as u64);
    if with_sessions {
        stage("sessions");
    }
    let coaccess = fit_coaccess(&features, range, &config.model.coaccess, &mut |_| ())?;
    stage("coaccess");
    Ok(FeatureSpeed {
        events: features.log.rows,
        vocabulary_rows,
        sessions,
        client_keys: coaccess.client.len() as u64,
        region_keys: coaccess.region.len() as u64,
        tables: digest(&coaccess),
        stages,
    })
}

fn digest(tables: &TrainedCoAccess) -> String {
    let mut hasher = blake3::Hasher::new();
    for (code, name) in tables.keys.iter() {
        hasher.update(&code.to_le_bytes()).update(name.as_bytes());
    }
    for row in tables.client.iter().chain(&tables.region) {
        hasher.update(&row.key.0.to_le_bytes()).update(&row.occurrences.to_le_bytes());
        for (to, weight) in &row.successors {
            hasher.update(&to.0.to_le_bytes()).update(&weight.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}
