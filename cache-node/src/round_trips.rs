//! How long others take to begin an answer: the least of what was seen lately, which queues and work add to least.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nearcast_datasets::{Map, Timestamp};
use nearcast_proto::message::{NodeName, RoundTrip};

/// Round trips to peers, and to the origin.
#[derive(Debug, Default)]
pub(crate) struct RoundTrips(Mutex<Tracks>);

#[derive(Debug, Default)]
struct Tracks {
    /// By whose answer it is; the origin's without a name.
    to: Map<Option<NodeName>, Track>,
    told_at: Option<Timestamp>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Track {
    /// When the present window began.
    begun: Timestamp,
    /// The least of the window; and of the last one in which anything was seen.
    least: Option<Duration>,
    before: Option<Duration>,
    seen: Timestamp,
    told: Option<Duration>,
}

impl RoundTrips {
    /// The answer of a peer, or of the origin without one, took so long to begin.
    pub(crate) fn note(&self, now: Timestamp, to: Option<&NodeName>, took: Duration) {
        let mut tracks = self.lock();
        let to = to.cloned();
        if tracks.to.len() >= TRACKS_MAX && !tracks.to.contains_key(&to) {
            return;
        }
        let new = Track { begun: now, least: None, before: None, seen: now, told: None };
        let track = tracks.to.entry(to).or_insert(new);
        track.roll(now);
        track.least = Some(track.least.map_or(took, |least| least.min(took)));
        track.seen = now;
    }

    /// All of them when one has changed by more than noise, or nobody was told for a while.
    pub(crate) fn take_changed(&self, now: Timestamp) -> Option<Vec<RoundTrip>> {
        let mut tracks = self.lock();
        tracks.to.retain(|_, track| now.since(track.seen) < KEPT);
        tracks.to.values_mut().for_each(|track| track.roll(now));
        let is_old = tracks.told_at.is_none_or(|at| now.since(at) >= REPEATED);
        if tracks.to.is_empty() || !(is_old || tracks.to.values().any(Track::has_changed)) {
            return None;
        }
        tracks.told_at = Some(now);
        let mut all = Vec::new();
        for (to, track) in &mut tracks.to {
            track.told = track.value();
            all.extend(track.told.map(|round_trip| RoundTrip { to: to.clone(), round_trip }));
        }
        all.sort_by(|a, b| a.to.cmp(&b.to));
        Some(all)
    }

    /// Nobody knows any more what was told.
    pub(crate) fn forget_told(&self) {
        self.lock().told_at = None;
    }

    fn lock(&self) -> MutexGuard<'_, Tracks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Track {
    fn roll(&mut self, now: Timestamp) {
        if now.since(self.begun) >= WINDOW {
            self.before = self.least.take().or(self.before);
            self.begun = now;
        }
    }

    fn value(&self) -> Option<Duration> {
        [self.least, self.before].into_iter().flatten().min()
    }

    fn has_changed(&self) -> bool {
        let (Some(value), Some(told)) = (self.value(), self.told) else { return self.value() != self.told };
        value.abs_diff(told) > NOISE.max(told / 10)
    }
}

/// A window's least counts until the end of the next one in which anything is seen.
const WINDOW: Duration = Duration::from_secs(30);
/// What was seen last counts for so long.
const KEPT: Duration = Duration::from_secs(600);
/// All is told again after so long.
const REPEATED: Duration = Duration::from_secs(60);
/// What is no change, beside a tenth.
const NOISE: Duration = Duration::from_micros(500);
const TRACKS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(1_000_000 * second)
    }

    fn told(trips: &RoundTrips, second: i64) -> Option<Vec<u128>> {
        let told = trips.take_changed(at(second))?;
        Some(told.iter().map(|trip| trip.round_trip.as_millis()).collect())
    }

    #[test]
    fn the_least_of_the_last_two_windows_is_told_when_it_changes() {
        let (trips, peer) = (RoundTrips::default(), NodeName::from("eu"));
        let note = |second, millis| trips.note(at(second), Some(&peer), Duration::from_millis(millis));
        assert_eq!(told(&trips, 0), None);
        trips.note(at(0), None, Duration::from_millis(7));
        for (second, millis) in [(0, 90), (1, 50), (2, 300)] {
            note(second, millis);
        }
        assert_eq!(told(&trips, 3), Some(vec![7, 50]));
        note(4, 51);
        assert_eq!(told(&trips, 5), None);
        note(6, 40);
        assert_eq!(told(&trips, 7), Some(vec![7, 40]));
        // It became longer: once the window that saw less has passed.
        note(31, 80);
        assert_eq!(told(&trips, 32), None);
        note(62, 80);
        assert_eq!(told(&trips, 63), Some(vec![7, 80]));
        assert_eq!(told(&trips, 124), Some(vec![7, 80]), "told again");
        trips.forget_told();
        assert_eq!(told(&trips, 125), Some(vec![7, 80]));
        assert_eq!(told(&trips, 610), Some(vec![80]), "what was not seen for long is not known any more");
    }
}
