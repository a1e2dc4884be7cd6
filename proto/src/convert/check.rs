//! Checks that every conversion shares.

use std::{sync::Arc, time::Duration};

use super::{KEY_BYTES_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::{Error, Result, message::NodeName};

pub(super) fn key(text: String) -> Result<Arc<str>> {
    filled("key", &text)?;
    bounded("key", &text, KEY_BYTES_MAX)?;
    Ok(text.into())
}

pub(super) fn name(field: &'static str, text: String) -> Result<Arc<str>> {
    filled(field, &text)?;
    optional_name(field, text)
}

/// A name that may be empty, such as that of a model version before there is one.
pub(super) fn optional_name(field: &'static str, text: String) -> Result<Arc<str>> {
    bounded(field, &text, NAME_BYTES_MAX)?;
    Ok(text.into())
}

pub(super) fn node_name(text: String) -> Result<NodeName> {
    name("node", text).map(NodeName)
}

pub(super) fn free_text(field: &'static str, text: String) -> Result<String> {
    bounded(field, &text, TEXT_BYTES_MAX)?;
    Ok(text)
}

pub(super) fn present<T>(message: &'static str, field: &'static str, value: Option<T>) -> Result<T> {
    value.ok_or(Error::MissingField { message, field })
}

/// Converts a list that the contract bounds.
pub(super) fn list<W, M>(field: &'static str, wire: Vec<W>, count_max: usize) -> Result<Vec<M>>
where
    M: TryFrom<W, Error = Error>,
{
    at_most(field, wire.len(), count_max)?;
    wire.into_iter().map(M::try_from).collect()
}

pub(super) fn at_most(field: &'static str, count: usize, count_max: usize) -> Result<()> {
    if count > count_max { Err(Error::TooMany { field, count, count_max }) } else { Ok(()) }
}

/// An enumeration's value; `None` stands for one that is unspecified or unknown.
pub(super) fn known<T>(field: &'static str, value: i32, meaning: Option<T>) -> Result<T> {
    meaning.ok_or(Error::UnknownValue { field, value })
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn outward<M, W: From<M>>(values: Vec<M>) -> Vec<W> {
    values.into_iter().map(W::from).collect()
}

fn filled(field: &'static str, text: &str) -> Result<()> {
    if text.is_empty() { Err(Error::EmptyText { field }) } else { Ok(()) }
}

fn bounded(field: &'static str, text: &str, bytes_max: usize) -> Result<()> {
    if text.len() > bytes_max {
        return Err(Error::TextTooLong { field, bytes: text.len(), bytes_max });
    }
    if text.contains('\0') { Err(Error::NulInText { field }) } else { Ok(()) }
}
