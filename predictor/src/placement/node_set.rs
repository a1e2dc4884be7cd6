//! A set of nodes in one word.

/// Most nodes of one plan.
pub const NODES_MAX: usize = 64;

/// A set of nodes, by their position in [`Sites`](super::Sites).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeSet(u64);

impl NodeSet {
    /// No node.
    pub const EMPTY: Self = Self(0);

    /// Whether `node` is in it.
    pub const fn contains(self, node: usize) -> bool {
        node < NODES_MAX && self.0 >> node & 1 == 1
    }

    /// The set and `node`; nodes from [`NODES_MAX`] on are left out.
    #[must_use]
    pub const fn with(self, node: usize) -> Self {
        if node < NODES_MAX { Self(self.0 | 1 << node) } else { self }
    }

    /// The set without `node`.
    #[must_use]
    pub const fn without(self, node: usize) -> Self {
        if node < NODES_MAX { Self(self.0 & !(1 << node)) } else { self }
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// How many nodes are in it.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether no node is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The nodes, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let node = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(node)
        })
    }
}

impl FromIterator<usize> for NodeSet {
    fn from_iter<I: IntoIterator<Item = usize>>(nodes: I) -> Self {
        nodes.into_iter().fold(Self::EMPTY, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_they_were_given() {
        let set: NodeSet = [3, 63, 64, 3].into_iter().collect();
        assert_eq!((set.iter().collect::<Vec<_>>(), set.len()), (vec![3, 63], 2));
        assert!(set.contains(63) && !set.contains(64) && !set.without(63).contains(63));
        assert_eq!(set.minus(NodeSet::EMPTY.with(3)), NodeSet::EMPTY.with(63));
    }
}
