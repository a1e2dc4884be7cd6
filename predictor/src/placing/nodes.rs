//! Nodes by position, and the sites that they make.

use std::{sync::Arc, time::Duration};

use nearcast_datasets::{RegionId, Timestamp};
use nearcast_proto::{
    message::{Epoch, NodeDescriptor, NodeName},
    topology::Topology,
};
use serde::Serialize;

use super::measured::{Measured, Pair, Said, pair};
use crate::placement::{Cost, Link, NODES_MAX, NodeSet, PlacementError, Sites};

/// The nodes that placement knows. A node keeps its position for as long as anything is meant to be held there.
#[derive(Debug)]
pub(super) struct Nodes {
    slots: Vec<Slot>,
    regions: Vec<Arc<str>>,
    regions_max: usize,
    topology: Topology,
    /// Share of each node's capacity for placed keys.
    share: f64,
    /// How long a node that is gone without a word may be away before its keys are placed anew.
    grace: Duration,
    estimated: Vec<EstimatedLink>,
    pub(super) measured: Measured,
    refused: u64,
}

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) name: NodeName,
    pub(super) region: Option<RegionId>,
    pub(super) capacity_bytes: u64,
    pub(super) segment_bytes: u64,
    pub(super) is_connected: bool,
    /// Whether its whole inventory has come.
    pub(super) is_complete: bool,
    pub(super) is_draining: bool,
    /// Whether it said that it would not be back soon.
    pub(super) has_left: bool,
    pub(super) gone_since: Timestamp,
    /// Bytes that it says it holds.
    pub(super) held_bytes: u64,
    /// Bytes that the last plan has there.
    pub(super) planned_bytes: u64,
    /// The version of the map that it says it routes by.
    pub(super) epoch: Option<Epoch>,
    /// How long it took to the node's word that it has the last version that it has.
    pub(super) caught_up: Option<Duration>,
    /// What it measured.
    pub(super) said: Said,
    pub(super) lies: Lies,
}

/// What a node said that cannot be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Lies {
    /// Segment sets that it cannot hold, its capacity being taken up by those that it claimed before.
    pub(super) claims_beyond_capacity: u64,
    /// Versions of the map that there has not been yet.
    pub(super) epochs_from_the_future: u64,
    /// Commands that it said were carried out while it does not say that it holds what they are about.
    pub(super) results_not_verified: u64,
    /// Round trips that nothing can have.
    pub(super) round_trips_absurd: u64,
}

/// A pair of regions whose round trip the topology does not say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct EstimatedLink {
    pub(super) between: [Arc<str>; 2],
    pub(super) round_trip_ms: f64,
}

impl Nodes {
    pub(super) fn new(topology: Topology, share: f64, grace: Duration, regions_max: usize) -> Self {
        let named = topology.regions().count();
        let regions_max = regions_max.max(named).min(REGIONS_MAX);
        let (slots, regions, estimated) = (Vec::new(), Vec::new(), Vec::new());
        let measured = Measured::default();
        Self { slots, regions, regions_max, topology, share, grace, estimated, measured, refused: 0 }
    }

    /// Nodes that a former life knew, none of which is there yet.
    pub(super) fn restore(&mut self, names: impl IntoIterator<Item = NodeName>, now: Timestamp) {
        self.slots = names.into_iter().take(NODES_MAX).map(|name| Slot::absent(name, now)).collect();
    }

    /// Regions by number, as a former life knew them; says whether they are as many as there may be now.
    pub(super) fn restore_regions(&mut self, names: &[Arc<str>]) -> bool {
        let is_fitting = names.len() == self.regions_max;
        if is_fitting {
            self.regions = names.iter().take_while(|name| !name.is_empty()).cloned().collect();
        }
        is_fitting
    }

