//! The nodes that ever joined, and the cache map that tells them of each other.

use std::{collections::BTreeMap, sync::Arc};

use nearcast_proto::message::{CacheMap, Member, NodeDescriptor, NodeName};
use tokio::sync::watch;

use crate::generation::Generation;

/// Membership; every change makes a new epoch, which all streams see.
#[derive(Debug)]
pub(super) struct Members {
    generation: Generation,
    changes: u32,
    members: BTreeMap<NodeName, Member>,
    map: watch::Sender<Arc<CacheMap>>,
}

impl Members {
    pub(super) fn new(generation: Generation) -> Self {
        let map = CacheMap { epoch: generation.epoch(0), members: Vec::new() };
        let (map, _) = watch::channel(Arc::new(map));
        Self { generation, changes: 0, members: BTreeMap::new(), map }
    }

    /// Notes that a node is or is not connected.
    pub(super) fn set(&mut self, node: NodeDescriptor, alive: bool) {
        self.members.insert(node.name.clone(), Member { node, alive });
        self.changes = self.changes.saturating_add(1);
        let members = self.members.values().cloned().collect();
        self.map.send_replace(Arc::new(CacheMap { epoch: self.generation.epoch(self.changes), members }));
    }

    /// A member by name.
    pub(super) fn find(&self, name: &NodeName) -> Option<&Member> {
        self.members.get(name)
    }

    /// The number of nodes that ever joined.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The cache map in force.
    pub(super) fn map(&self) -> Arc<CacheMap> {
        Arc::clone(&self.map.borrow())
    }

    /// The cache map as it changes.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<CacheMap>> {
        self.map.subscribe()
    }
}
