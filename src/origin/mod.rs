//! An origin for trying things out: serves the objects of a log with content that anyone can check.

mod conditions;
mod content;
mod objects;
mod server;
pub(crate) mod target;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    content::content,
    objects::Objects,
    server::{Status, serve},
};
