//! Finds a log's columns in a file's schema and fixes the types in which they are read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::{
    basic::{Encoding, PageType},
    file::metadata::{ColumnChunkMetaData, ParquetMetaData},
};

use crate::{Error, error::Result, schema};

/// The columns that a pass over a log needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// What an [`EventChunk`](crate::EventChunk) holds.
    Coded,
    /// All that a [`RequestEvent`](crate::RequestEvent) holds.
    Events,
    /// The timestamps only.
    Times,
}

/// Which columns of one file are read, and as what.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    /// The file's schema with text columns retyped for fast reading.
    pub(crate) schema: SchemaRef,
    /// Positions in the file's schema of what is read, ascending.
    pub(crate) roots: Vec<usize>,
}

impl Columns {
    /// Finds the wanted columns by name and checks that their types can be read.
    pub(crate) fn find(file: &str, schema: &Schema, metadata: &ParquetMetaData, wanted: Wanted) -> Result<Self> {
        let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        let mut roots = Vec::new();
        for (column, kind) in wanted.columns() {
            let Ok(index) = schema.index_of(column) else {
                if schema::REQUIRED.contains(&column) {
                    return Err(missing(file, column, schema));
                }
                continue;
            };
            let field = schema.field(index);
            if !kind.accepts(field.data_type()) {
                return Err(mistyped(file, column, kind, schema));
            }
            if kind == Kind::Text {
                fields[index] = Arc::new(field.clone().with_data_type(text_type(metadata, column)));
            }
            roots.push(index);
        }
        roots.sort_unstable();
        Ok(Self { schema: Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())), roots })
    }
}

impl Wanted {
    fn columns(self) -> Vec<(&'static str, Kind)> {
        let names: Vec<&str> = match self {
            Self::Coded => [&schema::REQUIRED[..], &[schema::RANGE_START, schema::RANGE_END]].concat(),
            Self::Events => [&schema::REQUIRED[..], &schema::OPTIONAL].concat(),
            Self::Times => vec![schema::TIMESTAMP],
        };
        names.into_iter().map(|name| (name, Kind::of(name))).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Integer,
    Text,
    Time,
}

impl Kind {
    fn of(column: &str) -> Self {
        match schema::column_type(column) {
            Some(DataType::Timestamp(..)) => Self::Time,
            Some(DataType::Dictionary(..)) => Self::Text,
            _ => Self::Integer,
        }
    }

    fn accepts(self, found: &DataType) -> bool {
        match (self, found) {
            (Self::Text, DataType::Dictionary(_, values)) => is_text(values),
            (Self::Text, found) => is_text(found),
            (Self::Time, found) => matches!(found, DataType::Timestamp(..)),
            (Self::Integer, found) => found.is_integer(),
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Integer => "an integer, best uint64",
            Self::Text => "utf8 text, plain or dictionary",
            Self::Time => "a timestamp, best in microseconds, UTC",
        }
    }
}

fn is_text(found: &DataType) -> bool {
    matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// A dictionary where the file has one in every row group, so that each of its entries is looked at once; else views,
/// which are read without copying.
fn text_type(metadata: &ParquetMetaData, column: &str) -> DataType {
    let chunks = metadata.row_groups().iter().flat_map(|group| group.columns());
    let mut chunks = chunks.filter(|chunk| chunk.column_path().parts() == [column]);
    if chunks.all(is_dictionary_coded) {
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
    } else {
        DataType::Utf8View
    }
}

fn is_dictionary_coded(chunk: &ColumnChunkMetaData) -> bool {
    let coded = |encoding| matches!(encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
    if let Some(mask) = chunk.page_encoding_stats_mask() {
        return mask.encodings().all(coded);
    }
    let data_page = |page_type| matches!(page_type, PageType::DATA_PAGE | PageType::DATA_PAGE_V2);
    match chunk.page_encoding_stats() {
        Some(pages) => pages.iter().filter(|page| data_page(page.page_type)).all(|page| coded(page.encoding)),
        None => chunk.dictionary_page_offset().is_some(),
    }
}

fn missing(file: &str, column: &'static str, schema: &Schema) -> Error {
    let found = schema.fields().iter().map(|field| field.name().clone()).collect();
    Error::MissingColumn { file: file.to_owned(), column, nearest: nearest(column, schema, |_| true), found }
}

fn mistyped(file: &str, column: &'static str, kind: Kind, schema: &Schema) -> Error {
    let found = schema.field_with_name(column).map(|field| field.data_type().to_string()).unwrap_or_default();
    let nearest = nearest(column, schema, |field| kind.accepts(field.data_type()));
    Error::MistypedColumn { file: file.to_owned(), column, found, expected: kind.expected(), nearest }
}

/// The name in the file most like `column`, not the name of another column of the log, if it is alike at all.
fn nearest(column: &str, schema: &Schema, fits: impl Fn(&Field) -> bool) -> Option<String> {
    let candidates = schema.fields().iter().filter(|field| schema::column_type(field.name()).is_none() && fits(field));
    let alike = |name: &str| {
        let name = name.to_lowercase();
        let inside = name.contains(column) || (name.len() >= 3 && column.contains(&name));
        if inside { 1.0 } else { strsim::jaro_winkler(column, &name) }
    };
    let scored = candidates.map(|field| (alike(field.name()), field.name()));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS_MIN).then(|| best.1.clone())
}

/// The Jaro-Winkler likeness from which a name is worth suggesting.
const LIKENESS_MIN: f64 = 0.75;
