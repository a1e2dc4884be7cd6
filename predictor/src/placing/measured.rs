//! Round trips as nodes measure them, which go before the topology's.
//!
//! Nodes are not believed one by one. Between two regions every node that measured has one vote, its median, and so has
//! the topology where it names the link; the lower middle of all votes counts, within a factor of what the topology says. So
//! the other end contradicts one that lies. What is in force changes only when that differs by more than noise, and
//! falls back on the topology when nobody has said anything for a while.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nearcast_datasets::{RegionId, Timestamp};
use nearcast_proto::message::{NodeName, RoundTrip};
use serde::Serialize;

use super::nodes::Nodes;
use crate::placement::NodeSet;

/// Between two regions, the lesser number first; or between a region and the origin, without a second.
pub(super) type Pair = (RegionId, Option<RegionId>);

/// What one node said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    at: Option<Timestamp>,
    to: Vec<RoundTrip>,
}

/// What is in force.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pairs: BTreeMap<Pair, InForce>,
    /// Times that one came, went or became another.
    changes: u64,
}

#[derive(Clone, Copy, Debug)]
struct InForce {
    round_trip: Duration,
    said: Duration,
    votes: usize,
}

/// A round trip that is measured, for operators.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct MeasuredLink {
    /// Two regions, or a region and `origin`.
    between: [Arc<str>; 2],
    /// What placement counts with.
    round_trip_ms: f64,
    /// What the votes come to now.
    voted_ms: f64,
    /// What the topology says; `None` where it names no such link.
    topology_ms: Option<f64>,
    /// Nodes that measured it.
    nodes: usize,
    /// Whether the votes are further from the topology than is believed.
    is_bounded: bool,
}

impl Said {
    /// Takes over what a node says; returns how much of it cannot be.
    pub(super) fn replace(&mut self, now: Timestamp, measured: &[RoundTrip]) -> u64 {
        let is_sane = |trip: &&RoundTrip| (ROUND_TRIP_MIN..=ROUND_TRIP_MAX).contains(&trip.round_trip);
        let to: Vec<RoundTrip> = measured.iter().filter(is_sane).take(SAID_MAX).cloned().collect();
        let refused = measured.len() - to.len();
        *self = Self { at: Some(now), to };
        refused as u64
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        self.at.is_some_and(|at| now.since(at) < STALE)
    }
}

impl Measured {
    /// The round trip in force, if one is measured.
    pub(super) fn get(&self, pair: Pair) -> Option<Duration> {
        self.pairs.get(&pair).map(|link| link.round_trip)
    }

    /// How many are in force.
    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Times that one came, went or became another.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Puts in force what the votes have come to; says whether anything is another now.
    fn settle(&mut self, voted: BTreeMap<Pair, (Duration, Duration, usize)>) -> bool {
        let before = self.changes;
        let gone = self.pairs.keys().filter(|pair| !voted.contains_key(pair)).count();
        self.pairs.retain(|pair, _| voted.contains_key(pair));
        self.changes += gone as u64;
        for (pair, (said, bounded, votes)) in voted {
            match self.pairs.get_mut(&pair) {
                Some(link) => {
                    (link.said, link.votes) = (said, votes);
                    if link.round_trip.abs_diff(bounded) > NOISE.max(link.round_trip / 5) {
                        link.round_trip = bounded;
                        self.changes += 1;
                    }
                }
                None => {
                    self.pairs.insert(pair, InForce { round_trip: bounded, said, votes });
                    self.changes += 1;
                }
            }
        }
        self.changes != before
    }
}

/// Between two regions in either order, or a region and the origin.
pub(super) fn pair(a: RegionId, b: Option<RegionId>) -> Pair {
    match b {
        Some(b) if b < a => (b, Some(a)),
        _ => (a, b),
    }
}

impl Nodes {
    /// A node says what it measured. Returns whether it says anything for the first time since it joined.
    pub(super) fn take_measured(&mut self, now: Timestamp, position: usize, measured: &[RoundTrip]) -> bool {
        let Some(slot) = self.get_mut(position) else { return false };
        let is_first = slot.said.at.is_none();
        let refused = slot.said.replace(now, measured);
        if refused > 0 && slot.lies.round_trips_absurd == 0 {
            tracing::warn!(node = %slot.name, refused, "the node says that round trips took less than 10 us or more than 10 s; that is not believed");
        }
        slot.lies.round_trips_absurd += refused;
        is_first
    }

