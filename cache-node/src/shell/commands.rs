//! The predictor's commands, cache map and placement.

use std::sync::Arc;

use nearcast_datasets::{KeyId, SegmentId, segment_count, segment_len};
use nearcast_proto::message::{
    Action, CacheMap, Command, CommandResult, CommandStatus, Epoch, PlacementPosition, PlacementUpdate, Source,
};
use url::Url;

use super::{Shell, State};
use crate::{
    clock,
    core::{
        PrefetchOrder,
        routing::{FetchSource, Fit, Link, MemberId},
    },
    key::Key,
    link::Report,
    peers::Peer,
};

impl Shell {
    /// Takes a command on. Its result goes up the link, at once or when its last segment has ended.
    pub(crate) fn handle_command(&self, command: &Command) {
        let mut state = self.state();
        self.metrics.commands.inc();
        let refused = match Key::parse(&command.target.key) {
            Err(error) => Err(error.to_string()),
            Ok(_) if command.epoch < state.map_epoch => {
                Err(format!("epoch {} is older than {}", command.epoch.0, state.map_epoch.0))
            }
            Ok(_) if state.commands.len() >= COMMANDS_MAX => Err("too many open commands".to_owned()),
            Ok(_) if self.uplink.in_force().arm.is_some_and(|arm| *arm != *command.arm) => {
                Err(format!("arm {} is not in force here", command.arm))
            }
            Ok(key) => self.take_on(&mut state, command, &key),
        };
        if let Err(detail) = refused {
            self.metrics.commands_rejected.inc();
            let result = CommandResult { id: command.id, status: CommandStatus::Rejected, bytes: 0, detail };
            self.uplink.send(Report::Result(result));
        }
        self.drain_events(&mut state);
        drop(state);
        self.prefetch_wake.notify_one();
    }

    fn take_on(&self, state: &mut State, command: &Command, key: &Key) -> Result<(), String> {
        let now = clock::now();
        let segment_bytes = self.config.segment_bytes;
        let count = segment_count(command.target.size_bytes, segment_bytes);
        let mut indexes = command.target.segments.clone();
        indexes.sort_unstable();
        indexes.dedup();
        if indexes.is_empty() || indexes.last().is_some_and(|last| *last >= count) {
            return Err(format!("no such segments: the object has {count}"));
        }
        let sources = state.sources(&command.sources);
        if command.action == Action::Replicate && sources.is_empty() {
            return Err("none of the sources is a known member or the origin".to_owned());
        }
        let id = state.key_id(key);
        *state.ordered.entry(id).or_default() += u32::try_from(indexes.len()).unwrap_or(u32::MAX);
        state.commands.start(command.id, indexes.len());
        for index in &indexes {
            let segment = SegmentId { key: id, index: *index };
            match command.action {
                Action::Evict => state.core.handle_evict(now, command.id, segment),
                Action::Pin => state.core.handle_pin(command.id, segment),
                Action::Unpin => state.core.handle_unpin(now, command.id, segment),
                Action::Replicate => {
                    let order = PrefetchOrder {
                        command: command.id,
                        segment,
                        bytes: segment_len(command.target.size_bytes, segment_bytes, *index),
                        sources: sources.clone(),
                        deadline: command.deadline,
                        value_seconds: command.expected_value_seconds / indexes.len() as f64,
                    };
                    state.core.handle_order(now, order);
                }
            }
        }
        Ok(())
    }

