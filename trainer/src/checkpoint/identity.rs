//! Which training a checkpoint belongs to: its configuration and the content of its log.

use std::{collections::BTreeMap, fs::File, path::Path};

use super::error::CheckpointError;
use crate::{
    RawTrainConfig, Result,
    evaluate::{differing, name_values},
    features::CodedLog,
};

/// A hash of what is in the log, wherever it lies: names, and every row.
pub(super) fn fingerprint(log: &CodedLog) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for names in [&log.keys, &log.regions] {
        for (code, name) in names.iter() {
            hasher.update(&code.to_le_bytes()).update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        }
    }
    hasher.update(&(log.clients as u64).to_le_bytes()).update(&log.rows.to_le_bytes());
    let rows = log.file();
    let read = File::open(&rows).and_then(|file| hasher.update_reader(file).map(drop));
    read.map_err(CheckpointError::file("compare the log with", rows))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// A short name for a training with this configuration and these logs.
///
/// # Errors
/// [`crate::Error::Config`] for a seed that TOML cannot hold.
pub fn checkpoint_name(config: &RawTrainConfig, logs: &[String]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for (name, value) in settings(config)?.into_iter().filter(|(name, _)| !LENGTHS.contains(&name.as_str())) {
        hasher.update(name.as_bytes()).update(b"=").update(value.as_bytes()).update(b"\n");
    }
    logs.iter().for_each(|log| _ = hasher.update(log.as_bytes()).update(b"\n"));
    Ok(hasher.finalize().to_hex()[..NAME_CHARS].to_owned())
}

/// What differs between the configuration of a checkpoint and the one given, in words; `None` when nothing that matters
/// does. While it is still searched how long to fit (`may_go_on`), the bounds of that search may be moved.
pub(super) fn difference(saved: &str, config: &RawTrainConfig, may_go_on: bool) -> Result<Option<String>> {
    let saved: RawTrainConfig = nearcast_proto::config_file::parse(Path::new("checkpoint"), saved)?;
    let differing = differing(&settings(&saved)?, &settings(config)?);
    let differing = differing.into_iter().filter(|found| !(may_go_on && LENGTHS.contains(&found.name.as_str())));
    let word = |value: Option<String>| value.unwrap_or_else(|| "not set".to_owned());
    let said: Vec<String> = differing
        .map(|found| format!("`{}` is {} there and {} here", found.name, word(found.a), word(found.b)))
        .collect();
    Ok((!said.is_empty()).then(|| said.join(", ")))
}

/// Every setting that decides what comes out.
fn settings(config: &RawTrainConfig) -> Result<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    name_values("", &toml::Value::Table(config.table()?), &mut settings);
    settings.retain(|name, _| !RESOURCES.contains(&name.as_str()));
    Ok(settings)
}

/// What decides where and how fast features are computed, but not what they are.
const RESOURCES: [&str; 5] =
    ["features.engine", "features.memory_mib", "features.scratch", "features.shared", "features.spill_mib"];
/// How long it is searched, but not by which way.
const LENGTHS: [&str; 2] = ["fit.epochs_max", "fit.patience"];
const NAME_CHARS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: &[&str]) -> RawTrainConfig {
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        RawTrainConfig::default().set(&settings).unwrap()
    }

    #[test]
    fn settings_that_decide_the_result_make_another_training() {
        let saved = config(&["seed=1"]).table().unwrap().to_string();
        let differs = |settings: &[&str], may_go_on| difference(&saved, &config(settings), may_go_on).unwrap();
        assert_eq!(differs(&["seed=1", "features.scratch=/x", "features.memory_mib=64"], false), None);
        assert_eq!(differs(&["seed=2"], true).as_deref(), Some("`seed` is 1 there and 2 here"));
        assert_eq!(differs(&["seed=1", "fit.epochs_max=3"], true), None);
        assert!(differs(&["seed=1", "fit.epochs_max=3"], false).unwrap().contains("`fit.epochs_max` is 10 there"));
    }

    #[test]
    fn the_name_follows_configuration_and_logs() {
        let name = |settings: &[&str], log: &str| checkpoint_name(&config(settings), &[log.to_owned()]).unwrap();
        assert_eq!(name(&[], "a"), name(&["fit.epochs_max=3", "features.scratch=/x"], "a"));
        assert_ne!(name(&[], "a"), name(&["seed=1"], "a"));
        assert_ne!(name(&[], "a"), name(&[], "b"));
        assert_eq!(name(&[], "a").len(), NAME_CHARS);
    }
}
