//! Placement at work: the service around the synchronous core in [`crate::placement`].
//!
//! The event task owns a [`Placing`]. It keeps who holds what, sends what a plan asks for through the shard manager, and
//! changes the map that nodes route on as they confirm what they hold. Plans are made on a thread of their own.
//!
//! | file | concern |
//! | --- | --- |
//! | `known` | keys by number, who holds them; shared by all |
//! | `nodes` | nodes by position, sites, estimated round trips |
//! | `measured` | round trips as nodes measure them |
//! | `planning` | the thread that plans |
//! | `reports` | what nodes say, and what of it cannot be |
//! | `orders` | commands to nodes, and their results |
//! | `plans` | taking plans over; hot keys; the map |
//! | `board` | the map on which nodes route, and what each has yet to hear of it |
//! | `mirror` | the map as another predictor commits it |
//! | `file` | the map on disk |
//! | `forecasts` | what the planning thread knows, on disk |
//! | `explain`, `status` | what operators see |

mod board;
mod explain;
mod file;
mod forecasts;
mod hot;
mod known;
mod measured;
mod mirror;
mod nodes;
mod orders;
mod planning;
mod plans;
mod reports;
mod settings;
mod status;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use nearcast_datasets::{KeyId, Map, Set, Timestamp};
use nearcast_models::Model;
use nearcast_proto::{
    message::{CommandId, Epoch, NodeDescriptor, NodeName, RoundTrip},
    topology::Topology,
};
use tokio::task::{JoinHandle, spawn_blocking};

use self::{
    file::Saved,
    forecasts::Forecasts,
    hot::HotKeys,
    known::{Forgettable, SharedKnown},
    nodes::Nodes,
    planning::{Planning, Told},
    plans::Wanted,
    status::PlanStatus,
};
use crate::{
    Error, Result,
    placement::{GlobalMap, GuardChoice, Links, NodeSet, ShardManager},
};

pub use self::settings::{PlacementKind, PlacementSettings, RawPlacement};
pub(crate) use self::{
    board::{Board, GapSender, PlacementFeed},
    explain::Explained,
    mirror::{Followed, Mirror},
    orders::PlacementOrder,
    planning::Planned,
    status::PlacementStatus,
};

/// Placement, as the event task drives it.
#[derive(Debug)]
pub(crate) struct Placing {
    settings: PlacementSettings,
    known: SharedKnown,
    nodes: Nodes,
    board: Arc<Board>,
    shards: ShardManager,
    wanted: Map<KeyId, Wanted>,
    hot: HotKeys,
    plans: u64,
    last_plan: Option<PlanStatus>,
    /// Which plan the guard chose, and how often it fell back so far.
    guard: Option<(GuardChoice, u64)>,
    tell: SyncSender<Told>,
    untold: u64,
    /// Numbers that went to other keys since the last plan was made: how many had done so before, and which.
    reused: VecDeque<(u64, KeyId)>,
    reuses: u64,
    reuses_told: u64,
    maps: SyncSender<Saved>,
    /// Keys whose holders on the map may be others now.
    changed: Set<KeyId>,
    /// Bytes that may be fetched before it has to be waited again: by all together, and over each link.
    allowance: Allowance,
    links: Links,
    commit_due: Option<Timestamp>,
    /// When the map last changed, and how many keys with it.
    committed: (Timestamp, usize),
    sites_due: Option<Timestamp>,
    /// When measured round trips are counted next.
    measured_due: Option<Timestamp>,
    save_due: Option<Timestamp>,
}

/// A bucket of bytes.
#[derive(Debug)]
struct Allowance {
    bytes: f64,
    at: Timestamp,
}

/// The threads that placement needs; each ends when the [`Placing`] that it belongs to is gone.
#[derive(Debug)]
pub(crate) struct PlacingThreads {
    planning: Planning,
    told: Receiver<Told>,
    maps: Receiver<Saved>,
}

impl PlacingThreads {
    /// Starts both, to write into `folder` and to hand plans to `publish`.
    pub(crate) fn start(self, folder: &Path, publish: impl FnMut(Planned) + Send + 'static) -> [JoinHandle<()>; 2] {
        let Self { planning, told, maps } = self;
        let folder = folder.to_owned();
        let writing = spawn_blocking(move || file::write_all(&folder, &maps));
        [spawn_blocking(move || planning.run(&told, publish)), writing]
    }
}

