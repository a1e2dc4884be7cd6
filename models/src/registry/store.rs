//! The registry.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
};

use nearcast_datasets::store::{Location, Objects};
use object_store::ObjectStore;
use serde::Serialize;

use crate::{
    Error, Manifest, Model, Result, VersionName,
    artifact::{self, MANIFEST},
    registry::{
        backend::{Backend, Local, Remote, Seen},
        name::is_alias,
    },
};

const ALIASES: &str = "aliases";
/// One file per number ever given out: what makes two publishers choose different ones, now and after deletions.
const CLAIMS: &str = "claims";
const VERSIONS: &str = "versions";
const FORMAT_FILE: &str = "format";
/// How this build lays a registry out.
const FORMAT: u32 = 1;
/// As much of an unreadable format as a message shows.
const FORMAT_CHARS: usize = 20;
/// Numbers tried before giving up on finding a free one.
const CLAIM_TRIES_MAX: u32 = 64;

/// One published version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionSummary {
    /// Its name.
    pub version: VersionName,
    /// Aliases that point at it.
    pub aliases: Vec<String>,
    /// Where it comes from and what it consists of.
    pub manifest: Manifest,
}

/// A directory or object-store prefix with model versions.
///
/// `versions/v0001/…` holds a version's files, `aliases/champion` the name of a version, `claims/v0001` reserves a
/// number. A version exists from when its manifest does, and that is written last. `format` says how all this is laid out;
/// a registry without it is of the first format.
#[derive(Debug)]
pub struct Registry {
    location: String,
    backend: Box<dyn Backend>,
    /// Set once the format was found to be this build's.
    checked: OnceLock<()>,
}

impl Registry {
    /// The registry at a directory or URL (`s3://`, `gs://`, `az://`, `file://`); a directory is made on first write.
    /// Object stores take their credentials from the environment.
    ///
    /// # Errors
    /// [`Error::Store`] when the place cannot be understood, or the environment has no credentials for it.
    pub fn open(location: &str) -> Result<Self> {
        let place = Location::parse(location)?;
        Ok(match place.local_path() {
            Some(path) => Self::with_backend(location, Local::new(path.to_owned())),
            None => Self::with_backend(location, Remote::new(Objects::open(&place)?)),
        })
    }

    /// The registry below `prefix` of an object store that the caller has set up.
    pub fn with_store(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self::with_backend(prefix, Remote::new(Objects::with_store(store, prefix)))
    }

    fn with_backend(location: &str, backend: impl Backend + 'static) -> Self {
        Self { location: location.to_owned(), backend: Box::new(backend), checked: OnceLock::new() }
    }

    /// Where the registry is, as it was opened.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Tells early whether publishing has a chance, so that no training is done in vain. Leaves nothing behind.
    ///
    /// # Errors
    /// What the file system or the store refused.
    pub fn check_writable(&self) -> Result<()> {
        self.check_format()?;
        self.backend.probe()
    }

    /// Publishes the saved version in `dir` under the next free number, which no other version has or ever had.
    ///
    /// # Errors
    /// The `Artifact…` variants when the version in `dir` is not whole, [`Error::PublishContended`] when too many
    /// publish at once; otherwise what the store refused.
    pub fn publish(&self, dir: &Path) -> Result<VersionName> {
        let path = dir.display().to_string();
        let read = |name: &str| artifact::files::read(&dir.join(name));
        let (_, files) = artifact::read_all(&path, read)?;
        let manifest = read(MANIFEST)?.unwrap_or_default();
        self.mark_format()?;
        let version = self.claim()?;
        for (name, bytes) in files.into_iter().chain([(MANIFEST.to_owned(), manifest)]) {
            self.backend.replace(&file_path(version, &name), bytes)?;
        }
        Ok(version)
    }

    /// Every version, oldest first.
    ///
    /// # Errors
    /// A manifest that cannot be read, or what the store refused.
    pub fn list(&self) -> Result<Vec<VersionSummary>> {
        self.check_format()?;
        let aliases = self.aliases()?;
        let mut versions = Vec::new();
        for version in self.names(VERSIONS)? {
            // Without a manifest it is still being published, or being deleted.
            if self.exists(version)? {
                let pointing = aliases.iter().filter(|(_, target)| **target == version);
                let aliases = pointing.map(|(alias, _)| alias.clone()).collect();
                versions.push(VersionSummary { version, aliases, manifest: self.manifest(version)? });
            }
        }
        Ok(versions)
    }

