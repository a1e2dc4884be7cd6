//! What the objects of a log contain: bytes that follow from the key alone, so that anyone can check any part of them.

/// The content of a key, from some position on. An object of size `n` holds its first `n` bytes.
///
/// The bytes are the output of blake3's extendable hash, keyed for this use, over the key: they look random, do not
/// compress, differ between keys, and can be had from any position.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    output: blake3::OutputReader,
}

/// The content of `key` from the byte at `position` on.
pub(crate) fn content(key: &str, position: u64) -> Content {
    let mut output = blake3::Hasher::new_derive_key(CONTEXT).update(key.as_bytes()).finalize_xof();
    output.set_position(position);
    Content { output }
}

impl Content {
    /// Fills `bytes` with what comes next.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.output.fill(bytes);
    }

    /// Whether `bytes` is what comes next.
    pub(crate) fn continues_with(&mut self, bytes: &[u8]) -> bool {
        let mut expected = [0; 4_096];
        bytes.chunks(expected.len()).all(|part| {
            let expected = &mut expected[..part.len()];
            self.output.fill(expected);
            expected == part
        })
    }
}

/// Keeps this use of the hash apart from all others.
const CONTEXT: &str = "nearcast 2026-11-23 origin content";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_the_same_wherever_reading_starts() {
        let mut whole = vec![0; 10_000];
        content("/a", 0).fill(&mut whole);
        for position in [0, 1, 63, 64, 65, 4_095, 9_999] {
            assert!(content("/a", position as u64).continues_with(&whole[position..]), "from {position}");
        }
        let mut other = whole.clone();
        other[9_000] ^= 1;
        assert!(!content("/a", 0).continues_with(&other));
        assert!(!content("/b", 0).continues_with(&whole[..32]));
    }
}