    /// A node joins or comes back; `None` when there is no room for it. `is_in_use` says whether a position is.
    pub(super) fn join(&mut self, node: &NodeDescriptor, is_in_use: impl Fn(usize) -> bool) -> Option<usize> {
        let known = self.position(&node.name);
        let free = || {
            let is_free = |position: &usize| !self.slots[*position].is_connected && !is_in_use(*position);
            (0..self.slots.len()).find(is_free)
        };
        let position = match known {
            Some(position) => position,
            None if self.slots.len() < NODES_MAX => {
                self.slots.push(Slot::absent(node.name.clone(), Timestamp::MIN));
                self.slots.len() - 1
            }
            None => match free() {
                Some(position) => position,
                None => {
                    self.refused += 1;
                    return None;
                }
            },
        };
        let region = self.region(&node.region);
        let before = &self.slots[position];
        let is_draining = before.is_draining && before.name == node.name;
        let lies = if before.name == node.name { before.lies } else { Lies::default() };
        self.slots[position] = Slot {
            name: node.name.clone(),
            region,
            capacity_bytes: node.capacity_bytes,
            segment_bytes: node.segment_bytes.max(1),
            is_connected: true,
            is_complete: false,
            is_draining,
            has_left: false,
            gone_since: Timestamp::MIN,
            held_bytes: 0,
            planned_bytes: before.planned_bytes,
            epoch: None,
            caught_up: None,
            said: Said::default(),
            lies,
        };
        self.estimate();
        Some(position)
    }

    pub(super) fn position(&self, name: &NodeName) -> Option<usize> {
        self.slots.iter().position(|slot| slot.name == *name)
    }

    pub(super) fn get(&self, position: usize) -> Option<&Slot> {
        self.slots.get(position)
    }

    pub(super) fn get_mut(&mut self, position: usize) -> Option<&mut Slot> {
        self.slots.get_mut(position)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Slot> {
        self.slots.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut()
    }

    pub(super) fn names(&self) -> Vec<NodeName> {
        self.slots.iter().map(|slot| slot.name.clone()).collect()
    }

    /// Nodes that are there.
    pub(super) fn connected(&self) -> NodeSet {
        (0..self.slots.len()).filter(|position| self.slots[*position].is_connected).collect()
    }

    /// Names of regions by number, for as many as a strategy is made for.
    pub(super) fn region_names(&self) -> Vec<Arc<str>> {
        let mut names = self.regions.clone();
        names.resize(self.regions_max, Arc::from(""));
        names
    }

    /// What a read of so many bytes by the clients of one node takes from another; from the origin without one.
    pub(super) fn seconds(&self, at: usize, from: Option<usize>, bytes: u64) -> f64 {
        let Some(region) = self.slots.get(at).and_then(|slot| slot.region) else { return 0.0 };
        let cost = match from {
            Some(from) if from == at => Cost::default(),
            Some(from) => self.link(usize::from(region.0), from),
            None => self.origin(usize::from(region.0)),
        };
        f64::from(cost.seconds(bytes as f32))
    }

    /// The link over which a node would fetch what these hold, with its bytes per second: from the nearest of them that is
    /// there, or the origin. `None` within a region, and when the node's region is not known.
    pub(super) fn nearest_source(&self, to: usize, holders: NodeSet) -> Option<(Link, f64)> {
        let home = self.slots.get(to)?.region?;
        let name = self.regions.get(usize::from(home.0))?;
        let regions = holders.without(to).iter().filter_map(|from| {
            let slot = self.slots.get(from).filter(|slot| slot.is_connected)?;
            Some((self.between(home, slot.region?)?, slot.region?))
        });
        let nearest = regions.min().filter(|(round_trip, _)| *round_trip < self.to_origin(home, name));
        match nearest {
            Some((_, region)) if region == home => None,
            Some((_, region)) => {
                Some(((Some(region), home), self.topology.bandwidth(&self.regions[usize::from(region.0)], name)))
            }
            None => Some(((None, home), self.topology.origin_bandwidth(name))),
        }
    }

    /// The sites as they are now. Who is away for longer than its grace, drains, or has not yet said what it holds gets
    /// nothing, as does who has no capacity.
    pub(super) fn sites(&self, now: Timestamp) -> Result<Sites, PlacementError> {
        let capacity = |slot: &Slot| {
            let is_there = if slot.is_connected { slot.is_complete } else { !self.is_lost(now, slot) };
            let is_open = is_there && !slot.is_draining && slot.region.is_some();
            if is_open { (slot.capacity_bytes as f64 * self.share) as u64 } else { 0 }
        };
        let capacities = self.slots.iter().map(capacity).collect();
        Sites::new(self.regions_max, capacities, |region, node| self.link(region, node), |region| self.origin(region))
    }

    /// When the next node that is away will be given up.
    pub(super) fn next_loss(&self, now: Timestamp) -> Option<Timestamp> {
        let away = self.slots.iter().filter(|slot| !slot.is_connected && !slot.has_left && slot.capacity_bytes > 0);
        away.map(|slot| slot.gone_since.after(self.grace)).filter(|at| *at > now).min()
    }

    /// Pairs of regions whose round trip is estimated.
    pub(super) fn estimated(&self) -> &[EstimatedLink] {
        &self.estimated
    }

    /// Nodes that there was no room for.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    fn is_lost(&self, now: Timestamp, slot: &Slot) -> bool {
        slot.has_left || slot.gone_since.after(self.grace) <= now
    }

