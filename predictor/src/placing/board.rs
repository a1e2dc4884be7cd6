//! The map on which nodes route, and what each node's stream has yet to hear of it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nearcast_datasets::{KeyId, Timestamp};
use nearcast_proto::{
    convert::BATCH_ENTRIES_MAX,
    message::{Epoch, NodeName, PlacementPosition, PlacementUpdate},
};
use tokio::sync::{mpsc, watch};

use super::known::{Forgettable, Known, SharedKnown};
use crate::placement::{Delta, GlobalMap, NODES_MAX, NodeSet};

/// The map, shared by the event task, which changes it, and the streams, which tell of it.
#[derive(Debug)]
pub(crate) struct Board {
    posted: Mutex<Posted>,
    known: SharedKnown,
    id: Arc<str>,
    epoch: watch::Sender<Epoch>,
}

#[derive(Debug)]
struct Posted {
    map: GlobalMap,
    /// Nodes by position.
    nodes: Vec<NodeName>,
}

impl Board {
    pub(crate) fn new(id: Arc<str>, map: GlobalMap, nodes: Vec<NodeName>, known: SharedKnown) -> Self {
        let (epoch, _) = watch::channel(map.epoch());
        Self { posted: Mutex::new(Posted { map, nodes }), known, id, epoch }
    }

    /// Which map it is.
    pub(crate) fn id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }

    /// The present version.
    pub(crate) fn epoch(&self) -> Epoch {
        *self.epoch.borrow()
    }

    /// Changes after this epoch are still known one by one.
    pub(crate) fn reach(&self) -> Epoch {
        self.posted().map.reach()
    }

    /// Keys with holders.
    pub(crate) fn len(&self) -> usize {
        self.posted().map.len()
    }

    /// The nodes to ask for a key.
    pub(crate) fn holders(&self, key: KeyId) -> NodeSet {
        self.posted().map.holders(key)
    }

    /// Whether somebody is asked for a key.
    pub(crate) fn is_placed(&self, key: &str) -> bool {
        let found = self.known.lock().find(key);
        found.is_some_and(|key| !self.holders(key).is_empty())
    }

    /// How many keys a node is asked for.
    pub(crate) fn keys_of(&self, node: &NodeName) -> usize {
        let posted = self.posted();
        let position = posted.nodes.iter().position(|known| known == node);
        position.map_or(0, |position| posted.map.iter().filter(|(_, holders)| holders.contains(position)).count())
    }

    /// Every key with its holders.
    pub(crate) fn entries(&self) -> Vec<(KeyId, NodeSet)> {
        self.posted().map.iter().collect()
    }

    /// Names the nodes by position.
    pub(crate) fn set_nodes(&self, nodes: Vec<NodeName>) {
        self.posted().nodes = nodes;
    }

    /// Goes over to the given holders, and tells every stream if they are others.
    pub(crate) fn commit(&self, keys: &[(KeyId, NodeSet)]) -> Epoch {
        let epoch = self.posted().map.commit(keys.iter().copied());
        if epoch != self.epoch() {
            let mut known = self.known.lock();
            keys.iter().for_each(|(key, _)| known.note_mapped(*key, epoch));
            drop(known);
            self.epoch.send_replace(epoch);
        }
        epoch
    }

    /// Takes over what another predictor's board committed at an epoch: all of it, or changes. Keys for which there is no
    /// room are left to hashing.
    pub(super) fn follow(&self, (epoch, is_whole): (Epoch, bool), keys: &[(Arc<str>, Vec<NodeName>)]) {
        let mut posted = self.posted();
        let named = |nodes: &mut Vec<NodeName>, name: &NodeName| match nodes.iter().position(|known| known == name) {
            Some(position) => Some(position),
            None if nodes.len() < NODES_MAX => {
                nodes.push(name.clone());
                Some(nodes.len() - 1)
            }
            None => None,
        };
        let mut holders: Vec<NodeSet> = Vec::with_capacity(keys.len());
        for (_, names) in keys {
            holders.push(names.iter().filter_map(|name| named(&mut posted.nodes, name)).collect());
        }
        let forgettable = Forgettable { silent_since: Timestamp::MAX, reach: posted.map.reach() };
        // What is known is locked before what is posted, or they are locked one after the other.
        drop(posted);
        let mut known = self.known.lock();
        let mut changes: Vec<(KeyId, NodeSet)> = Vec::with_capacity(keys.len());
        for ((name, _), nodes) in keys.iter().zip(holders) {
            let Some(key) = known.intern(name, forgettable, |key| !self.holders(key).is_empty()) else { continue };
            known.note_mapped(key, epoch);
            changes.push((key, nodes));
        }
        drop(known);
        let mut posted = self.posted();
        if is_whole {
            posted.map = GlobalMap::restore(epoch, changes, posted.map.changes_max());
        } else {
            posted.map.follow(epoch, changes);
        }
        drop(posted);
        self.epoch.send_replace(epoch);
    }

    /// Every key by name, with the names of its holders.
    pub(super) fn named(&self) -> Vec<(Arc<str>, Vec<NodeName>)> {
        let (entries, nodes) = {
            let posted = self.posted();
            (posted.map.iter().collect::<Vec<_>>(), posted.nodes.clone())
        };
        let known = self.known.lock();
        let of = |set: NodeSet| set.iter().filter_map(|node| nodes.get(node).cloned()).collect();
        entries.into_iter().filter_map(|(key, set)| Some((Arc::clone(known.name(key)?), of(set)))).collect()
    }

    /// Begins a node's feed, from the version that it says it holds. One that holds nothing is told nothing while there
    /// is nothing. What the node cannot take over is said through the sender, with where its copy is.
    pub(crate) fn join(self: &Arc<Self>, position: Option<&PlacementPosition>) -> (PlacementFeed, GapSender) {
        let (sender, gaps) = mpsc::channel(GAPS_MAX);
        let mut feed = PlacementFeed {
            board: Arc::clone(self),
            at: None,
            epoch: self.epoch.subscribe(),
            gaps,
            parts: VecDeque::new(),
        };
        feed.begin(position);
        (feed, sender)
    }

    fn posted(&self) -> MutexGuard<'_, Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a node's copy of the map is that could not take over what it was told.
