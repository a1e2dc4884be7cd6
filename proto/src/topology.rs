//! Where regions are relative to each other, to their clients and to the origin.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, config_file};

/// Round-trip times and bandwidths between regions, symmetric.
///
/// The built-in one ([`Topology::default`]) knows no region by name and treats all alike, so it fits every log. A file
/// names regions and links; without a `[default]` section it refuses regions that it does not name.
///
/// ```toml
/// [default]                          # for regions and links that are not named
/// rtt_ms = 80.0
/// origin_rtt_ms = 120.0
///
/// [regions.eu]
/// origin_rtt_ms = 30.0
/// client_rtt_ms = 8.0
///
/// [regions.us]
///
/// [[links]]
/// between = ["eu", "us"]
/// rtt_ms = 90.0
/// bandwidth_bytes_per_second = 25e6
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawTopology", into = "RawTopology")]
pub struct Topology {
    defaults: Defaults,
    /// Whether regions that are not named are members too.
    open: bool,
    regions: BTreeMap<String, Region>,
    /// Both directions of each link.
    links: BTreeMap<String, BTreeMap<String, Link>>,
}

impl Topology {
    /// Reads a topology file.
    ///
    /// # Errors
    /// [`Error::ReadConfig`] and [`Error::ParseConfig`], the latter also for values that make no sense and for links
    /// between regions that are not named.
    pub fn load(path: &Path) -> Result<Self> {
        config_file::load(path)
    }

    /// The same topology with every round trip divided by `factor` and every bandwidth multiplied by it.
    ///
    /// A log that is played `factor` times faster than it was recorded meets the same relation of round trips to time
    /// between requests.
    ///
    /// # Errors
    /// [`Error::BadTopology`] unless `factor` is finite and positive.
    pub fn sped_up(&self, factor: f64) -> Result<Self> {
        if !(factor.is_finite() && factor > 0.0) {
            return Err(bad("the speed", factor, "a positive number"));
        }
        let mut raw = RawTopology::from(self.clone());
        let mut defaults = self.defaults;
        defaults.speed_up(factor);
        raw.default = self.open.then(|| RawDefault::from(defaults));
        for region in raw.regions.values_mut() {
            region.speed_up(&self.defaults, factor);
        }
        for link in &mut raw.links {
            let bandwidth = link.bandwidth_bytes_per_second.unwrap_or(self.defaults.bandwidth);
            link.bandwidth_bytes_per_second = Some(bandwidth * factor);
            link.rtt_ms /= factor;
        }
        let mut faster = Self::try_from(raw)?;
        faster.defaults = defaults;
        Ok(faster)
    }

    /// The round trip between two regions; within one region, that between two of its nodes.
    pub fn rtt(&self, a: &str, b: &str) -> Duration {
        milliseconds(if a == b {
            self.defaults.local_rtt_ms
        } else {
            self.link(a, b).map_or(self.defaults.rtt_ms, |link| link.rtt_ms)
        })
    }

    /// The round trip between two regions if the topology says one; within one region as [`Self::rtt`].
    pub fn known_rtt(&self, a: &str, b: &str) -> Option<Duration> {
        if a == b { Some(self.rtt(a, b)) } else { self.link(a, b).map(|link| milliseconds(link.rtt_ms)) }
    }

    /// Whether it says anything of a pair of regions.
    pub fn has_links(&self) -> bool {
        !self.links.is_empty()
    }

    /// The round trip from a region's nodes to the origin.
    pub fn origin_rtt(&self, region: &str) -> Duration {
        milliseconds(self.region(region).and_then(|known| known.origin_rtt_ms).unwrap_or(self.defaults.origin_rtt_ms))
    }

    /// The round trip from a region's nodes to the origin if the topology says one.
    pub fn known_origin_rtt(&self, region: &str) -> Option<Duration> {
        self.region(region).and_then(|known| known.origin_rtt_ms).map(milliseconds)
    }

    /// The round trip from a region's clients to its nodes.
    pub fn client_rtt(&self, region: &str) -> Duration {
        milliseconds(self.region(region).and_then(|known| known.client_rtt_ms).unwrap_or(self.defaults.client_rtt_ms))
    }

