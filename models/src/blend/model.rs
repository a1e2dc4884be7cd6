//! The blend itself: proposes, observes, learns.

use nearcast_datasets::{KeyId, RegionId, Timestamp};

use crate::{
    BlendConfig, BlendSession, RankerState, Result,
    blend::{
        candidates::Pool,
        contexts::{Contexts, Stamped},
        features::{CONTEXT_COUNT, Features, Surroundings},
        links::Entry,
        network::Ranker,
        popular::{self, HotList},
        sections::Sections,
        session::Window,
    },
};

/// A key and how probable it is that the client asks for it next, within its session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// The key.
    pub key: KeyId,
    /// P(it is asked for next); over all candidates these sum to at most one.
    pub probability: f32,
}

/// Which parts of a [`Blend`] learn from what they observe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlendLearning {
    /// Links and contexts: which keys follow which.
    pub counts: bool,
    /// Popularity: how often keys are asked for, lately and in which region.
    pub popularity: bool,
    /// The network's weights, by gradient steps.
    pub weights: bool,
}

impl BlendLearning {
    /// Everything learns.
    pub const ALL: Self = Self { counts: true, popularity: true, weights: true };
    /// Nothing learns.
    pub const NONE: Self = Self { counts: false, popularity: false, weights: false };
}

/// One request with its candidates as the network saw them, to fit weights on.
#[derive(Clone, Debug)]
pub struct BlendExample {
    candidates: Vec<Features>,
    context: [f32; CONTEXT_COUNT],
    target: Option<usize>,
}

impl BlendExample {
    /// Number of candidates.
    pub fn candidate_count(&self) -> usize {
        self.candidates.len()
    }

    /// Whether the key that was asked for was a candidate.
    pub fn is_covered(&self) -> bool {
        self.target.is_some()
    }
}

/// Ranks what a client asks for next; see the [module](crate::blend).
///
/// A key takes about 64 bytes and 24 per link, a context about 100, a client at most 250.
#[derive(Clone, Debug)]
pub struct Blend {
    pub(super) config: BlendConfig,
    /// By key number.
    pub(super) entries: Vec<Entry>,
    pub(super) contexts: Contexts,
    /// By region number.
    hot: Vec<HotList>,
    pub(super) favourites: HotList,
    pub(super) sections: Sections,
    pub(super) ranker: Ranker,
    /// Decayed number of all requests, and when it was decayed.
    pub(super) requests: f32,
    pub(super) requests_at: u32,
    observed: u64,
    pool: Pool,
    features: Vec<Features>,
    probabilities: Vec<f32>,
}

impl Blend {
    /// A blend that knows nothing; `seed` decides the network's first weights.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when a value of `config` is out of its range.
    pub fn new(config: &BlendConfig, seed: u64) -> Result<Self> {
        config.check()?;
        Ok(Self {
            config: config.clone(),
            entries: Vec::new(),
            contexts: Contexts::new(config.contexts_max),
            hot: Vec::new(),
            favourites: HotList::default(),
            sections: Sections::default(),
            ranker: Ranker::new(seed),
            requests: 0.0,
            requests_at: 0,
            observed: 0,
            pool: Pool::new(config),
            features: Vec::new(),
            probabilities: Vec::new(),
        })
    }

    /// What the network has learned.
    pub fn ranker(&self) -> RankerState {
        self.ranker.state()
    }

    /// Lets the network go on from `state`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when its numbers are not finite or too few or many.
    pub fn set_ranker(&mut self, state: &RankerState) -> Result<()> {
        self.ranker = Ranker::from_state(state)?;
        Ok(())
    }

    /// A key goes by this name, which tells what section of the key space it lies in. Keys of no section are proposed all
    /// the same.
    pub fn introduce(&mut self, key: KeyId, name: &str) {
        self.sections.introduce(key, name);
    }

    /// Puts the `count` most probable next keys of a client into `out`, most probable first, ties by key.
    ///
    /// Nothing is learned, and a session that has not begun has no proposals. The cost does not depend on the number of
    /// keys.
    pub fn propose(
        &mut self,
        now: Timestamp,
        region: RegionId,
        session: &BlendSession,
        count: usize,
        out: &mut Vec<Proposal>,
    ) {
        out.clear();
        if self.look(now, region, session).is_none() {
            return;
        }
        let evidence = self.pool.evidence.iter().map(|evidence| evidence.key);
        out.extend(
            evidence.zip(&self.probabilities).map(|(key, probability)| Proposal { key, probability: *probability }),
        );
        let order = |a: &Proposal, b: &Proposal| b.probability.total_cmp(&a.probability).then(a.key.cmp(&b.key));
        if count > 0 && out.len() > count {
            out.select_nth_unstable_by(count - 1, order);
        }
        out.truncate(count);
        out.sort_unstable_by(order);
    }

