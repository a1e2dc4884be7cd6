//! Telling the other members what one's own nodes say, in order, and giving commands to nodes of theirs.

use std::sync::Arc;

use nearcast_bus::{PAYLOAD_BYTES_MAX, Partition, Spool, SpoolCounts};
use nearcast_proto::message::{NodeName, NodeReport};

use super::records::{Home, NodeRecord, OrderRecord, Said, partition_of};

/// The ways out, each through a bounded spool.
#[derive(Clone, Debug)]
pub(in crate::server) struct Outlets {
    generation: u32,
    nodes: Arc<Spool>,
    orders: Arc<Spool>,
    sent: u64,
}

/// There is no room in the spool: the bus is away, or slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Unsaid;

impl Outlets {
    pub(super) fn new(generation: u32, nodes: Arc<Spool>, orders: Arc<Spool>) -> Self {
        Self { generation, nodes, orders, sent: 0 }
    }

    /// The number that every start of a member has for itself.
    pub(in crate::server) fn generation(&self) -> u32 {
        self.generation
    }

    /// Tells what a node has said, in parts if it is long.
    ///
    /// # Errors
    /// [`Unsaid`]: what the others know of the node is then old.
    pub(in crate::server) fn say(&mut self, node: &NodeName, session: u64, said: &Said) -> Result<(), Unsaid> {
        let home = Home { generation: self.generation, session };
        let payload = NodeRecord { home, said: said.clone() }.encode();
        if payload.len() > PAYLOAD_BYTES_MAX
            && let Said::Told(report) = said
            && let Some((first, second)) = halves(report)
        {
            self.say(node, session, &Said::Told(first))?;
            return self.say(node, session, &Said::Told(second));
        }
        let id = self.next_id();
        let partition = partition_of(node, NODES_PARTITIONS);
        self.nodes.offer(partition, id, payload).map(drop).map_err(|_| Unsaid)
    }

    /// Asks a member to tell of its nodes anew.
    ///
    /// # Errors
    /// [`Unsaid`].
    pub(in crate::server) fn ask(&mut self, of: u32) -> Result<(), Unsaid> {
        self.tell(Said::Ask { of })
    }

    /// Tells the other members something that is of no node.
    ///
    /// # Errors
    /// [`Unsaid`].
    pub(in crate::server) fn tell(&mut self, said: Said) -> Result<(), Unsaid> {
        let home = Home { generation: self.generation, session: 0 };
        let (id, record) = (self.next_id(), NodeRecord { home, said });
        self.nodes.offer(Partition(0), id, record.encode()).map(drop).map_err(|_| Unsaid)
    }

    /// Gives a command to a node of another member.
    ///
    /// # Errors
    /// [`Unsaid`].
    pub(in crate::server) fn order(&mut self, order: OrderRecord) -> Result<(), Unsaid> {
        let (id, partition) = (self.next_id(), partition_of(&order.node, NODES_PARTITIONS));
        self.orders.offer(partition, id, order.encode()).map(drop).map_err(|_| Unsaid)
    }

    /// How what is said fares.
    pub(in crate::server) fn counts(&self) -> SpoolCounts {
        self.nodes.counts()
    }

    fn next_id(&mut self) -> String {
        self.sent += 1;
        format!("{}/{}", self.generation, self.sent)
    }
}

/// A report as two, if it consists of parts.
fn halves(report: &NodeReport) -> Option<(NodeReport, NodeReport)> {
    fn cut<T: Clone>(all: &[T]) -> (Vec<T>, Vec<T>) {
        let (first, second) = all.split_at(all.len() / 2);
        (first.to_vec(), second.to_vec())
    }
    match report {
        NodeReport::Inventory { held, last } if held.len() > 1 => {
            let (first, second) = cut(held);
            let first = NodeReport::Inventory { held: first, last: false };
            Some((first, NodeReport::Inventory { held: second, last: *last }))
        }
        NodeReport::Delta { gained, lost } if gained.len() > 1 || lost.len() > 1 => {
            let ((gained, more), (lost, most)) = (cut(gained), cut(lost));
            Some((NodeReport::Delta { gained, lost }, NodeReport::Delta { gained: more, lost: most }))
        }
        NodeReport::Outcomes(all) if all.len() > 1 => {
            let (first, second) = cut(all);
            Some((NodeReport::Outcomes(first), NodeReport::Outcomes(second)))
        }
        NodeReport::Results(all) if all.len() > 1 => {
            let (first, second) = cut(all);
            Some((NodeReport::Results(first), NodeReport::Results(second)))
        }
        _ => None,
    }
}

/// Parts of what is said of nodes and to them. Every member reads all of them.
pub(in crate::server) const NODES_PARTITIONS: u32 = 4;
