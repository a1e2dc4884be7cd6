//! A batch of rows in the types of this crate, with every required cell checked.

use std::ops::Range;

use arrow::{
    array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, StringArray, StringViewArray},
    buffer::{NullBuffer, ScalarBuffer},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Int32Type, Int64Type, UInt64Type},
};

use super::file::to_micros;
use crate::{ByteRange, Error, Timestamp, error::Result, schema, time::rfc3339};

/// Rows of one file, in time order. Columns that were not asked for are empty.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Instants in microseconds, ascending.
    pub(crate) times: ScalarBuffer<i64>,
    pub(crate) client: Text,
    pub(crate) region: Text,
    pub(crate) key: Text,
    pub(crate) sizes: ScalarBuffer<u64>,
    pub(crate) node: Text,
    pub(crate) outcome: Text,
    pub(crate) arm: Text,
    pub(crate) model_version: Text,
    latency_us: Option<PrimitiveArray<UInt64Type>>,
    range_start: Option<PrimitiveArray<UInt64Type>>,
    range_end: Option<PrimitiveArray<UInt64Type>>,
}

/// A column of text.
#[derive(Debug, Default)]
pub(crate) enum Text {
    /// The file lacks the column.
    #[default]
    Absent,
    /// Positions in a dictionary.
    Coded { positions: ScalarBuffer<i32>, values: StringArray, nulls: Option<NullBuffer> },
    /// The strings themselves.
    Plain(StringViewArray),
}

/// Where a batch comes from, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    /// The file.
    pub(crate) file: &'a str,
    /// The number within the file of the batch's first row.
    pub(crate) first_row: u64,
}

impl Origin<'_> {
    /// The number within the file of a row of the batch.
    pub(crate) const fn row(&self, index: usize) -> u64 {
        self.first_row + index as u64
    }

    pub(crate) fn bad_value(&self, column: &'static str, index: usize, problem: impl Into<String>) -> Error {
        Error::BadValue { file: self.file.to_owned(), column, row: self.row(index), problem: problem.into() }
    }
}

impl Rows {
    /// Takes a batch apart and checks it; `before` is the instant of the row before it in its file.
    pub(crate) fn check(batch: &RecordBatch, origin: Origin<'_>, before: Timestamp) -> Result<Self> {
        let text = |column| Text::of(batch, column, origin);
        let integers = |column| integers(batch, column, origin);
        let times = times(batch, origin)?;
        check_order(&times, origin, before)?;
        let sizes = integers(schema::SIZE)?.map_or_else(|| Vec::new().into(), |sizes| sizes.values().clone());
        Ok(Self {
            times,
            client: text(schema::CLIENT)?,
            region: text(schema::REGION)?,
            key: text(schema::KEY)?,
            sizes,
            node: text(schema::NODE)?,
            outcome: text(schema::OUTCOME)?,
            arm: text(schema::ARM)?,
            model_version: text(schema::MODEL_VERSION)?,
            latency_us: integers(schema::LATENCY_US)?,
            range_start: integers(schema::RANGE_START)?,
            range_end: integers(schema::RANGE_END)?,
        })
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// The rows within a window of time.
    pub(crate) fn within(&self, window: &Range<Timestamp>) -> Range<usize> {
        let position = |instant: Timestamp| self.times.partition_point(|time| *time < instant.micros());
        position(window.start)..position(window.end)
    }

    /// The instant of a row.
    pub(crate) fn time(&self, index: usize) -> Timestamp {
        Timestamp::from_micros(self.times[index])
    }

    /// Microseconds that the request of a row took, if the file says it.
    pub(crate) fn latency_us(&self, index: usize) -> Option<u64> {
        cell(self.latency_us.as_ref(), index)
    }

    /// Whether no row asks for a part of an object.
    pub(crate) fn has_no_ranges(&self) -> bool {
        let empty = |column: &Option<PrimitiveArray<UInt64Type>>| {
            column.as_ref().is_none_or(|cells| cells.null_count() == cells.len())
        };
        empty(&self.range_start) && empty(&self.range_end)
    }

    /// The part that a row asks for. A lone start reaches to the object's end, a lone end from its start.
    pub(crate) fn range(&self, index: usize, origin: Origin<'_>) -> Result<Option<ByteRange>> {
        let (start, end) = (cell(self.range_start.as_ref(), index), cell(self.range_end.as_ref(), index));
        if start.is_none() && end.is_none() {
            return Ok(None);
        }
        let range = ByteRange { start: start.unwrap_or(0), end: end.unwrap_or(self.sizes[index]) };
        if range.start < range.end {
            return Ok(Some(range));
        }
        let problem = format!("the range {}..{} holds no byte; ends are exclusive", range.start, range.end);
        Err(origin.bad_value(schema::RANGE_START, index, problem))
    }
}

impl Text {
    fn of(batch: &RecordBatch, column: &'static str, origin: Origin<'_>) -> Result<Self> {
        let Some(array) = batch.column_by_name(column) else { return Ok(Self::Absent) };
        check_nulls(array, column, origin)?;
        if let Some(coded) = array.as_dictionary_opt::<Int32Type>()
            && let Some(values) = coded.values().as_string_opt::<i32>()
        {
            let keys = coded.keys();
            return Ok(Self::Coded {
                positions: keys.values().clone(),
                values: values.clone(),
                nulls: keys.nulls().cloned(),
            });
        }
        let plain = array.as_string_view_opt().cloned();
        plain.map(Self::Plain).ok_or_else(|| wrong_type(array, column, origin))
    }

