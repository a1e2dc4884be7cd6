//! One predictor per data folder.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
    thread,
    time::Duration,
};

use crate::{Error, Result};

/// The right to use a data folder. It goes with the process, also when that is killed.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes a data folder, which is made if absent, for this process alone. Waits a second for one that is about to end.
    ///
    /// # Errors
    /// [`Error::DataDirTaken`] when another predictor uses it, [`Error::File`] when it cannot be written.
    pub(crate) fn take(data_dir: &Path) -> Result<Self> {
        fs::create_dir_all(data_dir).map_err(Error::file("create", data_dir))?;
        let path = data_dir.join("lock");
        let file = File::create(&path).map_err(Error::file("create", &path))?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
                Err(TryLockError::Error(source)) => return Err(Error::file("lock", &path)(source)),
            }
        }
        Err(Error::DataDirTaken { path: data_dir.to_owned() })
    }
}

const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_and_free_again_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let lock = DataLock::take(folder.path()).unwrap();
        let refused = DataLock::take(folder.path()).unwrap_err();
        assert!(matches!(refused, Error::DataDirTaken { .. }), "{refused}");
        drop(lock);
        DataLock::take(folder.path()).unwrap();
    }
}
