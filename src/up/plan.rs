//! What a cluster consists of, decided before anything is started.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use nearcast_datasets::{LogSource, profile};
use nearcast_predictor::{
    PageSettings, PlacementKind, RawPlacement,
    engine::{Arm, EngineConfig, EngineSettings},
};
use nearcast_proto::topology::Topology;
use serde::Serialize;

use super::cache_size::CacheSize;

/// What the user asked for.
#[derive(Clone, Debug)]
pub(crate) struct UpConfig {
    pub(crate) log: String,
    pub(crate) dir: PathBuf,
    /// Empty means those of the log.
    pub(crate) regions: Vec<String>,
    pub(crate) topology: Option<PathBuf>,
    pub(crate) speed: f64,
    pub(crate) registry: Option<String>,
    pub(crate) arm: Arm,
    pub(crate) cache: CacheSize,
    pub(crate) placement: PlacementKind,
}

/// A cluster that can be started.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) log: String,
    /// Absolute.
    pub(super) dir: PathBuf,
    pub(super) regions: Vec<String>,
    pub(super) speed: f64,
    registry: Option<String>,
    arm: Arm,
    placement: PlacementKind,
    node_capacity_bytes: u64,
}

impl Plan {
    /// Reads the log for its regions and size, checks everything, and writes the topology.
    pub(super) fn make(config: UpConfig) -> anyhow::Result<Self> {
        ensure!(config.speed.is_finite() && config.speed > 0.0, "--speed must be a positive number");
        let topology = config.topology.as_deref().map_or_else(|| Ok(Topology::default()), Topology::load)?;
        let described = profile(&LogSource::parse(&config.log)?, |_| {})?;
        let regions = if config.regions.is_empty() {
            described.regions.iter().map(|region| region.name.clone()).collect()
        } else {
            config.regions
        };
        check_names(&regions)?;
        topology.check_regions(&regions)?;
        fs::create_dir_all(&config.dir).with_context(|| format!("cannot create {}", config.dir.display()))?;
        let dir = config.dir.canonicalize()?;
        let plan = Self {
            log: absolute(&config.log)?,
            regions,
            speed: config.speed,
            registry: config.registry.as_deref().map(absolute).transpose()?,
            arm: config.arm,
            placement: config.placement,
            node_capacity_bytes: config.cache.bytes(described.distinct_bytes),
            dir,
        };
        for folder in [plan.logs(), plan.dir.join("nodes")] {
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        write_toml(&plan.topology(), &topology.sped_up(plan.speed)?)?;
        Ok(plan)
    }

    /// The folder of what the processes say.
    pub(super) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The topology, sped up.
    fn topology(&self) -> PathBuf {
        self.dir.join("topology.toml")
    }

    /// Writes the predictor's configuration; with its addresses once they are known, so that it can be started again.
    pub(super) fn write_predictor(&self, grpc: &str, http: &str) -> anyhow::Result<PathBuf> {
        let file = PredictorFile {
            listen: grpc,
            http_listen: http,
            data_dir: self.dir.join("predictor"),
            registry: self.registry.clone(),
            arm: self.arm,
            topology: self.topology(),
            // Whoever watches a cluster come up does not wait ten seconds for a point.
            page: PageSettings { sample_seconds: 2.0, ..PageSettings::default() },
            engine: engine_at(self.speed)?,
            placement: placement_at(self.placement, self.speed),
        };
        let path = self.dir.join("predictor.toml");
        write_toml(&path, &file)?;
        Ok(path)
    }

    /// Writes the configuration of a region's node.
    pub(super) fn write_node(&self, region: &str, listen: &str, upstream: &Upstream) -> anyhow::Result<PathBuf> {
        let segment_size = SEGMENT_BYTES.min(self.node_capacity_bytes.max(SEGMENT_BYTES_MIN));
        let file = NodeFile {
            name: region,
            region,
            listen,
            data_dir: self.dir.join("nodes").join(region),
            capacity: self.node_capacity_bytes.max(segment_size),
            segment_size,
            origin: UrlTable { url: &upstream.origin },
            predictor: UrlTable { url: &upstream.predictor },
            emulation: EmulationTable { topology: self.topology() },
        };
        let path = self.dir.join("nodes").join(format!("{region}.toml"));
        write_toml(&path, &file)?;
        Ok(path)
    }
}

/// What nodes are told to connect to.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    pub(super) origin: String,
    pub(super) predictor: String,
}