impl Placing {
    /// Takes up the map of a former life, or begins one.
    ///
    /// # Errors
    /// When the map's file cannot be read or written.
    pub(crate) fn open(
        settings: PlacementSettings,
        topology: Topology,
        folder: &Path,
        now: Timestamp,
    ) -> Result<(Self, PlacingThreads)> {
        let path = file::path(folder);
        let mut saved = Saved::open(folder).map_err(Error::file("read", &path))?.unwrap_or_else(Saved::begin);
        saved.go_on(folder).map_err(Error::file("write", &path))?;
        let forecasts = Forecasts::open(folder).map_err(Error::file("read", &forecasts::path(folder)))?;
        Ok(Self::begin((settings, topology, folder), &saved, forecasts, FIRST_COMMAND, now))
    }

    /// Goes on with the map that another member of a fleet has committed: in the term of its office that `token` tells,
    /// which is the so manyeth of this member.
    pub(crate) fn succeed(
        (settings, topology, folder): (PlacementSettings, Topology, &Path),
        mirror: &Mirror,
        (token, term): (u64, u32),
        now: Timestamp,
    ) -> (Self, PlacingThreads) {
        let mut saved = mirror.saved();
        // Tokens grow with every term, so that no version is told twice.
        saved.epoch = Epoch(saved.epoch.0.max(token << EPOCH_BITS) + 1);
        let first = CommandId(FIRST_COMMAND.0 + (u64::from(term) << TERM_BITS));
        // Of a former term of this member; they are learned anew without.
        let forecasts = Forecasts::open(folder).unwrap_or_else(|error| {
            tracing::warn!(%error, folder = %folder.display(), "former forecasts cannot be read");
            None
        });
        Self::begin((settings, topology, folder), &saved, forecasts, first, now)
    }

    fn begin(
        (settings, topology, folder): (PlacementSettings, Topology, &Path),
        saved: &Saved,
        mut forecasts: Option<Forecasts>,
        first: CommandId,
        now: Timestamp,
    ) -> (Self, PlacingThreads) {
        let is_restored = saved.plans > 0;
        let known = SharedKnown::new(settings.keys_max);
        let mut nodes = Nodes::new(topology, settings.share, settings.grace, settings.regions_max);
        nodes.restore(saved.nodes.iter().cloned(), now);
        for (position, _) in saved.nodes.iter().enumerate().filter(|(_, name)| saved.draining.contains(name)) {
            nodes.get_mut(position).into_iter().for_each(|slot| slot.is_draining = true);
        }
        let (tell, told) = sync_channel(TOLD_MAX);
        let (maps_in, maps) = sync_channel(1);
        let mut shards = ShardManager::new(settings.shards, first);
        (0..saved.nodes.len()).for_each(|node| shards.handle_gone(node));
        let (wanted, holders) = take_up(saved, &known, &mut shards, now);
        let map = GlobalMap::restore(saved.epoch, holders, settings.changes_max);
        let board = Arc::new(Board::new(Arc::clone(&saved.map), map, nodes.names(), known.clone()));
        if let Some(forecasts) = forecasts.take_if(|forecasts| !nodes.restore_regions(&forecasts.regions)) {
            let (were, are) = (forecasts.regions.len(), nodes.region_names().len());
            tracing::warn!(were, are, "the forecasts are for another number of regions; they are learned anew");
        }
        if let Some(forecasts) = &mut forecasts {
            forecasts.renumber(&known, Forgettable { silent_since: Timestamp::MIN, reach: saved.epoch });
        }
        let planning = Planning {
            settings: settings.clone(),
            known: known.clone(),
            folder: folder.to_owned(),
            is_restored,
            forecasts,
        };
        let allowance = Allowance { bytes: settings.bytes_per_second, at: now };
        let links = Links::new(settings.link_share);
        let placing = Self {
            hot: HotKeys::new(settings.hot_requests_per_second, settings.hot_keys_max),
            settings,
            known,
            nodes,
            board,
            shards,
            wanted,
            plans: saved.plans,
            last_plan: None,
            guard: None,
            tell,
            untold: 0,
            reused: VecDeque::new(),
            reuses: 0,
            reuses_told: 0,
            maps: maps_in,
            changed: Set::default(),
            allowance,
            links,
            commit_due: None,
            committed: (now, 0),
            sites_due: None,
            measured_due: None,
            save_due: None,
        };
        (placing, PlacingThreads { planning, told, maps })
    }

    /// A board on which nothing will ever be, for a service without placement: nodes that follow another one hear of it.
    pub(crate) fn empty_board() -> Arc<Board> {
        let map = Saved::begin().map;
        Arc::new(Board::new(map, GlobalMap::new(1), Vec::new(), SharedKnown::new(1)))
    }

