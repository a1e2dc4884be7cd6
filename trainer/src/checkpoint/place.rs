//! Where checkpoints are kept: a folder, which is locked, or an object store, where a save is refused to whoever does
//! not know what was saved last.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
};

use nearcast_datasets::store::{Location, Objects, Tag};

use super::error::CheckpointError;

type Result<T, E = CheckpointError> = std::result::Result<T, E>;

/// Named files of one training; every write is whole or not at all, also after a power cut.
#[derive(Debug)]
pub(super) enum Place {
    /// A folder.
    Local(LocalFolder),
    /// A prefix of an object store.
    Remote(Box<RemoteFolder>),
}

#[derive(Debug)]
pub(super) struct LocalFolder {
    folder: PathBuf,
    /// Held while the training runs, and let go by the system however it ends.
    lock: Option<File>,
    /// Folders made for this training, the innermost first.
    made: Vec<PathBuf>,
}

#[derive(Debug)]
pub(super) struct RemoteFolder {
    location: Location,
    objects: Objects,
    /// The state of [`CURRENT`] that was read or written last; `None` when there was none.
    seen: Option<Tag>,
}

impl Place {
    /// The place of a location; makes and locks nothing.
    pub(super) fn look(location: &Location) -> Result<Self> {
        Ok(match location.local_path() {
            Some(path) => Self::Local(LocalFolder { folder: path.to_owned(), lock: None, made: Vec::new() }),
            None => {
                let (location, objects) = (location.clone(), Objects::open(location)?);
                Self::Remote(Box::new(RemoteFolder { location, objects, seen: None }))
            }
        })
    }

    /// Takes the place for one training.
    ///
    /// # Errors
    /// [`CheckpointError::Busy`].
    pub(super) fn take(location: &Location) -> Result<Self> {
        let mut place = Self::look(location)?;
        match &mut place {
            Self::Local(local) => local.take(location)?,
            Self::Remote(remote) => remote.seen = remote.objects.read(CURRENT)?.map(|(_, tag)| tag),
        }
        Ok(place)
    }

    /// A file's content; `None` when there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Local(local) => {
                let path = local.folder.join(name);
                match fs::read(&path) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(CheckpointError::file("read", path)(error)),
                }
            }
            Self::Remote(remote) => remote.read(name),
        }
    }

    /// Whether there is a file of this name.
    pub(super) fn exists(&self, name: &str) -> Result<bool> {
        match self {
            Self::Local(local) => Ok(local.folder.join(name).exists()),
            Self::Remote(remote) => Ok(remote.objects.names("")?.iter().any(|found| found == name)),
        }
    }

    /// Creates or replaces a file with these parts.
    ///
    /// # Errors
    /// [`CheckpointError::Overtaken`] for [`CURRENT`], when it is not what was read or written last.
    pub(super) fn write(&mut self, name: &str, parts: &[&[u8]]) -> Result<()> {
        match self {
            Self::Local(local) => local.write(name, parts),
            Self::Remote(remote) => remote.write(name, parts),
        }
    }

    /// Every file's name.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::Local(local) => {
                let entries = fs::read_dir(&local.folder).into_iter().flatten().flatten();
                entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
            }
            Self::Remote(remote) => remote.objects.names("").unwrap_or_default(),
        }
    }

    /// Removes a file, if there is one.
    pub(super) fn remove(&mut self, name: &str) -> Result<()> {
        match self {
            Self::Local(local) => {
                let path = local.folder.join(name);
                if path.exists() {
                    fs::remove_file(&path).map_err(CheckpointError::file("remove", &path))
                } else {
                    Ok(())
                }
            }
            Self::Remote(remote) => remote.remove(name),
        }
    }

    /// Removes what only the place itself needs; refused, as it should be, while there is anything else.
    pub(super) fn clear(&mut self) {
        if let Self::Local(local) = self {
            let _ = fs::remove_file(local.folder.join(LOCK));
            let _ = fs::remove_dir(&local.folder);
        }
    }
}