    fn region(&mut self, name: &Arc<str>) -> Option<RegionId> {
        let known = self.regions.iter().position(|region| region == name);
        let number = known.or_else(|| {
            (self.regions.len() < self.regions_max).then(|| {
                self.regions.push(Arc::clone(name));
                self.regions.len() - 1
            })
        })?;
        u16::try_from(number).ok().map(RegionId)
    }

    fn link(&self, region: usize, node: usize) -> Cost {
        let (Some(from), Some(home)) = (self.regions.get(region), self.slots[node].region) else { return FAR };
        if usize::from(home.0) == region {
            let is_alone = self.slots.iter().filter(|slot| slot.is_connected && slot.region == Some(home)).count() <= 1;
            let round_trip = if is_alone { Some(Duration::ZERO) } else { self.between(home, home) };
            let round_trip = round_trip.unwrap_or_default();
            return Cost { round_trip: round_trip.as_secs_f32(), per_byte: 0.0 };
        }
        let to = &self.regions[usize::from(home.0)];
        let round_trip = self.between(RegionId(region as u16), home).unwrap_or_default();
        Cost::new(round_trip, self.topology.bandwidth(from, to))
    }

    fn origin(&self, region: usize) -> Cost {
        let Some(name) = self.regions.get(region) else { return FAR };
        Cost::new(self.to_origin(RegionId(region as u16), name), self.topology.origin_bandwidth(name))
    }

    /// As measured, else as [`Self::round_trip`] says.
    fn between(&self, a: RegionId, b: RegionId) -> Option<Duration> {
        let measured = self.measured.get(pair(a, Some(b)));
        measured.or_else(|| Some(self.round_trip(&self.region_name(a)?, &self.region_name(b)?)))
    }

    /// As measured, else as the topology says.
    fn to_origin(&self, region: RegionId, name: &str) -> Duration {
        self.measured.get(pair(region, None)).unwrap_or_else(|| self.topology.origin_rtt(name))
    }

    /// What the topology itself says.
    pub(super) fn known_round_trip(&self, (a, b): Pair) -> Option<Duration> {
        let name = self.region_name(a)?;
        match b {
            Some(b) if b == a => None,
            Some(b) => self.topology.known_rtt(&name, &self.region_name(b)?),
            None => self.topology.known_origin_rtt(&name),
        }
    }

    pub(super) fn region_name(&self, region: RegionId) -> Option<Arc<str>> {
        self.regions.get(usize::from(region.0)).cloned()
    }

    /// As the topology says, else over the region that lies best between the two, else what holds where nothing is said.
    fn round_trip(&self, a: &str, b: &str) -> Duration {
        if let Some(known) = self.topology.known_rtt(a, b) {
            return known;
        }
        let over = |between: &str| Some(self.topology.known_rtt(a, between)? + self.topology.known_rtt(between, b)?);
        self.topology.regions().filter_map(over).min().unwrap_or_else(|| self.topology.rtt(a, b))
    }

    /// Says which pairs are estimated. A topology that says nothing of any pair means them all alike.
    fn estimate(&mut self) {
        if !self.topology.has_links() {
            return;
        }
        let mut estimated = Vec::new();
        for (index, a) in self.regions.iter().enumerate() {
            for b in self.regions[index + 1..].iter().filter(|b| self.topology.known_rtt(a, b).is_none()) {
                let round_trip_ms = self.round_trip(a, b).as_secs_f64() * 1e3;
                estimated.push(EstimatedLink { between: [Arc::clone(a), Arc::clone(b)], round_trip_ms });
            }
        }
        for link in estimated.iter().filter(|link| !self.estimated.contains(link)) {
            let [a, b] = &link.between;
            tracing::warn!(%a, %b, round_trip_ms = link.round_trip_ms, "the topology does not say a round trip: it is estimated");
        }
        self.estimated = estimated;
    }
}

