//! Candidates: what might be asked for next, from every source, merged once per request.

mod coaccess;
pub(super) mod regional;
mod sequence;
mod stride;

use nearcast_datasets::KeyId;
use serde::{Deserialize, Serialize};

pub(super) use coaccess::{CoAccessSources, CoAccessSourcesState, Scope};
pub(super) use sequence::SequenceSource;
pub(super) use stride::{Foreseen, StrideSource};

/// Where a candidate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateSource {
    /// The same client's habit of asking for one key after another.
    Client,
    /// The region's habit of asking for one key after another, whoever asks.
    Region,
    /// The key itself, for a region that lacks it.
    Demand,
    /// The sequence model.
    Sequence,
    /// A numbered key that goes on as its like did.
    Stride,
    /// A key that the same client has asked for before, in whatever session.
    Habit,
}

impl CandidateSource {
    /// Every source, in the order of the enum.
    pub const ALL: [Self; 6] = [Self::Client, Self::Region, Self::Demand, Self::Sequence, Self::Stride, Self::Habit];
}

impl CandidateSource {
    /// The name in flags, settings and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Region => "region",
            Self::Demand => "demand",
            Self::Sequence => "sequence",
            Self::Stride => "stride",
            Self::Habit => "habit",
        }
    }
}

/// A set of sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources(u8);

impl Sources {
    pub(super) fn insert(&mut self, source: CandidateSource) {
        self.0 |= 1 << source as u8;
    }

    pub(super) fn contains(self, source: CandidateSource) -> bool {
        self.0 & (1 << source as u8) != 0
    }

    pub(super) fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(super) fn iter(self) -> impl Iterator<Item = CandidateSource> {
        CandidateSource::ALL.into_iter().filter(move |source| self.contains(*source))
    }
}

/// What the sources say of one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub key: KeyId,
    pub sources: Sources,
    /// P(asked for) as each source that proposes it sees it, by source.
    pub probabilities: [f32; CandidateSource::ALL.len()],
    /// The decayed count behind the most probable source.
    pub support: f32,
    /// Its rank within that source, from zero.
    pub rank: u16,
}

impl Candidate {
    /// The probability that the most convinced source gives it.
    pub(super) fn best(&self) -> f32 {
        let proposed = self.sources.iter().map(|source| self.probabilities[source as usize]);
        proposed.fold(0.0, f32::max)
    }
}

/// The candidates of one request, each key once. Kept between requests, so that nothing is allocated for them.
#[derive(Debug)]
pub(super) struct Merged {
    /// Sources that may propose.
    enabled: Sources,
    candidates: Vec<Candidate>,
    /// Per key: the request it was last proposed in and its position then.
    marks: Vec<(u32, u32)>,
    request: u32,
}

impl Merged {
    /// Takes proposals of every source but these.
    pub(super) fn new(disabled: &[CandidateSource]) -> Self {
        let mut enabled = Sources::default();
        CandidateSource::ALL.into_iter().filter(|source| !disabled.contains(source)).for_each(|it| enabled.insert(it));
        Self { enabled, candidates: Vec::new(), marks: Vec::new(), request: 0 }
    }

    /// Whether a source may propose.
    pub(super) fn is_enabled(&self, source: CandidateSource) -> bool {
        self.enabled.contains(source)
    }

    /// Starts over for the next request.
    pub(super) fn clear(&mut self) {
        self.candidates.clear();
        self.request = self.request.wrapping_add(1);
        if self.request == 0 {
            self.marks.fill((0, 0));
            self.request = 1;
        }
    }

    /// A source proposes a key.
    pub(super) fn propose(&mut self, key: KeyId, source: CandidateSource, probability: f32, support: f32, rank: u16) {
        if !self.is_enabled(source) {
            return;
        }
        let number = key.0 as usize;
        if self.marks.len() <= number {
            self.marks.resize((number + 1).next_power_of_two(), (0, 0));
        }
        let (request, position) = self.marks[number];
        if request != self.request {
            self.marks[number] = (self.request, u32::try_from(self.candidates.len()).unwrap_or(u32::MAX));
            let mut sources = Sources::default();
            sources.insert(source);
            let mut probabilities = [0.0; CandidateSource::ALL.len()];
            probabilities[source as usize] = probability;
            self.candidates.push(Candidate { key, sources, probabilities, support, rank });
            return;
        }
        let candidate = &mut self.candidates[position as usize];
        if probability > candidate.probabilities.iter().copied().fold(0.0, f32::max) {
            (candidate.support, candidate.rank) = (support, rank);
        }
        candidate.sources.insert(source);
        // Evidence of one kind from several earlier keys adds up as if it were independent.
        let own = &mut candidate.probabilities[source as usize];
        *own = 1.0 - (1.0 - *own) * (1.0 - probability);
    }

    /// Lets a source rate the keys that only others propose.
    pub(super) fn rate(&mut self, source: CandidateSource, mut probability: impl FnMut(KeyId) -> f32) {
        for candidate in self.candidates.iter_mut().filter(|candidate| !candidate.sources.contains(source)) {
            candidate.probabilities[source as usize] = probability(candidate.key);
        }
    }

    /// Hands the candidates out; give the list back to [`Self::restore`] for its memory.
    pub(super) fn take(&mut self) -> Vec<Candidate> {
        std::mem::take(&mut self.candidates)
    }

    pub(super) fn restore(&mut self, candidates: Vec<Candidate>) {
        self.candidates = candidates;
    }
}
