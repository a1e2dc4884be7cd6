//! Prefetchers of today, written from their papers, to compare the engine with.
//!
//! One runs at every node, sees that node's requests at once, and orders whole objects from the origin the way the
//! engine does: through the node's queue, onto probation, with every byte counted. None has a budget: what they fetch
//! beyond demand is their `extra_fetch_ratio`. They know sizes only of what was asked for before; for another key they
//! take the size of the key that made them think of it.

mod markov;
mod mithril;
mod obl;

use std::fmt::Debug;

use nearcast_datasets::{KeyId, ServedFrom, Timestamp};
use nearcast_predictor::engine::{NodeIndex, Order, OrderSource};
use nearcast_proto::message::{Action, CommandId, Epoch};

use self::{
    markov::MarkovPrefetcher,
    mithril::MithrilPrefetcher,
    obl::{OblPrefetcher, Successors},
};
use super::{LogColumns, PrefetchKind, columns::Row, names::Names, objects::Objects};

/// Guesses what one node will be asked for next. Keys are the log's numbers, which say nothing about their order.
trait Prefetcher: Debug {
    /// The node was asked for `key`, and served it so; appends what should be fetched.
    fn handle_request(&mut self, key: KeyId, served: ServedFrom, wanted: &mut Vec<KeyId>);
}

/// One prefetcher per node.
#[derive(Debug)]
pub(super) struct Baselines {
    nodes: Vec<Box<dyn Prefetcher>>,
    objects: Objects,
    /// Sizes of the keys asked for so far.
    sizes_bytes: Vec<Option<u64>>,
    issued: u64,
}

impl Baselines {
    /// Prefetchers of one kind, or `None` when it is not one of these.
    pub(super) fn new(kind: PrefetchKind, log: &LogColumns, objects: Objects) -> Option<Self> {
        let count = log.region_names().len();
        let nodes = match kind {
            PrefetchKind::Markov => each(count, MarkovPrefetcher::default),
            PrefetchKind::Mithril => each(count, MithrilPrefetcher::default),
            PrefetchKind::Obl => {
                let successors = Successors::of(log);
                each(count, || OblPrefetcher::new(successors.clone()))
            }
            PrefetchKind::Nearcast | PrefetchKind::None => return None,
        };
        Some(Self { nodes, objects, sizes_bytes: vec![None; log.key_count()], issued: 0 })
    }

    /// A node was asked for something: what it should fetch.
    pub(super) fn handle_request(&mut self, row: &Row, served: ServedFrom) -> Vec<Order> {
        self.sizes_bytes[row.key.0 as usize] = Some(row.size_bytes);
        let mut wanted = Vec::new();
        self.nodes[usize::from(row.region.0)].handle_request(row.key, served, &mut wanted);
        wanted.into_iter().map(|key| self.order(row, key)).collect()
    }

    fn order(&mut self, row: &Row, key: KeyId) -> Order {
        let known_bytes = self.sizes_bytes.get(key.0 as usize).copied().flatten();
        let size_bytes = known_bytes.unwrap_or(row.size_bytes);
        self.issued += 1;
        Order {
            id: CommandId(self.issued),
            epoch: Epoch::default(),
            action: Action::Replicate,
            node: NodeIndex(row.region.0),
            key,
            size_bytes,
            segments: self.objects.segments(size_bytes, None).collect(),
            sources: vec![OrderSource::Origin],
            deadline: Timestamp::MAX,
            probability: 1.0,
            expected_value_seconds: 0.0,
        }
    }
}

fn each<P: Prefetcher + 'static>(count: usize, make: impl Fn() -> P) -> Vec<Box<dyn Prefetcher>> {
    (0..count).map(|_| Box::new(make()) as Box<dyn Prefetcher>).collect()
}
