//! Neighbours: earlier sessions like the present one vote for what they held.
//!
//! VSKNN: Ludewig and Jannach, "Evaluation of session-based recommendation algorithms", UMUAI 2018. STAN: Garg et al.,
//! "Sequence and time aware neighborhood for session-based recommendations", SIGIR 2019. VMIS-kNN: Kersbergen et al.,
//! "Serenade", SIGMOD 2022.

use nearcast_datasets::{ClientId, KeyId, Map, Timestamp};

use super::{Scorer, Situation};

/// All sessions so far, findable by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Neighbours {
    sessions: Vec<PastSession>,
    /// Sessions that hold a key, by when they first did.
    by_key: Map<KeyId, Vec<u32>>,
    /// Each client's latest session.
    latest: Map<ClientId, u32>,
}

#[derive(Clone, Debug)]
struct PastSession {
    at: Timestamp,
    keys: Vec<KeyId>,
}

impl Neighbours {
    pub(super) fn observe(&mut self, situation: &Situation<'_>, key: KeyId) {
        let Situation { at, client, session } = *situation;
        let number = match self.latest.get(&client) {
            Some(number) if !session.is_empty() => *number,
            _ => {
                self.sessions.push(PastSession { at, keys: Vec::new() });
                let number = u32::try_from(self.sessions.len() - 1).expect("a log holds fewer than 2³² sessions");
                self.latest.insert(client, number);
                number
            }
        };
        let past = &mut self.sessions[number as usize];
        if !past.keys.contains(&key) {
            self.by_key.entry(key).or_default().push(number);
        }
        if past.keys.len() < KEYS_MAX {
            past.keys.push(key);
        }
        past.at = at;
    }

    /// The latest sessions that hold `key`, but not the client's own present one.
    fn latest_with(&self, key: KeyId, own: Option<u32>) -> impl Iterator<Item = u32> {
        let all = self.by_key.get(&key).map_or(&[][..], Vec::as_slice);
        all[all.len().saturating_sub(SAMPLED)..].iter().copied().filter(move |number| Some(*number) != own)
    }

    fn own(&self, situation: &Situation<'_>) -> Option<u32> {
        let number = self.latest.get(&situation.client)?;
        // A frozen copy may know an older session of the client than the present one; no harm in leaving that out.
        Some(*number).filter(|_| !situation.session.is_empty())
    }

    fn inverse_frequency(&self, key: KeyId) -> f32 {
        let holding = self.by_key.get(&key).map_or(1, Vec::len).max(1);
        ((self.sessions.len() as f32 + 1.0) / holding as f32).ln()
    }
}

/// The distinct keys of a session, latest first, with how many steps ago each was last asked for, from 0.
fn distinct(session: &[KeyId]) -> Vec<(KeyId, usize)> {
    let mut keys: Vec<(KeyId, usize)> = Vec::new();
    for (steps, key) in session.iter().rev().take(KEYS_MAX).enumerate() {
        if !keys.iter().any(|(held, _)| held == key) {
            keys.push((*key, steps));
        }
    }
    keys
}

/// The `NEIGHBOURS` most similar sessions; ties go to the later one.
fn nearest(mut similar: Vec<(u32, f32)>) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0));
    if similar.len() > NEIGHBOURS {
        similar.select_nth_unstable_by(NEIGHBOURS - 1, order);
        similar.truncate(NEIGHBOURS);
    }
    similar.sort_unstable_by(order);
    similar
}

/// Vector session-based kNN: later keys of the present session count more, linearly; a neighbour's vote counts by how
/// late the latest shared key is.
#[derive(Debug)]
pub(super) struct Vsknn<'a>(pub(super) &'a Neighbours);

impl Scorer for Vsknn<'_> {
    fn score(&self, situation: &Situation<'_>, scores: &mut Vec<(KeyId, f32)>) {
        let keys = distinct(situation.session);
        let length = situation.session.len().min(KEYS_MAX) as f32;
        let own = self.0.own(situation);
        // Similarity and the place of the latest shared key, by session.
        let mut shared: Map<u32, (f32, usize)> = Map::default();
        for (place, (key, steps)) in keys.iter().enumerate() {
            for number in self.0.latest_with(*key, own) {
                shared.entry(number).or_insert((0.0, place)).0 += (length - *steps as f32) / length;
            }
        }
        let size = |number: u32| self.0.sessions[number as usize].keys.len() as f32;
        let similar =
            shared.iter().map(|(number, (sum, _))| (*number, sum / (size(*number) * length).sqrt())).collect();
        let mut votes: Map<KeyId, f32> = Map::default();
        for (number, similarity) in nearest(similar) {
            let late = 1.0 / (shared[&number].1 + 1) as f32;
            for (key, _) in distinct(&self.0.sessions[number as usize].keys) {
                *votes.entry(key).or_default() += similarity * late;
            }
        }
        scores.extend(votes);
    }
}

