//! Clients in parts: what is learnt of each can be written down, handed to another engine and gone on with.
//!
//! A client is always of the same part ([`Engine::part_of`]). Sessions and co-access are learnt per part and from that
//! part's requests alone, so that they are the same whichever engine learns them, and with whatever other parts. An
//! engine by itself has one part.
//!
//! Engines number keys differently, so that with several parts numbers must not decide anything that is learnt
//! ([`CoAccess::whatever_the_numbers`](nearcast_models::CoAccess::whatever_the_numbers)). What is forgotten when an
//! engine knows `keys_max` keys depends on all that it knows: there a part may differ from one that never moved.

use nearcast_datasets::{KeyId, Map, Timestamp};
use nearcast_models::{
    BlendSession, CoAccessCounters, CoAccessEntryState, CoAccessSlotState, CoAccessState, TrainedCoAccess,
};
use serde::{Deserialize, Serialize};

use super::{
    Engine,
    candidates::{CoAccessSources, CoAccessSourcesState, Scope},
    config::EngineSettings,
    sessions::{SessionState, Sessions},
};

/// What is learnt of some of the clients.
#[derive(Debug)]
pub(super) struct Part {
    pub sessions: Sessions<BlendSession>,
    pub coaccess: CoAccessSources,
}

/// What is learnt of all clients.
#[derive(Debug)]
pub(super) struct Parts(Vec<Part>);

/// One part, written down. Keys and regions go by their names, numbers by their bits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartState {
    names: Vec<String>,
    client: TableState,
    region: TableState,
    /// A region's name and the last keys that were asked for there, newest first.
    streams: Vec<(String, Vec<u32>)>,
    sessions: Vec<StoredSession>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct TableState {
    entries: Vec<StoredEntry>,
    keys_replaced: u64,
    successors_replaced: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredEntry {
    key: u32,
    at_us: i64,
    occurrences: u32,
    /// Key, claim, inherited.
    slots: Vec<(u32, u32, u32)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredSession {
    client: u64,
    recent: Vec<u32>,
    length: u32,
    last_at_us: i64,
    habits: Vec<(u32, u32)>,
}

/// A part that was written down does not make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part names a key that it does not list, or is not one that there is")]
pub struct StateUnreadable;

impl Part {
    fn new(settings: &EngineSettings, partitions: u32) -> Self {
        let share = |max: usize| max.div_ceil(partitions as usize);
        let table = |config: &nearcast_models::CoAccessConfig| {
            let keys_max = share(config.keys_max);
            nearcast_models::CoAccessConfig { keys_max, ..config.clone() }
        };
        let coaccess = CoAccessSources::new(&table(&settings.client), &table(&settings.region));
        let coaccess = coaccess.expect("the engine's configuration was checked");
        Self {
            sessions: Sessions::new(share(settings.clients_max), settings.session_gap()),
            // Each engine numbers keys in an order of its own.
            coaccess: if partitions > 1 { coaccess.whatever_the_numbers() } else { coaccess },
        }
    }
}

impl Parts {
    /// So many parts, which share the bounds of one engine.
    pub(super) fn new(settings: &EngineSettings, partitions: u32) -> Self {
        Self((0..partitions.max(1)).map(|_| Part::new(settings, partitions.max(1))).collect())
    }

    /// A client's.
    pub(super) fn of(&mut self, client: u64) -> &mut Part {
        let index = part_of(client, self.0.len() as u32) as usize;
        &mut self.0[index]
    }

    pub(super) fn forget(&mut self, key: KeyId) {
        self.0.iter_mut().for_each(|part| part.coaccess.forget(key));
    }

    /// Takes the counts of a trained model over. They are of all clients: parts that are handed over would each hand
    /// over the same again, so that only one by itself does.
    pub(super) fn take_over(&mut self, now: Timestamp, trained: &TrainedCoAccess, numbers: &Map<u32, KeyId>) {
        if let [part] = &mut self.0[..] {
            part.coaccess.take_over(now, trained, numbers);
        }
    }

    pub(super) fn counters(&self, scope: Scope) -> CoAccessCounters {
        let parts = self.0.iter().map(|part| part.coaccess.counters(scope));
        parts.fold(CoAccessCounters::default(), |all, part| CoAccessCounters {
            keys: all.keys + part.keys,
            keys_replaced: all.keys_replaced + part.keys_replaced,
            successors_replaced: all.successors_replaced + part.successors_replaced,
        })
    }

    pub(super) fn clients(&self) -> usize {
        self.0.iter().map(|part| part.sessions.len()).sum()
    }

    pub(super) fn clients_forgotten(&self) -> u64 {
        self.0.iter().map(|part| part.sessions.forgotten).sum()
    }
}

impl Engine {
    /// Divides clients in so many parts; what was learnt so far is forgotten.
    #[must_use]
    pub fn divided(mut self, partitions: u32) -> Self {
        self.partitions = partitions.max(1);
        self.learnt.parts = Parts::new(self.config.settings(), self.partitions);
        self
    }

    /// In how many parts it divides them.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The part of a client, of so many.
    pub fn part_of(client: u64, partitions: u32) -> u32 {
        part_of(client, partitions)
    }

    /// What was learnt of a part, if there is such a part.
    pub fn part(&self, part: u32) -> Option<PartState> {
        let part = self.learnt.parts.0.get(part as usize)?;
        let mut names = Names { engine: self, numbers: Map::default(), names: Vec::new() };
        let state = part.coaccess.state();
        let streams = state.streams.iter().enumerate().filter(|(_, recent)| !recent.is_empty());
        let named = streams.filter_map(|(region, recent)| {
            Some((self.regions.name(u32::try_from(region).ok()?)?.as_ref().to_owned(), recent))
        });
        // Each engine numbers regions in an order of its own.
        let mut named: Vec<(String, &Vec<KeyId>)> = named.collect();
        named.sort_unstable();
        let number =
            |(region, recent): (String, &Vec<KeyId>)| (region, recent.iter().map(|key| names.number(*key)).collect());
        let streams = named.into_iter().map(number).collect();
        Some(PartState {
            client: stored_table(state.client, &mut names),
            region: stored_table(state.region, &mut names),
            streams,
            sessions: part.sessions.states().map(|session| stored_session(&session, &mut names)).collect(),
            names: names.names,
        })
    }

    /// Goes on with what was learnt of a part elsewhere; without anything, the part begins anew.
    ///
    /// # Errors
    /// [`StateUnreadable`]; nothing has changed then.
    pub fn resume_part(&mut self, part: u32, state: Option<PartState>) -> Result<(), StateUnreadable> {
        let mut fresh = Part::new(self.config.settings(), self.partitions);
        if let Some(state) = state {
            let keys: Vec<KeyId> = state.names.iter().map(|name| self.intern_key(name)).collect();
            let key = |number: u32| keys.get(number as usize).copied().ok_or(StateUnreadable);
            let mut streams = Vec::new();
            for (region, recent) in &state.streams {
                let region = usize::from(self.intern_region(region).0);
                streams.resize(streams.len().max(region + 1), Vec::new());
                streams[region] = recent.iter().map(|number| key(*number)).collect::<Result<_, _>>()?;
            }
            let (client, region) = (table_state(state.client, &key)?, table_state(state.region, &key)?);
            let resumed = fresh.coaccess.resume(CoAccessSourcesState { client, region, streams });
            resumed.map_err(|_| StateUnreadable)?;
            for session in state.sessions {
                fresh.sessions.resume(session_state(&session, &key)?);
            }
        }
        let place = self.learnt.parts.0.get_mut(part as usize).ok_or(StateUnreadable)?;
        *place = fresh;
        Ok(())
    }
}

/// Numbers names as they are met.
struct Names<'a> {
    engine: &'a Engine,
    numbers: Map<KeyId, u32>,
    names: Vec<String>,
}

impl Names<'_> {
    fn number(&mut self, key: KeyId) -> u32 {
        let next = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(key).or_insert_with(|| {
            let name = self.engine.key_name(key).map_or("", |name| name);
            self.names.push(name.to_owned());
            next
        })
    }
}

