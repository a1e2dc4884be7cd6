//! A forecast that learns online how much to believe of what.
//!
//! Several simple experts each say how often a key will be asked for in a region: its share of the region's requests,
//! or of everybody's, over a quarter of an hour to a week, times the volume that the region will have at that hour; and
//! its plain rate. The forecast is their weighted sum, with weights of its own for young and old keys, known and unknown
//! in the region. Weights follow by online expectation maximisation of the Poisson likelihood (Cappé and Moulines, 2009),
//! which has no step size: each request is credited to the experts in proportion to what they said, and an expert's
//! weight is the requests credited to it by those it claimed.

use std::time::Duration;

use nearcast_datasets::{KeyId, Map, RegionId, Set, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Counted, Forecast, SavedForecast,
    counted::{Counts, DAYPARTS, DECAYS, HOUR, KeyView},
    together::Together,
};

/// The learning forecast.
#[derive(Debug)]
pub struct Learned {
    counted: Counted,
    together: Together,
    /// By region, what the keys that one follows were asked for lately; kept for its memory.
    followed: Vec<f32>,
    horizon: Duration,
    /// By region, over how many horizons to look; over one where it does not say.
    horizons: Vec<usize>,
    begun: Timestamp,
    /// What holds for all keys, worked out once per instant.
    context: Context,
    classes: [Class; CLASSES],
    pending: Vec<Pending>,
    came: Map<(KeyId, u16), u32>,
    /// Keys of which nothing is to be learned from what came: their numbers are others' now.
    forgotten: Set<KeyId>,
}

/// What an outside expert, such as a trained head, says of a key in each region.
pub(super) type Claims<'a> = Option<&'a [f32]>;

/// What for a forecast is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// For a plan: what comes tells how good it was.
    Planned,
    /// Between plans.
    Passing,
    /// For the first horizon alone.
    Soon,
}

#[derive(Clone, Debug, Default)]
struct Context {
    at: Option<Timestamp>,
    all: Counts,
    regions: Vec<Counts>,
    /// By region: the next horizon, and the average of several where more than one is looked at.
    next: Vec<Span>,
    ahead: Vec<Option<Span>>,
    per_second: Counts,
}

/// What holds for all keys in a region over some time.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    /// Requests of a horizon.
    volume: f32,
    /// By part of the day, requests of a horizon for each of those that all keys got in it before.
    per_daypart: Option<[f32; DAYPARTS]>,
}

type Features = [f32; EXPERTS];

/// The weights for one kind of key in a region.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Class {
    weights: Features,
    credited: Features,
    claimed: Features,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    key: KeyId,
    region: u16,
    class: u8,
    features: Features,
}

impl Learned {
    /// For so many regions.
    pub fn new(regions: usize) -> Self {
        Self {
            counted: Counted::new(regions),
            together: Together::new(),
            followed: vec![0.0; regions],
            horizon: Duration::ZERO,
            horizons: Vec::new(),
            begun: Timestamp::MIN,
            context: Context::default(),
            classes: [Class::new(); CLASSES],
            pending: Vec::new(),
            came: Map::default(),
            forgotten: Set::default(),
        }
    }

    pub(super) fn expect_with(
        &mut self,
        now: Timestamp,
        key: KeyId,
        requests: &mut [f32],
        asked: Asked,
        claims: Claims<'_>,
    ) {
        requests.fill(0.0);
        self.set_context(now);
        let Some(view) = self.counted.view(now, key) else { return };
        self.followed.fill(0.0);
        for (former, share) in self.together.followed(key) {
            self.counted.add_lately(now, former, share, &mut self.followed);
        }
        for (region, request) in requests.iter_mut().enumerate().take(view.regions.len()) {
            let claim = claims.and_then(|claims| claims.get(region)).copied().unwrap_or(0.0);
            let class = class(&view, region);
            let ahead = self.context.ahead[region].filter(|_| asked != Asked::Soon);
            if let Some(span) = ahead {
                *request = self.classes[class].expect(&self.features(&view, region, &span, claim));
                if asked != Asked::Planned {
                    continue;
                }
            }
            let features = self.features(&view, region, &self.context.next[region], claim);
            if ahead.is_none() {
                *request = self.classes[class].expect(&features);
            }
            if asked == Asked::Planned && self.pending.len() < PENDING_MAX {
                let (region, class) = (region as u16, class as u8);
                self.pending.push(Pending { key, region, class, features });
            }
        }
    }

