//! Replaces strings by their numbers, looking at each entry of a file's dictionary once.

use std::ops::Range;

use arrow::array::{Array, StringArray};

use super::rows::{Origin, Rows, Text};
use crate::{
    ClientId, Dictionaries, Error, EventChunk, Interner, KeyId, RegionId,
    error::Result,
    schema::{self, KEY_BYTES_MAX},
};

/// Turns runs of rows into [`EventChunk`]s; remembers the numbers of the dictionary entries seen last.
#[derive(Debug, Default)]
pub(crate) struct Coder {
    clients: Column,
    regions: Column,
    keys: Column,
}

/// The numbers of one column's current dictionary in the file.
#[derive(Debug, Default)]
struct Column {
    values: Option<StringArray>,
    numbers: Vec<u32>,
}

impl Coder {
    /// Appends a run to a chunk.
    pub(crate) fn append(
        &mut self,
        (rows, origin): (&Rows, Origin<'_>),
        run: &Range<usize>,
        dictionaries: &mut Dictionaries,
        chunk: &mut EventChunk,
    ) -> Result<()> {
        let Dictionaries { clients, regions, keys } = dictionaries;
        let any = |_: usize, _: &str| Ok(());
        let key_fits = |row: usize, key: &str| check_key(key, row, origin);
        self.clients.code(&rows.client, run, clients, any, |number| chunk.clients.push(ClientId(number)))?;
        let region_count = &mut 0;
        self.regions.code(&rows.region, run, regions, any, |number| {
            *region_count = number.max(*region_count);
            chunk.regions.push(RegionId(u16::try_from(number).unwrap_or(u16::MAX)));
        })?;
        if *region_count > u32::from(u16::MAX) {
            return Err(Error::TooManyRegions { file: origin.file.to_owned(), row: origin.row(run.start) });
        }
        self.keys.code(&rows.key, run, keys, key_fits, |number| chunk.keys.push(KeyId(number)))?;
        let times = &rows.times[run.clone()];
        chunk.timestamps.extend(times.iter().map(|time| crate::Timestamp::from_micros(*time)));
        chunk.sizes_bytes.extend_from_slice(&rows.sizes[run.clone()]);
        if rows.has_no_ranges() {
            chunk.ranges.resize(chunk.timestamps.len(), None);
            return Ok(());
        }
        for row in run.clone() {
            chunk.ranges.push(rows.range(row, origin)?);
        }
        Ok(())
    }
}

impl Column {
    fn code(
        &mut self,
        text: &Text,
        run: &Range<usize>,
        interner: &mut Interner,
        check: impl Fn(usize, &str) -> Result<()>,
        mut push: impl FnMut(u32),
    ) -> Result<()> {
        match text {
            Text::Absent => {}
            Text::Coded { positions, values, .. } => {
                self.turn_to(values);
                for row in run.clone() {
                    let position = usize::try_from(positions[row]).unwrap_or(usize::MAX);
                    let number = &mut self.numbers[position];
                    if *number == UNSEEN {
                        let value = values.value(position);
                        check(row, value)?;
                        *number = interner.insert(value);
                    }
                    push(*number);
                }
            }
            Text::Plain(values) => {
                for row in run.clone() {
                    let value = values.value(row);
                    check(row, value)?;
                    push(interner.insert(value));
                }
            }
        }
        Ok(())
    }

    /// Forgets the numbers unless `values` is the dictionary that they belong to.
    fn turn_to(&mut self, values: &StringArray) {
        // The array held here keeps its buffers alive, so equal addresses mean the same dictionary.
        let same = self.values.as_ref().is_some_and(|held| {
            held.len() == values.len()
                && held.value_offsets().as_ptr() == values.value_offsets().as_ptr()
                && held.value_data().as_ptr() == values.value_data().as_ptr()
        });
        if !same {
            self.numbers.clear();
            self.numbers.resize(values.len(), UNSEEN);
            self.values = Some(values.clone());
        }
    }
}

/// Refuses a key longer than the log allows.
pub(crate) fn check_key(key: &str, row: usize, origin: Origin<'_>) -> Result<()> {
    match key.len() {
        0 => Err(origin.bad_value(schema::KEY, row, "empty, but a key names an object")),
        bytes if bytes > KEY_BYTES_MAX => {
            Err(Error::KeyTooLong { file: origin.file.to_owned(), row: origin.row(row), bytes })
        }
        _ => Ok(()),
    }
}

/// Stands for an entry whose number was not asked for yet; interners never give it out.
const UNSEEN: u32 = u32::MAX;
