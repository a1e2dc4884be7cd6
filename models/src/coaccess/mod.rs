//! The co-access model: which keys follow which, counted as the stream goes by and forgotten with time.

mod config;
mod entry;
mod state;
mod table;
mod trained;

pub use config::CoAccessConfig;
pub use state::{CoAccessEntryState, CoAccessSlotState, CoAccessState};
pub use table::{CoAccess, CoAccessCounters, Successor};
pub use trained::{CoAccessRow, TrainedCoAccess};

#[cfg(test)]
mod tests;
