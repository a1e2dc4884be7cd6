//! Transfers ahead of what a region is known to ask for later, where links take hours to carry it.

use std::time::Duration;

use nearcast_datasets::{KeyId, Map, RegionId, Timestamp};

use super::*;

/// What is asked for by day, and as much by night.
const KEYS: u32 = 100;
const BYTES: u64 = 100;
const INTERVAL: Duration = Duration::from_secs(900);
/// What the link carries from one plan to the next: a tenth of what the node has room for.
const CARRIED: u64 = 1_000;

/// Knows what is asked for: by day the first half of the keys, by night the other, the first of each most.
#[derive(Debug, Default)]
struct DayAndNight {
    begun: i64,
    horizons: usize,
}

fn requests(key: KeyId, interval: i64) -> f32 {
    let is_day = (8 * 4..20 * 4).contains(&interval.rem_euclid(96));
    let rank = key.0 % KEYS;
    if (key.0 < KEYS) == is_day { 200.0 / (1.0 + rank as f32) } else { 0.0 }
}

impl DayAndNight {
    fn average(&self, key: KeyId, horizons: usize) -> f32 {
        let within = self.begun..self.begun + horizons as i64;
        within.map(|interval| requests(key, interval)).sum::<f32>() / horizons as f32
    }
}

impl Forecast for DayAndNight {
    fn forget_key(&mut self, _: KeyId) {}

    fn record(&mut self, _: Timestamp, _: KeyId, _: RegionId) {}

    fn begin(&mut self, now: Timestamp, _: Duration) {
        (self.begun, self.horizons) = (now.micros() / 900_000_000, 1);
    }

    fn look_ahead(&mut self, horizons: &[usize]) {
        self.horizons = horizons[0];
    }

    fn expect(&mut self, _: Timestamp, key: KeyId, requests: &mut [f32], _: bool) {
        requests.fill(self.average(key, self.horizons));
    }

    fn expect_soon(&mut self, _: Timestamp, key: KeyId, requests: &mut [f32]) {
        requests.fill(self.average(key, 1));
    }

    fn foreseen(&self) -> Vec<(KeyId, u64)> {
        (0..2 * KEYS).map(|key| (KeyId(key), BYTES)).collect()
    }
}

/// What one region misses over five days at a node with room for half of the keys.
#[derive(Debug, Default)]
struct Missed {
    all: f32,
    /// In the first hour of each morning and evening from the second day on.
    first_hours: f32,
    carried_bytes: u64,
    /// Moves for later demand that went before one for demand of now.
    out_of_turn: usize,
}

fn missed(ahead_max: Duration) -> Missed {
    let far = Cost { round_trip: 0.2, per_byte: 1e-3 };
    let sites = Sites::new(1, vec![u64::from(KEYS) * BYTES], |_, _| Cost::default(), |_| far).unwrap();
    let link_share = Some(CARRIED as f64 / INTERVAL.as_secs_f64() * 1e-3);
    let config = StrategyConfig {
        interval: INTERVAL,
        requests_min: 0,
        waste_share: None,
        link_share,
        ahead_max,
        ..StrategyConfig::default()
    };
    let placer = Placer::Replicas(Box::new(Planner::new(PlannerConfig::default(), sites)));
    let mut strategy = Strategy::new(config, Box::new(DayAndNight::default()), placer);
    let (mut missed, mut there) = (Missed::default(), Map::default());
    for interval in 0..5 * 96 {
        let now = Timestamp::from_micros(900_000_000 * interval);
        let mut moves = Vec::new();
        strategy.handle_timeout(now, &|key: KeyId| holders(&there, key), Some(&mut moves));
        let mut left = CARRIED;
        for step in &moves {
            match step.kind {
                MoveKind::Release | MoveKind::Await => {
                    there.entry(step.key).and_modify(|is_pinned| *is_pinned = step.kind == MoveKind::Await);
                }
                _ if left >= step.bytes => {
                    left -= step.bytes;
                    make_room(&mut there);
                    there.insert(step.key, true);
                }
                _ => {}
            }
        }
        let kinds: Vec<MoveKind> = moves.iter().map(|step| step.kind).collect();
        missed.out_of_turn += kinds.windows(2).filter(|two| *two == [MoveKind::Ahead, MoveKind::Hold]).count();
        missed.carried_bytes += CARRIED - left;
        assert!(there.len() <= KEYS as usize, "{} keys are held at {interval}", there.len());
        let lacking = (0..2 * KEYS).map(KeyId).filter(|key| !there.contains_key(key));
        let misses: f32 = lacking.map(|key| requests(key, interval)).sum();
        missed.all += misses;
        let is_first_hour = [8 * 4, 20 * 4].iter().any(|start| (*start..start + 4).contains(&(interval % 96)));
        missed.first_hours += if is_first_hour && interval >= 96 { misses } else { 0.0 };
    }
    missed
}

/// Of what is no longer pinned, something leaves for what comes.
fn make_room(there: &mut Map<KeyId, bool>) {
    let leaves = there.iter().filter(|(_, is_pinned)| !**is_pinned).map(|(key, _)| *key).min();
    if let Some(key) = leaves.filter(|_| there.len() >= KEYS as usize) {
        there.remove(&key);
    }
}

fn holders(there: &Map<KeyId, bool>, key: KeyId) -> NodeSet {
    if there.contains_key(&key) { NodeSet::EMPTY.with(0) } else { NodeSet::EMPTY }
}

#[test]
fn what_the_evening_brings_is_there_before_it_where_links_are_slow() {
    let (at_once, ahead) = (missed(Duration::ZERO), missed(Duration::from_secs(4 * 3_600)));
    assert!(ahead.first_hours < 0.5 * at_once.first_hours, "{ahead:?} against {at_once:?}");
    assert!(ahead.all < 0.8 * at_once.all, "{ahead:?} against {at_once:?}");
    assert!(ahead.carried_bytes as f64 <= 1.1 * at_once.carried_bytes as f64, "{ahead:?} against {at_once:?}");
    assert_eq!(ahead.out_of_turn, 0, "what is for later gives way");
}
