//! Places outside of this process: local paths and object stores, by one way of naming and opening them.
//!
//! Whatever names a log, a registry, a checkpoint folder or an origin is a [`Location`]. [`Location::open`] builds the
//! store behind it from the usual environment variables, with bounded retries; [`Objects`] is what synchronous code
//! does with one: small files, conditional writes, uploads in parts. [`StoreError`] says what to try.

mod error;
mod location;
mod objects;
mod open;
mod upload;

pub use self::{
    error::StoreError,
    location::Location,
    objects::{Objects, Tag},
};
