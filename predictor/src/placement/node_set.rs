//! A set of nodes in a few words.

/// Most nodes of one plan.
pub const NODES_MAX: usize = 64 * WORDS;

const WORDS: usize = 4;

/// A set of nodes, by their position in [`Sites`](super::Sites).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeSet([u64; WORDS]);

impl NodeSet {
    /// No node.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Whether `node` is in it.
    #[inline]
    pub const fn contains(self, node: usize) -> bool {
        node < NODES_MAX && self.0[node / 64] >> (node % 64) & 1 == 1
    }

    /// The set and `node`; nodes from [`NODES_MAX`] on are left out.
    #[must_use]
    #[inline]
    pub const fn with(mut self, node: usize) -> Self {
        if node < NODES_MAX {
            self.0[node / 64] |= 1 << (node % 64);
        }
        self
    }

    /// The set and the nodes from `first` on, up to the next multiple of 64, whose bits are set.
    #[must_use]
    #[inline]
    pub(super) const fn with_bits(mut self, first: usize, bits: u64) -> Self {
        self.0[first / 64] |= bits << (first % 64);
        self
    }

    /// The set without `node`.
    #[must_use]
    #[inline]
    pub const fn without(mut self, node: usize) -> Self {
        if node < NODES_MAX {
            self.0[node / 64] &= !(1 << (node % 64));
        }
        self
    }

    /// What is in this set and not in `other`.
    #[must_use]
    #[inline]
    pub fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// What is in either set.
    #[must_use]
    #[inline]
    pub fn union(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// How many nodes are in it.
    #[inline]
    pub fn len(self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no node is in it.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == [0; WORDS]
    }

    /// The nodes, ascending.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let (mut rest, mut word) = (self.0, 0);
        std::iter::from_fn(move || {
            while rest[word] == 0 {
                word += 1;
                if word == WORDS {
                    word = 0;
                    return None;
                }
            }
            let node = 64 * word + rest[word].trailing_zeros() as usize;
            rest[word] &= rest[word] - 1;
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
        let set: NodeSet = [3, 64, 63, 255, 256, 3].into_iter().collect();
        assert_eq!((set.iter().collect::<Vec<_>>(), set.len()), (vec![3, 63, 64, 255], 4));
        assert!(set.contains(255) && !set.contains(256) && !set.without(63).contains(63));
        let pair: NodeSet = [3, 255].into_iter().collect();
        assert_eq!((set.minus(pair).len(), set.minus(pair).union(pair)), (2, set));
        let mut nodes = NodeSet::EMPTY.with(7).iter();
        assert_eq!((nodes.next(), nodes.next(), nodes.next()), (Some(7), None, None));
    }
}