    /// The manifest of a version, without looking at its other files.
    ///
    /// # Errors
    /// The `Artifact…` variants when it cannot be understood.
    pub fn manifest(&self, version: VersionName) -> Result<Manifest> {
        artifact::read_manifest(&self.place(version), self.reader(version))
    }

    /// One file of a version, compared with its hash; `None` when the version has no such file.
    ///
    /// # Errors
    /// The `Artifact…` variants when the file is damaged or missing.
    pub fn file(&self, version: VersionName, name: &str) -> Result<Option<Vec<u8>>> {
        let manifest = self.manifest(version)?;
        if !manifest.files.contains_key(name) {
            return Ok(None);
        }
        manifest.check(&self.place(version), name, self.reader(version)).map(Some)
    }

    /// Loads the version with this name or behind this alias, after checking every hash.
    ///
    /// # Errors
    /// [`Error::AliasOrVersionUnknown`], or why the version is not usable.
    pub fn load(&self, name: &str) -> Result<(VersionName, Model)> {
        let version = self.resolve(name)?;
        Ok((version, Model::load_from(&self.place(version), self.reader(version))?))
    }

    /// The version with this name or behind this alias.
    ///
    /// # Errors
    /// [`Error::AliasOrVersionUnknown`].
    pub fn resolve(&self, name: &str) -> Result<VersionName> {
        self.check_format()?;
        let version = match name.parse() {
            Ok(version) => Some(version),
            Err(_) if is_alias(name) => self.read_alias(name)?,
            Err(_) => None,
        };
        match version {
            Some(version) if self.exists(version)? => Ok(version),
            _ => Err(self.unknown(name)),
        }
    }

    /// Every alias and the version behind it.
    ///
    /// # Errors
    /// What the store refused.
    pub fn aliases(&self) -> Result<BTreeMap<String, VersionName>> {
        let mut aliases = BTreeMap::new();
        for alias in self.backend.list(ALIASES)?.into_iter().filter(|name| is_alias(name)) {
            if let Some(version) = self.read_alias(&alias)? {
                aliases.insert(alias, version);
            }
        }
        Ok(aliases)
    }

    /// Points `alias` at `version` in one atomic step, unless somebody else does so at the same time: of two that race,
    /// one is refused.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::AliasOrVersionUnknown`] or [`Error::AliasMoved`].
    pub fn alias(&self, alias: &str, version: VersionName) -> Result<()> {
        if !is_alias(alias) {
            return Err(Error::Name { name: alias.to_owned() });
        }
        self.read_format()?;
        if !self.exists(version)? {
            return Err(self.unknown(&version.to_string()));
        }
        let path = alias_path(alias);
        let before = self.backend.look(&path)?;
        let text = format!("{version}\n").into_bytes();
        if !self.backend.swap(&path, &before, text.clone())? {
            let now = self.backend.read(&path)?;
            // A store may have carried out the first of two tries and refused the second.
            if now.as_ref() != Some(&text) {
                let now = now.map_or_else(|| "gone".to_owned(), |now| String::from_utf8_lossy(&now).trim().to_owned());
                return Err(Error::AliasMoved { alias: alias.to_owned(), now, wanted: version.to_string() });
            }
        }
        // `delete` removes the manifest and then looks for aliases: whichever of the two comes second sees the other.
        if self.exists(version)? {
            return Ok(());
        }
        self.put_back(&path, before, &text)?;
        Err(self.unknown(&version.to_string()))
    }

    /// Undoes a write of `text`, unless somebody has written since.
    fn put_back(&self, path: &str, before: Seen, text: &[u8]) -> Result<()> {
        let now = self.backend.look(path)?;
        if now.bytes.as_deref() != Some(text) {
            return Ok(());
        }
        match before.bytes {
            Some(bytes) => self.backend.swap(path, &now, bytes).map(drop),
            None => self.backend.remove(path),
        }
    }

    /// Reads every byte of a version and compares it with its manifest.
    ///
    /// # Errors
    /// [`Error::AliasOrVersionUnknown`]; the `Artifact…` variants say which file is wrong and how.
    pub fn verify(&self, version: VersionName) -> Result<Manifest> {
        if !self.exists(version)? {
            return Err(self.unknown(&version.to_string()));
        }
        Ok(artifact::read_all(&self.place(version), self.reader(version))?.0)
    }

