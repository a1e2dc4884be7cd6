//! Numbers that stay unique across restarts.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::Path,
};

use nearcast_proto::message::{CommandId, Epoch};

use crate::{Error, Result, whole::replace_file};

/// How often the predictor was started on its data folder.
///
/// The engine numbers commands from its own start. With the generation in front, an outcome of a command of an earlier
/// life is not taken for one of this life, and cache maps of a later life are newer for every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    /// Begins the next generation of a data folder, which is made if absent.
    ///
    /// # Errors
    /// [`Error::File`] when the folder cannot be written. A damaged file is an error as well: starting from zero again
    /// would let nodes ignore the new cache maps.
    pub(crate) fn begin(data_dir: &Path) -> Result<Self> {
        fs::create_dir_all(data_dir).map_err(Error::file("create", data_dir))?;
        let path = data_dir.join("generation");
        let previous = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse::<u32>().map_err(|_| std::io::Error::from(ErrorKind::InvalidData)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        };
        let next = Self(previous.map_err(Error::file("read", &path))? + 1);
        replace_file(&path, |file| writeln!(file, "{}", next.0)).map_err(Error::file("write", &path))?;
        Ok(next)
    }

    /// A generation that was given out elsewhere.
    pub(crate) fn numbered(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// The number under which nodes know an engine's command.
    pub(crate) fn command(self, engine: CommandId) -> CommandId {
        CommandId((u64::from(self.0) << COMMAND_BITS) | (engine.0 & COMMAND_MASK))
    }

    /// The engine's number of a command, unless it is of another generation.
    pub(crate) fn engine_command(self, node: CommandId) -> Option<CommandId> {
        (node.0 >> COMMAND_BITS == u64::from(self.0)).then_some(CommandId(node.0 & COMMAND_MASK))
    }

    /// The epoch after `changes` changes of membership.
    pub(crate) fn epoch(self, changes: u32) -> Epoch {
        Epoch((u64::from(self.0) << 32) | u64::from(changes))
    }
}

/// A trillion commands per life, sixteen million lives.
const COMMAND_BITS: u32 = 40;
const COMMAND_MASK: u64 = (1 << COMMAND_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_is_a_new_generation_with_newer_epochs_and_other_commands() {
        let folder = tempfile::tempdir().unwrap();
        let first = Generation::begin(&folder.path().join("new")).unwrap();
        let second = Generation::begin(&folder.path().join("new")).unwrap();
        assert!(second.epoch(0) > first.epoch(u32::MAX));
        let command = first.command(CommandId(7));
        assert_eq!(first.engine_command(command), Some(CommandId(7)));
        assert_eq!(second.engine_command(command), None);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("generation"), "x").unwrap();
        assert!(matches!(Generation::begin(folder.path()), Err(Error::File { .. })));
    }
}
