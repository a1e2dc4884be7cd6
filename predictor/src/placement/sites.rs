//! Where replicas may lie: nodes with their capacities, and what a read costs from each region.

use std::time::Duration;

use nearcast_datasets::RegionId;

use super::{Link, NodeSet, PlacementError};

/// Nodes and regions as the planner sees them; round trips in seconds, bandwidths in bytes per second.
#[derive(Clone, Debug, PartialEq)]
pub struct Sites {
    regions: usize,
    capacities: Vec<u64>,
    /// Row-major (region, node).
    links: Vec<Cost>,
    origins: Vec<Cost>,
    /// Per region.
    nearest: Vec<usize>,
    /// Per node: the region closest to it.
    homes: Vec<usize>,
}

/// What a read takes: a round trip, and time for each byte.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Seconds there and back; zero from a region to its own node.
    pub round_trip: f32,
    /// Seconds per byte.
    pub per_byte: f32,
}

impl Cost {
    /// Of a link.
    pub fn new(round_trip: Duration, bytes_per_second: f64) -> Self {
        Self { round_trip: round_trip.as_secs_f32(), per_byte: (1.0 / bytes_per_second.max(1.0)) as f32 }
    }

    /// Seconds that a read of so many bytes takes.
    pub fn seconds(self, bytes: f32) -> f32 {
        self.round_trip + self.per_byte * bytes
    }
}

impl Sites {
    /// Sites of so many regions, with the bytes that replicas may take at each node. `link` says what a read by a
    /// region (first) from a node (second) costs, `origin` what one from the origin costs.
    ///
    /// # Errors
    /// [`PlacementError`] when there is no node or more than [`NODES_MAX`](super::NODES_MAX), or a cost is not finite
    /// or below zero. A node of capacity zero is legal: it gets nothing.
    pub fn new(
        regions: usize,
        capacities: Vec<u64>,
        link: impl Fn(usize, usize) -> Cost,
        origin: impl Fn(usize) -> Cost,
    ) -> Result<Self, PlacementError> {
        let nodes = capacities.len();
        if nodes == 0 || nodes > super::NODES_MAX {
            return Err(PlacementError::NodeCount { nodes });
        }
        let links: Vec<Cost> = (0..regions * nodes).map(|cell| link(cell / nodes, cell % nodes)).collect();
        let origins: Vec<Cost> = (0..regions).map(origin).collect();
        let is_sound =
            |cost: &Cost| [cost.round_trip, cost.per_byte].iter().all(|part| part.is_finite() && *part >= 0.0);
        match links.iter().chain(&origins).all(is_sound) {
            true => {
                let distance = |region: usize, node: usize| links[region * nodes + node].round_trip;
                let nearest = |region| (0..nodes).min_by(|a, b| distance(region, *a).total_cmp(&distance(region, *b)));
                let nearest = (0..regions).map(|region| nearest(region).unwrap_or(0)).collect();
                let home = |node| (0..regions).min_by(|a, b| distance(*a, node).total_cmp(&distance(*b, node)));
                let homes = (0..nodes).map(|node| home(node).unwrap_or(0)).collect();
                Ok(Self { regions, capacities, links, origins, nearest, homes })
            }
            false => Err(PlacementError::BadCost),
        }
    }

    /// Number of regions.
    pub fn regions(&self) -> usize {
        self.regions
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.capacities.len()
    }

    /// Number of nodes with room for anything.
    pub fn open_nodes(&self) -> usize {
        self.capacities.iter().filter(|capacity| **capacity > 0).count()
    }

    /// Bytes that replicas may take at a node.
    pub fn capacity(&self, node: usize) -> u64 {
        self.capacities[node]
    }

    /// Whether the regions are as many as others', and the nodes have the same room.
    pub fn has_room_as(&self, other: &Self) -> bool {
        self.regions == other.regions && self.capacities == other.capacities
    }

    /// What a read by a region from a node costs.
    pub fn link(&self, region: usize, node: usize) -> Cost {
        self.links[region * self.nodes() + node]
    }

    /// The node that a region's clients ask.
    pub fn nearest(&self, region: usize) -> usize {
        self.nearest.get(region).copied().unwrap_or(0)
    }

    /// The region closest to a node, whose requests are most likely to use what is moved there.
    pub fn home(&self, node: usize) -> usize {
        self.homes[node]
    }

    /// The link over which a node would fetch what these hold, with its bytes per second: from the nearest of them or the
    /// origin. `None` within a region, and where bytes take no time.
    pub fn source(&self, to: usize, holders: NodeSet) -> Option<(Link, f64)> {
        let home = self.home(to);
        let region = |region: usize| u16::try_from(region).ok().map(RegionId);
        let peers = holders.without(to).iter().take_while(|from| *from < self.nodes());
        let nearest = peers
            .min_by(|a, b| self.link(home, *a).round_trip.total_cmp(&self.link(home, *b).round_trip).then(a.cmp(b)));
        let origin = self.origin(home);
        let nearest = nearest.filter(|from| self.link(home, *from).round_trip < origin.round_trip);
        let (from, cost) = match nearest {
            Some(from) if self.home(from) == home => return None,
            Some(from) => (Some(region(self.home(from))?), self.link(home, from)),
            None => (None, origin),
        };
        (cost.per_byte > 0.0).then(|| Some(((from, region(home)?), 1.0 / f64::from(cost.per_byte)))).flatten()
    }

    /// What a read by a region from the origin costs.
    pub fn origin(&self, region: usize) -> Cost {
        self.origins[region]
    }

    /// Seconds that a read of `bytes` by `region` takes when `holders` hold it: from the cheapest of them or the origin.
    pub fn read_seconds(&self, region: usize, bytes: f32, holders: NodeSet) -> f32 {
        let origin = self.origin(region).seconds(bytes);
        holders.iter().map(|node| self.link(region, node).seconds(bytes)).fold(origin, f32::min)
    }
}
