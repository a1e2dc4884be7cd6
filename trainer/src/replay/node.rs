//! One region's node: the production core and routing table, and what is on its way to it.

use std::{collections::VecDeque, time::Duration};

use nearcast_cache_node::core::{
    CommandLedger, NodeCore,
    routing::{FetchSource, Link, MemberId, RoutingConfig, RoutingTable},
};
use nearcast_datasets::{KeyId, Map, SegmentId, Set, Timestamp};
use nearcast_predictor::placement::Move;
use nearcast_proto::message::{CacheMap, Member, NodeDescriptor, NodeName};

use super::{PlacementKind, network::Network};

/// A transfer under way to a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) at: Timestamp,
    pub(super) is_from_peer: bool,
}

/// A node of the replayed cluster.
#[derive(Debug)]
pub(super) struct ReplayNode {
    pub(super) core: NodeCore,
    pub(super) arrivals: Map<SegmentId, Arrival>,
    pub(super) ledger: CommandLedger,
    /// Keys to pin as soon as they are here.
    pub(super) to_hold: Set<KeyId>,
    /// Moves that wait for their turn; those for later go when no other one can.
    pub(super) moves: VecDeque<Move>,
    pub(super) moves_ahead: VecDeque<Move>,
    /// When the first link that any of them could use has room again, if none has.
    pub(super) links_ready_at: Option<Timestamp>,
    routing: RoutingTable,
    /// The node behind each member of the routing table.
    nodes: Vec<usize>,
    sources: Vec<FetchSource>,
}

impl ReplayNode {
    /// The node of region `own`; node and region share their number and name.
    pub(super) fn new(
        core: NodeCore,
        placement: PlacementKind,
        descriptors: &[NodeDescriptor],
        own: usize,
        network: &Network,
    ) -> Self {
        let hash_homes = placement == PlacementKind::Hash;
        let routing_config = RoutingConfig { hash_homes, failure_backoff: Duration::ZERO, ..RoutingConfig::default() };
        let mut routing = RoutingTable::new(routing_config, &descriptors[own].name);
        let members = descriptors.iter().map(|node| Member { node: node.clone(), alive: true }).collect();
        let find = |name: &NodeName| descriptors.iter().position(|node| node.name == *name);
        let link = |node: &NodeDescriptor| -> Link { *network.between(own, find(&node.name).unwrap_or(own)) };
        routing.install(&CacheMap { members, ..CacheMap::default() }, link);
        let member = |number| routing.name(MemberId(number)).and_then(|name| find(&name));
        let nodes = (0..).map_while(member).collect();
        Self {
            core,
            arrivals: Map::default(),
            ledger: CommandLedger::default(),
            to_hold: Set::default(),
            moves: VecDeque::new(),
            moves_ahead: VecDeque::new(),
            links_ready_at: None,
            routing,
            nodes,
            sources: Vec::new(),
        }
    }

    /// Moves that wait for their turn: those for later, or the others.
    pub(super) fn waiting(&mut self, is_ahead: bool) -> &mut VecDeque<Move> {
        if is_ahead { &mut self.moves_ahead } else { &mut self.moves }
    }

    /// Tells the node's copy of the cache map which nodes hold a key: those of them that are closer than the origin.
    pub(super) fn place(&mut self, key: KeyId, holders: impl Iterator<Item = usize>) {
        let holders: Vec<MemberId> = holders.filter_map(|node| self.member(node)).collect();
        self.routing.place(key, &holders);
    }

    /// The node to fetch from, or `None` for the origin.
    pub(super) fn route(&mut self, now: Timestamp, key: KeyId, key_hash: u64, bytes: u64) -> Option<usize> {
        self.sources.clear();
        self.routing.route(now, key, key_hash, bytes, &mut self.sources);
        self.sources.first().and_then(|source| self.peer(*source))
    }

    /// The node behind a source, or `None` for the origin.
    pub(super) fn peer(&self, source: FetchSource) -> Option<usize> {
        match source {
            FetchSource::Origin => None,
            FetchSource::Peer(member) => self.nodes.get(usize::from(member.0)).copied(),
        }
    }

    /// The source that a node is to this one.
    pub(super) fn source(&self, node: usize) -> Option<FetchSource> {
        self.member(node).map(FetchSource::Peer)
    }

    fn member(&self, node: usize) -> Option<MemberId> {
        let member = self.nodes.iter().position(|known| *known == node)?;
        u16::try_from(member).ok().map(MemberId)
    }
}
