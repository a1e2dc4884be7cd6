//! What can be wrong with what this crate is given.

use thiserror::Error;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an input was refused.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A number outside its range.
    #[error("`{field}` is {value}: {range}")]
    OutOfRange {
        /// Which number.
        field: &'static str,
        /// What it was.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// Counts for another number of arms than the check was made for.
    #[error("counts for {found} arms, expected {expected}")]
    Arms {
        /// Counts given.
        found: usize,
        /// Arms of the check.
        expected: usize,
    },
    /// Two sketches of different accuracy.
    #[error("quantile sketches of different accuracy cannot be merged")]
    Sketches,
}

/// Whether `value` holds; else says what it may be.
pub(crate) fn ensure(holds: bool, field: &'static str, value: f64, range: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::OutOfRange { field, value, range }) }
}
