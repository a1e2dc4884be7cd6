//! Candidates from numbered keys: `seg-0041.ts` goes on with `seg-0042.ts`, block 17 with 18, where that was seen.
//!
//! Keys that differ only in their last number are a family. Each family learns which steps between its numbers are
//! common, and how often a step was followed by another one like it, by how many came before.

use std::{collections::VecDeque, fmt::Write};

use nearcast_datasets::{KeyId, Map};

use super::{CandidateSource, Merged};
use crate::engine::keys::KeyTable;

/// A key that nobody has asked for yet, but that a run of numbers leads to.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine) struct Foreseen {
    pub name: String,
    pub probability: f32,
    pub rank: u16,
}

/// The families of numbered keys.
#[derive(Debug, Default)]
pub(in crate::engine) struct StrideSource {
    families: Vec<Family>,
    family_numbers: Map<(String, String, usize), u32>,
    /// By key: its place among its like.
    places: Vec<Option<Place>>,
    members: Map<(u32, i64), KeyId>,
    max: usize,
    /// Families not taken in because of `families_max`.
    pub refused: u64,
}

/// Where a key belongs.
#[derive(Clone, Copy, Debug)]
struct Place {
    family: u32,
    number: i64,
    /// Whether it was foreseen and has not been asked for since.
    is_foreseen: bool,
}

/// Keys that differ only in one number.
#[derive(Debug)]
struct Family {
    before: String,
    after: String,
    /// Digits of a number that is padded with zeros; zero when it is not.
    width: usize,
    recent: VecDeque<i64>,
    steps: Vec<Step>,
    /// Keys that were foreseen lately, and how many of such were asked for: many numbers stand for nothing.
    foreseen: f32,
    came: f32,
}

/// A step between numbers, and how it goes on.
#[derive(Clone, Copy, Debug)]
struct Step {
    delta: i64,
    seen: f32,
    /// By how many such steps came just before: how often that was, and how often another followed.
    tried: [f32; RUNS],
    followed: [f32; RUNS],
}

impl Step {
    fn probability(&self, run: usize) -> f32 {
        (self.followed[run] / (self.tried[run].max(self.followed[run]) + PRIOR_TRIES)).min(1.0)
    }
}

impl StrideSource {
    pub(in crate::engine) fn new(families_max: usize) -> Self {
        Self { max: families_max, ..Self::default() }
    }

    /// A key got a number in the engine.
    pub(in crate::engine) fn learn_key(&mut self, key: KeyId, name: &str) {
        let Some((before, number, after, width)) = parse(name) else { return };
        let id = (before.to_owned(), after.to_owned(), width);
        let family = if let Some(family) = self.family_numbers.get(&id) {
            *family
        } else if self.families.len() >= self.max {
            self.refused += 1;
            return;
        } else {
            let family = u32::try_from(self.families.len()).unwrap_or(u32::MAX);
            let (before, after) = (id.0.clone(), id.1.clone());
            let (recent, steps) = (VecDeque::new(), Vec::new());
            self.families.push(Family { before, after, width, recent, steps, foreseen: 0.0, came: 0.0 });
            self.family_numbers.insert(id, family);
            family
        };
        let position = key.0 as usize;
        if self.places.len() <= position {
            self.places.resize(position + 1, None);
        }
        self.places[position] = Some(Place { family, number, is_foreseen: false });
        self.members.insert((family, number), key);
    }

    /// A key's number in the engine is about to be given to another.
    pub(in crate::engine) fn forget(&mut self, key: KeyId) {
        if let Some(place) = self.places.get_mut(key.0 as usize).and_then(Option::take) {
            self.members.remove(&(place.family, place.number));
        }
    }

    /// A key that nobody has asked for yet got a number in the engine because it was foreseen.
    pub(in crate::engine) fn handle_foreseen(&mut self, key: KeyId) {
        if let Some(place) = self.places.get_mut(key.0 as usize).and_then(Option::as_mut) {
            place.is_foreseen = true;
            self.families[place.family as usize].foreseen += 1.0;
        }
    }

