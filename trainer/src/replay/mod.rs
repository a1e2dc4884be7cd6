//! Replay: the production engine, node core and routing, driven by a recorded log under a virtual clock.
//!
//! [`LogColumns`] is a log read once; [`replay_columns`] plays it through one simulated node per region for every cell
//! of a [`ReplayConfig`], all cells in parallel, and [`replay`] does both. A miss goes to a peer or the origin and takes
//! the topology's round trip and bandwidth; a prefetch lands only when its transfer would have ended. Nothing looks at
//! a request before its time, so what is learned comes from the past only.
//!
//! The result is a [`ReplayReport`]: for each cell what clients felt, what was fetched, and what became of prefetches,
//! compared with the same cell without prefetching. The same log, configuration and seed give the same report.

mod agenda;
mod baselines;
mod belady;
mod cell;
pub(crate) mod charts;
mod cluster;
mod columns;
mod config;
mod error;
mod hours;
mod names;
mod network;
mod node;
mod objects;
mod oracle;
mod page;
mod part;
mod placing;
#[cfg(test)]
mod placing_tests;
mod predictor;
mod report;
#[cfg(test)]
mod report_tests;
#[cfg(test)]
mod rival_tests;
#[cfg(test)]
mod scale_tests;
mod tally;
#[cfg(test)]
mod tests;
mod timeline;
mod timing;

use std::iter;

use nearcast_datasets::LogSource;
use nearcast_predictor::engine::Engine;
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

use self::cell::CellSpec;
pub use self::{
    columns::{LogColumns, ReadOptions},
    config::{CacheSize, EvictionKind, PlacementKind, PrefetchKind, ReplayConfig},
    error::{ReplayError, Result},
    hours::RegionHour,
    page::{document, escape, page, sections, write_document, write_page},
    part::Part,
    placing::PlacingConfig,
    report::{BaselineReport, CellReport, LatencyReport, OracleReport, PrefetchReport, ReplayReport, SCHEMA},
    timeline::TimeSlice,
};

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayProgress {
    /// So many requests of the log were read.
    Reading(u64),
    /// So many requests will be played, over all cells.
    Total(u64),
    /// So many more requests were played.
    Played(u64),
}

/// Reads a log and replays it.
///
/// # Errors
/// Everything of [`LogColumns::read`] and [`replay_columns`].
pub fn replay(
    source: &LogSource,
    config: &ReplayConfig,
    progress: &(dyn Fn(ReplayProgress) + Sync),
) -> Result<ReplayReport> {
    config.check()?;
    let log = LogColumns::read(source, config.read, |rows| progress(ReplayProgress::Reading(rows)))?;
    replay_columns(&source.to_string(), &log, config, progress)
}

/// Replays a log that was read with the configuration's own [`ReadOptions`].
///
/// # Errors
/// When a value of `config` is out of its range, a cache of the log's size could hold nothing, the topology lacks a
/// region of the log, or an object has too many segments.
pub fn replay_columns(
    name: &str,
    log: &LogColumns,
    config: &ReplayConfig,
    progress: &(dyn Fn(ReplayProgress) + Sync),
) -> Result<ReplayReport> {
    config.check()?;
    config.topology.check_regions(log.region_names())?;
    check_segments(log, config)?;
    let shown = cells(log, config)?;
    let all = with_references(&shown, config);
    progress(ReplayProgress::Total((all.len() * log.len()) as u64));
    let played = |rows| progress(ReplayProgress::Played(rows));
    let run = |cell: &CellSpec| cell.run(log, config, &played).map(|(report, _)| report);
    let mut reports = all.par_iter().map(run).collect::<Result<Vec<_>>>()?;
    let perfect_miss_ratio = config.oracle.then(|| oracle::perfect_miss_ratio(log, config));
    let find = |cell: CellSpec| all.iter().position(|other| other.is_baseline_of(&cell));
    for (index, cell) in shown.iter().enumerate() {
        if let Some(without) = find(*cell).map(|without| reports[without].clone()) {
            reports[index].compare_with(&without);
        }
        if let Some(perfect_miss_ratio) = perfect_miss_ratio {
            let belady = oracle::belady_of(cell).and_then(find).map(|belady| reports[belady].miss_ratio);
            reports[index].oracle = Some(OracleReport::new(&reports[index], belady, perfect_miss_ratio));
        }
    }
    reports.truncate(shown.len());
    Ok(summary(name, log, config, reports))
}

