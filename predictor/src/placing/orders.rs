//! Commands that follow from a plan, and what became of them.

use std::sync::Arc;

use nearcast_datasets::{Timestamp, segment_count};
use nearcast_proto::message::{Action, CommandId, CommandStatus, NodeName, SegmentSet, Source};

use super::{FIRST_COMMAND, Placing};
use crate::placement::ShardCommand;

/// A command to one node, but for what the service adds to all commands.
#[derive(Clone, Debug)]
pub(crate) struct PlacementOrder {
    pub(crate) id: CommandId,
    pub(crate) node: NodeName,
    pub(crate) action: Action,
    pub(crate) target: SegmentSet,
    pub(crate) sources: Vec<Source>,
    pub(crate) deadline: Timestamp,
    /// Seconds of waiting that it is expected to save.
    pub(crate) value_seconds: f64,
}

impl Placing {
    /// Whether a command is one of placement's.
    pub(crate) fn is_own(id: CommandId) -> bool {
        id >= FIRST_COMMAND
    }

    /// The next command to send; `None` while there is none, enough are under way, or as much is fetched as may be.
    #[must_use]
    pub(crate) fn poll_order(&mut self, now: Timestamp) -> Option<PlacementOrder> {
        self.allowance.refill(now, self.settings.bytes_per_second);
        while self.allowance.bytes >= 0.0 {
            let Self { shards, links, nodes, known, .. } = self;
            let command = shards.poll_command_if(now, |key, node| {
                let link = nodes.nearest_source(node, known.lock().holders(key));
                link.is_none_or(|(link, bytes_per_second)| links.may_begin(now, link, bytes_per_second))
            })?;
            match self.order(&command) {
                Some(order) => {
                    if order.action == Action::Replicate {
                        self.allowance.bytes -= order.target.size_bytes as f64;
                        let holders = self.known.lock().holders(command.key);
                        if let Some((link, _)) = self.nodes.nearest_source(command.node, holders) {
                            self.links.begin(link, order.target.size_bytes);
                        }
                    }
                    return Some(order);
                }
                None => self.shards.handle_result(now, command.id, CommandStatus::Failed),
            }
        }
        None
    }

    /// A node says how a command ended, or it could not be sent. What nodes say they have fetched they must also say
    /// they hold; that comes first.
    pub(crate) fn handle_result(&mut self, now: Timestamp, id: CommandId, status: CommandStatus) {
        let Some((key, node, action)) = self.shards.command(id) else {
            self.shards.handle_result(now, id, status);
            return;
        };
        let has_ended_well = matches!(status, CommandStatus::Done | CommandStatus::AlreadyPresent);
        let is_held = self.known.lock().holders(key).contains(node);
        let verified = if has_ended_well && action == Action::Replicate && !is_held {
            if status == CommandStatus::Done {
                self.nodes.get_mut(node).into_iter().for_each(|slot| slot.lies.results_not_verified += 1);
            }
            CommandStatus::Failed
        } else {
            status
        };
        self.shards.handle_result(now, id, verified);
        self.note_changed(now, key);
    }

    fn order(&self, command: &ShardCommand) -> Option<PlacementOrder> {
        let ShardCommand { id, key, node, action, deadline } = *command;
        let slot = self.nodes.get(node).filter(|slot| slot.is_connected)?;
        let wanted = self.wanted.get(&key);
        let known = self.known.lock();
        let name = Arc::clone(known.name(key)?);
        let bytes = if known.bytes(key) > 0 { known.bytes(key) } else { wanted.map_or(0, |wanted| wanted.bytes) };
        let holders = known.holders(key).without(node);
        drop(known);
        let count = segment_count(bytes, slot.segment_bytes);
        let segments = (0..count.min(SEGMENTS_MAX)).collect();
        let sources = if action == Action::Replicate { self.sources(node, holders.iter(), bytes) } else { Vec::new() };
        let value = wanted.map_or(0.0, |wanted| wanted.saved_seconds / wanted.nodes.len().max(1) as f32);
        Some(PlacementOrder {
            id,
            node: slot.name.clone(),
            action,
            target: SegmentSet { key: name, size_bytes: bytes, segments },
            sources,
            deadline,
            value_seconds: f64::from(value),
        })
    }

    /// The nearest holders, as far as they are nearer than the origin, and the origin.
    fn sources(&self, to: usize, holders: impl Iterator<Item = usize>, bytes: u64) -> Vec<Source> {
        let origin = self.nodes.seconds(to, None, bytes);
        let holders = holders.filter_map(|from| Some((from, self.nodes.get(from).filter(|slot| slot.is_connected)?)));
        let mut peers: Vec<_> = holders.map(|(from, slot)| (self.nodes.seconds(to, Some(from), bytes), slot)).collect();
        peers.retain(|(seconds, _)| *seconds < origin);
        peers.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.name.cmp(&b.1.name)));
        let peers = peers.into_iter().take(PEERS_MAX).map(|(_, slot)| Source::Peer(slot.name.clone()));
        peers.chain([Source::Origin]).collect()
    }
}

const PEERS_MAX: usize = 3;
/// Segments of one command; larger objects are left to demand beyond it.
const SEGMENTS_MAX: u32 = 65_536;