    /// Bytes per second of one transfer between two regions.
    pub fn bandwidth(&self, a: &str, b: &str) -> f64 {
        self.link(a, b).and_then(|link| link.bandwidth).unwrap_or(self.defaults.bandwidth)
    }

    /// Bytes per second of one transfer from the origin to a region.
    pub fn origin_bandwidth(&self, region: &str) -> f64 {
        self.region(region)
            .and_then(|known| known.origin_bandwidth_bytes_per_second)
            .unwrap_or(self.defaults.origin_bandwidth)
    }

    /// Refuses regions that are not part of the topology.
    ///
    /// # Errors
    /// [`Error::UnknownRegion`] for the first that is not, with the nearest known name.
    pub fn check_regions<S: AsRef<str>>(&self, names: &[S]) -> Result<()> {
        let unknown = names.iter().map(S::as_ref).find(|name| !self.open && !self.regions.contains_key(*name));
        unknown.map_or(Ok(()), |name| {
            let nearest = config_file::nearest(name, self.regions.keys().map(String::as_str)).map(str::to_owned);
            Err(Error::UnknownRegion { name: name.to_owned(), nearest })
        })
    }

    /// The regions that the topology names, ascending.
    pub fn regions(&self) -> impl Iterator<Item = &str> {
        self.regions.keys().map(String::as_str)
    }

    fn region(&self, name: &str) -> Option<&Region> {
        self.regions.get(name)
    }

    fn link(&self, a: &str, b: &str) -> Option<&Link> {
        self.links.get(a).and_then(|links| links.get(b))
    }
}

impl Default for Topology {
    /// All regions alike: 80 ms between regions, 120 ms to the origin, 10 ms to the clients, 50 MB/s.
    fn default() -> Self {
        Self { defaults: Defaults::default(), open: true, regions: BTreeMap::new(), links: BTreeMap::new() }
    }
}

impl TryFrom<RawTopology> for Topology {
    type Error = Error;

    fn try_from(raw: RawTopology) -> Result<Self> {
        let open = raw.default.is_some();
        let defaults = raw.default.unwrap_or_default().check()?;
        for (name, region) in &raw.regions {
            region.check(name)?;
        }
        let mut topology = Self { defaults, open, regions: raw.regions, links: BTreeMap::new() };
        for link in raw.links {
            let [a, b] = &link.between;
            topology.check_regions(&link.between)?;
            let checked = link.check()?;
            topology.links.entry(a.clone()).or_default().insert(b.clone(), checked);
            topology.links.entry(b.clone()).or_default().insert(a.clone(), checked);
        }
        Ok(topology)
    }
}

impl From<Topology> for RawTopology {
    fn from(topology: Topology) -> Self {
        let mut links = Vec::new();
        for (a, others) in &topology.links {
            for (b, link) in others.iter().filter(|(b, _)| a <= *b) {
                links.push(RawLink {
                    between: [a.clone(), b.clone()],
                    rtt_ms: link.rtt_ms,
                    bandwidth_bytes_per_second: link.bandwidth,
                });
            }
        }
        let default = topology.open.then(|| RawDefault::from(topology.defaults));
        Self { default, regions: topology.regions, links }
    }
}

/// What holds where nothing is said.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Defaults {
    rtt_ms: f64,
    local_rtt_ms: f64,
    origin_rtt_ms: f64,
    client_rtt_ms: f64,
    bandwidth: f64,
    origin_bandwidth: f64,
}

impl Defaults {
    fn speed_up(&mut self, factor: f64) {
        for rtt in [&mut self.rtt_ms, &mut self.local_rtt_ms, &mut self.origin_rtt_ms, &mut self.client_rtt_ms] {
            *rtt /= factor;
        }
        self.bandwidth *= factor;
        self.origin_bandwidth *= factor;
    }
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            rtt_ms: 80.0,
            local_rtt_ms: 0.5,
            origin_rtt_ms: 120.0,
            client_rtt_ms: 10.0,
            bandwidth: 50e6,
            origin_bandwidth: 50e6,
        }
    }
}

/// What is said about one region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Region {
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_rtt_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_rtt_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_bandwidth_bytes_per_second: Option<f64>,
}

