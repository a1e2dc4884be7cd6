//! Gives a client its region: a constant, or by the network that its address is in.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    path::Path,
    str::FromStr,
};

use serde::Deserialize;

use super::error::ImportError;
use crate::{Map, schema::DEFAULT_REGION};

/// Where regions come from when the source has no column for them.
#[derive(Clone, Debug)]
pub enum RegionRule {
    /// One region for everybody.
    Constant(String),
    /// By address.
    Networks(NetworkMap),
}

impl Default for RegionRule {
    fn default() -> Self {
        Self::Constant(DEFAULT_REGION.to_owned())
    }
}

impl RegionRule {
    /// The region of a client.
    pub(crate) fn region(&self, client: &str) -> &str {
        match self {
            Self::Constant(region) => region,
            Self::Networks(networks) => networks.region(client),
        }
    }
}

/// Networks in CIDR notation and the regions that they are in; the longest prefix decides.
#[derive(Clone, Debug)]
pub struct NetworkMap {
    default: String,
    /// By prefix length, longest last; IPv4 lies in `::ffff:0:0/96`.
    networks: BTreeMap<u32, Map<u128, String>>,
}

/// The file: `default = "elsewhere"` and a table `[regions]` of lists of networks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNetworkMap {
    #[serde(default = "default_region")]
    default: String,
    regions: BTreeMap<String, Vec<String>>,
}

impl NetworkMap {
    /// Reads a TOML file such as
    /// ```toml
    /// default = "elsewhere"
    /// [regions]
    /// eu = ["192.0.2.0/24", "2001:db8::/32"]
    /// ```
    ///
    /// # Errors
    /// [`ImportError::Input`] when it cannot be read, [`ImportError::BadRegionMap`] when its content is wrong.
    pub fn load(path: &Path) -> Result<Self, ImportError> {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| ImportError::Input { input: name.clone(), source })?;
        Self::parse(&text).map_err(|problem| ImportError::BadRegionMap { path: name, problem })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let raw: RawNetworkMap = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut networks = BTreeMap::<u32, Map<u128, String>>::new();
        for (region, texts) in raw.regions {
            for text in texts {
                let (prefix, length) =
                    network(&text).ok_or_else(|| format!("\"{text}\" is no network in CIDR notation"))?;
                if let Some(other) = networks.entry(length).or_default().insert(prefix, region.clone())
                    && other != region
                {
                    return Err(format!("network {text} is in region {other} and in region {region}"));
                }
            }
        }
        Ok(Self { default: raw.default, networks })
    }

    fn region(&self, client: &str) -> &str {
        let Ok(address) = IpAddr::from_str(client) else { return &self.default };
        let bits = bits(address);
        let known = self.networks.iter().rev().find_map(|(length, regions)| regions.get(&masked(bits, *length)));
        known.map_or(&self.default, String::as_str)
    }
}

fn default_region() -> String {
    DEFAULT_REGION.to_owned()
}

/// Prefix and length of a network, in the 128 bits of IPv6; an address alone is a network of itself.
fn network(text: &str) -> Option<(u128, u32)> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address = IpAddr::from_str(address).ok()?;
    let (width, offset) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
    let length = length.map_or(Some(width), |length| length.parse().ok().filter(|length| *length <= width))?;
    let (bits, length) = (bits(address), length + offset);
    (masked(bits, length) == bits).then_some((bits, length))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
    .to_bits()
}

fn masked(bits: u128, length: u32) -> u128 {
    bits & u128::MAX.checked_shl(Ipv6Addr::BITS - length).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let text = r#"
            default = "far"
            [regions]
            wide = ["192.0.0.0/8", "2001:db8::/32"]
            near = ["192.0.2.0/24", "2001:db8:1::/48", "198.51.100.7"]
            world = ["::/0"]
        "#;
        let map = NetworkMap::parse(text).unwrap();
        for (client, region) in [
            ("192.0.2.9", "near"),
            ("192.7.2.9", "wide"),
            ("::ffff:192.0.2.9", "near"),
            ("198.51.100.7", "near"),
            ("198.51.100.8", "world"),
            ("2001:db8:1::9", "near"),
            ("2001:db8:2::9", "wide"),
            ("a.host.example", "far"),
        ] {
            assert_eq!(map.region(client), region, "{client}");
        }
    }

    #[test]
    fn wrong_maps_say_what_is_wrong() {
        for (text, problem) in [
            ("[regions]\na = [\"192.0.2.0/33\"]", "no network"),
            ("[regions]\na = [\"192.0.2.1/24\"]", "no network"),
            ("[regions]\na = [\"192.0.2.0/24\"]\nb = [\"192.0.2.0/24\"]", "in region a and in region b"),
            ("[region]\na = []", "unknown field"),
        ] {
            let error = NetworkMap::parse(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