/// Plays the log through the first nearcast cell of `config` and returns the engine as it is at the end, with its
/// account and what it learned online: what a trainer calibrates a gate with.
///
/// # Errors
/// As [`replay_columns`].
pub fn replay_engine(log: &LogColumns, config: &ReplayConfig) -> Result<(CellReport, Engine)> {
    let config = ReplayConfig { prefetchers: vec![PrefetchKind::Nearcast], ..config.clone() };
    config.check()?;
    config.topology.check_regions(log.region_names())?;
    check_segments(log, &config)?;
    let cell = cells(log, &config)?.into_iter().next().ok_or(ReplayError::NothingToReplay { list: "caches" })?;
    let (report, engine) = cell.run(log, &config, &|_| ())?;
    Ok((report, engine.ok_or(ReplayError::NothingToReplay { list: "prefetchers" })?))
}

/// The cells to show, and after them those that they are compared with.
fn with_references(shown: &[CellSpec], config: &ReplayConfig) -> Vec<CellSpec> {
    let mut all = shown.to_vec();
    for cell in shown {
        let without = CellSpec { prefetch: PrefetchKind::None, ..*cell };
        let belady = oracle::belady_of(cell).filter(|_| config.oracle);
        for reference in iter::once(without).chain(belady) {
            if !all.iter().any(|other| other.is_baseline_of(&reference)) {
                all.push(reference);
            }
        }
    }
    all
}

/// Every combination of the lists. Where the budget means nothing, a cell is made once.
fn cells(log: &LogColumns, config: &ReplayConfig) -> Result<Vec<CellSpec>> {
    let mut cells = Vec::new();
    for policy in &config.policies {
        for placement in &config.placements {
            for (cache_index, cache) in config.caches.iter().enumerate() {
                let cache_bytes = cache.bytes(log.distinct_bytes())?;
                for prefetch in &config.prefetchers {
                    let budgets = if prefetch.has_budget() { &config.budgets } else { &config.budgets[..1] };
                    cells.extend(budgets.iter().map(|budget| CellSpec {
                        policy: *policy,
                        prefetch: *prefetch,
                        placement: *placement,
                        cache_index,
                        cache_bytes,
                        budget: *budget,
                    }));
                }
            }
        }
    }
    Ok(cells)
}

fn check_segments(log: &LogColumns, config: &ReplayConfig) -> Result<()> {
    let Some((row, bytes)) = log.largest() else { return Ok(()) };
    if bytes.div_ceil(config.segment_bytes) <= SEGMENTS_MAX {
        return Ok(());
    }
    let key = log.key_name(log.row(row).key).to_owned();
    let segment_bytes = config.segment_bytes;
    Err(ReplayError::ObjectTooLarge { key, bytes, segment_bytes, segments_max: SEGMENTS_MAX })
}

fn summary(name: &str, log: &LogColumns, config: &ReplayConfig, cells: Vec<CellReport>) -> ReplayReport {
    ReplayReport {
        schema: SCHEMA,
        log: name.to_owned(),
        requests: log.len() as u64,
        keys: log.key_count() as u64,
        distinct_bytes: log.distinct_bytes(),
        regions: log.region_names().len() as u64,
        warmup: config.warmup,
        seed: config.seed,
        instant: config.instant,
        unit_size: config.read.unit_size,
        single_region: config.read.single_region,
        without: config.without(),
        model_version: config.model.as_ref().map(|(version, _)| version.to_string()),
        cells,
    }
}

/// Segments of one object that replay follows: 64 GiB at the default segment size.
const SEGMENTS_MAX: u64 = 65_536;
