//! One cell: one combination of policy, prefetcher, placement, cache size and budget.

use std::time::Duration;

use nearcast_cache_node::core::NodeCoreConfig;
use nearcast_predictor::engine::{Arm, Engine, EngineConfig};
use nearcast_proto::topology::Topology;

use super::{
    CellReport, EvictionKind, LatencyReport, LogColumns, PlacementKind, PrefetchKind, PrefetchReport, ReplayConfig,
    Result,
    cluster::Cluster,
    placing::strategy,
    report::BaselineReport,
    tally::Tally,
    timing::{Stopwatch, peak_rss_bytes},
};

/// Which cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct CellSpec {
    pub(super) policy: EvictionKind,
    pub(super) prefetch: PrefetchKind,
    pub(super) placement: PlacementKind,
    /// Which of the configured cache sizes.
    pub(super) cache_index: usize,
    pub(super) cache_bytes: u64,
    pub(super) budget: f64,
}

/// What a cluster is made from.
#[derive(Debug)]
pub(super) struct CellSetup<'a> {
    /// What evicts is up to `policy`.
    pub(super) node: NodeCoreConfig,
    pub(super) policy: EvictionKind,
    pub(super) prefetch: PrefetchKind,
    pub(super) placement: PlacementKind,
    pub(super) topology: &'a Topology,
    pub(super) segment_bytes: u64,
    pub(super) control_round_trip: Duration,
    pub(super) is_instant: bool,
}

impl CellSpec {
    /// Whether `other` is the same cell but for prefetching.
    pub(super) fn is_baseline_of(&self, other: &Self) -> bool {
        self.prefetch == PrefetchKind::None
            && self.policy == other.policy
            && self.placement == other.placement
            && self.cache_bytes == other.cache_bytes
    }

    /// Plays the whole log; `progress` hears how many more requests were played.
    pub(super) fn run(
        &self,
        log: &LogColumns,
        config: &ReplayConfig,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(CellReport, Option<Engine>)> {
        let stopwatch = Stopwatch::start();
        let mut cluster = Cluster::new(log, &self.setup(config), self.engine(log, config)?)?;
        cluster.place(strategy(self.placement, log, config, self.cache_bytes)?, config.placing.link_share);
        let counted_from = config.counted_from(log.len());
        let mut coming = config.model.as_ref().filter(|_| config.model_from.is_some());
        for index in 0..log.len() {
            let now = log.row(index).timestamp;
            if let Some((version, model)) = coming.take_if(|_| config.model_from.is_some_and(|from| from <= now)) {
                cluster.install_model(now, version, model);
            }
            if index == counted_from {
                cluster.start_counting(now);
            }
            cluster.play(index);
            if index % PROGRESS_ROWS == PROGRESS_ROWS - 1 {
                progress(PROGRESS_ROWS as u64);
            }
        }
        progress((log.len() % PROGRESS_ROWS) as u64);
        let (tally, engine) = cluster.finish();
        let mut report = self.report(&tally, log.region_names(), config);
        report.account = engine.as_ref().map(|engine| engine.account().clone());
        let calibration = report.account.as_ref().map(|account| account.calibration);
        report.calibration_error = calibration.filter(|it| it.count() > 0).map(|it| it.error());
        if config.with_timing {
            report.events_per_second = Some(log.len() as f64 / stopwatch.seconds().max(f64::MIN_POSITIVE));
            report.peak_rss_bytes = peak_rss_bytes();
        }
        Ok((report, engine))
    }

    fn setup<'a>(&self, config: &'a ReplayConfig) -> CellSetup<'a> {
        let mut node = config.node.clone();
        node.index.capacity_bytes = self.cache_bytes;
        if let EvictionKind::Node(kind) = self.policy {
            node.index.policy = kind;
        }
        if self.placement.places() {
            node.index.pinned_share = config.placing.share;
        }
        CellSetup {
            node,
            policy: self.policy,
            prefetch: self.prefetch,
            placement: self.placement,
            topology: &config.topology,
            segment_bytes: config.segment_bytes,
            control_round_trip: config.control_round_trip,
            is_instant: config.instant,
        }
    }

    fn engine(&self, log: &LogColumns, config: &ReplayConfig) -> Result<Option<Engine>> {
        if self.prefetch != PrefetchKind::Nearcast {
            return Ok(None);
        }
        let mut settings = config.engine.clone();
        settings.seed = config.seed;
        settings.budget_share = self.budget;
        // A live predictor turns away what is beyond its bounds, and an operator reads that and raises them.
        let regions = log.region_names().len();
        settings.nodes_max = settings.nodes_max.max(regions);
        settings.regions_max = settings.regions_max.max(regions);
        if let EvictionKind::Node(policy) = self.policy {
            settings.policy = policy;
        }
        let mut engine = Engine::new(EngineConfig::try_from(settings)?, config.topology.clone());
        engine.set_arm(Arm::Nearcast, false);
        if let Some((version, model)) = config.model.as_ref().filter(|_| config.model_from.is_none()) {
            engine.install_model(log.first_timestamp(), version.clone(), model.clone());
        }
        Ok(Some(engine))
    }

    fn report(&self, tally: &Tally, regions: &[String], config: &ReplayConfig) -> CellReport {
        let prefetch = tally.prefetch;
        let version = config.model.as_ref().filter(|_| self.prefetch == PrefetchKind::Nearcast);
        let ended = prefetch.used + prefetch.late + prefetch.unused;
        CellReport {
            policy: self.policy,
            prefetcher: self.prefetch,
            placement: self.placement,
            cache: config.caches[self.cache_index].to_string(),
            cache_bytes: self.cache_bytes,
            budget: self.prefetch.has_budget().then_some(self.budget),
            model_version: version.map(|(version, _)| version.to_string()),
            requests: tally.requests,
            hits: tally.requests - tally.misses,
            misses: tally.misses,
            miss_ratio: ratio(tally.misses, tally.requests),
            byte_miss_ratio: ratio(tally.miss_bytes, tally.bytes),
            miss_causes: tally.miss_causes,
            misses_elsewhere: tally.misses_elsewhere,
            origin_bytes: tally.origin_bytes,
            peer_bytes: tally.peer_bytes,
            prefetch: PrefetchReport {
                issued: prefetch.issued,
                used: prefetch.used,
                late: prefetch.late,
                unused: prefetch.unused,
                bytes: prefetch.bytes,
                precision: ratio(prefetch.used, ended),
                coverage: ratio(prefetch.used, prefetch.used + tally.misses),
            },
            extra_fetch_ratio: 0.0,
            latency_ms: LatencyReport {
                mean: tally.latency_ms_mean(),
                p50: tally.latency_ms(0.50),
                p75: tally.latency_ms(0.75),
                p95: tally.latency_ms(0.95),
                p99: tally.latency_ms(0.99),
            },
            baseline: BaselineReport::default(),
            oracle: None,
            account: None,
            calibration_error: None,
            timeline: tally.timeline.slices().to_vec(),
            hours: tally.hours.report(regions),
            events_per_second: None,
            peak_rss_bytes: None,
            latency_curve_ms: tally.latency_curve_ms(),
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

const PROGRESS_ROWS: usize = 65_536;
