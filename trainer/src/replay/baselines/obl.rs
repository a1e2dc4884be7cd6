//! One block lookahead: whoever asks for number 17 will ask for number 18.
//!
//! Smith: *Cache Memories*, ACM Computing Surveys 14(3), 1982, in the tagged form, which does best there: the next
//! block is fetched on a miss and on the first use of a prefetched block. A key's number is its last run of digits, up
//! to an extension; its width stays. The next key is fetched whether or not the log ever asks for it, for nobody at a
//! node could know.

use std::sync::Arc;

use nearcast_datasets::{KeyId, ServedFrom};

use super::{LogColumns, Names, Prefetcher};

/// The key with the next number, for every key of a log that has one.
#[derive(Clone, Debug)]
pub(super) struct Successors(Arc<[Option<KeyId>]>);

impl Successors {
    pub(super) fn of(log: &LogColumns) -> Self {
        let mut names = Names::new(log);
        let successor = |key| next_name(log.key_name(KeyId(key))).map(|next| names.key(&next));
        Self((0..log.key_count() as u32).map(successor).collect())
    }
}

/// Fetches the next block on a miss and on the first use of a prefetch.
#[derive(Debug)]
pub(super) struct OblPrefetcher {
    successors: Successors,
}

impl OblPrefetcher {
    pub(super) fn new(successors: Successors) -> Self {
        Self { successors }
    }
}

impl Prefetcher for OblPrefetcher {
    fn handle_request(&mut self, key: KeyId, served: ServedFrom, wanted: &mut Vec<KeyId>) {
        if !matches!(served, ServedFrom::Memory | ServedFrom::Disk) {
            wanted.extend(self.successors.0[key.0 as usize]);
        }
    }
}

/// `seg-0041.ts` → `seg-0042.ts`, `block/99` → `block/100`.
fn next_name(name: &str) -> Option<String> {
    let end = name.rfind(|letter: char| letter.is_ascii_digit())? + 1;
    if name[end..].contains('/') {
        return None;
    }
    let before = name[..end].trim_end_matches(|letter: char| letter.is_ascii_digit());
    let digits = &name[before.len()..end];
    let number = digits.parse::<u64>().ok()?.checked_add(1)?;
    let width = if digits.starts_with('0') { digits.len() } else { 0 };
    Some(format!("{before}{number:0width$}{}", &name[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{replay::ReadOptions, testing::event};

    #[test]
    fn the_next_name_keeps_width_and_extension() {
        let cases = [
            ("seg-0041.ts", Some("seg-0042.ts")),
            ("block/99", Some("block/100")),
            ("/0999", Some("/1000")),
            ("/2024/news.html", None),
            ("/about", None),
            ("/18446744073709551615", None),
        ];
        for (name, next) in cases {
            assert_eq!(next_name(name).as_deref(), next, "{name}");
        }
    }

    #[test]
    fn keys_that_the_log_lacks_come_after_its_own() {
        let events: Vec<_> = ["b/3", "b/2", "b/7", "x"].into_iter().map(|key| event(0, "c", "r", key)).collect();
        let log = LogColumns::from_events(&events, ReadOptions::default());
        let found = Successors::of(&log).0.to_vec();
        assert_eq!(found, [Some(KeyId(4)), Some(KeyId(0)), Some(KeyId(5)), None]);
    }
}