    fn set_context(&mut self, now: Timestamp) {
        if self.context.at == Some(now) {
            return;
        }
        let (all, regions) = self.counted.totals(now);
        let next = (0..regions.len()).map(|region| self.span(now, region, Duration::ZERO)).collect();
        let horizons = |region| self.horizons.get(region).copied().unwrap_or(1);
        let ahead = |region| (horizons(region) > 1).then(|| self.average(now, region, horizons(region)));
        let ahead = (0..regions.len()).map(ahead).collect();
        let per_second = self.counted.per_second(now);
        self.context = Context { at: Some(now), all, regions, next, ahead, per_second };
    }

    /// What is expected of a region in the horizon that begins `later` than now.
    fn span(&self, now: Timestamp, region: usize, later: Duration) -> Span {
        let volume = self.counted.volume(now, region, later, self.horizon);
        let middle = now.after(later + self.horizon / 2);
        let daypart = self.counted.daypart(now, middle, region).filter(|_| self.horizon < DAYPART_HORIZON_MAX);
        let per_daypart = daypart.map(|(daypart, all)| {
            let mut shares = [0.0; DAYPARTS];
            shares[daypart] = volume / all.max(1.0);
            shares
        });
        Span { volume, per_daypart }
    }

    /// The average of so many horizons.
    fn average(&self, now: Timestamp, region: usize, horizons: usize) -> Span {
        let mut average = Span::default();
        for place in 0..horizons as u32 {
            let span = self.span(now, region, self.horizon * place);
            average.volume += span.volume / horizons as f32;
            if let Some(shares) = span.per_daypart {
                let sums = average.per_daypart.get_or_insert_default();
                sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share / horizons as f32);
            }
        }
        average
    }

    fn features(&self, view: &KeyView, region: usize, span: &Span, claim: f32) -> Features {
        let context = &self.context;
        let (here, total) = (&view.regions[region], &context.regions[region]);
        let volume = span.volume;
        let seconds = self.horizon.as_secs_f32();
        let mut features = [0.0; EXPERTS];
        for place in 0..DECAYS {
            features[place] = volume * here[place] / total[place].max(1.0);
            features[DECAYS + place] = volume * view.all[place] / context.all[place].max(1.0);
        }
        for (feature, place) in features[2 * DECAYS..].iter_mut().zip(PLAIN) {
            *feature = here[place] * context.per_second[place] * seconds;
        }
        features[TOGETHER_EXPERT] = volume * self.followed[region] / total[HOUR].max(1.0);
        if let Some(shares) = &span.per_daypart {
            features[DAYPART_EXPERT] = shares.iter().zip(&view.dayparts).map(|(share, count)| share * count).sum();
        }
        features[EXPERTS - 1] = claim;
        features
    }

    fn learn(&mut self, now: Timestamp) {
        let elapsed = now.since(self.begun).as_secs_f32() / self.horizon.as_secs_f32().max(1.0);
        for class in &mut self.classes {
            class.forget();
        }
        for pending in self.pending.drain(..).filter(|pending| !self.forgotten.contains(&pending.key)) {
            let came = self.came.get(&(pending.key, pending.region)).copied().unwrap_or(0) as f32;
            self.classes[usize::from(pending.class)].learn(&pending.features, came, elapsed);
        }
        self.classes.iter_mut().for_each(Class::settle);
        self.came.clear();
        self.forgotten.clear();
    }
}

impl Forecast for Learned {
    fn forget_key(&mut self, key: KeyId) {
        self.counted.forget(key);
        self.together.forget(key);
        self.forgotten.insert(key);
    }

    fn note_client(&mut self, now: Timestamp, client: u64, key: KeyId) {
        self.together.note(now, client, key);
    }

    fn record(&mut self, now: Timestamp, key: KeyId, region: RegionId) {
        self.counted.record(now, key, region);
        *self.came.entry((key, region.0)).or_default() += 1;
    }

    fn begin(&mut self, now: Timestamp, horizon: Duration) {
        self.learn(now);
        (self.begun, self.horizon, self.context.at) = (now, horizon, None);
        self.horizons.clear();
    }

    fn look_ahead(&mut self, horizons: &[usize]) {
        self.horizons = horizons.to_vec();
        self.context.at = None;
    }

    fn save(&self) -> Option<SavedForecast> {
        let (counted, classes) = (self.counted.save(), self.classes.to_vec());
        Some(SavedForecast { counted, classes, together: self.together.save() })
    }

    fn restore(&mut self, saved: SavedForecast) {
        self.counted.restore(saved.counted);
        self.together.restore(saved.together);
        if let Ok(classes) = saved.classes.try_into() {
            self.classes = classes;
        }
        self.pending.clear();
        self.came.clear();
        self.context.at = None;
    }

    fn expect(&mut self, now: Timestamp, key: KeyId, requests: &mut [f32], is_planned: bool) {
        self.expect_with(now, key, requests, if is_planned { Asked::Planned } else { Asked::Passing }, None);
    }