    /// Takes over a version of the cache map, unless a newer one is known.
    pub(crate) fn handle_map(&self, map: &CacheMap) {
        let mut state = self.state();
        if map.epoch < state.map_epoch {
            return;
        }
        let (emulation, region) = (&self.config.emulation, &self.config.region);
        state.map_epoch = map.epoch;
        state.routing.install(map, |node| Link {
            round_trip: emulation.peer_rtt(region, &node.region),
            bandwidth: emulation.peer_bandwidth(region, &node.region),
        });
        state.peers.clear();
        let has_mutual_tls = self.live().peers.tls.is_some();
        for node in map.members.iter().map(|member| &member.node).filter(|node| node.name != self.config.name) {
            let Some(member) = state.routing.member(&node.name) else { continue };
            let Ok(url) = Url::parse(&node.url) else {
                tracing::warn!(peer = %node.name, url = %node.url, "a peer's address is no URL; it will not be asked");
                continue;
            };
            if has_mutual_tls && url.scheme() != "https" {
                self.metrics.tls.peers_refused.inc();
                tracing::warn!(peer = %node.name, %url, "a peer without https, against [peers.tls]: it will not be asked");
                continue;
            }
            let emulated_rtt = emulation.peer_rtt(region, &node.region);
            let name = Arc::clone(&node.name.0);
            state.peers.insert(member, Peer { member, name, url: Arc::new(url), emulated_rtt });
        }
    }

    /// Takes over who holds the keys that the update names; the others fall back to hashing, or keep what they have. The
    /// version that the node routes by then goes up the link.
    pub(crate) fn handle_placement(&self, update: &PlacementUpdate) {
        let mut state = self.state();
        let before = state.placement.position().map(|position| Arc::clone(&position.map));
        let fit = state.placement.admit(update);
        let has_gap = fit == Fit::Gap;
        if fit == Fit::Replace {
            state.routing.clear_placements();
            if before.is_some_and(|map| map != update.map) {
                // What another map had pinned, this one does not know of.
                state.core.release_pinned(clock::now());
            }
        }
        if matches!(fit, Fit::Replace | Fit::Amend) {
            state.place(update);
        }
        if has_gap || update.last {
            let position = state.placement.position().cloned();
            self.uplink.send(Report::Placement { position, has_gap });
        }
    }

    /// The placement that the node routes by.
    pub(crate) fn placement_position(&self) -> Option<PlacementPosition> {
        self.state().placement.position().cloned()
    }

    /// Serves another arm or model version from now on. What another arm has ordered is cancelled: queued prefetches,
    /// and those under way, unless somebody waits for them.
    pub(crate) fn handle_assignment(&self, arm: &Arc<str>, model_version: &str, assignment: u64) {
        let now = clock::now();
        if self.uplink.set_in_force(arm, model_version) {
            let mut state = self.state();
            let recalled = state.core.handle_recall();
            self.metrics.commands_recalled.inc_by(recalled);
            self.drain_events(&mut state);
            drop(state);
            self.recalls.notify_waiters();
        }
        self.uplink.send(Report::Assigned { assignment, arm: Arc::clone(arm), clock: now });
    }

    /// Starts counting epochs anew: another predictor may have begun from none.
    pub(crate) fn handle_welcome(&self, epoch: Epoch) {
        self.state().map_epoch = epoch;
    }
}

impl State {
    fn place(&mut self, update: &PlacementUpdate) {
        let removed = update.removed.iter().map(|key| (key, &[][..]));
        for (key, holders) in update.placed.iter().map(|(key, holders)| (key, &holders[..])).chain(removed) {
            let Ok(key) = Key::parse(key) else { continue };
            let holders: Vec<MemberId> = holders.iter().filter_map(|name| self.routing.enlist(name)).collect();
            let id = self.key_id(&key);
            self.routing.place(id, &holders);
        }
    }

    /// A command's sources, without those that this node does not know.
    fn sources(&self, sources: &[Source]) -> Vec<FetchSource> {
        let known = sources.iter().filter_map(|source| match source {
            Source::Origin => Some(FetchSource::Origin),
            Source::Peer(name) => self.routing.member(name).map(FetchSource::Peer),
        });
        known.filter(|source| *source != FetchSource::Peer(self.routing.own())).collect()
    }

    /// One segment of a key is no longer open in any command.
    pub(super) fn forget_ordered(&mut self, id: KeyId) {
        let Some(count) = self.ordered.get_mut(&id) else { return };
        *count -= 1;
        if *count == 0 {
            self.ordered.remove(&id);
        }
    }
}

/// Commands whose results are still to come; above the core's own queue, which turns away before this is reached.
const COMMANDS_MAX: usize = 65_536;
