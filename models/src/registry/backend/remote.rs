//! A registry in an object store.

use nearcast_datasets::store::{Objects, Tag};

use super::{Backend, Seen};
use crate::Result;

/// Objects below a prefix.
#[derive(Debug)]
pub(in crate::registry) struct Remote {
    objects: Objects,
}

impl Remote {
    pub(in crate::registry) fn new(objects: Objects) -> Self {
        Self { objects }
    }
}

impl Backend for Remote {
    fn list(&self, folder: &str) -> Result<Vec<String>> {
        Ok(self.objects.names(folder)?)
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.objects.read(path)?.map(|(bytes, _)| bytes))
    }

    fn look(&self, path: &str) -> Result<Seen> {
        Ok(match self.objects.read(path)? {
            Some((bytes, tag)) => Seen { bytes: Some(bytes), tag: Some(tag) },
            None => Seen::default(),
        })
    }

    fn create(&self, path: &str, bytes: Vec<u8>) -> Result<bool> {
        Ok(self.objects.create(path, bytes)?.is_some())
    }

    fn swap(&self, path: &str, seen: &Seen, bytes: Vec<u8>) -> Result<bool> {
        let written: Option<Tag> = match &seen.tag {
            Some(tag) => self.objects.swap(path, tag, bytes)?,
            None => self.objects.create(path, bytes)?,
        };
        Ok(written.is_some())
    }

    fn replace(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        Ok(self.objects.write(path, bytes)?)
    }

    /// Only that the store answers: a write would have to be deleted, which not everybody may do.
    fn probe(&self) -> Result<()> {
        self.list("versions").map(drop)
    }

    fn remove(&self, path: &str) -> Result<()> {
        Ok(self.objects.remove(path)?)
    }
}