/// Sequence and time aware neighbourhood: three exponential decays, over the place of a key in the present session, the
/// age of a neighbour, and the distance of a candidate from the latest shared key.
#[derive(Debug)]
pub(super) struct Stan<'a> {
    neighbours: &'a Neighbours,
    /// λ₁, in requests.
    place: f32,
    /// λ₂, in days.
    age: f32,
    /// λ₃, in requests.
    distance: f32,
}

impl<'a> Stan<'a> {
    /// Short decays, of the order that the authors found for shops.
    pub(super) fn recommended(neighbours: &'a Neighbours) -> Self {
        Self { neighbours, place: 1.04, age: 3.5, distance: 1.58 }
    }

    /// Decays about twice and, over time, six times as long: better where sessions keep to a topic.
    pub(super) fn wide(neighbours: &'a Neighbours) -> Self {
        Self { neighbours, place: 2.0, age: 20.0, distance: 3.0 }
    }
}

impl Scorer for Stan<'_> {
    fn score(&self, situation: &Situation<'_>, scores: &mut Vec<(KeyId, f32)>) {
        let keys = distinct(situation.session);
        let length = situation.session.len().min(KEYS_MAX) as f32;
        let own = self.neighbours.own(situation);
        let mut shared: Map<u32, (f32, KeyId)> = Map::default();
        for (key, steps) in &keys {
            let weight = (-(*steps as f32) / self.place).exp();
            for number in self.neighbours.latest_with(*key, own) {
                shared.entry(number).or_insert((0.0, *key)).0 += weight;
            }
        }
        let past = |number: u32| &self.neighbours.sessions[number as usize];
        let similarity = |(number, (sum, _)): (&u32, &(f32, KeyId))| {
            let days = situation.at.since(past(*number).at).as_secs_f32() / 86_400.0;
            (*number, sum / (length * past(*number).keys.len() as f32).sqrt() * (-days / self.age).exp())
        };
        let similar = shared.iter().map(similarity).collect();
        let mut votes: Map<KeyId, f32> = Map::default();
        for (number, similarity) in nearest(similar) {
            let keys = &past(number).keys;
            let match_place = keys.iter().rposition(|key| *key == shared[&number].1).unwrap_or(0);
            let mut nearest_place: Map<KeyId, usize> = Map::default();
            for (place, key) in keys.iter().enumerate() {
                let distance = place.abs_diff(match_place);
                nearest_place.entry(*key).and_modify(|held| *held = distance.min(*held)).or_insert(distance);
            }
            for (key, distance) in nearest_place {
                *votes.entry(key).or_default() += similarity * (-(distance as f32) / self.distance).exp();
            }
        }
        scores.extend(votes);
    }
}

/// Vector multiplication indexed session kNN: the latest nine keys, linear decay, votes by inverse frequency.
#[derive(Debug)]
pub(super) struct VmisKnn<'a>(pub(super) &'a Neighbours);

impl Scorer for VmisKnn<'_> {
    fn score(&self, situation: &Situation<'_>, scores: &mut Vec<(KeyId, f32)>) {
        let session = &situation.session[situation.session.len().saturating_sub(VMIS_KEYS_MAX)..];
        let length = session.len() as f32;
        let own = self.0.own(situation);
        let mut shared: Map<u32, (f32, usize)> = Map::default();
        for (key, steps) in distinct(session) {
            for number in self.0.latest_with(key, own) {
                shared.entry(number).or_insert((0.0, steps + 1)).0 += (length - steps as f32) / length;
            }
        }
        let similar = shared.iter().map(|(number, (sum, _))| (*number, *sum)).collect();
        let mut votes: Map<KeyId, f32> = Map::default();
        for (number, similarity) in nearest(similar) {
            let place = shared[&number].1;
            let late = if place < 10 { 1.0 - 0.1 * place as f32 } else { 0.0 };
            for (key, _) in distinct(&self.0.sessions[number as usize].keys) {
                *votes.entry(key).or_default() += similarity * late * self.0.inverse_frequency(key);
            }
        }
        scores.extend(votes);
    }
}

/// Neighbours that vote, k.
const NEIGHBOURS: usize = 100;
/// Latest sessions looked at per key, m.
const SAMPLED: usize = 500;
/// Keys remembered of a session.
const KEYS_MAX: usize = 100;
/// Keys of the present session that VMIS-kNN looks at.
const VMIS_KEYS_MAX: usize = 9;
