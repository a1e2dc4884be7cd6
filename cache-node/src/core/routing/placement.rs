//! Which version of the placement a node routes by, and which updates lead on from it.

use nearcast_proto::message::{PlacementPosition, PlacementUpdate};

/// The version of a node's copy of the placement. Updates bring it forward whatever happened to them on the way, since
/// each says between which versions it leads; entries are final, so that an update that ends half-way does no harm.
#[derive(Clone, Debug, Default)]
pub struct PlacementCopy {
    position: Option<PlacementPosition>,
    /// The update of which some parts have come, and how many.
    under_way: Option<(PlacementPosition, u32)>,
}

/// What is to be done with an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Take its entries over.
    Amend,
    /// Forget all entries first.
    Replace,
    /// Nothing: the copy is there already, or further.
    Known,
    /// Nothing: it leads on from where the copy is not. Ask for what does.
    Gap,
}

impl PlacementCopy {
    /// The version that the copy is of; `None` while it is of none, or some parts of a whole one are still to come.
    pub fn position(&self) -> Option<&PlacementPosition> {
        self.position.as_ref()
    }

    /// An update, or a part of one, has come. With its last part, the copy is at the update's version.
    pub fn admit(&mut self, update: &PlacementUpdate) -> Fit {
        let to = PlacementPosition { map: update.map.clone(), epoch: update.epoch };
        let parts = self.under_way.take().filter(|(goal, _)| *goal == to).map_or(0, |(_, parts)| parts);
        let fit = match &self.position {
            // A whole one is only sent to who needs it; not even an older one is refused.
            _ if update.full && update.part == 0 => Fit::Replace,
            None if update.full && update.part == parts => Fit::Amend,
            Some(at) if !update.full && at.map == to.map && to.epoch <= at.epoch => return Fit::Known,
            Some(at) if !update.full && leads_on(at, update, parts) => Fit::Amend,
            Some(_) | None => return Fit::Gap,
        };
        if fit == Fit::Replace {
            self.position = None;
        }
        if update.last {
            self.position = Some(to);
        } else {
            self.under_way = Some((to, update.part + 1));
        }
        fit
    }
}

fn leads_on(at: &PlacementPosition, update: &PlacementUpdate, parts: u32) -> bool {
    at.map == update.map && update.from <= at.epoch && update.part == parts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nearcast_proto::message::Epoch;

    use super::*;

    fn update(map: &str, from: u64, epoch: u64, part: u32, last: bool) -> PlacementUpdate {
        PlacementUpdate {
            map: Arc::from(map),
            from: Epoch(from),
            epoch: Epoch(epoch),
            full: false,
            part,
            last,
            placed: Vec::new(),
            removed: Vec::new(),
        }
    }

    fn whole(map: &str, epoch: u64, part: u32, last: bool) -> PlacementUpdate {
        PlacementUpdate { full: true, ..update(map, 0, epoch, part, last) }
    }

    fn check(updates: &[(PlacementUpdate, Fit)], epoch: Option<u64>) {
        let mut copy = PlacementCopy::default();
        for (step, (update, fit)) in updates.iter().enumerate() {
            assert_eq!(copy.admit(update), *fit, "step {step}");
        }
        assert_eq!(copy.position().map(|position| position.epoch.0), epoch);
    }

    #[test]
    fn updates_in_order_bring_a_copy_forward_and_repeated_ones_change_nothing() {
        check(&[(update("m", 0, 3, 0, true), Fit::Gap)], None);
        let start = (whole("m", 3, 0, true), Fit::Replace);
        let next = update("m", 3, 5, 0, true);
        check(&[start.clone(), (next.clone(), Fit::Amend), (next, Fit::Known)], Some(5));
        check(&[start.clone(), (update("m", 1, 4, 0, true), Fit::Amend)], Some(4));
        check(&[start.clone(), (update("m", 4, 6, 0, true), Fit::Gap)], Some(3));
        check(&[start, (update("other", 3, 4, 0, true), Fit::Gap)], Some(3));
    }

    #[test]
    fn a_copy_is_at_a_version_only_with_its_last_part() {
        let begun = (whole("m", 3, 0, false), Fit::Replace);
        check(std::slice::from_ref(&begun), None);
        check(&[begun.clone(), (whole("m", 3, 1, true), Fit::Amend)], Some(3));
        check(&[begun.clone(), (whole("m", 3, 2, true), Fit::Gap)], None);
        check(&[begun, (whole("m", 4, 1, true), Fit::Gap)], None);
        let start = (whole("m", 3, 0, true), Fit::Replace);
        check(&[start.clone(), (update("m", 3, 5, 0, false), Fit::Amend)], Some(3));
        check(
            &[start.clone(), (update("m", 3, 5, 0, false), Fit::Amend), (update("m", 3, 5, 1, true), Fit::Amend)],
            Some(5),
        );
        check(&[start, (update("m", 3, 5, 1, true), Fit::Gap)], Some(3));
    }

    #[test]
    fn a_whole_of_another_map_replaces_even_a_later_version() {
        check(&[(whole("m", 9, 0, true), Fit::Replace), (whole("other", 2, 0, true), Fit::Replace)], Some(2));
    }
}
