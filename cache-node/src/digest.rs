//! The checksum of a payload: what decides whether stored or received bytes are the right ones.

use std::fmt;

/// The first 128 bits of a payload's BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; Self::BYTES]);

impl Digest {
    /// Bytes of a digest on disk and on the wire.
    pub(crate) const BYTES: usize = 16;

    /// The digest of `payload`.
    pub(crate) fn of(payload: &[u8]) -> Self {
        Self(truncated(&blake3::hash(payload)).to_le_bytes())
    }

    /// The digest that was written as these bytes.
    pub(crate) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The digest that was written as these bytes, if they are [`Self::BYTES`] many.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_bytes)
    }

    /// The digest as bytes.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_le_bytes(self.0))
    }
}

/// The first 128 bits of a hash.
pub(crate) fn truncated(hash: &blake3::Hash) -> u128 {
    let (first, _) = hash.as_bytes().split_at(Digest::BYTES);
    first.iter().fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}
