//! Weighted rendezvous hashing: every node finds the same home for a key, homes are spread by capacity, and a member
//! that comes or goes moves only its own keys.

/// The hash of a key that all nodes of a cluster agree on: FNV-1a, finished by SplitMix64's mixer.
pub fn key_hash(key: &str) -> u64 {
    mix(key.bytes().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)))
}

/// A member's claim on a key; the highest claim is the key's home. Schindelhauer and Schomaker's logarithmic method:
/// `-weight / ln(u)` for `u` uniform in (0, 1) makes homes proportional to weights.
pub(super) fn claim(key_hash: u64, member_hash: u64, weight: f64) -> f64 {
    let bits = mix(key_hash ^ mix(member_hash)) >> 11;
    let uniform = (bits as f64 + 0.5) / (1_u64 << 53) as f64;
    -weight / uniform.ln()
}

/// SplitMix64's finisher.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
