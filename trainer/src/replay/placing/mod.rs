//! Which strategy stands for which placement, and what it may foresee.

mod foresight;

use std::time::Duration;

use nearcast_cache_node::core::routing::Link;
use nearcast_predictor::placement::{
    Cost, DecayedAverage, Placer, Planner, PlannerConfig, Sites, Strategy, StrategyConfig, Volley,
};

use self::foresight::{Hindsight, NextHour};
use super::{LogColumns, PlacementKind, ReplayConfig, ReplayError, Result, network::Network};

/// How replicas are placed, whatever the strategy.
///
/// | field | default | meaning |
/// | --- | --- | --- |
/// | `share` | 0.9 | share of each node's capacity for placed replicas; the rest is pull-through |
/// | `interval` | 15 min | time between two plans at least; the oracle plans each hour |
/// | `requests_min` | 500 | requests between two plans at least |
/// | `waste_share` | 0.3 | bytes that gapa may move in vain, as a share of what misses fetch |
/// | `link_share` | 0.5 | share of each link's bandwidth that moves may take |
/// | `ahead_max` | 4 h | how far gapa looks ahead at most where links take long to carry a plan out |
/// | `half_life` | 4 h | of the reactive strategy's decayed average |
#[derive(Clone, Debug, PartialEq)]
pub struct PlacingConfig {
    /// Share of the capacity for placed replicas.
    pub share: f64,
    /// Time between two plans at least.
    pub interval: Duration,
    /// Requests between two plans at least.
    pub requests_min: u64,
    /// Bytes that gapa may move in vain, as a share of what misses fetch.
    pub waste_share: f64,
    /// Share of each link's bandwidth that moves may take.
    pub link_share: f64,
    /// How far gapa looks ahead at most.
    pub ahead_max: Duration,
    /// Half-life of the reactive average.
    pub half_life: Duration,
}

impl Default for PlacingConfig {
    fn default() -> Self {
        Self {
            share: 0.9,
            interval: Duration::from_secs(900),
            requests_min: 500,
            waste_share: 0.3,
            link_share: 0.5,
            ahead_max: Duration::from_secs(4 * 3_600),
            half_life: Duration::from_secs(14_400),
        }
    }
}

/// The strategy of one cell; none where nothing is placed.
pub(super) fn strategy(
    kind: PlacementKind,
    log: &LogColumns,
    config: &ReplayConfig,
    cache_bytes: u64,
) -> Result<Option<Strategy>> {
    if !kind.places() {
        return Ok(None);
    }
    let placing = &config.placing;
    let sites = sites(log, config, (cache_bytes as f64 * placing.share) as u64)?;
    let planner = Planner::new(PlannerConfig::default(), sites.clone());
    let settings = StrategyConfig {
        interval: placing.interval,
        requests_min: placing.requests_min,
        pushes: false,
        waste_share: None,
        link_share: (!config.instant).then_some(placing.link_share),
        ahead_max: placing.ahead_max,
        ..StrategyConfig::default()
    };
    let counted_from = config.counted_from(log.len());
    let strategy = match kind {
        PlacementKind::Static => {
            let once = StrategyConfig { interval: FOREVER, ..settings };
            Strategy::new(once, Box::new(Hindsight::new(log, counted_from)), Placer::Replicas(Box::new(planner)))
        }
        PlacementKind::Reactive => Strategy::reactive(settings, planner, placing.half_life),
        PlacementKind::Volley => {
            let daily = DecayedAverage::new(log.region_names().len(), DAY);
            Strategy::new(settings, Box::new(daily), Placer::Single(Volley::new(sites)))
        }
        PlacementKind::Oracle => {
            let hourly = StrategyConfig { interval: HOUR, ..settings };
            Strategy::new(hourly, Box::new(NextHour::new(log)), Placer::Replicas(Box::new(planner)))
        }
        _ => {
            let pushing = StrategyConfig { pushes: true, waste_share: Some(placing.waste_share), ..settings };
            let model = config.model.as_ref().map(|(_, model)| model);
            Strategy::gapa(pushing, planner, placing.half_life, model, log.region_names())
        }
    };
    Ok(Some(strategy))
}

fn sites(log: &LogColumns, config: &ReplayConfig, capacity_bytes: u64) -> Result<Sites> {
    let network = Network::new(&config.topology, log.region_names());
    let regions = log.region_names().len();
    let cost = |link: &Link| Cost::new(link.round_trip, link.bandwidth);
    let link = |region: usize, node: usize| match region == node {
        true => Cost::default(),
        false => cost(network.between(region, node)),
    };
    let origin = |region: usize| cost(network.to_origin(region));
    Sites::new(regions, vec![capacity_bytes; regions], link, origin).map_err(ReplayError::from)
}

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Longer than any log.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);
