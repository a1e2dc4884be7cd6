//! Sums by pair of keys within a bound of memory: what does not fit is written to disk as sorted runs.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    path::{Path, PathBuf},
};

use nearcast_datasets::{KeyId, Map};

use crate::{Error, Result};

/// Two keys; the first one came first.
pub(super) type PairKey = (KeyId, KeyId);

/// Sums of one partition.
#[derive(Debug)]
pub(super) struct PairSums<'a> {
    scratch: &'a Path,
    sums: Map<u64, i64>,
    /// Pairs held before they spill.
    held_max: usize,
    spill_bytes_max: u64,
    spilled_bytes: u64,
    runs: Vec<Run>,
}

/// Sums ordered by pair, each pair once.
#[derive(Debug)]
pub(crate) enum Run {
    /// In memory.
    Held(std::vec::IntoIter<(u64, i64)>),
    /// In a file without a name, which is gone when the run is.
    Spilled {
        file: BufReader<File>,
        /// For messages.
        folder: PathBuf,
    },
}

impl<'a> PairSums<'a> {
    /// Sums that take about `memory_bytes` at most and spill no more than `spill_bytes` into `scratch`.
    pub(super) fn new(scratch: &'a Path, memory_bytes: usize, spill_bytes: u64) -> Self {
        let held_max = (memory_bytes / BYTES_PER_PAIR).max(HELD_MIN);
        Self {
            scratch,
            sums: Map::default(),
            held_max,
            spill_bytes_max: spill_bytes,
            spilled_bytes: 0,
            runs: Vec::new(),
        }
    }

    /// Adds to the sum of a pair.
    pub(super) fn add(&mut self, pair: PairKey, weight: i64) -> Result<()> {
        if let Some(sum) = self.sums.get_mut(&encode(pair)) {
            *sum += weight;
            return Ok(());
        }
        if self.sums.len() >= self.held_max {
            self.spill()?;
        }
        self.sums.insert(encode(pair), weight);
        Ok(())
    }

    /// All sums as sorted runs; a pair may be in several.
    pub(super) fn finish(mut self) -> Result<Vec<Run>> {
        let held = self.take_sorted();
        self.runs.push(Run::Held(held.into_iter()));
        Ok(self.runs)
    }

    fn take_sorted(&mut self) -> Vec<(u64, i64)> {
        let mut sorted: Vec<(u64, i64)> = self.sums.drain().collect();
        sorted.sort_unstable_by_key(|(pair, _)| *pair);
        sorted
    }

    fn spill(&mut self) -> Result<()> {
        let sorted = self.take_sorted();
        self.spilled_bytes += (sorted.len() * RECORD_BYTES) as u64;
        if self.spilled_bytes > self.spill_bytes_max {
            return Err(Error::SpillLimit { path: self.scratch.to_path_buf(), max: self.spill_bytes_max });
        }
        let write = || -> io::Result<BufReader<File>> {
            let mut writer = BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(self.scratch)?);
            for (pair, sum) in &sorted {
                writer.write_all(&pair.to_le_bytes())?;
                writer.write_all(&sum.to_le_bytes())?;
            }
            let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.rewind()?;
            Ok(BufReader::with_capacity(BUFFER_BYTES, file))
        };
        let file = write().map_err(|source| Error::Scratch { path: self.scratch.to_path_buf(), source })?;
        tracing::debug!(pairs = sorted.len(), "pair sums spilled");
        self.runs.push(Run::Spilled { file, folder: self.scratch.to_path_buf() });
        Ok(())
    }
}

impl Run {
    fn next(&mut self) -> Result<Option<(u64, i64)>> {
        match self {
            Self::Held(sums) => Ok(sums.next()),
            Self::Spilled { file, folder } => {
                let mut record = [0; RECORD_BYTES];
                match file.read_exact(&mut record) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                    Err(source) => return Err(Error::Scratch { path: folder.clone(), source }),
                }
                let [pair, sum] = *record.as_chunks::<8>().0 else { return Ok(None) };
                Ok(Some((u64::from_le_bytes(pair), i64::from_le_bytes(sum))))
            }
        }
    }
}