    /// A key is asked for, as request number `request`: proposes what follows and names what does not exist yet.
    pub(in crate::engine) fn propose(
        &mut self,
        key: KeyId,
        keys: &KeyTable,
        request: u64,
        merged: &mut Merged,
        foreseen: &mut Vec<Foreseen>,
    ) {
        let Some(place) = self.places.get_mut(key.0 as usize).and_then(Option::as_mut) else { return };
        let (family_number, number) = (place.family, place.number);
        let members = &self.members;
        let family = &mut self.families[family_number as usize];
        family.learn_coming(std::mem::take(&mut place.is_foreseen));
        family.learn_deltas(number);
        let coming = family.coming();
        let was_asked = |number: i64| {
            let key = members.get(&(family_number, number)).and_then(|key| keys.info(*key));
            key.is_some_and(|info| info.requests > 0 && info.last_request + RECENT_REQUESTS >= request)
        };
        for step in &mut family.steps {
            let run = (1..=RUNS as i64).take_while(|back| was_asked(number - back * step.delta)).count();
            if run > 0 {
                step.followed[run - 1] += 1.0;
            }
            let run = run.min(RUNS - 1);
            step.tried[run] += 1.0;
            if step.tried[run] > TRIED_MAX {
                (step.tried[run], step.followed[run]) = (step.tried[run] / 2.0, step.followed[run] / 2.0);
            }
            let mut probability = step.probability(run);
            for ahead in 1..=(run as i64 + 1).min(AHEAD_MAX) {
                if probability < PROBABILITY_MIN {
                    break;
                }
                let next = number + ahead * step.delta;
                let rank = u16::try_from(ahead - 1).unwrap_or(0);
                if let Some(known) = members.get(&(family_number, next)) {
                    merged.propose(*known, CandidateSource::Stride, probability, step.tried[run], rank);
                } else if probability.min(coming) >= FORESEEN_MIN && next >= 0 {
                    foreseen.push(Foreseen {
                        name: name(&family.before, &family.after, family.width, next),
                        probability: probability.min(coming),
                        rank,
                    });
                }
                probability *= step.probability(RUNS - 1).max(probability);
            }
        }
    }
}

impl Family {
    /// One of its keys is asked for, foreseen or not.
    fn learn_coming(&mut self, is_foreseen: bool) {
        self.foreseen *= FORESEEN_KEPT;
        self.came = self.came.mul_add(FORESEEN_KEPT, f32::from(u8::from(is_foreseen)));
    }

    /// P(a key that is foreseen will ever be asked for).
    fn coming(&self) -> f32 {
        (self.came + FORESEEN_PRIOR) / (self.foreseen.max(self.came) + FORESEEN_PRIOR)
    }

    /// Counts the steps from the last few numbers to this one; the rarest counted step makes room for a new one.
    fn learn_deltas(&mut self, number: i64) {
        for earlier in &self.recent {
            let delta = number - earlier;
            if delta == 0 {
                continue;
            }
            if let Some(step) = self.steps.iter_mut().find(|step| step.delta == delta) {
                step.seen += 1.0;
                continue;
            }
            let fresh = Step { delta, seen: 1.0, tried: [0.0; RUNS], followed: [0.0; RUNS] };
            if self.steps.len() < STEPS_MAX {
                self.steps.push(fresh);
                continue;
            }
            self.steps.iter_mut().for_each(|step| step.seen *= SEEN_KEPT);
            if let Some(rarest) = self.steps.iter_mut().min_by(|a, b| a.seen.total_cmp(&b.seen))
                && rarest.seen < 1.0
            {
                *rarest = fresh;
            }
        }
        if self.recent.len() == RECENT_NUMBERS {
            self.recent.pop_front();
        }
        self.recent.push_back(number);
    }
}