#[derive(Debug, Serialize)]
struct PredictorFile<'a> {
    listen: &'a str,
    http_listen: &'a str,
    data_dir: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<String>,
    arm: Arm,
    topology: PathBuf,
    page: PageSettings,
    engine: EngineConfig,
    placement: RawPlacement,
}

#[derive(Debug, Serialize)]
struct NodeFile<'a> {
    name: &'a str,
    region: &'a str,
    listen: &'a str,
    data_dir: PathBuf,
    capacity: u64,
    segment_size: u64,
    origin: UrlTable<'a>,
    predictor: UrlTable<'a>,
    emulation: EmulationTable,
}

#[derive(Debug, Serialize)]
struct UrlTable<'a> {
    url: &'a str,
}

#[derive(Debug, Serialize)]
struct EmulationTable {
    topology: PathBuf,
}

/// The engine's default settings in a world that runs `speed` times faster: times shrink, rates grow, and a second saved
/// is worth `speed` times as much.
fn engine_at(speed: f64) -> anyhow::Result<EngineConfig> {
    let mut settings = EngineSettings::default();
    settings.node_bytes_per_second *= speed;
    settings.node_burst_seconds /= speed;
    settings.price_seconds_per_mebibyte /= speed;
    settings.session_gap_seconds /= speed;
    EngineConfig::try_from(settings).context("--speed is too extreme")
}

/// The default settings of placement in a world that runs `speed` times faster; no time is shorter than what the
/// predictor takes.
fn placement_at(kind: PlacementKind, speed: f64) -> RawPlacement {
    let mut raw = RawPlacement { kind, ..RawPlacement::default() };
    for seconds in [&mut raw.interval_seconds, &mut raw.half_life_seconds] {
        *seconds = (*seconds / speed).clamp(1.0, RawPlacement::SECONDS_MAX);
    }
    raw.ahead_seconds_max /= speed;
    raw.bytes_per_second = (raw.bytes_per_second * speed).max(1.0);
    raw.hot_requests_per_second = (raw.hot_requests_per_second * speed).max(1.0);
    raw
}

/// Regions become names of nodes, files and labels.
fn check_names(regions: &[String]) -> anyhow::Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    for (index, region) in regions.iter().enumerate() {
        ensure!(
            !region.is_empty() && region.len() <= 64 && !region.starts_with('.') && region.chars().all(is_plain),
            "region `{region}` cannot name a node: use 1 to 64 letters, digits, `-`, `_` or `.`"
        );
        ensure!(!RESERVED.contains(&region.as_str()), "region `{region}` has the name of a service");
        ensure!(!regions[..index].contains(region), "region `{region}` is named twice");
    }
    if regions.is_empty() || regions.len() > NODES_MAX {
        bail!("{} regions would need as many nodes; choose 1 to {NODES_MAX} with --regions", regions.len());
    }
    Ok(())
}

/// A path that does not depend on where a process runs; URLs stay as they are.
fn absolute(place: &str) -> anyhow::Result<String> {
    if place.contains("://") {
        return Ok(place.to_owned());
    }
    Ok(std::path::absolute(place).with_context(|| format!("{place} is no path"))?.display().to_string())
}

fn write_toml<T: Serialize>(path: &Path, document: &T) -> anyhow::Result<()> {
    let text = toml::to_string(document).with_context(|| format!("cannot express {}", path.display()))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// More processes than this do not say anything about a cluster any more, on one machine.
const NODES_MAX: usize = 64;
const RESERVED: [&str; 2] = ["origin", "predictor"];
const SEGMENT_BYTES: u64 = 1 << 20;
const SEGMENT_BYTES_MIN: u64 = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_that_cannot_name_nodes_are_refused() {
        let names = |names: &[&str]| check_names(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert!(names(&["eu", "br-21"]).is_ok());
        for bad in [&["a/b"][..], &[".."], &[""], &["eu", "eu"], &["origin"], &[]] {
            assert!(names(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_faster_world_keeps_the_relation_of_price_to_round_trips() {
        let (slow, fast) = (engine_at(1.0).unwrap(), engine_at(60.0).unwrap());
        let ratio = slow.settings().price_seconds_per_mebibyte / fast.settings().price_seconds_per_mebibyte;
        assert!((ratio - 60.0).abs() < 1e-9);
        assert!(engine_at(1e-300).is_err());
    }
}