    /// The client of `session` asks for `key`: learns from it as `learning` allows. The session itself is moved on by
    /// [`BlendSession::push`], afterwards.
    pub fn learn(
        &mut self,
        now: Timestamp,
        region: RegionId,
        session: &BlendSession,
        key: KeyId,
        learning: BlendLearning,
    ) {
        if learning.weights && session.current().is_some() {
            self.observed += 1;
            if self.observed.is_multiple_of(u64::from(self.config.learn_every))
                && let Some(context) = self.look(now, region, session)
            {
                let target = self.pool.evidence.iter().position(|evidence| evidence.key == key);
                let rate = self.config.learning_rate;
                self.ranker.learn(&self.features, &context, &self.probabilities, target, rate);
            }
        }
        if learning.counts || learning.popularity {
            self.count(now, region, session, key, learning);
        }
    }

    /// The candidates before `key` is asked for, to fit weights on later; `None` when the session has not begun.
    pub fn example(
        &mut self,
        now: Timestamp,
        region: RegionId,
        session: &BlendSession,
        key: KeyId,
    ) -> Option<BlendExample> {
        let context = self.look(now, region, session)?;
        let target = self.pool.evidence.iter().position(|evidence| evidence.key == key);
        Some(BlendExample { candidates: self.features.clone(), context, target })
    }

    /// One gradient step on an example; returns its loss before the step, in nats.
    pub fn fit(&mut self, example: &BlendExample) -> f32 {
        let BlendExample { candidates, context, target } = example;
        self.ranker.probabilities(candidates, context, &mut self.probabilities);
        self.ranker.learn(candidates, context, &self.probabilities, *target, self.config.learning_rate)
    }

    /// The loss of an example, in nats; learns nothing.
    pub fn loss(&mut self, example: &BlendExample) -> f32 {
        let BlendExample { candidates, context, target } = example;
        self.ranker.probabilities(candidates, context, &mut self.probabilities);
        let none = 1.0 - self.probabilities.iter().sum::<f32>();
        -target.map_or(none, |place| self.probabilities[place]).max(f32::MIN_POSITIVE).ln()
    }

    /// A key's number is about to be given to another.
    pub fn forget(&mut self, key: KeyId) {
        if let Some(entry) = self.entries.get_mut(key.0 as usize) {
            let generation = entry.generation.wrapping_add(1);
            *entry = Entry::unknown(generation);
        }
        self.favourites.forget(key);
        self.sections.forget(key);
        self.hot.iter_mut().for_each(|hot| hot.forget(key));
    }

    /// Gathers candidates, features and probabilities of what comes next; the context is what they have in common.
    fn look(&mut self, now: Timestamp, region: RegionId, session: &BlendSession) -> Option<[f32; CONTEXT_COUNT]> {
        let (before, current) = session.context()?;
        let now_seconds = seconds(now);
        let Self { config, entries, pool, .. } = self;
        let window = Window::of(session.oldest_first(), config.window);
        pool.begin(session, &window);
        let recent_seconds = config.recent_half_life_seconds as f32;
        for (place, key) in window.keys().iter().enumerate() {
            if let Some(entry) = entries.get(key.0 as usize) {
                pool.join(place, entry, now_seconds, recent_seconds);
            }
        }
        let pair = (before.map(|key| stamped(entries, key)), stamped(entries, current));
        let context = self.contexts.get(pair);
        if let Some(context) = context {
            pool.follow(context, session.oldest_first());
        }
        for (key, count) in self.hot.get(usize::from(region.0)).into_iter().flat_map(HotList::keys) {
            pool.favour(*key, *count);
        }
        let lasting = half_lives(now, config.half_life_seconds);
        let all = lasting + f64::from(self.requests + 1.0).log2();
        for (key, count) in self.favourites.keys() {
            pool.add(*key, popular::share(*count, all));
        }
        // The favourites of a section that is most of the log are everybody's.
        if let Some(section) = self.sections.of(current).filter(|section| section.requests() < all - 1.0) {
            pool.stay(section, lasting);
        }
        pool.limit(config.candidates_max, |evidence| match evidence.generation {
            None => true,
            Some(generation) => {
                entries.get(evidence.key.0 as usize).is_some_and(|entry| entry.generation == generation)
            }
        });
        let own = session.oldest_first().iter().filter(|key| **key == current).count();
        let requests_of = |key: KeyId| entries.get(key.0 as usize).map_or(0.0, |entry| entry.occurrences);
        let surroundings = Surroundings {
            now_seconds,
            now_recent: half_lives(now, config.recent_half_life_seconds),
            now_hot: half_lives(now, config.hot_half_life_seconds),
            requests: self.requests,
            session_requests: session.requests(),
            current_requests: (requests_of(current) - own as f32).max(0.0),
            context_requests: context.map_or(0.0, |context| context.occurrences),
            current,
        };
        let unknown = Entry::unknown(0);
        let entry = |key: KeyId| entries.get(key.0 as usize).unwrap_or(&unknown);
        surroundings.features(&pool.evidence, entry, &mut self.features);
        let context = surroundings.context(&pool.evidence);
        self.ranker.probabilities(&self.features, &context, &mut self.probabilities);
        Some(context)
    }