pub(crate) type GapSender = mpsc::Sender<Option<PlacementPosition>>;

/// What one node has yet to hear.
#[derive(Debug)]
pub(crate) struct PlacementFeed {
    board: Arc<Board>,
    /// The version that it has been told up to; `None` while it needs the whole.
    at: Option<Epoch>,
    epoch: watch::Receiver<Epoch>,
    gaps: mpsc::Receiver<Option<PlacementPosition>>,
    /// Parts of an update that are still to be told.
    parts: VecDeque<PlacementUpdate>,
}

impl PlacementFeed {
    /// Waits until there is something to hear; `None` when the board is gone. Nothing is lost when it is cancelled.
    pub(crate) async fn next(&mut self) -> Option<PlacementUpdate> {
        loop {
            if let Ok(position) = self.gaps.try_recv() {
                self.begin(position.as_ref());
            }
            if let Some(part) = self.parts.pop_front() {
                return Some(part);
            }
            tokio::select! {
                Some(position) = self.gaps.recv() => self.begin(position.as_ref()),
                changed = self.epoch.changed() => {
                    changed.ok()?;
                    self.take();
                }
            }
        }
    }

    /// Goes on from where the node says that it is.
    fn begin(&mut self, position: Option<&PlacementPosition>) {
        let present = *self.epoch.borrow_and_update();
        let same = position.filter(|position| position.map == self.board.id && position.epoch <= present);
        let has_nothing = position.is_none() && present == Epoch(0);
        self.at = same.map(|position| position.epoch).or_else(|| has_nothing.then_some(present));
        self.parts.clear();
        if self.at != Some(present) {
            self.epoch.mark_changed();
        }
    }

    fn take(&mut self) {
        self.epoch.mark_unchanged();
        let posted = self.board.posted();
        let delta = match self.at {
            Some(at) => posted.map.delta_since(at),
            None => Some(posted.map.whole()),
        };
        let Some(delta) = delta else { return };
        self.at = Some(posted.map.epoch());
        let nodes = posted.nodes.clone();
        // Never both locks at a time: others take them in another order.
        drop(posted);
        self.parts = parts(&self.board.id, &delta, &nodes, &self.board.known.lock()).into();
    }
}

/// Gaps of a node's copy that may wait to be mended; more are a node that will not have it.
const GAPS_MAX: usize = 16;

/// An update in messages that are not too long.
fn parts(map: &Arc<str>, delta: &Delta, nodes: &[NodeName], known: &Known) -> Vec<PlacementUpdate> {
    let (full, from, to, keys) = match delta {
        Delta::Changes { from, to, keys } => (false, *from, *to, keys),
        Delta::Whole { epoch, keys } => (true, Epoch(0), *epoch, keys),
    };
    let chunks = chunks(keys, nodes, known);
    let count = chunks.len();
    let mut chunks = chunks.into_iter();
    let part = |part: usize| {
        let (mut placed, mut removed) = (Vec::new(), Vec::new());
        for (key, holders) in chunks.next().unwrap_or_default() {
            let Some(name) = known.name(*key) else { continue };
            if holders.is_empty() {
                removed.push(Arc::clone(name));
            } else {
                placed.push((Arc::clone(name), holders.iter().filter_map(|node| nodes.get(node).cloned()).collect()));
            }
        }
        PlacementUpdate {
            map: Arc::clone(map),
            from,
            epoch: to,
            full,
            part: u32::try_from(part).unwrap_or(u32::MAX),
            last: part + 1 == count,
            placed,
            removed,
        }
    };
    (0..count).map(part).collect()
}