    fn expect_soon(&mut self, now: Timestamp, key: KeyId, requests: &mut [f32]) {
        self.expect_with(now, key, requests, Asked::Soon, None);
    }
}

impl Class {
    fn new() -> Self {
        let weights = [1.0 / (EXPERTS - 1) as f32; EXPERTS];
        Self { weights, credited: weights.map(|weight| weight * PRIOR_REQUESTS), claimed: [PRIOR_REQUESTS; EXPERTS] }
    }

    fn expect(&self, features: &Features) -> f32 {
        self.weights.iter().zip(features).map(|(weight, feature)| weight * feature).sum()
    }

    fn forget(&mut self) {
        self.credited.iter_mut().chain(&mut self.claimed).for_each(|sum| *sum *= MEMORY);
    }

    fn learn(&mut self, features: &Features, came: f32, elapsed: f32) {
        let expected = self.expect(features);
        let per_claim = if expected > 0.0 { came / expected } else { 0.0 };
        for (place, feature) in features.iter().enumerate() {
            self.claimed[place] += feature * elapsed;
            self.credited[place] += per_claim * self.weights[place] * feature;
        }
    }

    fn settle(&mut self) {
        for (place, weight) in self.weights.iter_mut().enumerate() {
            if self.claimed[place] > CLAIMED_MIN {
                // Never quite nothing, so that an expert can come back.
                *weight = (self.credited[place] / self.claimed[place]).clamp(WEIGHT_MIN, WEIGHT_MAX);
            }
        }
    }
}

fn class(view: &KeyView, region: usize) -> usize {
    let age = match view.age.as_secs() {
        0..3_600 => 0,
        3_600..86_400 => 1,
        _ => 2,
    };
    let seen = match view.regions[region][SEEN] {
        ..0.4 => 0,
        0.4..3.0 => 1,
        _ => 2,
    };
    3 * age + seen
}