    /// Counts the votes again; says whether another round trip is in force anywhere.
    pub(super) fn settle_measured(&mut self, now: Timestamp) -> bool {
        let mut votes: BTreeMap<Pair, Vec<Duration>> = BTreeMap::new();
        for slot in self.iter().filter(|slot| slot.said.is_fresh(now)) {
            let Some(home) = slot.region else { continue };
            let mut own: BTreeMap<Pair, Vec<Duration>> = BTreeMap::new();
            for trip in &slot.said.to {
                let Some(to) = self.reached(&slot.name, trip.to.as_ref()) else { continue };
                own.entry(pair(home, to)).or_default().push(trip.round_trip);
            }
            own.into_iter().for_each(|(pair, trips)| votes.entry(pair).or_default().extend(middle(trips)));
        }
        let voted = votes.into_iter().filter_map(|(pair, mut trips)| {
            let (count, known) = (trips.len(), self.known_round_trip(pair));
            trips.extend(known);
            let said = middle(trips)?;
            let bounded = known.map_or(said, |known| said.clamp(known / BELIEVED, known * BELIEVED));
            Some((pair, (said, bounded, count)))
        });
        let voted = voted.collect();
        self.measured.settle(voted)
    }

    /// The region that a node measured towards, without one the origin; `None` when it names nobody that is known.
    fn reached(&self, from: &NodeName, to: Option<&NodeName>) -> Option<Option<RegionId>> {
        let Some(to) = to else { return Some(None) };
        let region = self.get(self.position(to)?)?.region?;
        (to != from).then_some(Some(region))
    }

    /// Where a node would have to fetch what these hold if it did not itself, without one from the origin; the round trip,
    /// and whether that is measured.
    pub(super) fn next_source(&self, to: usize, holders: NodeSet) -> (Option<NodeName>, Duration, bool) {
        let home = self.get(to).and_then(|slot| slot.region);
        let is_measured = |region| home.is_some_and(|home| self.measured.get(pair(home, region)).is_some());
        let wait = |from| Duration::from_secs_f64(self.seconds(to, from, 0));
        let peers = holders.without(to).iter().filter_map(|from| {
            let slot = self.get(from).filter(|slot| slot.is_connected)?;
            Some((wait(Some(from)), from, slot))
        });
        let nearest = peers.min_by_key(|(round_trip, from, _)| (*round_trip, *from));
        match nearest.filter(|(round_trip, ..)| *round_trip < wait(None)) {
            Some((round_trip, _, slot)) => (Some(slot.name.clone()), round_trip, is_measured(slot.region)),
            None => (None, wait(None), is_measured(None)),
        }
    }

    /// What is measured, for operators.
    pub(super) fn measured_links(&self) -> impl Iterator<Item = MeasuredLink> {
        self.measured.pairs.iter().filter_map(|(pair, link)| {
            let known = self.known_round_trip(*pair);
            let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
            let is_within = |known: Duration| link.said >= known / BELIEVED && link.said <= known * BELIEVED;
            Some(MeasuredLink {
                between: [
                    self.region_name(pair.0)?,
                    pair.1.map_or_else(|| Some(Arc::from("origin")), |to| self.region_name(to))?,
                ],
                round_trip_ms: millis(link.round_trip),
                voted_ms: millis(link.said),
                topology_ms: known.map(millis),
                nodes: link.votes,
                is_bounded: known.is_some_and(|known| !is_within(known)),
            })
        })
    }
}

impl MeasuredLink {
    /// Whether the votes are further from the topology than is believed.
    pub(super) fn is_bounded(&self) -> bool {
        self.is_bounded
    }
}

/// The lower middle of some.
fn middle(mut trips: Vec<Duration>) -> Option<Duration> {
    trips.sort_unstable();
    trips.get(trips.len().saturating_sub(1) / 2).copied()
}