/// Calls `each` with every pair and its sum over all runs, in order.
pub(super) fn merge(mut runs: Vec<Run>, mut each: impl FnMut(PairKey, i64) -> Result<()>) -> Result<()> {
    let mut heads = BinaryHeap::with_capacity(runs.len());
    for (index, run) in runs.iter_mut().enumerate() {
        heads.extend(run.next()?.map(|(pair, sum)| Reverse((pair, index, sum))));
    }
    let mut current: Option<(u64, i64)> = None;
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((pair, index, sum)) = *head;
        match runs[index].next()? {
            Some((next, sum)) => *head = Reverse((next, index, sum)),
            None => {
                std::collections::binary_heap::PeekMut::pop(head);
            }
        }
        match &mut current {
            Some((same, total)) if *same == pair => *total += sum,
            _ => {
                if let Some((done, total)) = current.replace((pair, sum)) {
                    each(decode(done), total)?;
                }
            }
        }
    }
    match current {
        Some((done, total)) => each(decode(done), total),
        None => Ok(()),
    }
}

fn encode((from, to): PairKey) -> u64 {
    u64::from(from.0) << 32 | u64::from(to.0)
}

fn decode(pair: u64) -> PairKey {
    (KeyId((pair >> 32) as u32), KeyId(pair as u32))
}

const RECORD_BYTES: usize = 16;
const BUFFER_BYTES: usize = 1 << 18;
/// A pair in the table, which may be half empty just after it grew, and once more while it is sorted.
const BYTES_PER_PAIR: usize = 56;
/// Fewer would make too many runs.
const HELD_MIN: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(runs: Vec<Run>) -> Vec<(PairKey, i64)> {
        let mut all = Vec::new();
        merge(runs, |pair, sum| {
            all.push((pair, sum));
            Ok(())
        })
        .expect("memory and scratch files can be read");
        all
    }

    /// Adds pairs in a scattered order, each twice; returns the runs and how many are files.
    fn runs(scratch: &Path, memory_bytes: usize, spill_bytes: u64) -> Result<(Vec<Run>, usize)> {
        let mut sums = PairSums::new(scratch, memory_bytes, spill_bytes);
        for round in 0..2 {
            for n in 0..200_000_u32 {
                let n = n.wrapping_mul(7_919) % 200_000;
                sums.add((KeyId(n / 400), KeyId(n % 400)), i64::from(n) + round)?;
            }
        }
        let runs = sums.finish()?;
        let spilled = runs.iter().filter(|run| matches!(run, Run::Spilled { .. })).count();
        Ok((runs, spilled))
    }

    #[test]
    fn spilled_sums_equal_held_ones_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let (held, none) = runs(folder.path(), 1 << 30, 0).unwrap();
        let (spilled, some) = runs(folder.path(), 0, u64::MAX).unwrap();
        assert_eq!((none, some), (0, 6), "65,536 pairs are the fewest that are held");
        let (held, spilled) = (merged(held), merged(spilled));
        assert_eq!(held.len(), 200_000);
        assert!(held.is_sorted_by_key(|(pair, _)| *pair));
        assert_eq!(held[401], ((KeyId(1), KeyId(1)), 803));
        assert_eq!(held, spilled);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "spill files leave nothing behind");
    }

    #[test]
    fn spilling_beyond_the_bound_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = 6 * 65_536 * 16;
        assert!(runs(folder.path(), 0, bytes).is_ok());
        assert!(matches!(runs(folder.path(), 0, bytes - 1), Err(Error::SpillLimit { .. })));
    }

    #[test]
    fn nothing_merges_to_nothing() {
        assert!(merged(Vec::new()).is_empty());
        assert!(merged(vec![Run::Held(Vec::new().into_iter())]).is_empty());
    }
}