const CLASSES: usize = 9;
/// The count that says how well a key is known in a region: that of six weeks.
const SEEN: usize = 5;
/// Of the plain rates: four hours, a day, six weeks.
const PLAIN: [usize; 3] = [2, 3, 5];
/// A key's share of what is asked for at that time of day, wherever it was evening before.
const DAYPART_EXPERT: usize = 2 * DECAYS + PLAIN.len();
/// What is asked for there of which the same clients ask for it next.
const TOGETHER_EXPERT: usize = DAYPART_EXPERT + 1;
/// The last one is an outside expert's.
const EXPERTS: usize = DAYPART_EXPERT + 3;
/// Beyond it a horizon is in no part of the day.
const DAYPART_HORIZON_MAX: Duration = Duration::from_secs(4 * 3_600);
/// What a plan's evidence still weighs at the next.
const MEMORY: f32 = 0.95;
/// Requests that the prior of even weights is worth.
const PRIOR_REQUESTS: f32 = 20.0;
const CLAIMED_MIN: f32 = 1e-3;
const WEIGHT_MIN: f32 = 1e-5;
const WEIGHT_MAX: f32 = 10.0;
/// Forecasts of one plan that are learned from.
const PENDING_MAX: usize = 400_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn expects_in_every_region_what_is_popular_everywhere() {
        let mut learned = Learned::new(3);
        let mut expected = [0.0; 3];
        for hour in 0..60 {
            learned.begin(at(3_600 * hour), Duration::from_secs(3_600));
            for key in 0..40 {
                learned.expect(at(3_600 * hour), KeyId(key), &mut expected, true);
            }
            for step in 0..600_i64 {
                // Key 7 is a third of all requests; each hour another key is never asked for in region 2.
                let key = if step % 3 == 0 { 7 } else { (step * 7 % 40) as u32 };
                let region = RegionId((step % 3) as u16);
                learned.record(at(3_600 * hour + 6 * step), KeyId(key), region);
            }
        }
        learned.begin(at(3_600 * 60), Duration::from_secs(3_600));
        learned.expect(at(3_600 * 60), KeyId(7), &mut expected, false);
        let sum: f32 = expected.iter().sum();
        assert!((150.0..=280.0).contains(&sum), "{expected:?}");
    }

    #[test]
    fn who_looks_ahead_expects_the_evening_before_it_comes() {
        // Key 1 is for the evenings from 18 to 22 h, key 0 for all other hours; region 1 is not looked ahead for.
        let mut learned = Learned::new(2);
        let hour = 3_600;
        for start in 0..24 * 5 {
            learned.begin(at(hour * start), Duration::from_secs(3_600));
            (0..2).for_each(|key| learned.expect(at(hour * start), KeyId(key), &mut [0.0; 2], true));
            let is_evening = (18..22).contains(&(start % 24));
            let requests = if is_evening { 120 } else { 40 };
            for step in 0..2 * requests {
                let region = RegionId((step % 2) as u16);
                let now = at(hour * start + step * hour / (2 * requests));
                learned.record(now, KeyId(u32::from(is_evening)), region);
            }
        }
        let now = at(24 * 5 * hour + 16 * hour);
        for start in 24 * 5..24 * 5 + 16 {
            (0..80).for_each(|step| {
                let region = RegionId((step % 2) as u16);
                learned.record(at(hour * start + step * hour / 80), KeyId(0), region);
            });
        }
        learned.begin(now, Duration::from_secs(3_600));
        learned.look_ahead(&[4, 1]);
        let (mut soon, mut on_average) = ([0.0; 2], [0.0; 2]);
        learned.expect_soon(now, KeyId(1), &mut soon);
        learned.expect(now, KeyId(1), &mut on_average, false);
        assert!(on_average[0] > 3.0 * soon[0] && on_average[0] > 10.0, "{soon:?} {on_average:?}");
        assert!((on_average[1] - soon[1]).abs() < 1e-6, "{soon:?} {on_average:?}");
        learned.begin(now, Duration::from_secs(3_600));
        learned.expect(now, KeyId(1), &mut on_average, false);
        assert!((on_average[0] - soon[0]).abs() < 1e-6, "the next plan begins anew");
    }

    #[test]
    fn an_expert_that_is_wrong_loses_its_weight() {
        let mut learned = Learned::new(1);
        let claim = |key: u32| [if key < 10 { 1_000.0 } else { 0.0 }];
        (0..10).for_each(|key| learned.record(at(0), KeyId(key), RegionId(0)));
        for hour in 0..50_i64 {
            learned.begin(at(3_600 * hour), Duration::from_secs(3_600));
            for key in 0..20 {
                learned.expect_with(at(3_600 * hour), KeyId(key), &mut [0.0], Asked::Planned, Some(&claim(key)));
            }
            for step in 0..360_i64 {
                learned.record(at(3_600 * hour + 10 * step), KeyId(10 + (step % 10) as u32), RegionId(0));
            }
        }
        learned.begin(at(3_600 * 50), Duration::from_secs(3_600));
        let mut expected = |key: u32| {
            let mut requests = [0.0];
            learned.expect_with(at(3_600 * 50), KeyId(key), &mut requests, Asked::Passing, Some(&claim(key)));
            requests[0]
        };
        let (silent, asked_for) = (expected(3), expected(13));
        assert!(silent < 1.0 && (25.0..50.0).contains(&asked_for), "{silent} {asked_for}");
    }

    #[test]
    fn what_a_page_embeds_is_expected_where_the_page_is_asked_for() {
        // Each hour two pages are asked for in region 0, each with what it embeds; only one of them then becomes known in
        // region 1, where the page comes first and what it embeds half an hour later.
        let mut learned = Learned::new(2);
        let expected = |learned: &mut Learned, now, key| {
            let mut requests = [0.0; 2];
            learned.expect(now, KeyId(key), &mut requests, true);
            requests[1]
        };
        let ask = |learned: &mut Learned, now, client, keys: &[u32], region| {
            for key in keys {
                learned.note_client(now, client, KeyId(*key));
                learned.record(now, KeyId(*key), RegionId(region));
            }
        };
        let mut last = (0.0, 0.0);
        for hour in 0..40_u32 {
            let (start, first) = (3_600 * i64::from(hour), 4 * hour);
            let [known, other] = [[first, first + 1], [first + 2, first + 3]];
            learned.begin(at(start), Duration::from_secs(1_800));
            for step in 0..60_u32 {
                let now = at(start + 20 * i64::from(step));
                ask(&mut learned, now, u64::from(step), &known, 0);
                ask(&mut learned, now, u64::from(500 + step), &other, 0);
            }
            (0..20)
                .for_each(|step| ask(&mut learned, at(start + 1_300 + 20 * step), 1_000 + step as u64, &known[..1], 1));
            learned.begin(at(start + 1_800), Duration::from_secs(1_800));
            let keys = [known, other].concat();
            let said: Vec<f32> = keys.iter().map(|key| expected(&mut learned, at(start + 1_800), *key)).collect();
            last = (said[1], said[3]);
            (0..20).for_each(|step| ask(&mut learned, at(start + 1_900 + 20 * step), 2_000 + step as u64, &known, 1));
        }
        assert!(last.0 > 3.0 * last.1 && last.0 > 2.0, "{last:?}");
    }
}
