//! The topology as a table over the log's regions.

use std::time::Duration;

use nearcast_cache_node::core::routing::Link;
use nearcast_proto::topology::Topology;

/// Links between all regions of a log, to its clients and to the origin.
#[derive(Debug)]
pub(super) struct Network {
    region_count: usize,
    between: Vec<Link>,
    to_origin: Vec<Link>,
    client_round_trips: Vec<Duration>,
}

impl Network {
    pub(super) fn new(topology: &Topology, regions: &[String]) -> Self {
        let link =
            |a: &String, b: &String| Link { round_trip: topology.rtt(a, b), bandwidth: topology.bandwidth(a, b) };
        Self {
            region_count: regions.len(),
            between: regions.iter().flat_map(|a| regions.iter().map(move |b| link(a, b))).collect(),
            to_origin: regions
                .iter()
                .map(|region| Link {
                    round_trip: topology.origin_rtt(region),
                    bandwidth: topology.origin_bandwidth(region),
                })
                .collect(),
            client_round_trips: regions.iter().map(|region| topology.client_rtt(region)).collect(),
        }
    }

    pub(super) fn between(&self, a: usize, b: usize) -> &Link {
        &self.between[a * self.region_count + b]
    }

    pub(super) fn to_origin(&self, region: usize) -> &Link {
        &self.to_origin[region]
    }

    /// How long so many bytes take to a node from where they take the least, be it a peer or the origin.
    pub(super) fn fastest_to(&self, node: usize, bytes: u64) -> Duration {
        let peers = (0..self.region_count).filter(|peer| *peer != node).map(|peer| self.between(node, peer));
        let from_peers = peers.map(|link| link.transfer_time(bytes));
        from_peers.fold(self.to_origin(node).transfer_time(bytes), Duration::min)
    }

    pub(super) fn client_round_trip(&self, region: usize) -> Duration {
        self.client_round_trips[region]
    }
}
