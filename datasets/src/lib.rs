//! The request log: the contract between nodes, trainer and predictor.
//!
//! A request log is Parquet in the schema of [`schema`], sorted by time. This crate reads and writes it in bounded
//! memory, splits it in time order, describes it, converts other formats into it, and makes synthetic ones whose best
//! achievable accuracy is known.
//!
//! [`RequestEvent`] is one row with its strings; [`EventChunk`] is a run of rows whose strings were replaced by small
//! integers from [`Dictionaries`], which is what everything fast works on.

mod blocking;
mod collections;
mod error;
mod event;
mod ids;
pub mod import;
mod interner;
mod profile;
mod pseudonym;
mod read;
pub mod schema;
mod source;
mod split;
pub mod store;
pub mod synthesize;
#[cfg(test)]
mod tests;
mod time;
mod write;

pub use collections::{Map, Set};
pub use error::{Error, Result};
pub use event::{ByteRange, Dictionaries, EventChunk, RequestEvent, ServedFrom};
pub use ids::{ClientId, KeyId, RegionId, SegmentId, Timestamp, segment_count, segment_len};
pub use interner::Interner;
pub use profile::{Compulsory, Gap, Gaps, Profile, RegionProfile, profile};
pub use pseudonym::PseudonymKey;
pub use read::{CHUNK_ROWS_MAX, LogReader, MERGED_FILES_MAX, read_events};
pub use source::LogSource;
pub use split::TimeSplit;
pub use time::rfc3339;
pub use write::{LogWriter, Summary, WriteOptions};
