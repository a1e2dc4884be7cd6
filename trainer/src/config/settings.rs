//! Single values of the training configuration, as the command line sets them.

use std::path::Path;

use nearcast_proto::config_file::{from_table, nearest};
use toml::{Table, Value};

use super::RawTrainConfig;
use crate::{Error, Result};

impl RawTrainConfig {
    /// This configuration with values set by name, such as `fit.epochs_max=3` or `model.sequence.lanes=64`. A value that
    /// is no TOML is taken for a string.
    ///
    /// # Errors
    /// [`Error::Setting`] for a section that does not exist, [`Error::ConfigFile`] for an unknown key or a value of
    /// another type; both name the nearest known name.
    pub fn set(self, settings: &[String]) -> Result<Self> {
        if settings.is_empty() {
            return Ok(self);
        }
        let mut table = self.table()?;
        for setting in settings {
            let refused = |reason| Error::Setting { setting: setting.clone(), reason };
            place(&mut table, setting).map_err(refused)?;
        }
        Ok(from_table(Path::new("--set"), table)?)
    }

    /// Every value by section, but for those that are not set.
    ///
    /// # Errors
    /// [`Error::Config`] for a seed that TOML cannot hold.
    pub(crate) fn table(&self) -> Result<Table> {
        let (field, expected) = ("seed", "at most 9223372036854775807");
        Table::try_from(self).map_err(|_| Error::Config { field, value: self.seed.to_string(), expected })
    }
}

/// Writes the value of a setting where its name says.
fn place(table: &mut Table, setting: &str) -> Result<(), String> {
    let (name, text) = setting.split_once('=').ok_or("it has no `=`")?;
    let name = name.trim();
    let (path, key) = name.rsplit_once('.').unwrap_or(("", name));
    let mut at = table;
    for section in path.split('.').filter(|section| !section.is_empty()) {
        if !at.get(section).is_some_and(Value::is_table) {
            let sections = at.iter().filter(|(_, value)| value.is_table()).map(|(name, _)| name.as_str());
            let hint = nearest(section, sections).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            return Err(format!("there is no section `{section}`{hint}"));
        }
        at = at.get_mut(section).and_then(Value::as_table_mut).ok_or("it names no section")?;
    }
    if at.get(key).is_some_and(Value::is_table) {
        return Err(format!("`{key}` is a section"));
    }
    at.insert(key.to_owned(), value(text.trim()));
    Ok(())
}

fn value(text: &str) -> Value {
    let parsed: Option<Table> = format!("value = {text}").parse().ok();
    let only = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    only.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrainConfig;

    /// `section.key` of every value.
    fn names(prefix: &str, table: &Table, found: &mut Vec<(String, Value)>) {
        for (key, value) in table {
            match value {
                Value::Table(inner) => names(&format!("{prefix}{key}."), inner, found),
                value => found.push((format!("{prefix}{key}"), value.clone())),
            }
        }
    }

    #[test]
    fn every_value_of_the_configuration_can_be_set_by_name() {
        let mut found = Vec::new();
        names("", &RawTrainConfig::default().table().unwrap(), &mut found);
        assert!(found.len() > 40, "{found:?}");
        for (name, value) in found {
            let raw = RawTrainConfig::default().set(&[format!("{name}={value}")]).unwrap();
            TrainConfig::try_from(raw).unwrap();
        }
    }

    #[test]
    fn a_setting_replaces_what_was_there_and_the_last_one_wins() {
        let settings = ["fit.epochs_max=3", "seed = 7", "model.sequence.learning_rate=1", "fit.epochs_max=4"];
        let raw = RawTrainConfig::default().set(&settings.map(str::to_owned)).unwrap();
        assert_eq!((raw.fit.epochs_max, raw.seed), (4, 7));
        assert!((raw.model.sequence.learning_rate - 1.0).abs() < 1e-12);
        let raw = raw.set(&["features.scratch=/a b".to_owned()]).unwrap();
        assert_eq!(raw.features.scratch.unwrap().to_str(), Some("/a b"));
    }

    #[test]
    fn what_cannot_be_set_is_refused_with_the_nearest_name() {
        let problem = |setting: &str| RawTrainConfig::default().set(&[setting.to_owned()]).unwrap_err().to_string();
        for (setting, words) in [
            ("fit.epoch_max=3", &["unknown field `epoch_max`", "did you mean `epochs_max`?"][..]),
            ("fits.epochs_max=3", &["no section `fits`", "did you mean `fit`?"]),
            ("model.sequenc.lanes=3", &["no section `sequenc`", "did you mean `sequence`?"]),
            ("fit=3", &["`fit` is a section"]),
            ("fit.epochs_max", &["it has no `=`"]),
            ("fit.epochs_max=many", &["invalid type", "many"]),
        ] {
            let said = problem(setting);
            assert!(words.iter().all(|word| said.contains(word)), "{setting}: {said}");
        }
    }
}
