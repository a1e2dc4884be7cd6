//! Plays a log over HTTP against running nodes, open-loop, and reports what clients felt.
//!
//! | file | concern |
//! | --- | --- |
//! | `cluster` | who is played against |
//! | `http` | requests and documents over HTTP |
//! | `schedule` | which request goes where, and when |
//! | `play` | sending on time, reading and checking answers |
//! | `tally` | counting them |
//! | `arms` | switching the predictor's arm; what nodes and origin counted meanwhile |
//! | `report` | the document and its text |

mod arms;
mod cluster;
mod http;
mod play;
mod report;
mod schedule;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use nearcast_datasets::LogSource;

pub(crate) use self::http::{Access, Http};
use self::{arms::Switch, play::Player, report::ArmReport, schedule::Schedule};
pub(crate) use self::{
    cluster::{Cluster, Node, To},
    report::Report,
};
use crate::origin::Objects;

/// What is played, and how.
#[derive(Clone, Debug)]
pub(crate) struct LoadConfig {
    /// The log.
    pub(crate) log: LogSource,
    /// Log seconds per second; `None` for what the cluster file says, else 1.
    pub(crate) speed: Option<f64>,
    /// Requests of the log to pass over.
    pub(crate) skip: u64,
    /// The most requests to play.
    pub(crate) limit: Option<u64>,
    /// The arms to play the log under, one after the other; empty to leave the predictor alone and play once.
    pub(crate) arms: Vec<String>,
    /// Whether every body is compared with what the origin serves.
    pub(crate) verify: bool,
    /// The most requests under way; further ones are sent late, which is counted.
    pub(crate) concurrency: usize,
}

/// Plays the log, once per arm. `progress` is told of requests that ended: how many, of how many if known.
///
/// # Errors
/// When the log cannot be read, the cluster cannot be reached, or an arm cannot be set. Failed requests are counted
/// in the report instead.
pub(crate) async fn load(
    config: &LoadConfig,
    to: &To,
    access: &Access,
    progress: impl Fn(&str, u64, Option<u64>) + Clone + Send + Sync + 'static,
) -> anyhow::Result<Report> {
    let http = Http::new(access)?;
    let cluster = Arc::new(Cluster::find(to, &http).await?);
    let speed = config.speed.or(cluster.speed).unwrap_or(1.0);
    let (source, verify) = (config.log.clone(), config.verify);
    let objects = tokio::task::spawn_blocking(move || verify.then(|| Objects::of_log(&source)).transpose()).await??;
    let player = Player::new(http.clone(), Arc::clone(&cluster), objects, config.concurrency);
    let mut reports = Vec::new();
    let mut spread_seconds = 0.0;
    let arms: Vec<Option<&str>> =
        if config.arms.is_empty() { vec![None] } else { config.arms.iter().map(|arm| Some(arm.as_str())).collect() };
    for arm in arms {
        let switch = Switch { http: &http, cluster: &cluster };
        if let Some(arm) = arm {
            switch.to(arm).await?;
        }
        let before = switch.counters().await;
        let schedule = Schedule::start(config, speed, Arc::clone(&cluster))?;
        spread_seconds = schedule.spread.as_secs_f64();
        let (name, progress) = (arm.unwrap_or("playing").to_owned(), progress.clone());
        let played = player.play(schedule, move |done, total| progress(&name, done, total)).await?;
        switch.settle().await;
        let counted = switch.counters().await.since(&before);
        let is_interrupted = played.is_interrupted;
        reports.push(ArmReport::new(arm, played, counted, &cluster));
        if is_interrupted {
            break;
        }
    }
    Ok(Report::new(config, speed, spread_seconds, reports))
}