impl LocalFolder {
    fn take(&mut self, location: &Location) -> Result<()> {
        let folder = &self.folder;
        let made = folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        self.made = made.map(Path::to_path_buf).collect();
        fs::create_dir_all(folder).map_err(CheckpointError::file("create the folder of", folder))?;
        let path = folder.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(CheckpointError::file("lock", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CheckpointError::Busy { folder: location.clone() }),
            Err(TryLockError::Error(source)) => return Err(CheckpointError::file("lock", path)(source)),
        }
        self.lock = Some(lock);
        Ok(())
    }

    fn write(&self, name: &str, parts: &[&[u8]]) -> Result<()> {
        let (path, temporary) = (self.folder.join(name), self.folder.join(format!(".{name}.new")));
        let write = || {
            let mut file = File::create(&temporary)?;
            parts.iter().try_for_each(|part| file.write_all(part))?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| {
            // What was there before is still whole; the half-written one is worth nothing.
            let _ = fs::remove_file(&temporary);
            CheckpointError::File { action: "write", path, source }
        })
    }
}

impl Drop for LocalFolder {
    /// Leaves nothing behind when there was nothing to save yet.
    fn drop(&mut self) {
        if self.lock.is_some() && !self.folder.join(CURRENT).exists() {
            let _ = fs::remove_file(self.folder.join(LOCK));
            self.made.iter().for_each(|folder| _ = fs::remove_dir(folder));
        }
    }
}

impl RemoteFolder {
    /// What [`CURRENT`] names is read in its place.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((bytes, _)) = self.objects.read(name)? else { return Ok(None) };
        if name != CURRENT {
            return Ok(Some(bytes));
        }
        let content = String::from_utf8_lossy(&bytes).trim().to_owned();
        let is_name = content.starts_with(CONTENT) && content.len() < CONTENT_CHARS_MAX && !content.contains('/');
        if !is_name {
            let (path, reason) = (self.location.join(CURRENT), "it names no content".to_owned());
            return Err(CheckpointError::Damaged { path, reason });
        }
        Ok(self.objects.read(&content)?.map(|(bytes, _)| bytes))
    }

    /// The content of [`CURRENT`] may be large, and what is written in parts cannot be written under a condition: it
    /// gets a name of its own, which a small object then points at.
    fn write(&mut self, name: &str, parts: &[&[u8]]) -> Result<()> {
        let bytes = parts.concat();
        if name != CURRENT {
            return Ok(self.objects.write(name, bytes)?);
        }
        let content = format!("{CONTENT}{}", blake3::hash(&bytes).to_hex());
        self.objects.write(&content, bytes)?;
        let pointer = format!("{content}\n").into_bytes();
        let written = match &self.seen {
            Some(seen) => self.objects.swap(CURRENT, seen, pointer)?,
            None => self.objects.create(CURRENT, pointer)?,
        };
        let Some(tag) = written else {
            return Err(CheckpointError::Overtaken { folder: self.location.clone() });
        };
        self.seen = Some(tag);
        self.sweep(&content)
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.objects.remove(name)?;
        if name == CURRENT {
            self.seen = None;
            self.sweep("")?;
        }
        Ok(())
    }

    /// Removes contents that nothing points at any more.
    fn sweep(&self, kept: &str) -> Result<()> {
        let names = self.objects.names("")?;
        let outdated = names.iter().filter(|name| name.starts_with(CONTENT) && *name != kept);
        Ok(outdated.into_iter().try_for_each(|name| self.objects.remove(name))?)
    }
}

/// The file that says where a training is.
pub(super) const CURRENT: &str = "current";
const LOCK: &str = "lock";
/// What names of contents begin with.
const CONTENT: &str = "content-";
const CONTENT_CHARS_MAX: usize = 80;
