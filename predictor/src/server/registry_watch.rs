//! Follows the registry's alias: a new version behind it is loaded, checked and put into service.

use std::{sync::Arc, time::Duration};

use nearcast_models::{Error as ModelsError, Registry, VersionName};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{explain, input::Input, inputs::Inputs};

/// Looks at one alias of one registry.
#[derive(Debug)]
pub(super) struct RegistryWatch {
    registry: Arc<Registry>,
    alias: String,
    pause: Duration,
    inputs: Inputs,
    in_service: Option<VersionName>,
    /// A version that could not be loaded, and how many looks pass before it is tried again.
    refused: Option<(VersionName, u32)>,
    /// Whether the last look failed, so that only the first failure in a row is reported.
    is_failing: bool,
}

impl RegistryWatch {
    pub(super) fn new(registry: Arc<Registry>, alias: String, pause: Duration, inputs: Inputs) -> Self {
        Self { registry, alias, pause, inputs, in_service: None, refused: None, is_failing: false }
    }

    /// Looks, pauses and looks again until `shutdown`. Sets `ready` after the first look.
    pub(super) async fn run(mut self, ready: watch::Sender<bool>, shutdown: CancellationToken) {
        let follow = async {
            loop {
                self.look().await;
                ready.send_if_modified(|is_ready| !std::mem::replace(is_ready, true));
                sleep(self.pause).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = follow => {}
        }
    }

    async fn look(&mut self) {
        let (registry, alias) = (Arc::clone(&self.registry), self.alias.clone());
        let resolved = spawn_blocking(move || registry.resolve(&alias)).await;
        match resolved {
            Ok(Ok(version)) => {
                self.is_failing = false;
                if self.is_worth_loading(version) {
                    self.load(version).await;
                }
            }
            // A registry that is still empty is how every installation begins.
            Ok(Err(ModelsError::AliasOrVersionUnknown { .. })) => self.is_failing = false,
            Ok(Err(error)) => self.report_failure(&error),
            Err(error) => self.report_failure(&error),
        }
    }

    fn is_worth_loading(&mut self, version: VersionName) -> bool {
        if self.in_service == Some(version) {
            self.refused = None;
            return false;
        }
        match &mut self.refused {
            Some((refused, looks)) if *refused == version && *looks > 0 => {
                *looks -= 1;
                false
            }
            _ => true,
        }
    }

    async fn load(&mut self, version: VersionName) {
        let registry = Arc::clone(&self.registry);
        let loaded = spawn_blocking(move || registry.load(&version.to_string())).await;
        let name: Arc<str> = Arc::from(version.to_string());
        let input = match loaded {
            Ok(Ok((_, model))) => {
                (self.in_service, self.refused) = (Some(version), None);
                Input::InstallModel { version: name, model: Arc::new(model) }
            }
            Ok(Err(error)) => self.refuse(version, name, explain(&error)),
            Err(error) => self.refuse(version, name, explain(&error)),
        };
        // At shutdown the engine may be gone first.
        let _ = self.inputs.tell(input).await;
    }

    fn refuse(&mut self, version: VersionName, name: Arc<str>, reason: String) -> Input {
        self.refused = Some((version, RETRY_LOOKS));
        Input::RefuseModel { version: name, reason }
    }

    fn report_failure(&mut self, error: &dyn std::error::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(error = %explain(error), "the registry does not answer; the running model stays in service");
        }
    }
}

/// A damaged version may be restored under its name, but reading it at every look would be in vain.
const RETRY_LOOKS: u32 = 30;