    /// Counts that `key` is asked for after what the session asked for.
    fn count(&mut self, now: Timestamp, region: RegionId, session: &BlendSession, key: KeyId, learning: BlendLearning) {
        let now_seconds = seconds(now);
        let half_life = self.config.half_life_seconds;
        let generation = self.entry(key, now_seconds).generation;
        if learning.counts {
            let links_max = self.config.links_per_key;
            let window = Window::of(session.oldest_first(), self.config.window);
            for (place, earlier) in window.keys().iter().enumerate() {
                let entry = self.entry(*earlier, now_seconds);
                let earlier_generation = entry.generation;
                let link = entry.link(key, generation, links_max);
                link.after += 1.0;
                if place == 0 {
                    link.direct += 1.0;
                    link.direct_at = now_seconds;
                }
                if *earlier != key {
                    self.entry(key, now_seconds).link(*earlier, earlier_generation, links_max).before += 1.0;
                }
            }
            if let Some((before, current)) = session.context() {
                let stamp = |key| stamped(&self.entries, key);
                let pair = (before.map(stamp), stamp(current));
                self.contexts.observe(pair, Stamped { key, generation });
            }
            let entry = self.entry(key, now_seconds);
            entry.occurrences += 1.0;
            if entry.first_at == 0 {
                entry.first_at = now_seconds;
            }
            let elapsed = f64::from(now_seconds.saturating_sub(self.requests_at));
            if self.requests_at != 0 {
                self.requests *= (-elapsed / half_life).exp2() as f32;
            }
            self.requests += 1.0;
            self.requests_at = now_seconds;
        }
        if learning.popularity {
            let worth = half_lives(now, self.config.recent_half_life_seconds);
            let entry = self.entry(key, now_seconds);
            entry.recent = popular::add(entry.recent, worth);
            let hot_keys = self.config.hot_keys;
            self.count_favourite(key, 1.0, half_lives(now, half_life));
            let worth = half_lives(now, self.config.hot_half_life_seconds);
            let region = usize::from(region.0);
            if self.hot.len() <= region && region < REGIONS_MAX {
                self.hot.resize(region + 1, HotList::default());
            }
            if let Some(hot) = self.hot.get_mut(region) {
                hot.observe(key, worth, hot_keys);
            }
        }
    }

    /// Counts further `requests` of a key, which its entry has counted, for what everybody and its section ask for;
    /// `lasting` is the time in half-lives.
    pub(super) fn count_favourite(&mut self, key: KeyId, requests: f32, lasting: f64) {
        let Self { entries, favourites, sections, config, .. } = self;
        let known = entries.get(key.0 as usize).filter(|entry| entry.occurrences > 0.0);
        if let Some(entry) = known {
            let count = lasting + f64::from(entry.occurrences).log2();
            favourites.insert(key, count, config.hot_keys);
            sections.observe(key, lasting + f64::from(requests).log2(), count);
        }
    }

    /// The entry of a key, aged to now.
    pub(super) fn entry(&mut self, key: KeyId, now_seconds: u32) -> &mut Entry {
        let number = key.0 as usize;
        if self.entries.len() <= number {
            self.entries.resize(number + 1, Entry::unknown(0));
        }
        let entry = &mut self.entries[number];
        entry.age(now_seconds, self.config.half_life_seconds);
        entry
    }
}

/// A key as of now.
pub(super) fn stamped(entries: &[Entry], key: KeyId) -> Stamped {
    Stamped { key, generation: entries.get(key.0 as usize).map_or(0, |entry| entry.generation) }
}

/// Seconds since the Unix epoch, at least one: zero stands for never.
pub(super) fn seconds(at: Timestamp) -> u32 {
    let most = i64::from(u32::MAX) - 1;
    u32::try_from((at.micros() / 1_000_000).clamp(0, most) + 1).unwrap_or(u32::MAX)
}

/// Half-lives since the Unix epoch.
pub(super) fn half_lives(at: Timestamp, half_life_seconds: f64) -> f64 {
    at.micros() as f64 / 1e6 / half_life_seconds
}

/// Regions beyond this number have no favourites of their own.
const REGIONS_MAX: usize = 1_024;
