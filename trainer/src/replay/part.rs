//! What a replay can do without.

use nearcast_predictor::engine::CandidateSource;
use serde::{Serialize, Serializer};

use super::ReplayConfig;

/// A part of the system that can be left out: what it is worth shows in a replay without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A source's candidates.
    Source(CandidateSource),
    /// The gate and its calibrators; a candidate is then as probable as its most convinced source says.
    Gate,
    /// Probation; prefetched segments then take room as demanded ones do.
    Probation,
}

impl Part {
    /// Every part that can be left out.
    pub fn all() -> impl Iterator<Item = Self> {
        CandidateSource::ALL.into_iter().map(Self::Source).chain([Self::Gate, Self::Probation])
    }

    /// The name in flags and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source(source) => source.as_str(),
            Self::Gate => "gate",
            Self::Probation => "probation",
        }
    }

    /// The part called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|part| part.as_str() == name)
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl ReplayConfig {
    /// Leaves a part out.
    pub fn leave_out(&mut self, part: Part) {
        match part {
            Part::Source(source) => self.engine.disabled_sources.push(source),
            Part::Gate => self.engine.gate_disabled = true,
            Part::Probation => self.node.index.probation = false,
        }
    }

    /// The parts that are left out.
    pub(super) fn without(&self) -> Vec<Part> {
        let is_left_out = |part: &Part| match part {
            Part::Source(source) => self.engine.disabled_sources.contains(source),
            Part::Gate => self.engine.gate_disabled,
            Part::Probation => !self.node.index.probation,
        };
        Part::all().filter(is_left_out).collect()
    }
}
