//! Which keys a miniature of a node follows.

use std::hash::BuildHasher;

use nearcast_datasets::Map;

/// The keys whose hash falls into a share of the space: spatial sampling as in SHARDS (Waldspurger et al., FAST'15). A
/// cache of the same share of the bytes that sees those keys alone is a miniature of the whole: it turns over as fast and
/// misses as often (Waldspurger et al., "Cache modeling and optimization using miniature simulations", ATC'17).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeySample {
    share: f64,
    bound: u64,
}

impl KeySample {
    /// A share of the keys, brought into 0..=1.
    pub fn new(share: f64) -> Self {
        let share = share.clamp(0.0, 1.0);
        Self { share, bound: (share * HASHES) as u64 }
    }

    /// Whether the key with this [`key_hash`] is followed.
    pub fn holds(self, hash: u32) -> bool {
        u64::from(hash) < self.bound
    }

    /// The share of the keys that is followed.
    pub fn share(self) -> f64 {
        self.share
    }
}

/// A number for a key that is the same in every engine and process.
pub fn key_hash(name: &str) -> u32 {
    (Map::<(), ()>::default().hasher().hash_one(name) >> u32::BITS) as u32
}

const HASHES: f64 = 4_294_967_296.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_keys_is_followed_and_a_larger_share_follows_those_too() {
        let (tenth, half) = (KeySample::new(0.1), KeySample::new(0.5));
        let hashes: Vec<u32> = (0..20_000).map(|number| key_hash(&format!("/pages/{number}.html"))).collect();
        let count = |sample: KeySample| hashes.iter().filter(|hash| sample.holds(**hash)).count();
        assert!((1_850..2_150).contains(&count(tenth)), "{}", count(tenth));
        assert!(hashes.iter().all(|hash| !tenth.holds(*hash) || half.holds(*hash)));
        assert_eq!((count(KeySample::new(1.0)), count(KeySample::new(-1.0))), (20_000, 0));
    }
}
