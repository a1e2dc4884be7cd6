//! Hashed tokens of a key's path: what a key that training never saw still shares with keys it did see.

/// The most tokens that a key has.
pub const TOKENS_MAX: usize = 8;

/// Directories deeper than this share their token with the ancestor at this depth.
const DIRECTORY_TOKENS_MAX: usize = 4;

/// The token buckets of one key, at most [`TOKENS_MAX`], each below the bucket count they were made for.
///
/// `/shuttle/missions/sts-71/images.html` has tokens for the directories `/shuttle`, `/shuttle/missions` and
/// `/shuttle/missions/sts-71`, for the name with its digits masked (`images`), for the extension (`html`) and, where
/// the name ends in a number, for the neighbourhoods of 16 and of 256 that the number lies in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenIds {
    ids: [u32; TOKENS_MAX],
    count: u8,
}

impl TokenIds {
    /// The tokens of `key`, hashed into `buckets` buckets; none when there are no buckets.
    pub fn of_key(key: &str, buckets: u32) -> Self {
        let mut tokens = Self::default();
        if buckets == 0 {
            return tokens;
        }
        let (directory, name) = split(key);
        for prefix in directories(directory).take(DIRECTORY_TOKENS_MAX) {
            tokens.push(bucket(b'd', prefix, "", 0, buckets));
        }
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        tokens.push(bucket(b'n', directory, &mask_digits(stem), 0, buckets));
        if !extension.is_empty() {
            tokens.push(bucket(b'e', extension, "", 0, buckets));
        }
        if let Some(number) = trailing_number(stem) {
            tokens.push(bucket(b's', directory, "", number >> 4, buckets));
            tokens.push(bucket(b'l', directory, "", number >> 8, buckets));
        }
        tokens
    }

    /// The buckets, in no order that means anything.
    pub fn as_slice(&self) -> &[u32] {
        &self.ids[..usize::from(self.count)]
    }

    /// How alike two keys are by their tokens: shared ones over all of both (Jaccard's index), 0 to 1.
    pub fn likeness(&self, other: &Self) -> f32 {
        let shared = self.as_slice().iter().filter(|id| other.as_slice().contains(id)).count();
        let all = usize::from(self.count) + usize::from(other.count) - shared;
        shared as f32 / all.max(1) as f32
    }

    fn push(&mut self, id: u32) {
        let position = usize::from(self.count);
        if position < TOKENS_MAX && !self.as_slice().contains(&id) {
            self.ids[position] = id;
            self.count += 1;
        }
    }
}

/// The bucket of the directory that a key lies in, below `buckets`, which is not zero.
pub(crate) fn directory_bucket(key: &str, buckets: u32) -> u32 {
    bucket(b'd', split(key).0, "", 0, buckets)
}

/// A key's directory and its name in there; a query belongs to neither.
fn split(key: &str) -> (&str, &str) {
    let path = key.split(['?', '#']).next().unwrap_or(key);
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The prefixes of a directory path, shortest first: `/a`, `/a/b`, …
fn directories(directory: &str) -> impl Iterator<Item = &str> {
    let inner = directory.match_indices('/').map(|(end, _)| end).filter(|end| *end > 0);
    let whole = (!directory.is_empty()).then_some(directory.len());
    inner.chain(whole).map(|end| &directory[..end])
}

/// The name with every run of digits as one `#`, so that numbered siblings look alike.
fn mask_digits(stem: &str) -> String {
    let mut masked = String::with_capacity(stem.len());
    for character in stem.chars() {
        let digit = character.is_ascii_digit();
        if !(digit && masked.ends_with('#')) {
            masked.push(if digit { '#' } else { character });
        }
    }
    masked
}

fn trailing_number(stem: &str) -> Option<u64> {
    let start = stem.trim_end_matches(|character: char| character.is_ascii_digit()).len();
    stem[start..].parse().ok()
}

/// FNV-1a with a final mix: fixed for all time, because artifacts depend on it.
fn bucket(kind: u8, first: &str, second: &str, number: u64, buckets: u32) -> u32 {
    let bytes = first.bytes().chain([0]).chain(second.bytes()).chain(number.to_le_bytes());
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in [kind].into_iter().chain(bytes) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The high half is the better mixed one.
    u32::try_from((hash >> 32) % u64::from(buckets)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKETS: u32 = 1 << 20;

    fn shared(a: &str, b: &str) -> usize {
        let b = TokenIds::of_key(b, BUCKETS);
        TokenIds::of_key(a, BUCKETS).as_slice().iter().filter(|id| b.as_slice().contains(id)).count()
    }

    #[test]
    fn siblings_share_more_tokens_than_strangers() {
        assert_eq!(shared("/a/b/page.html", "/a/b/other.html"), 3, "both directories and the extension");
        assert_eq!(shared("/a/b/page.html", "/a/c/page.html"), 2, "one directory and the extension");
        assert_eq!(shared("/a/b/page.html", "/x/y/z.gif"), 0);
    }

    #[test]
    fn likeness_is_the_share_of_common_tokens() {
        let tokens = |key| TokenIds::of_key(key, BUCKETS);
        let page = tokens("/a/b/page.html");
        assert!((page.likeness(&page) - 1.0).abs() < 1e-6);
        assert!((page.likeness(&tokens("/a/b/other.html")) - 3.0 / 5.0).abs() < 1e-6);
        assert!(page.likeness(&tokens("/x/y/z.gif")).abs() < 1e-6);
        assert!(TokenIds::default().likeness(&TokenIds::default()).abs() < 1e-6);
    }

    #[test]
    fn near_numbers_share_their_neighbourhood_and_far_ones_do_not() {
        assert_eq!(shared("block/32", "block/33"), 4, "directory, masked name and both neighbourhoods");
        assert_eq!(shared("block/32", "block/200"), 3);
        assert_eq!(shared("block/32", "block/3200"), 2);
    }

    #[test]
    fn count_is_bounded_and_ids_stay_below_the_bucket_count() {
        for key in ["", "/", "//", "/a/b/c/d/e/f/g/h123456.tar", "é/ü/99999999999999999999999", "?q=1", "a.b.c/..."] {
            for buckets in [0, 1, 7, BUCKETS] {
                let tokens = TokenIds::of_key(key, buckets);
                assert!(tokens.as_slice().len() <= TOKENS_MAX);
                assert!(tokens.as_slice().iter().all(|id| *id < buckets), "{key} {buckets}");
            }
        }
    }

    #[test]
    fn hashes_are_those_that_published_artifacts_were_made_with() {
        assert_eq!(
            TokenIds::of_key("/shuttle/missions/sts-71.html", 16_384).as_slice(),
            [5749, 6583, 2509, 7681, 12323, 2636]
        );
    }
}