/// A key as what comes before its last number, that number, what comes after, and its padded width.
fn parse(name: &str) -> Option<(&str, i64, &str, usize)> {
    let end = name.rfind(|character: char| character.is_ascii_digit())? + 1;
    let start = name[..end].trim_end_matches(|character: char| character.is_ascii_digit()).len();
    let digits = &name[start..end];
    // What comes after is an extension at most: a number further up the path says nothing of what is next.
    if digits.len() > DIGITS_MAX || name[end..].contains('/') {
        return None;
    }
    let width = if digits.starts_with('0') { digits.len() } else { 0 };
    Some((&name[..start], digits.parse().ok()?, &name[end..], width))
}

fn name(before: &str, after: &str, width: usize, number: i64) -> String {
    let mut name = String::with_capacity(before.len() + after.len() + DIGITS_MAX);
    name.push_str(before);
    // Writing to a string cannot fail.
    let _ = write!(name, "{number:0width$}");
    name.push_str(after);
    name
}

const DIGITS_MAX: usize = 15;
const RUNS: usize = 4;
const STEPS_MAX: usize = 4;
const RECENT_NUMBERS: usize = 4;
/// Earlier members of a run were asked for within so many requests.
const RECENT_REQUESTS: u64 = 256;
const AHEAD_MAX: i64 = 4;
const PROBABILITY_MIN: f32 = 0.05;
/// Keys that nobody has asked for yet are named only when they are this probable.
const FORESEEN_MIN: f32 = 0.2;
/// What remains of earlier counts of foreseen keys with every request for one of their like.
const FORESEEN_KEPT: f32 = 0.999;
/// So many keys are foreseen before it counts that none of them came.
const FORESEEN_PRIOR: f32 = 8.0;
const PRIOR_TRIES: f32 = 4.0;
const TRIED_MAX: f32 = 2_048.0;
const SEEN_KEPT: f32 = 0.99;

#[cfg(test)]
mod tests {
    use super::*;
    use nearcast_datasets::Timestamp;

    #[test]
    fn tells_numbers_from_names() {
        assert_eq!(parse("/v/seg-0041.ts"), Some(("/v/seg-", 41, ".ts", 4)));
        assert_eq!(parse("block/17"), Some(("block/", 17, "", 0)));
        assert_eq!(parse("/sts-71/images/a.gif"), None);
        assert_eq!(name("/v/seg-", ".ts", 4, 42), "/v/seg-0042.ts");
    }

    #[test]
    fn a_learnt_run_leads_on_to_keys_that_nobody_asked_for() {
        let mut keys = KeyTable::new(1_000);
        let mut stride = StrideSource::new(10);
        let (mut merged, mut foreseen) = (Merged::new(&[]), Vec::new());
        for request in 0..40_u64 {
            let name = format!("block/{}", request * 3);
            let key = keys.find(&name).unwrap_or_else(|| keys.insert(&name, request));
            stride.learn_key(key, &name);
            merged.clear();
            foreseen.clear();
            stride.propose(key, &keys, request, &mut merged, &mut foreseen);
            let info = keys.info_mut(key).unwrap();
            (info.requests, info.last_request, info.last_at) = (1, request, Timestamp::default());
        }
        let best = foreseen.iter().max_by(|a, b| a.probability.total_cmp(&b.probability)).unwrap();
        assert_eq!(best.name, "block/120");
        assert!(best.probability > 0.7, "{best:?}");
    }

    #[test]
    fn numbers_that_stand_for_nothing_are_not_foreseen_for_long() {
        let mut stride = StrideSource::new(10);
        let mut ask = |numbers: std::ops::Range<u32>, are_foreseen: bool| {
            for number in numbers {
                let (key, name) = (KeyId(number), format!("block/{number}"));
                stride.learn_key(key, &name);
                if are_foreseen {
                    stride.handle_foreseen(key);
                } else {
                    stride.propose(key, &KeyTable::new(10), 0, &mut Merged::new(&[]), &mut Vec::new());
                }
            }
            stride.families[0].coming()
        };
        assert!(ask(1..101, true) < FORESEEN_MIN, "none of a hundred came");
        assert!(ask(1_000..5_000, false) > 0.5, "they are forgotten in the end");
    }
}
