//! The registry's versions, looked at from time to time while somebody reads.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use nearcast_models::{Registry, VersionSummary};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::events::rfc3339;

/// What was seen last.
#[derive(Debug)]
pub(super) struct RegistryView {
    registry: Option<Arc<Registry>>,
    is_read: AtomicBool,
    seen: Mutex<Seen>,
}

/// The versions as the page tells of them.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Seen {
    /// The latest first, at most [`VERSIONS_TOLD_MAX`].
    versions: Vec<Version>,
    versions_count: usize,
    /// Why the last look failed.
    error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Version {
    version: String,
    aliases: Vec<String>,
    created_at: String,
    code_version: String,
    training_requests: u64,
    training_first_at: String,
    training_last_at: String,
}

impl RegistryView {
    pub(super) fn new(registry: Option<Arc<Registry>>) -> Self {
        // The first reader need not wait for the next look.
        let is_read = AtomicBool::new(true);
        Self { registry, is_read, seen: Mutex::default() }
    }

    /// Looks, if anybody has read what was seen last.
    pub(super) async fn look(&self) {
        let Some(registry) = self.registry.clone().filter(|_| self.is_read.swap(false, Ordering::Relaxed)) else {
            return;
        };
        let listed = match spawn_blocking(move || registry.list()).await {
            Ok(Ok(listed)) => Ok(listed),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match listed {
            Ok(listed) => {
                let versions = listed.iter().rev().take(VERSIONS_TOLD_MAX).map(Version::from).collect();
                *seen = Seen { versions, versions_count: listed.len(), error: None };
            }
            Err(error) => seen.error = Some(error),
        }
    }

    /// `None` without a registry.
    pub(super) fn read(&self) -> Option<Seen> {
        self.registry.as_ref()?;
        self.is_read.store(true, Ordering::Relaxed);
        Some(self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl From<&VersionSummary> for Version {
    fn from(summary: &VersionSummary) -> Self {
        let VersionSummary { version, aliases, manifest } = summary;
        Self {
            version: version.to_string(),
            aliases: aliases.clone(),
            created_at: rfc3339(manifest.created),
            code_version: manifest.code_version.clone(),
            training_requests: manifest.training.requests,
            training_first_at: rfc3339(manifest.training.first),
            training_last_at: rfc3339(manifest.training.last),
        }
    }
}

const VERSIONS_TOLD_MAX: usize = 50;
