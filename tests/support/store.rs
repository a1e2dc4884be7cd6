//! Commands that find a store by their environment.

use std::{env, process::Command};

use crate::service::nearcast;

/// `nearcast ARGUMENTS…` in an environment that leads to a store with `variables`, and to no other.
pub(crate) fn nearcast_at(variables: &[(&'static str, String)], arguments: &[&str]) -> Command {
    let mut command = nearcast(arguments);
    let others = env::vars().filter(|(name, _)| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|p| name.starts_with(p)));
    others.for_each(|(name, _)| _ = command.env_remove(name));
    command.envs(variables.iter().map(|(name, value)| (*name, value)));
    command
}
