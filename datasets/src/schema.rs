//! The names and types of the request log's columns: the only place where they are written.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// When the request arrived: timestamp(µs, UTC).
pub const TIMESTAMP: &str = "timestamp";
/// The client's pseudonym: utf8.
pub const CLIENT: &str = "client";
/// The client's region: utf8.
pub const REGION: &str = "region";
/// The key asked for: utf8.
pub const KEY: &str = "key";
/// Bytes of the whole object: uint64.
pub const SIZE: &str = "size";
/// First byte asked for: uint64, optional.
pub const RANGE_START: &str = "range_start";
/// One past the last byte asked for: uint64, optional.
pub const RANGE_END: &str = "range_end";
/// The node that answered: utf8, optional.
pub const NODE: &str = "node";
/// Who answered, see [`ServedFrom`](crate::ServedFrom): utf8, optional.
pub const OUTCOME: &str = "outcome";
/// Microseconds to the last byte: uint64, optional.
pub const LATENCY_US: &str = "latency_us";
/// The A/B arm in force: utf8, optional.
pub const ARM: &str = "arm";
/// The model version in force: utf8, optional.
pub const MODEL_VERSION: &str = "model_version";

/// Columns that every log has.
pub const REQUIRED: [&str; 5] = [TIMESTAMP, CLIENT, REGION, KEY, SIZE];
/// Columns that a log may have.
pub const OPTIONAL: [&str; 7] = [RANGE_START, RANGE_END, NODE, OUTCOME, LATENCY_US, ARM, MODEL_VERSION];
/// The region of a log whose source has none.
pub const DEFAULT_REGION: &str = "default";
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 2_048;

/// The canonical type of a column, or `None` for a name that the log does not know.
pub fn column_type(name: &str) -> Option<DataType> {
    match name {
        TIMESTAMP => Some(DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))),
        CLIENT | REGION | KEY | NODE | OUTCOME | ARM | MODEL_VERSION => {
            Some(DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)))
        }
        SIZE | RANGE_START | RANGE_END | LATENCY_US => Some(DataType::UInt64),
        _ => None,
    }
}

/// The schema that this project writes: required columns first, then the optional ones when `with_optional`.
pub fn request_log(with_optional: bool) -> SchemaRef {
    let optional = if with_optional { &OPTIONAL[..] } else { &[] };
    let field = |name: &&str, nullable| Some(Field::new(*name, column_type(name)?, nullable));
    let required = REQUIRED.iter().filter_map(|name| field(name, false));
    Arc::new(Schema::new(required.chain(optional.iter().filter_map(|name| field(name, true))).collect::<Vec<_>>()))
}