    /// The map that nodes route on.
    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Nodes that are drained.
    pub(crate) fn draining(&self) -> impl Iterator<Item = NodeName> {
        self.nodes.iter().filter(|slot| slot.is_draining).map(|slot| slot.name.clone())
    }

    /// A node joins or comes back. What it holds is unknown until it has told; nothing is asked of it until then.
    pub(crate) fn handle_join(&mut self, node: &NodeDescriptor) -> Option<usize> {
        let is_in_use = |position: usize| {
            self.wanted.values().any(|wanted| wanted.nodes.contains(position))
                || self.shards.asked().any(|(_, nodes)| nodes.contains(position))
                || self.board.entries().iter().any(|(_, nodes)| nodes.contains(position))
        };
        let Some(position) = self.nodes.join(node, is_in_use) else {
            tracing::warn!(node = %node.name, "there are too many nodes to place keys on this one");
            return None;
        };
        self.forget_holdings(position);
        self.board.set_nodes(self.nodes.names());
        self.save_soon(Timestamp::MIN);
        Some(position)
    }

    /// A node said that it will not be back soon.
    pub(crate) fn handle_leaving(&mut self, position: usize) {
        self.nodes.get_mut(position).into_iter().for_each(|slot| slot.has_left = true);
    }

    /// A node's stream has ended. If it said so before, its keys are placed anew at once, else after its grace.
    pub(crate) fn handle_leave(&mut self, now: Timestamp, position: usize) {
        let Some(slot) = self.nodes.get_mut(position) else { return };
        (slot.is_connected, slot.is_complete, slot.gone_since) = (false, false, now);
        let due = if slot.has_left { Some(now) } else { self.nodes.next_loss(now) };
        self.shards.handle_gone(position);
        self.hurry_sites(due);
    }

    /// A node is to be drained, or used again; says how many keys are still bound to it, or that nobody knows it.
    pub(crate) fn handle_drain(&mut self, now: Timestamp, node: &NodeName, undo: bool) -> Option<usize> {
        let position = self.nodes.position(node)?;
        let slot = self.nodes.get_mut(position)?;
        if slot.is_draining == undo {
            slot.is_draining = !undo;
            self.hurry_sites(Some(now));
            self.save_soon(now);
        }
        Some(self.bound_keys(position))
    }

    /// Keys that are meant to be held at a node, or may still be pinned there.
    fn bound_keys(&self, position: usize) -> usize {
        let wanted = self.wanted.iter().filter(|(_, wanted)| wanted.nodes.contains(position)).map(|(key, _)| *key);
        let pinned = self.shards.asked().filter(|(_, nodes)| nodes.contains(position)).map(|(key, _)| key);
        wanted.chain(pinned).collect::<Set<_>>().len()
    }

    /// A model version is in service.
    pub(crate) fn handle_model(&mut self, model: Arc<Model>) {
        self.untold += u64::from(!self.tell(Told::Model(model)));
    }

