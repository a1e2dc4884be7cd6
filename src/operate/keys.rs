//! Which keys to fetch ahead: from a list, or the most requested of a log.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context, ensure};
use nearcast_datasets::{LogSource, Map, read_events};

/// Keys, the most wanted first.
pub(crate) type Keys = Vec<String>;

/// Reads one key a line; blank lines and those that begin with `#` are left out. `-` is standard input.
pub(crate) fn of_list(path: &Path) -> anyhow::Result<Keys> {
    let place = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).with_context(|| format!("cannot read {place}"))?)
    };
    let mut keys = Vec::new();
    for line in BufReader::new(input).lines() {
        let line = line.with_context(|| format!("cannot read {place}: is it text, a key a line?"))?;
        let key = line.trim();
        if !key.is_empty() && !key.starts_with('#') {
            keys.push(key.to_owned());
        }
    }
    Ok(keys)
}

/// The most requested keys of a log, by region.
#[derive(Debug, Default)]
pub(crate) struct Popular {
    /// Requests by key, by region.
    regions: Map<String, Map<String, u64>>,
}

impl Popular {
    /// Counts a log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn of_log(source: &LogSource) -> anyhow::Result<Self> {
        let mut popular = Self::default();
        for event in read_events(source)? {
            let event = event?;
            let keys = match popular.regions.get_mut(&event.region) {
                Some(keys) => keys,
                None => popular.regions.entry(event.region).or_default(),
            };
            *keys.entry(event.key).or_default() += 1;
        }
        Ok(popular)
    }

    /// The most requested keys of a region; of all regions when the log does not have that one.
    pub(crate) fn top(&self, region: &str, count: usize) -> Keys {
        match self.regions.get(region) {
            Some(keys) => heaviest(keys.iter().map(|(key, count)| (key.as_str(), *count)).collect(), count),
            None => self.top_of_all(count),
        }
    }

    /// As [`Self::top`], where the region must be in the log.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn top_of(&self, region: &str, count: usize) -> anyhow::Result<Keys> {
        let known: Vec<&str> = self.regions.keys().map(String::as_str).collect();
        ensure!(known.contains(&region), "the log has no region `{region}`, only {}", known.join(", "));
        Ok(self.top(region, count))
    }

    fn top_of_all(&self, count: usize) -> Keys {
        let mut all: Map<&str, u64> = Map::default();
        for (key, count) in self.regions.values().flatten() {
            *all.entry(key).or_default() += count;
        }
        heaviest(all.into_iter().collect(), count)
    }
}

fn heaviest(mut keys: Vec<(&str, u64)>, count: usize) -> Keys {
    keys.sort_unstable_by(|(one, first), (other, second)| second.cmp(first).then_with(|| one.cmp(other)));
    keys.into_iter().take(count).map(|(key, _)| key.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_requested_come_first_and_of_their_own_region() {
        let keys = |pairs: &[(&str, u64)]| pairs.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect();
        let popular = Popular {
            regions: [
                ("eu".to_owned(), keys(&[("/a", 3), ("/b", 3), ("/c", 9)])),
                ("us".to_owned(), keys(&[("/b", 7), ("/d", 1)])),
            ]
            .into_iter()
            .collect(),
        };
        assert_eq!(popular.top("eu", 2), ["/c", "/a"]);
        assert_eq!(popular.top("ap", 2), ["/b", "/c"], "a region without requests takes what all ask for");
        assert!(popular.top_of("ap", 2).is_err_and(|error| error.to_string().contains("no region `ap`")));
        assert_eq!(popular.top_of("us", 9).unwrap(), ["/b", "/d"]);
    }

    #[test]
    fn a_list_has_a_key_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "/a\n\n# no key\n  /b c \n").unwrap();
        assert_eq!(of_list(file.path()).unwrap(), ["/a", "/b c"]);
        assert!(of_list(Path::new("/nonexistent")).is_err());
    }
}