impl Region {
    fn check(&self, name: &str) -> Result<()> {
        check_rtt(&format!("regions.{name}.origin_rtt_ms"), self.origin_rtt_ms)?;
        check_rtt(&format!("regions.{name}.client_rtt_ms"), self.client_rtt_ms)?;
        let what = format!("regions.{name}.origin_bandwidth_bytes_per_second");
        check_bandwidth(&what, self.origin_bandwidth_bytes_per_second)
    }

    /// Makes every value explicit, so that it does not depend on defaults of another speed.
    fn speed_up(&mut self, defaults: &Defaults, factor: f64) {
        self.origin_rtt_ms = Some(self.origin_rtt_ms.unwrap_or(defaults.origin_rtt_ms) / factor);
        self.client_rtt_ms = Some(self.client_rtt_ms.unwrap_or(defaults.client_rtt_ms) / factor);
        let bandwidth = self.origin_bandwidth_bytes_per_second.unwrap_or(defaults.origin_bandwidth);
        self.origin_bandwidth_bytes_per_second = Some(bandwidth * factor);
    }
}

/// What is known about one pair of regions.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Link {
    rtt_ms: f64,
    bandwidth: Option<f64>,
}

/// The file as it was written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTopology {
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<RawDefault>,
    #[serde(default)]
    regions: BTreeMap<String, Region>,
    #[serde(default)]
    links: Vec<RawLink>,
}

/// The `[default]` section.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDefault {
    rtt_ms: Option<f64>,
    local_rtt_ms: Option<f64>,
    origin_rtt_ms: Option<f64>,
    client_rtt_ms: Option<f64>,
    bandwidth_bytes_per_second: Option<f64>,
    origin_bandwidth_bytes_per_second: Option<f64>,
}

impl RawDefault {
    fn check(&self) -> Result<Defaults> {
        check_rtt("default.rtt_ms", self.rtt_ms)?;
        check_rtt("default.local_rtt_ms", self.local_rtt_ms)?;
        check_rtt("default.origin_rtt_ms", self.origin_rtt_ms)?;
        check_rtt("default.client_rtt_ms", self.client_rtt_ms)?;
        check_bandwidth("default.bandwidth_bytes_per_second", self.bandwidth_bytes_per_second)?;
        check_bandwidth("default.origin_bandwidth_bytes_per_second", self.origin_bandwidth_bytes_per_second)?;
        let otherwise = Defaults::default();
        Ok(Defaults {
            rtt_ms: self.rtt_ms.unwrap_or(otherwise.rtt_ms),
            local_rtt_ms: self.local_rtt_ms.unwrap_or(otherwise.local_rtt_ms),
            origin_rtt_ms: self.origin_rtt_ms.unwrap_or(otherwise.origin_rtt_ms),
            client_rtt_ms: self.client_rtt_ms.unwrap_or(otherwise.client_rtt_ms),
            bandwidth: self.bandwidth_bytes_per_second.unwrap_or(otherwise.bandwidth),
            origin_bandwidth: self.origin_bandwidth_bytes_per_second.unwrap_or(otherwise.origin_bandwidth),
        })
    }
}

impl From<Defaults> for RawDefault {
    fn from(defaults: Defaults) -> Self {
        Self {
            rtt_ms: Some(defaults.rtt_ms),
            local_rtt_ms: Some(defaults.local_rtt_ms),
            origin_rtt_ms: Some(defaults.origin_rtt_ms),
            client_rtt_ms: Some(defaults.client_rtt_ms),
            bandwidth_bytes_per_second: Some(defaults.bandwidth),
            origin_bandwidth_bytes_per_second: Some(defaults.origin_bandwidth),
        }
    }
}

/// One `[[links]]` entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLink {
    between: [String; 2],
    rtt_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bandwidth_bytes_per_second: Option<f64>,
}

impl RawLink {
    fn check(&self) -> Result<Link> {
        let name = self.between.join("–");
        check_rtt(&format!("rtt_ms of {name}"), Some(self.rtt_ms))?;
        check_bandwidth(&format!("bandwidth_bytes_per_second of {name}"), self.bandwidth_bytes_per_second)?;
        Ok(Link { rtt_ms: self.rtt_ms, bandwidth: self.bandwidth_bytes_per_second })
    }
}