/// Nothing answers sooner, and nobody waits longer.
const ROUND_TRIP_MIN: Duration = Duration::from_micros(10);
const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);
/// What a node said counts for so long; it repeats itself each minute.
const STALE: Duration = Duration::from_secs(180);
/// How many times longer or shorter than the topology says a round trip may be.
const BELIEVED: u32 = 8;
/// What is no change, beside a fifth.
const NOISE: Duration = Duration::from_millis(2);
/// Round trips of one node.
const SAID_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use nearcast_proto::{message::NodeDescriptor, topology::Topology};

    use super::*;

    fn nodes(names: &[&str]) -> Nodes {
        let topology: Topology = toml::from_str(
            "[default]\nrtt_ms = 300.0\n[[links]]\nbetween = [\"a\", \"b\"]\nrtt_ms = 20.0\n[regions.a]\n[regions.b]\n[regions.c]\n",
        )
        .unwrap();
        let mut nodes = Nodes::new(topology, 0.5, Duration::from_secs(5), 4);
        for name in names {
            let node = NodeDescriptor {
                name: NodeName::from(*name),
                region: Arc::from(&name[..1]),
                url: Arc::from(""),
                capacity_bytes: 100,
                segment_bytes: 10,
            };
            nodes.join(&node, |_| false).unwrap();
        }
        nodes
    }

    fn say(nodes: &mut Nodes, second: i64, at: usize, said: &[(&str, u64)]) -> bool {
        let to = |name: &str| Some(NodeName::from(name)).filter(|_| !name.is_empty());
        let trip =
            |(name, micros): &(&str, u64)| RoundTrip { to: to(name), round_trip: Duration::from_micros(*micros) };
        let said: Vec<RoundTrip> = said.iter().map(trip).collect();
        nodes.take_measured(second_at(second), at, &said);
        nodes.settle_measured(second_at(second))
    }

    fn second_at(second: i64) -> Timestamp {
        Timestamp::from_micros(1_000_000 * second)
    }

    fn millis(nodes: &Nodes, at: usize, from: Option<usize>) -> i64 {
        (nodes.seconds(at, from, 0) * 1e3).round() as i64
    }

    #[test]
    fn what_both_ends_measured_goes_before_the_topology_and_small_changes_are_no_change() {
        let mut nodes = nodes(&["a1", "b1"]);
        assert_eq!(millis(&nodes, 0, Some(1)), 20);
        assert!(say(&mut nodes, 0, 0, &[("b1", 61_000), ("", 45_000), ("gone", 5)]));
        assert_eq!((millis(&nodes, 0, Some(1)), millis(&nodes, 0, None)), (20, 45), "one end against the topology");
        assert!(say(&mut nodes, 1, 1, &[("a1", 50_000)]));
        assert_eq!(millis(&nodes, 0, Some(1)), 50);
        assert!(!say(&mut nodes, 2, 1, &[("a1", 55_000)]), "no thrash");
        assert_eq!((millis(&nodes, 1, Some(0)), nodes.get(0).unwrap().lies.round_trips_absurd), (50, 1));
        assert!(say(&mut nodes, 3, 1, &[("a1", 75_000)]));
        assert_eq!(millis(&nodes, 0, Some(1)), 61);
        let said: Vec<_> = nodes.measured_links().map(|link| (link.between[1].to_string(), link.nodes)).collect();
        assert_eq!(said, [("origin".to_owned(), 1), ("b".to_owned(), 2)]);
        assert!(!nodes.settle_measured(second_at(100)));
        assert!(nodes.settle_measured(second_at(200)), "stale");
        assert_eq!(millis(&nodes, 0, Some(1)), 20);
    }

    #[test]
    fn one_that_lies_is_contradicted_and_all_that_lie_are_bounded_and_shown() {
        let mut nodes = nodes(&["a1", "a2", "b1", "c1"]);
        say(&mut nodes, 0, 1, &[("b1", 22_000)]);
        say(&mut nodes, 0, 2, &[("a1", 21_000), ("a2", 22_000)]);
        say(&mut nodes, 0, 0, &[("b1", 9_000_000), ("c1", 9_000_000)]);
        assert!((20..=22).contains(&millis(&nodes, 0, Some(2))), "{}", millis(&nodes, 0, Some(2)));
        assert_eq!(millis(&nodes, 0, Some(3)), 9_000, "nobody says anything else of this link");
        for at in 0..3 {
            say(&mut nodes, 1, at, &[("a1", 9_000_000), ("b1", 9_000_000)]);
        }
        assert_eq!(millis(&nodes, 0, Some(2)), 160);
        assert!(nodes.measured_links().any(|link| link.is_bounded()));
        say(&mut nodes, 2, 0, &[("b1", 0), ("c1", 11_000_000)]);
        assert_eq!(nodes.get(0).unwrap().lies.round_trips_absurd, 2);
    }
}
