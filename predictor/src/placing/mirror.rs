//! The map as another predictor's placement commits it: what every member of a fleet tells its nodes.

use std::sync::Arc;

use nearcast_proto::message::{Epoch, NodeName, PlacementPosition, PlacementUpdate};

use super::{
    board::Board,
    file::{Saved, SavedKey},
    known::SharedKnown,
};
use crate::placement::{GlobalMap, NodeSet};

/// Follows updates in their parts and order; what does not lead on from what is there is left out until the whole comes.
#[derive(Debug)]
pub(crate) struct Mirror {
    board: Arc<Board>,
    /// Parts of an update, of which the last has not come yet.
    parts: Option<Parts>,
}

#[derive(Debug)]
struct Parts {
    epoch: Epoch,
    next: u32,
    keys: Vec<(Arc<str>, Vec<NodeName>)>,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The map has come forward, or is as far already.
    Yes,
    /// More parts are to come.
    Partly,
    /// It does not lead on from here: the whole is needed.
    Gap,
}

impl Mirror {
    /// Nothing yet, of the map with this name.
    pub(crate) fn new(map: Arc<str>, (keys_max, changes_max): (usize, usize)) -> Self {
        let board = Board::new(map, GlobalMap::new(changes_max), Vec::new(), SharedKnown::new(keys_max));
        Self { board: Arc::new(board), parts: None }
    }

    /// What nodes are told from.
    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Where it is.
    pub(crate) fn position(&self) -> PlacementPosition {
        PlacementPosition { map: self.board.id(), epoch: self.board.epoch() }
    }

    /// Takes an update over.
    pub(crate) fn follow(&mut self, update: PlacementUpdate) -> Followed {
        if update.map != self.board.id() {
            return Followed::Gap;
        }
        if update.epoch <= self.board.epoch() {
            return Followed::Yes;
        }
        if !update.full && update.from != self.board.epoch() {
            self.parts = None;
            return Followed::Gap;
        }
        let parts = match (update.part, self.parts.take()) {
            (0, _) => Some(Parts { epoch: update.epoch, next: 0, keys: Vec::new() }),
            (part, parts) => parts.filter(|parts| parts.epoch == update.epoch && parts.next == part),
        };
        let Some(mut parts) = parts else { return Followed::Gap };
        parts.next += 1;
        parts.keys.extend(update.placed);
        parts.keys.extend(update.removed.into_iter().map(|key| (key, Vec::new())));
        if !update.last {
            self.parts = Some(parts);
            return Followed::Partly;
        }
        self.board.follow((update.epoch, update.full), &parts.keys);
        Followed::Yes
    }

    /// What placement begins from that takes this map over: what is on it is meant to be there.
    pub(super) fn saved(&self) -> Saved {
        let mut nodes: Vec<NodeName> = Vec::new();
        let mut keys = Vec::new();
        for (key, holders) in self.board.named() {
            let mut set = NodeSet::EMPTY;
            for name in holders {
                let position = nodes.iter().position(|known| *known == name).unwrap_or_else(|| {
                    nodes.push(name);
                    nodes.len() - 1
                });
                set = set.with(position);
            }
            // How large it is its holders say with what they hold.
            keys.push(SavedKey { key, bytes: 0, wanted: set, holders: set, asked: set, saved_seconds: 0.0 });
        }
        let PlacementPosition { map, epoch } = self.position();
        let plans = u64::from(!keys.is_empty());
        Saved { map, epoch, is_final: true, plans, nodes, draining: Vec::new(), keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(from: u64, epoch: u64, placed: &[(&str, &[&str])], removed: &[&str]) -> PlacementUpdate {
        PlacementUpdate {
            map: Arc::from("m"),
            epoch: Epoch(epoch),
            from: Epoch(from),
            full: from == 0,
            part: 0,
            last: true,
            placed: placed
                .iter()
                .map(|(key, nodes)| (Arc::from(*key), nodes.iter().map(|node| NodeName::from(*node)).collect()))
                .collect(),
            removed: removed.iter().map(|key| Arc::from(*key)).collect(),
        }
    }

    fn entries(mirror: &Mirror) -> Vec<(String, Vec<String>)> {
        let text = |names: Vec<NodeName>| names.iter().map(|name| name.0.to_string()).collect();
        let mut entries: Vec<_> =
            mirror.board.named().into_iter().map(|(key, names)| (key.to_string(), text(names))).collect();
        entries.sort();
        entries
    }

    fn expected(all: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        all.iter().map(|(key, names)| ((*key).to_owned(), text(names))).collect()
    }

    #[tokio::test]
    async fn what_is_committed_elsewhere_reaches_ones_own_nodes() {
        let mut mirror = Mirror::new(Arc::from("m"), (100, 100));
        assert_eq!(mirror.follow(update(3, 4, &[], &[])), Followed::Gap, "nothing is known of what it leads on from");
        assert_eq!(mirror.follow(update(0, 7, &[("/a", &["n1"]), ("/b", &["n1", "n2"])], &[])), Followed::Yes);
        let (mut feed, _gap) = mirror.board().join(Some(&mirror.position()));
        assert_eq!(mirror.follow(update(7, 9, &[("/c", &["n3"])], &["/a"])), Followed::Yes);
        assert_eq!(entries(&mirror), expected(&[("/b", &["n1", "n2"]), ("/c", &["n3"])]));
        let told = feed.next().await.unwrap();
        assert_eq!((told.from, told.epoch, told.full), (Epoch(7), Epoch(9), false));
        assert_eq!((told.removed.len(), told.placed.len()), (1, 1));
        // What came twice, or late, changes nothing.
        assert_eq!(mirror.follow(update(0, 7, &[("/a", &["n1"])], &[])), Followed::Yes);
        assert_eq!(entries(&mirror).len(), 2);
        assert_eq!(mirror.follow(update(8, 11, &[], &["/b"])), Followed::Gap);
        assert_eq!(mirror.follow(update(0, 12, &[("/d", &["n2"])], &[])), Followed::Yes);
        assert_eq!(entries(&mirror), expected(&[("/d", &["n2"])]), "the whole replaces what was there");
    }

    #[test]
    fn parts_count_when_the_last_has_come_and_in_order_only() {
        let mut mirror = Mirror::new(Arc::from("m"), (100, 100));
        let part = |number, last| PlacementUpdate {
            part: number,
            last,
            ..update(0, 5, &[(["/a", "/b", "/c"][number as usize], &["n1"])], &[])
        };
        assert_eq!(mirror.follow(part(0, false)), Followed::Partly);
        assert_eq!(mirror.follow(part(2, true)), Followed::Gap);
        assert_eq!(
            (mirror.follow(part(0, false)), mirror.follow(part(1, false))),
            (Followed::Partly, Followed::Partly)
        );
        assert!(entries(&mirror).is_empty());
        assert_eq!(mirror.follow(part(2, true)), Followed::Yes);
        assert_eq!(entries(&mirror).len(), 3);
    }

    #[test]
    fn who_takes_over_means_what_is_on_the_map() {
        let mut mirror = Mirror::new(Arc::from("m"), (100, 100));
        mirror.follow(update(0, 7, &[("/a", &["n2"]), ("/b", &["n1", "n2"])], &[]));
        let saved = mirror.saved();
        assert_eq!((&*saved.map, saved.epoch, saved.plans, saved.nodes.len()), ("m", Epoch(7), 1, 2));
        assert!(saved.keys.iter().all(|key| key.wanted == key.holders && key.asked == key.holders));
    }
}