fn part_of(client: u64, partitions: u32) -> u32 {
    u32::try_from(client % u64::from(partitions.max(1))).unwrap_or_default()
}

fn stored_table(state: CoAccessState, names: &mut Names<'_>) -> TableState {
    let mut entry = |entry: CoAccessEntryState| StoredEntry {
        key: names.number(entry.key),
        at_us: entry.at.micros(),
        occurrences: entry.occurrences.to_bits(),
        slots: (entry.slots.iter())
            .map(|slot| (names.number(slot.key), slot.claim.to_bits(), slot.inherited.to_bits()))
            .collect(),
    };
    TableState {
        entries: state.entries.into_iter().map(&mut entry).collect(),
        keys_replaced: state.keys_replaced,
        successors_replaced: state.successors_replaced,
    }
}

fn table_state(
    stored: TableState,
    key: &impl Fn(u32) -> Result<KeyId, StateUnreadable>,
) -> Result<CoAccessState, StateUnreadable> {
    let slot = |(number, claim, inherited): &(u32, u32, u32)| {
        let (claim, inherited) = (f32::from_bits(*claim), f32::from_bits(*inherited));
        Ok(CoAccessSlotState { key: key(*number)?, claim, inherited })
    };
    let entry = |entry: StoredEntry| {
        Ok(CoAccessEntryState {
            key: key(entry.key)?,
            at: Timestamp::from_micros(entry.at_us),
            occurrences: f32::from_bits(entry.occurrences),
            slots: entry.slots.iter().map(slot).collect::<Result<_, _>>()?,
        })
    };
    Ok(CoAccessState {
        entries: stored.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        keys_replaced: stored.keys_replaced,
        successors_replaced: stored.successors_replaced,
    })
}

fn stored_session(session: &SessionState, names: &mut Names<'_>) -> StoredSession {
    StoredSession {
        client: session.client,
        recent: session.recent.iter().map(|key| names.number(*key)).collect(),
        length: session.length,
        last_at_us: session.last_at.micros(),
        habits: session.habits.iter().map(|(key, weight)| (names.number(*key), weight.to_bits())).collect(),
    }
}

fn session_state(
    stored: &StoredSession,
    key: &impl Fn(u32) -> Result<KeyId, StateUnreadable>,
) -> Result<SessionState, StateUnreadable> {
    let habit = |(number, weight): &(u32, u32)| Ok((key(*number)?, f32::from_bits(*weight)));
    Ok(SessionState {
        client: stored.client,
        recent: stored.recent.iter().map(|number| key(*number)).collect::<Result<_, _>>()?,
        length: stored.length,
        last_at: Timestamp::from_micros(stored.last_at_us),
        habits: stored.habits.iter().map(habit).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests;
