//! A table to the last bit, so that another process can go on with it.

use nearcast_datasets::{KeyId, Timestamp};

use super::{
    CoAccess, CoAccessConfig,
    entry::{Entry, Slot},
};
use crate::Result;

/// Everything that a table knows, as it counts it: unlike [`CoAccessRow`](crate::CoAccessRow)s, which are decayed to one
/// instant and leave out what was inherited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CoAccessState {
    /// The keys, the one to make room next first.
    pub entries: Vec<CoAccessEntryState>,
    /// Keys that made room because `keys_max` was reached.
    pub keys_replaced: u64,
    /// Successors that made room because `successors_per_key` was reached.
    pub successors_replaced: u64,
}

/// One key's counts.
#[derive(Clone, Debug, PartialEq)]
pub struct CoAccessEntryState {
    /// The key.
    pub key: KeyId,
    /// The instant that the counts are decayed to.
    pub at: Timestamp,
    /// How often it was asked for.
    pub occurrences: f32,
    /// What followed it.
    pub slots: Vec<CoAccessSlotState>,
}

/// One successor's count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoAccessSlotState {
    /// The successor.
    pub key: KeyId,
    /// What it defends its place with.
    pub claim: f32,
    /// The part of the claim that was inherited from a replaced successor.
    pub inherited: f32,
}

impl CoAccess {
    /// Everything the table knows.
    pub fn state(&self) -> CoAccessState {
        let slot = |slot: &Slot| CoAccessSlotState { key: slot.key, claim: slot.claim, inherited: slot.inherited };
        let entry = |(key, entry): (&KeyId, &Entry)| CoAccessEntryState {
            key: *key,
            at: entry.at,
            occurrences: entry.occurrences,
            slots: self.living(entry).map(slot).collect(),
        };
        let (keys_replaced, successors_replaced) = (self.counters.keys_replaced, self.counters.successors_replaced);
        CoAccessState { entries: self.entries.iter().rev().map(entry).collect(), keys_replaced, successors_replaced }
    }

    /// A table that goes on from a state.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when a value of `config` is out of its range.
    pub fn from_state(config: &CoAccessConfig, state: CoAccessState) -> Result<Self> {
        let mut table = Self::new(config)?;
        for CoAccessEntryState { key, at, occurrences, slots } in state.entries {
            let slot = |slot: CoAccessSlotState| Slot { key: slot.key, claim: slot.claim, inherited: slot.inherited };
            let slots = slots.into_iter().map(slot).collect();
            table.entries.put(key, Entry { at, occurrences, forgettings: 0, slots });
        }
        table.counters.keys_replaced = state.keys_replaced;
        table.counters.successors_replaced = state.successors_replaced;
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_taken_up_again_counts_on_as_if_nothing_had_happened() {
        let config = CoAccessConfig { keys_max: 40, successors_per_key: 3, half_life_seconds: 60.0, prior_weight: 2.0 };
        let mut whole = CoAccess::new(&config).unwrap();
        let mut handed_over = CoAccess::new(&config).unwrap();
        let mut seed = 1_u32;
        for step in 0..5_000_u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (from, to) = (KeyId(seed >> 8 & 63), KeyId(seed >> 16 & 63));
            let now = Timestamp::from_micros(i64::from(step) * 70_000);
            for table in [&mut whole, &mut handed_over] {
                table.record(now, from);
                table.observe(now, from, to, 1.0);
                if step % 97 == 0 {
                    table.forget(to);
                }
            }
            if step % 300 == 0 {
                handed_over = CoAccess::from_state(&config, handed_over.state()).unwrap();
            }
        }
        assert!(whole.counters().keys_replaced > 0 && whole.counters().successors_replaced > 0);
        assert_eq!(handed_over.state(), whole.state());
        assert_eq!(handed_over.counters(), whole.counters());
    }
}
