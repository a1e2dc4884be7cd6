//! Commands name several segments, the core works on one at a time: this brings their ends together again.

use nearcast_datasets::Map;
use nearcast_proto::message::{CommandId, CommandStatus};

/// Commands whose segments have not all ended yet. Bounded by what the core's queue and flights hold, since each entry
/// has at least one segment there.
#[derive(Clone, Debug, Default)]
pub struct CommandLedger {
    commands: Map<CommandId, Progress>,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    segments_left: usize,
    status: CommandStatus,
    bytes: u64,
}

impl CommandLedger {
    /// A command for so many segments begins: call before any of them is handed to the core.
    pub fn start(&mut self, command: CommandId, segment_count: usize) {
        if segment_count > 0 {
            let status = CommandStatus::AlreadyPresent;
            self.commands.insert(command, Progress { segments_left: segment_count, status, bytes: 0 });
        }
    }

    /// One segment of a command ended, as [`NodeEvent::Result`](super::NodeEvent::Result) tells. When it was the last,
    /// the command's own end: done if any segment was fetched, else the least fortunate of its segments.
    pub fn record(&mut self, command: CommandId, status: CommandStatus, bytes: u64) -> Option<(CommandStatus, u64)> {
        let progress = self.commands.get_mut(&command)?;
        progress.bytes += bytes;
        progress.segments_left -= 1;
        if weight(status) > weight(progress.status) {
            progress.status = status;
        }
        if progress.segments_left > 0 {
            return None;
        }
        let Progress { status, bytes, .. } = self.commands.remove(&command)?;
        Some((status, bytes))
    }

    /// Commands under way.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether no command is under way.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}

/// Which of two segments' ends says more about the command.
fn weight(status: CommandStatus) -> u8 {
    match status {
        CommandStatus::AlreadyPresent => 0,
        CommandStatus::Expired => 1,
        CommandStatus::Rejected => 2,
        CommandStatus::Failed => 3,
        CommandStatus::Done => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_with_its_last_segment() {
        let mut ledger = CommandLedger::default();
        ledger.start(CommandId(1), 3);
        assert_eq!(ledger.record(CommandId(1), CommandStatus::Done, 10), None);
        assert_eq!(ledger.record(CommandId(1), CommandStatus::Failed, 0), None);
        assert_eq!(ledger.record(CommandId(1), CommandStatus::Done, 5), Some((CommandStatus::Done, 15)));
        assert_eq!((ledger.record(CommandId(1), CommandStatus::Done, 1), ledger.len()), (None, 0));
    }
}