    /// When [`Self::handle_timeout`] has something to do. Ask again after any `handle_*` and [`Self::poll_order`].
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let is_waiting = self.allowance.bytes < 0.0 || self.links.is_waiting();
        let refill = is_waiting.then(|| self.allowance.at.after(REFILL));
        let dues =
            [self.commit_due, self.sites_due, self.measured_due, self.save_due, self.shards.poll_timeout(), refill];
        dues.into_iter().chain([self.hot.poll_timeout()]).flatten().min()
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        self.shards.handle_timeout(now);
        self.allowance.refill(now, self.settings.bytes_per_second);
        self.links.look_again();
        self.spread_hot_keys(now);
        if self.commit_due.is_some_and(|due| due <= now) {
            self.commit(now);
        }
        if self.measured_due.is_some_and(|due| due <= now) {
            self.settle_measured(now);
        }
        if self.sites_due.is_some_and(|due| due <= now) {
            self.tell_sites(now);
        }
        if self.save_due.is_some_and(|due| due <= now) {
            self.save(now);
        }
    }

    /// Writes the map down for the last time. Waits for a former version to be written.
    pub(crate) fn close(&self) {
        // Without its thread there is nobody to write it, which that thread has said.
        let _ = self.maps.send(Saved { is_final: true, ..self.saved() });
    }

    fn tell_sites(&mut self, now: Timestamp) {
        self.sites_due = self.nodes.next_loss(now);
        match self.nodes.sites(now) {
            Ok(sites) => {
                if !self.tell(Told::Sites(sites, self.nodes.region_names())) {
                    self.sites_due = Some(now.after(TELL_AGAIN));
                }
            }
            // No node has joined yet.
            Err(error) => tracing::debug!(%error, "there is nothing to plan for"),
        }
    }

    /// A node says what it measured.
    pub(crate) fn handle_round_trips(&mut self, now: Timestamp, position: usize, measured: &[RoundTrip]) {
        let pause = if self.nodes.take_measured(now, position, measured) { MEASURED_FIRST } else { MEASURED_AGAIN };
        self.measured_due = Some(self.measured_due.map_or_else(|| now.after(pause), |due| due.min(now.after(pause))));
    }

    /// Plans with other round trips from now on if what is measured says others.
    fn settle_measured(&mut self, now: Timestamp) {
        if self.nodes.settle_measured(now) {
            self.hurry_sites(Some(now));
        }
        // What becomes stale is noticed as well.
        self.measured_due = (self.nodes.measured.len() > 0).then(|| now.after(MEASURED_AGAIN));
    }

    fn hurry_sites(&mut self, due: Option<Timestamp>) {
        self.sites_due = [self.sites_due, due].into_iter().flatten().min();
    }

    /// Tells the planning thread something, after which numbers now stand for other keys: it must not take one's demand
    /// for another's. Says whether there was room.
    fn tell(&mut self, told: Told) -> bool {
        let forgotten = self.known.lock().take_forgotten();
        for key in forgotten {
            self.reused.push_back((self.reuses, key));
            self.reuses += 1;
        }
        let first = self.reused.front().map_or(self.reuses, |(number, _)| *number);
        while let Some((number, key)) = self.reused.get((self.reuses_told.max(first) - first) as usize).copied() {
            if self.tell.try_send(Told::Reused(key)).is_err() {
                return false;
            }
            self.reuses_told = number + 1;
        }
        self.tell.try_send(told).is_ok()
    }

    /// Nothing is known any more of what a node holds.
    fn forget_holdings(&mut self, position: usize) {
        let lost = self.known.lock().clear_node(position);
        self.changed.extend(lost);
        self.shards.handle_gone(position);
    }

    fn forgettable(&self, now: Timestamp) -> Forgettable {
        Forgettable { silent_since: now.before(SILENT), reach: self.board.reach() }
    }
}

impl Allowance {
    fn refill(&mut self, now: Timestamp, bytes_per_second: f64) {
        self.bytes = (self.bytes + now.since(self.at).as_secs_f64() * bytes_per_second).min(bytes_per_second);
        self.at = now;
    }
}

/// What a former life had placed, under the numbers of this one: what was wanted, and who was told to be asked.
fn take_up(
    saved: &Saved,
    known: &SharedKnown,
    shards: &mut ShardManager,
    now: Timestamp,
) -> (Map<KeyId, Wanted>, Vec<(KeyId, NodeSet)>) {
    let mut known = known.lock();
    let forgettable = Forgettable { silent_since: Timestamp::MIN, reach: saved.epoch };
    let (mut wanted, mut holders, mut asked) = (Map::default(), Vec::new(), Vec::new());
    for line in &saved.keys {
        let Some(key) = known.intern(&line.key, forgettable, |_| false) else { continue };
        known.note_asked(now, key, line.bytes);
        known.note_mapped(key, saved.epoch);
        if !line.wanted.is_empty() {
            wanted.insert(key, Wanted::restored(line.wanted, line.bytes, line.saved_seconds));
        }
        holders.push((key, line.holders));
        asked.push((key, line.asked.iter().chain(line.wanted.iter()).collect()));
    }
    shards.handle_asked(asked);
    shards.handle_strategy(
        Epoch(saved.plans),
        wanted.iter().map(|(key, wanted): (&KeyId, &Wanted)| (*key, wanted.nodes)),
    );
    (wanted, holders)
}

/// A key that nobody has asked for in so long, and that nobody holds, makes room for another.
const SILENT: Duration = Duration::from_secs(4 * 86_400);
/// Commands of placement are numbered from here on, those of the engine below.
const FIRST_COMMAND: CommandId = CommandId(1 << 39);
/// Commands of one term of an office.
const TERM_BITS: u32 = 28;
/// Versions of one term.
const EPOCH_BITS: u32 = 32;
/// Requests and changes that wait for the planning thread while it plans; beyond it, requests are left out and counted.
const TOLD_MAX: usize = 16_384;
/// Others that measured something are waited for so long when a node is new, and so long later.
const MEASURED_FIRST: Duration = Duration::from_secs(3);
const MEASURED_AGAIN: Duration = Duration::from_secs(60);
const TELL_AGAIN: Duration = Duration::from_millis(100);
/// Between two looks at an allowance that is used up.
const REFILL: Duration = Duration::from_millis(20);