/// As many keys at a time as a message may have, in number and in bytes; one chunk at least.
fn chunks<'a>(keys: &'a [(KeyId, NodeSet)], nodes: &[NodeName], known: &Known) -> Vec<&'a [(KeyId, NodeSet)]> {
    let name_bytes = nodes.iter().map(|node| node.0.len()).max().unwrap_or(0) + FIELD_BYTES;
    let bytes_of = |(key, holders): &(KeyId, NodeSet)| {
        known.name(*key).map_or(0, |name| name.len()) + FIELD_BYTES + holders.len() * name_bytes
    };
    let (mut chunks, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (place, entry) in keys.iter().enumerate() {
        let more = bytes_of(entry);
        if place > begin && (place - begin == BATCH_ENTRIES_MAX || bytes + more > PART_BYTES_MAX) {
            chunks.push(&keys[begin..place]);
            (begin, bytes) = (place, 0);
        }
        bytes += more;
    }
    chunks.push(&keys[begin..]);
    chunks
}

/// What a message says of keys, at most, unless of a single one.
const PART_BYTES_MAX: usize = 512 << 10;
/// What a text takes beside itself, and the entry that it is in, generously.
const FIELD_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use nearcast_datasets::Timestamp;

    use super::*;
    use crate::placing::known::Forgettable;

    fn board(keys: u32) -> (Arc<Board>, Vec<(KeyId, NodeSet)>) {
        let known = SharedKnown::new(100_000);
        let forgettable = Forgettable { silent_since: Timestamp::MIN, reach: Epoch(0) };
        let intern = |number| known.lock().intern(&Arc::from(format!("/{number}")), forgettable, |_| false).unwrap();
        let placed = (0..keys).map(|number| (intern(number), NodeSet::EMPTY.with(1))).collect();
        let nodes = vec![NodeName::from("a"), NodeName::from("b")];
        (Arc::new(Board::new(Arc::from("m"), GlobalMap::new(10_000), nodes, known)), placed)
    }

    fn position(map: &str, epoch: u64) -> PlacementPosition {
        PlacementPosition { map: Arc::from(map), epoch: Epoch(epoch) }
    }

    #[tokio::test]
    async fn a_node_is_told_what_it_misses_in_parts_and_nothing_else() {
        let (board, placed) = board(3_000);
        board.commit(&placed[..1]);
        let (mut feed, _gap) = board.join(Some(&position("m", 1)));
        board.commit(&placed);
        let mut keys = 0;
        for part in 0..3 {
            let update = feed.next().await.unwrap();
            assert_eq!((update.from, update.epoch, update.full), (Epoch(1), Epoch(2), false));
            assert_eq!((update.part, update.last), (part, part == 2));
            keys += update.placed.len();
            assert!(update.placed.iter().all(|(_, nodes)| nodes == &[NodeName::from("b")]));
        }
        assert_eq!(keys, 2_999);
        board.commit(&[(placed[0].0, NodeSet::EMPTY)]);
        assert_eq!(feed.next().await.unwrap().removed, [Arc::from("/0")]);
    }

    #[tokio::test]
    async fn long_keys_come_in_more_parts() {
        let known = SharedKnown::new(1_000);
        let forgettable = Forgettable { silent_since: Timestamp::MIN, reach: Epoch(0) };
        let long = |number: usize| Arc::from(format!("/{number}/{}", "x".repeat(4_000)));
        let intern = |number| known.lock().intern(&long(number), forgettable, |_| false).unwrap();
        let placed: Vec<_> = (0..300).map(|number| (intern(number), NodeSet::EMPTY.with(0))).collect();
        let board = Arc::new(Board::new(Arc::from("m"), GlobalMap::new(1_000), vec![NodeName::from("a")], known));
        let (mut feed, _gap) = board.join(None);
        board.commit(&placed);
        let (mut keys, mut parts) = (0, 0);
        loop {
            let update = feed.next().await.unwrap();
            assert_eq!(update.part, parts);
            let bytes: usize = update.placed.iter().map(|(key, _)| key.len()).sum();
            assert!(bytes <= PART_BYTES_MAX, "{bytes}");
            (keys, parts) = (keys + update.placed.len(), parts + 1);
            if update.last {
                break;
            }
        }
        assert_eq!((keys, parts), (300, 3));
    }

    #[tokio::test]
    async fn a_node_of_another_map_or_from_the_future_or_without_one_is_told_all() {
        let (board, placed) = board(2);
        board.commit(&placed);
        for position in [None, Some(position("other", 1)), Some(position("m", 9))] {
            let update = board.join(position.as_ref()).0.next().await.unwrap();
            assert_eq!((update.full, update.last, update.placed.len()), (true, true, 2), "{position:?}");
        }
        let (mut feed, gap) = board.join(Some(&position("m", 1)));
        gap.send(None).await.unwrap();
        assert!(feed.next().await.unwrap().full, "it has to begin again");
    }

    #[tokio::test]
    async fn a_board_with_nothing_on_it_says_something_only_to_who_holds_something() {
        let (board, _) = board(0);
        assert!(!board.join(None).0.epoch.has_changed().unwrap());
        assert!(board.join(Some(&position("other", 4))).0.next().await.unwrap().full);
    }
}