fn check_rtt(what: &str, value: Option<f64>) -> Result<()> {
    let value = value.unwrap_or(0.0);
    let sound = (0.0..=RTT_MS_MAX).contains(&value);
    if sound { Ok(()) } else { Err(bad(what, value, "between 0 and 60000 milliseconds")) }
}

fn check_bandwidth(what: &str, value: Option<f64>) -> Result<()> {
    let value = value.unwrap_or(1.0);
    let sound = value.is_finite() && value > 0.0;
    if sound { Ok(()) } else { Err(bad(what, value, "a positive number of bytes per second")) }
}

fn bad(what: &str, value: f64, expected: &'static str) -> Error {
    Error::BadTopology { what: what.to_owned(), value, expected }
}

fn milliseconds(value: f64) -> Duration {
    Duration::from_secs_f64(value / 1_000.0)
}

/// A minute; more is a mistake of units.
const RTT_MS_MAX: f64 = 60_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_REGIONS: &str = r#"
        [regions.eu]
        origin_rtt_ms = 30.0
        [regions.us]
        [[links]]
        between = ["eu", "us"]
        rtt_ms = 90.0
        bandwidth_bytes_per_second = 25e6
    "#;

    fn parse(text: &str) -> Result<Topology> {
        config_file::parse(Path::new("t.toml"), text)
    }

    #[test]
    fn built_in_topology_takes_every_region() {
        let topology = Topology::default();
        topology.check_regions(&["br-21", "abroad"]).unwrap();
        assert_eq!(topology.rtt("br-21", "abroad"), Duration::from_millis(80));
        assert!(topology.rtt("br-21", "br-21") < Duration::from_millis(1));
        assert_eq!(topology.origin_rtt("br-21"), Duration::from_millis(120));
    }

    #[test]
    fn links_are_symmetric_and_override_defaults() {
        let topology = parse(TWO_REGIONS).unwrap();
        assert_eq!(topology.rtt("eu", "us"), Duration::from_millis(90));
        assert_eq!(topology.rtt("us", "eu"), Duration::from_millis(90));
        assert!((topology.bandwidth("us", "eu") - 25e6).abs() < 1.0);
        assert_eq!(topology.origin_rtt("eu"), Duration::from_millis(30));
        assert_eq!(topology.origin_rtt("us"), Duration::from_millis(120));
    }

    #[test]
    fn unknown_region_is_refused_with_the_nearest_name() {
        let topology = parse("[regions.frankfurt]\n[regions.tokyo]\n").unwrap();
        let error = topology.check_regions(&["tokyo", "frankfrut"]).unwrap_err();
        assert!(error.to_string().contains("did you mean `frankfurt`?"), "{error}");
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, part) in [
            ("[default]\nrtt_ms = -1.0", "default.rtt_ms"),
            ("[default]\nbandwidth_bytes_per_second = 0.0", "positive"),
            ("[regions.a]\n[[links]]\nbetween = [\"a\", \"b\"]\nrtt_ms = 1.0", "region `b`"),
            ("[default]\nrtt = 3", "did you mean `rtt_ms`?"),
            ("[default]\nrtt_ms = nan", "default.rtt_ms"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn survives_writing_and_reading() {
        for topology in [Topology::default(), parse(TWO_REGIONS).unwrap()] {
            let text = toml::to_string(&topology).unwrap();
            assert_eq!(parse(&text).unwrap(), topology, "{text}");
        }
    }

    #[test]
    fn speeding_up_divides_round_trips_and_multiplies_bandwidth() {
        let faster = parse(TWO_REGIONS).unwrap().sped_up(10.0).unwrap();
        assert_eq!(faster.rtt("eu", "us"), Duration::from_millis(9));
        assert_eq!(faster.origin_rtt("us"), Duration::from_millis(12));
        assert_eq!(faster.client_rtt("us"), Duration::from_millis(1));
        assert!((faster.bandwidth("eu", "us") - 250e6).abs() < 1.0);
        assert_eq!(Topology::default().sped_up(10.0).unwrap().rtt("a", "b"), Duration::from_millis(8));
        assert!(Topology::default().sped_up(0.0).is_err());
    }
}
