//! The coded log where a cluster's executors can read it.

use std::fmt;

use nearcast_datasets::store::{Location, Objects};

use super::CodedLog;
use crate::{Error, Result};

/// The coded log as queries read it: where it lies, or a copy that is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Shared {
    location: Location,
    copy: Option<Copy>,
}

#[derive(Debug)]
enum Copy {
    File,
    Object(Objects, String),
}

impl Shared {
    /// Puts a copy into `folder`, when there is one.
    pub(super) fn put(log: &CodedLog, folder: Option<&Location>) -> Result<Self> {
        let file = log.file();
        let Some(folder) = folder else { return Ok(Self { location: file.into(), copy: None }) };
        // The scratch folder has a name that no other has.
        let name = log.scratch().file_name().map_or_else(|| "nearcast-features".into(), |name| name.to_string_lossy());
        let (name, stored) = (format!("{name}.parquet"), nearcast_datasets::Error::from);
        let location = folder.join(&name);
        let copy = match location.local_path() {
            Some(path) => {
                let scratch = |source| Error::Scratch { path: path.to_owned(), source };
                path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(scratch)?;
                std::fs::copy(&file, path).map_err(scratch)?;
                Copy::File
            }
            None => {
                let objects = Objects::open(folder).map_err(stored)?;
                objects.send(&name, &file).map_err(stored)?;
                Copy::Object(objects, name)
            }
        };
        Ok(Self { location, copy: Some(copy) })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // What cannot be removed only takes space.
        let _ = match (&self.copy, self.location.local_path()) {
            (Some(Copy::File), Some(path)) => std::fs::remove_file(path).is_ok(),
            (Some(Copy::Object(objects, name)), _) => objects.remove(name).is_ok(),
            _ => true,
        };
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location.fmt(f)
    }
}