    /// Deletes a version that no alias points at. Its number is not given out again.
    ///
    /// # Errors
    /// [`Error::AliasedVersion`] when an alias points at it, [`Error::AliasOrVersionUnknown`] when it does not exist.
    pub fn delete(&self, version: VersionName) -> Result<()> {
        self.read_format()?;
        self.check_unaliased(version)?;
        let path = file_path(version, MANIFEST);
        let manifest = self.backend.read(&path)?.ok_or_else(|| self.unknown(&version.to_string()))?;
        self.backend.remove(&path)?;
        // See `alias`.
        if let Err(refused) = self.check_unaliased(version) {
            self.backend.replace(&path, manifest)?;
            return Err(refused);
        }
        for name in self.backend.list(&format!("{VERSIONS}/{version}"))? {
            self.backend.remove(&file_path(version, &name))?;
        }
        Ok(())
    }

    /// Refuses a registry of a newer format; looks once.
    fn check_format(&self) -> Result<()> {
        if self.checked.get().is_none() {
            self.read_format()?;
            let _ = self.checked.set(());
        }
        Ok(())
    }

    /// Whether the registry says its format, which must be this build's or older.
    fn read_format(&self) -> Result<bool> {
        let Some(bytes) = self.backend.read(FORMAT_FILE)? else { return Ok(false) };
        let text = String::from_utf8_lossy(&bytes);
        match text.trim().parse::<u32>() {
            Ok(found) if found <= FORMAT => Ok(true),
            _ => {
                let found = text.trim().chars().take(FORMAT_CHARS).collect();
                Err(Error::RegistryFormat { registry: self.location.clone(), found, expected: FORMAT })
            }
        }
    }

    /// Writes the format before the first version, so that later builds know what they find.
    fn mark_format(&self) -> Result<()> {
        if !self.read_format()? && !self.backend.create(FORMAT_FILE, format!("{FORMAT}\n").into_bytes())? {
            self.read_format()?;
        }
        Ok(())
    }

    fn check_unaliased(&self, version: VersionName) -> Result<()> {
        match self.aliases()?.into_iter().find(|(_, target)| *target == version) {
            Some((alias, _)) => Err(Error::AliasedVersion { version: version.to_string(), alias }),
            None => Ok(()),
        }
    }

    /// Reserves a number that nobody else has.
    fn claim(&self) -> Result<VersionName> {
        let newest = self.names(CLAIMS)?.into_iter().chain(self.names(VERSIONS)?).max();
        let first = newest.map_or(1, |newest| newest.0.saturating_add(1));
        for number in (first..=u32::MAX).take(CLAIM_TRIES_MAX as usize) {
            let version = VersionName(number);
            if self.backend.create(&format!("{CLAIMS}/{version}"), Vec::new())? {
                return Ok(version);
            }
        }
        Err(Error::PublishContended { registry: self.location.clone(), tries: CLAIM_TRIES_MAX })
    }

    fn names(&self, folder: &str) -> Result<Vec<VersionName>> {
        let mut names: Vec<_> = self.backend.list(folder)?.iter().filter_map(|name| name.parse().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, version: VersionName) -> Result<bool> {
        Ok(self.backend.read(&file_path(version, MANIFEST))?.is_some())
    }

    fn read_alias(&self, alias: &str) -> Result<Option<VersionName>> {
        let Some(bytes) = self.backend.read(&alias_path(alias))? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        text.trim().parse().map(Some).map_err(|reason: String| Error::content(&alias_path(alias), reason))
    }

    fn reader(&self, version: VersionName) -> impl Fn(&str) -> Result<Option<Vec<u8>>> {
        move |name| self.backend.read(&file_path(version, name))
    }

    fn place(&self, version: VersionName) -> String {
        format!("{}/{VERSIONS}/{version}", self.location.trim_end_matches('/'))
    }

    fn unknown(&self, name: &str) -> Error {
        Error::AliasOrVersionUnknown { registry: self.location.clone(), name: name.to_owned() }
    }
}

fn file_path(version: VersionName, name: &str) -> String {
    format!("{VERSIONS}/{version}/{name}")
}

fn alias_path(alias: &str) -> String {
    format!("{ALIASES}/{alias}")
}