impl Slot {
    fn absent(name: NodeName, now: Timestamp) -> Self {
        Self {
            name,
            region: None,
            capacity_bytes: 0,
            segment_bytes: 1,
            is_connected: false,
            is_complete: false,
            is_draining: false,
            has_left: false,
            gone_since: now,
            held_bytes: 0,
            planned_bytes: 0,
            epoch: None,
            caught_up: None,
            said: Said::default(),
            lies: Lies::default(),
        }
    }

    /// Whether so many more bytes can be true. What is replaced by another version is heard of as one change, so that a
    /// sum of claims may run a little high.
    pub(super) fn may_hold(&self, bytes: u64) -> bool {
        self.held_bytes.saturating_add(bytes) <= self.capacity_bytes.saturating_add(self.capacity_bytes / 8)
    }
}

/// More regions than a plan can sensibly tell apart.
const REGIONS_MAX: usize = 64;
/// What stands for regions that nobody is in.
const FAR: Cost = Cost { round_trip: 10.0, per_byte: 0.0 };

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, region: &str, capacity_bytes: u64) -> NodeDescriptor {
        NodeDescriptor {
            name: NodeName::from(name),
            region: Arc::from(region),
            url: Arc::from(""),
            capacity_bytes,
            segment_bytes: 10,
        }
    }

    fn nodes(topology: &str) -> Nodes {
        let topology: Topology = toml::from_str(topology).unwrap();
        Nodes::new(topology, 0.5, Duration::from_secs(5), 4)
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_micros(1_000_000 * second)
    }

    #[test]
    fn a_pair_without_a_round_trip_is_estimated_over_a_third_region_and_said() {
        let mut nodes = nodes(
            "[default]\nrtt_ms = 300.0\n[[links]]\nbetween = [\"a\", \"b\"]\nrtt_ms = 20.0\n\
             [[links]]\nbetween = [\"b\", \"c\"]\nrtt_ms = 30.0\n[regions.a]\n[regions.b]\n[regions.c]\n",
        );
        for name in ["a", "c", "elsewhere"] {
            nodes.join(&node(name, name, 100), |_| false).unwrap();
        }
        let said: Vec<_> = nodes.estimated().iter().map(|link| link.round_trip_ms.round()).collect();
        assert_eq!(said, [50.0, 300.0, 300.0]);
        let seconds = nodes.seconds(0, Some(1), 0);
        assert!((seconds - 0.05).abs() < 1e-6, "{seconds}");
    }

    #[test]
    fn only_nodes_that_are_there_and_have_said_what_they_hold_get_something() {
        let mut nodes = nodes("");
        let names = ["a", "b", "c", "d"];
        for name in names {
            let position = nodes.join(&node(name, name, 100), |_| false).unwrap();
            nodes.get_mut(position).unwrap().is_complete = name != "d";
        }
        nodes.join(&node("none", "a", 0), |_| false).unwrap();
        let gone = nodes.get_mut(1).unwrap();
        (gone.is_connected, gone.gone_since) = (false, second(10));
        nodes.get_mut(2).unwrap().is_draining = true;
        let capacities = |at| {
            let sites = nodes.sites(second(at)).unwrap();
            (0..sites.nodes()).map(|node| sites.capacity(node)).collect::<Vec<_>>()
        };
        assert_eq!(nodes.next_loss(second(12)), Some(second(15)));
        assert_eq!(capacities(12), [50, 50, 0, 0, 0], "it may be back in a moment");
        assert_eq!(capacities(15), [50, 0, 0, 0, 0]);
    }

    #[test]
    fn positions_are_given_out_again_when_nothing_is_meant_to_be_there() {
        let mut nodes = nodes("");
        for number in 0..NODES_MAX {
            let position = nodes.join(&node(&format!("n{number}"), "a", 1), |_| false).unwrap();
            nodes.get_mut(position).unwrap().is_connected = number != 7 && number != 9;
        }
        assert_eq!(nodes.join(&node("new", "a", 1), |_| true), None);
        assert_eq!(nodes.join(&node("new", "a", 1), |position| position == 7), Some(9));
        assert_eq!((nodes.refused(), nodes.iter().len()), (1, NODES_MAX));
    }
}
