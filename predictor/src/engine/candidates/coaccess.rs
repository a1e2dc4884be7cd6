//! Candidates from co-access: what follows what, for one client and in a region's whole stream.

use nearcast_datasets::{KeyId, Map, Timestamp};
use nearcast_models::{
    CoAccess, CoAccessConfig, CoAccessCounters, CoAccessRow, CoAccessState, Successor, TrainedCoAccess,
};

use super::{CandidateSource, Merged};

/// Whose requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Scope {
    /// One client's.
    Client,
    /// A region's, whoever asks.
    Region,
}

impl Scope {
    fn source(self) -> CandidateSource {
        match self {
            Self::Client => CandidateSource::Client,
            Self::Region => CandidateSource::Region,
        }
    }
}

/// How many of a region's last requests count as just before.
const REGION_WINDOW: usize = 3;
/// How many successors of a key are proposed per scope.
const PROPOSED_MAX: usize = 10;
/// Successors less probable than this are not proposed.
const PROBABILITY_MIN: f32 = 0.01;

/// Both co-access tables, learnt online, and the ends of the regions' streams.
#[derive(Debug)]
pub(in crate::engine) struct CoAccessSources {
    client: CoAccess,
    region: CoAccess,
    streams: Vec<Stream>,
    successors: Vec<Successor>,
}

/// What [`CoAccessSources`] has learnt.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine) struct CoAccessSourcesState {
    pub client: CoAccessState,
    pub region: CoAccessState,
    /// By region: the last keys, newest first.
    pub streams: Vec<Vec<KeyId>>,
}

/// The last keys that a region asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    recent: [KeyId; REGION_WINDOW],
    length: usize,
}

impl Stream {
    fn recent(&self) -> impl Iterator<Item = KeyId> {
        let kept = self.length.min(REGION_WINDOW);
        (0..kept).map(|age| self.recent[(self.length - 1 - age) % REGION_WINDOW])
    }

    fn resumed(newest_first: Vec<KeyId>) -> Self {
        let mut stream = Self::default();
        newest_first.into_iter().rev().for_each(|key| stream.push(key));
        stream
    }

    fn push(&mut self, key: KeyId) {
        self.recent[self.length % REGION_WINDOW] = key;
        self.length += 1;
    }
}

impl CoAccessSources {
    pub(in crate::engine) fn new(client: &CoAccessConfig, region: &CoAccessConfig) -> nearcast_models::Result<Self> {
        Ok(Self {
            client: CoAccess::new(client)?,
            region: CoAccess::new(region)?,
            streams: Vec::new(),
            successors: Vec::new(),
        })
    }

    /// The same, independent of how keys are numbered.
    #[must_use]
    pub(in crate::engine) fn whatever_the_numbers(mut self) -> Self {
        self.client = self.client.whatever_the_numbers();
        self.region = self.region.whatever_the_numbers();
        self
    }

    /// A client asks for `key` after `recent`, newest first.
    pub(in crate::engine) fn learn_client(&mut self, now: Timestamp, recent: impl Iterator<Item = KeyId>, key: KeyId) {
        learn(&mut self.client, now, recent, key);
    }

    /// The stream numbered `stream`, of a region's node, goes on with `key`.
    pub(in crate::engine) fn learn_region(&mut self, now: Timestamp, stream: usize, key: KeyId) {
        if self.streams.len() <= stream {
            self.streams.resize(stream + 1, Stream::default());
        }
        let stream = &mut self.streams[stream];
        learn(&mut self.region, now, stream.recent(), key);
        stream.push(key);
    }

    /// Proposes what tends to follow `key`, with probabilities scaled by `weight`.
    pub(in crate::engine) fn propose(
        &mut self,
        now: Timestamp,
        scope: Scope,
        key: KeyId,
        weight: f32,
        merged: &mut Merged,
    ) {
        let table = match scope {
            Scope::Client => &self.client,
            Scope::Region => &self.region,
        };
        table.successors(now, key, PROBABILITY_MIN, &mut self.successors);
        for (next, rank) in self.successors.iter().take(PROPOSED_MAX).zip(0..) {
            if next.key != key {
                merged.propose(next.key, scope.source(), weight * next.probability, next.support, rank);
            }
        }
    }

    /// How full a table is and how often its bounds were hit.
    pub(in crate::engine) fn counters(&self, scope: Scope) -> CoAccessCounters {
        match scope {
            Scope::Client => self.client.counters(),
            Scope::Region => self.region.counters(),
        }
    }

    /// Takes the counts of a trained model over; `numbers` translates its key numbers.
    pub(in crate::engine) fn take_over(
        &mut self,
        now: Timestamp,
        trained: &TrainedCoAccess,
        numbers: &Map<u32, KeyId>,
    ) {
        // As counted at the end of training, for there may be any time between that log's clock and this one's.
        self.client.import(now, translated(&trained.client, numbers));
        self.region.import(now, translated(&trained.region, numbers));
    }

    /// What both tables know, and the last keys of each stream, newest first.
    pub(in crate::engine) fn state(&self) -> CoAccessSourcesState {
        let streams = self.streams.iter().map(|stream| stream.recent().collect()).collect();
        CoAccessSourcesState { client: self.client.state(), region: self.region.state(), streams }
    }

    /// Goes on from a state.
    pub(in crate::engine) fn resume(&mut self, state: CoAccessSourcesState) -> nearcast_models::Result<()> {
        let resumed = |table: &CoAccess, state| -> nearcast_models::Result<CoAccess> {
            let resumed = CoAccess::from_state(table.config(), state)?;
            Ok(if table.goes_by_place() { resumed.whatever_the_numbers() } else { resumed })
        };
        (self.client, self.region) = (resumed(&self.client, state.client)?, resumed(&self.region, state.region)?);
        self.streams = state.streams.into_iter().map(Stream::resumed).collect();
        Ok(())
    }

    pub(in crate::engine) fn forget(&mut self, key: KeyId) {
        self.client.forget(key);
        self.region.forget(key);
    }
}

fn translated(rows: &[CoAccessRow], numbers: &Map<u32, KeyId>) -> impl Iterator<Item = CoAccessRow> {
    let number = |key: KeyId| numbers.get(&key.0).copied();
    rows.iter().filter_map(move |row| {
        let successors = row.successors.iter().filter_map(|(next, count)| Some((number(*next)?, *count)));
        Some(CoAccessRow { key: number(row.key)?, occurrences: row.occurrences, successors: successors.collect() })
    })
}

/// Credits `key` to everything asked for just before, back to the last time that `key` itself was: what came before
/// that has been credited then.
fn learn(table: &mut CoAccess, now: Timestamp, recent: impl Iterator<Item = KeyId>, key: KeyId) {
    table.record(now, key);
    let mut credited = [KeyId::default(); CREDITED_MAX];
    let mut count = 0;
    for from in recent.take(CREDITED_MAX).take_while(|from| *from != key) {
        if !credited[..count].contains(&from) {
            table.observe(now, from, key, 1.0);
            credited[count] = from;
            count += 1;
        }
    }
}

const CREDITED_MAX: usize = 8;