    /// The text of a row, if it has one.
    pub(crate) fn get(&self, index: usize) -> Option<&str> {
        match self {
            Self::Absent => None,
            Self::Coded { positions, values, nulls } => {
                let valid = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(index));
                valid.then(|| values.value(usize::try_from(positions[index]).unwrap_or(0)))
            }
            Self::Plain(values) => values.is_valid(index).then(|| values.value(index)),
        }
    }
}

fn cell(column: Option<&PrimitiveArray<UInt64Type>>, index: usize) -> Option<u64> {
    column.filter(|cells| cells.is_valid(index)).map(|cells| cells.value(index))
}

fn times(batch: &RecordBatch, origin: Origin<'_>) -> Result<ScalarBuffer<i64>> {
    let Some(array) = batch.column_by_name(schema::TIMESTAMP) else { return Ok(Vec::new().into()) };
    check_nulls(array, schema::TIMESTAMP, origin)?;
    let wrong = || wrong_type(array, schema::TIMESTAMP, origin);
    let DataType::Timestamp(unit, _) = *array.data_type() else { return Err(wrong()) };
    // Every unit is stored as 64-bit numbers: taking them as such costs nothing, and microseconds need no more.
    let raw = arrow::compute::cast(array, &DataType::Int64).map_err(|_| wrong())?;
    let raw = raw.as_primitive::<Int64Type>().values().clone();
    if unit == arrow::datatypes::TimeUnit::Microsecond {
        return Ok(raw);
    }
    let micros = raw.iter().enumerate().map(|(index, value)| {
        let outside = || origin.bad_value(schema::TIMESTAMP, index, format!("{value} does not fit microseconds"));
        to_micros(*value, unit).ok_or_else(outside)
    });
    Ok(micros.collect::<Result<Vec<i64>>>()?.into())
}

fn check_order(times: &[i64], origin: Origin<'_>, before: Timestamp) -> Result<()> {
    let wrong = match times.first() {
        Some(first) if *first < before.micros() => Some(0),
        _ => times.windows(2).position(|pair| pair[1] < pair[0]).map(|index| index + 1),
    };
    let Some(index) = wrong else { return Ok(()) };
    let before = if index == 0 { before.micros() } else { times[index - 1] };
    let (before, at) = (rfc3339(Timestamp::from_micros(before)), rfc3339(Timestamp::from_micros(times[index])));
    Err(Error::Unsorted { file: origin.file.to_owned(), row: origin.row(index), before, at })
}

fn integers(
    batch: &RecordBatch,
    column: &'static str,
    origin: Origin<'_>,
) -> Result<Option<PrimitiveArray<UInt64Type>>> {
    let Some(array) = batch.column_by_name(column) else { return Ok(None) };
    check_nulls(array, column, origin)?;
    if let Some(unsigned) = array.as_primitive_opt::<UInt64Type>() {
        return Ok(Some(unsigned.clone()));
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let cast = cast_with_options(array, &DataType::UInt64, &options).map_err(|_| wrong_type(array, column, origin))?;
    let lost = (0..array.len()).find(|index| array.is_valid(*index) && cast.is_null(*index));
    match lost {
        Some(index) => Err(origin.bad_value(column, index, "negative, but this column counts bytes or time")),
        None => Ok(cast.as_primitive_opt::<UInt64Type>().cloned()),
    }
}

fn check_nulls(array: &ArrayRef, column: &'static str, origin: Origin<'_>) -> Result<()> {
    if array.null_count() == 0 || !schema::REQUIRED.contains(&column) {
        return Ok(());
    }
    let index = (0..array.len()).find(|index| array.is_null(*index)).unwrap_or(0);
    Err(Error::NullValue { file: origin.file.to_owned(), column, row: origin.row(index) })
}

fn wrong_type(array: &ArrayRef, column: &'static str, origin: Origin<'_>) -> Error {
    let found = array.data_type().to_string();
    Error::MistypedColumn { file: origin.file.to_owned(), column, found, expected: "its schema's type", nearest: None }
}
