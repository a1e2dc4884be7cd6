//! Candidates of one request: every key that something speaks for, with what speaks for it.

use nearcast_datasets::KeyId;

use crate::{
    BlendConfig, BlendSession,
    blend::{
        config::WINDOW_MAX,
        contexts::{Context, Stamped},
        links::{Entry, Link},
        sections::{SECTION_KEYS, Section},
        session::{RECENT_MAX, Window},
    },
    kernel,
};

/// What speaks for one candidate; what the present session itself has contributed is left out everywhere, so that a
/// client's own requests are not mistaken for what others do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    pub(super) key: KeyId,
    /// The generation of the key that links mean; `None` while none has named it.
    pub(super) generation: Option<u32>,
    /// Share of the current key's requests that it followed directly.
    pub(super) direct: f32,
    /// Times that it did.
    pub(super) direct_count: f32,
    /// Share of the current key's requests that it followed within the window.
    pub(super) after: f32,
    /// Share of the current key's requests that it preceded within the window.
    pub(super) before: f32,
    /// e^(−time since it last followed directly / recent half-life).
    pub(super) freshness: f32,
    /// Shares in which it met the window's other keys, each divided by the key's place; summed.
    pub(super) others: f32,
    /// The highest such share.
    pub(super) others_max: f32,
    /// Shares in which it met the window's keys times the root of their requests, each divided by the place.
    pub(super) association: f32,
    /// Share in which it followed the last two keys.
    pub(super) context: f32,
    /// One over the number of requests since it was asked for in this session; zero when it was not.
    pub(super) nearness: f32,
    /// Times that it was asked for in this session.
    pub(super) times: f32,
    /// Whether it was asked for in an earlier session.
    pub(super) in_history: bool,
    /// Among the region's favourites: log2 of its forward-decayed count.
    pub(super) hot: Option<f64>,
    /// Share of all requests, when a favourite of everybody.
    pub(super) popular: f32,
    /// Share of the requests of the current key's section, when a favourite there.
    pub(super) section: f32,
}

/// The candidates of one request, each once. Kept between requests, so that nothing is allocated for them.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) evidence: Vec<Evidence>,
    /// Where candidates stand, by hash of their key with linear probing; twice as many places as there can be
    /// candidates. It is small, so that looking a key up costs no more in a large vocabulary than in a small one.
    places: Vec<Place>,
    request: u32,
    /// First sights of candidates in the high bits, with their places in the low ones.
    ranks: Vec<u64>,
    order: Vec<u64>,
    /// Distinct keys of the session: they come first in `evidence`.
    session_keys: usize,
    /// Times that the session asked for each of them.
    own_requests: [f32; RECENT_MAX],
    own_pairs: [[Own; RECENT_MAX]; WINDOW_MAX],
}

/// A candidate's place, valid for one request.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    request: u32,
    key: u32,
    place: u32,
}

/// What the present session has added to a link.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    direct: f32,
    after: f32,
    before: f32,
}

impl Pool {
    /// A pool with room for all that `config` allows.
    pub(super) fn new(config: &BlendConfig) -> Self {
        let most = config.window * config.links_per_key + 2 * config.hot_keys + SECTION_KEYS + SESSION_CANDIDATES_MAX;
        Self {
            evidence: Vec::with_capacity(most),
            places: vec![Place::default(); usize::next_power_of_two(2 * most)],
            request: 0,
            ranks: Vec::with_capacity(most),
            order: Vec::with_capacity(most),
            session_keys: 0,
            own_requests: [0.0; RECENT_MAX],
            own_pairs: [[Own::default(); RECENT_MAX]; WINDOW_MAX],
        }
    }

    /// Starts over with the keys of `session` and of its history.
    pub(super) fn begin(&mut self, session: &BlendSession, window: &Window) {
        self.evidence.clear();
        self.request = self.request.wrapping_add(1);
        if self.request == 0 {
            self.places.fill(Place::default());
            self.request = 1;
        }
        let recent = session.oldest_first();
        for (distance, key) in (1_u8..).zip(recent.iter().rev()) {
            let evidence = self.of(*key);
            if evidence.times == 0.0 {
                evidence.nearness = 1.0 / f32::from(distance);
            }
            evidence.times += 1.0;
        }
        self.session_keys = self.evidence.len();
        for (own, evidence) in self.own_requests.iter_mut().zip(&self.evidence) {
            *own = evidence.times;
        }
        self.count_own(recent, window);
        for key in session.history() {
            self.of(*key).in_history = true;
        }
    }

    /// Replays how the session's requests were joined to one another.
    fn count_own(&mut self, recent: &[KeyId], window: &Window) {
        let width = window.keys().len();
        self.own_pairs[..width].fill([Own::default(); RECENT_MAX]);
        // Places in `evidence` of the window's keys, and of what the window held at each step.
        let mut window_place = [usize::MAX; RECENT_MAX];
        for (place, key) in window.keys().iter().enumerate() {
            let found = self.place(*key);
            window_place[found] = place;
        }
        let (mut passing, mut held) = ([usize::MAX; WINDOW_MAX], 0);
        for key in recent {
            let to = self.place(*key);
            for (distance, from) in passing[..held].iter().enumerate() {
                if let Some(own) = self.own_pairs.get_mut(window_place[*from]) {
                    own[to].direct += if distance == 0 { 1.0 } else { 0.0 };
                    own[to].after += 1.0;
                }
                if let Some(own) = self.own_pairs.get_mut(window_place[to])
                    && *from != to
                {
                    own[*from].before += 1.0;
                }
            }
            // A session with fewer distinct keys than the window is wide never fills it.
            let last = held.min(width - 1);
            let leaving = passing[..held].iter().position(|place| *place == to).unwrap_or(last);
            passing.copy_within(..leaving, 1);
            passing[0] = to;
            held = held.max(leaving + 1);
        }
    }

    /// Adds what is joined to the window's key at `place` (0 for the current key).
    pub(super) fn join(&mut self, place: usize, entry: &Entry, now_seconds: u32, recent_seconds: f32) {
        // The window's keys are the session's, latest first, and so are the first candidates.
        let requests = (entry.occurrences - self.own_requests[place]).max(0.0) + 1.0;
        let (share, root) = (1.0 / requests, requests.sqrt());
        let weight = 1.0 / (place + 1) as f32;
        for link in &entry.links {
            let found = self.place(link.to);
            let link = self.without_own(place, found, *link);
            let evidence = &mut self.evidence[found];
            if link.both() <= 0.0 || !evidence.mean(link.generation) {
                continue;
            }
            let both = link.both() * share;
            if place == 0 {
                evidence.direct = link.direct * share;
                evidence.direct_count = link.direct;
                evidence.after = link.after * share;
                evidence.before = link.before * share;
                let age = now_seconds.saturating_sub(link.direct_at) as f32;
                evidence.freshness = if link.direct > 0.0 { kernel::exp(-age / recent_seconds) } else { 0.0 };
            } else {
                evidence.others += both * weight;
                evidence.others_max = evidence.others_max.max(both);
            }
            evidence.association += weight * both * root;
        }
    }

    /// Adds what followed the last two keys; `own` are the session's own requests, oldest first.
    pub(super) fn follow(&mut self, context: &Context, own: &[KeyId]) {
        // What this session itself did after the same two keys.
        let (mut own_followers, mut own_count) = ([KeyId(0); RECENT_MAX], 0);
        if let [.., before, current] = own {
            for triple in own.windows(3).filter(|triple| triple[0] == *before && triple[1] == *current) {
                own_followers[own_count] = triple[2];
                own_count += 1;
            }
        }
        let occurrences = (context.occurrences - own_count as f32).max(0.0);
        for (Stamped { key, generation }, count) in &context.followers {
            let repeated = own_followers[..own_count].iter().filter(|own| *own == key).count();
            let count = count - repeated as f32;
            let evidence = self.of(*key);
            if count > 0.0 && evidence.mean(*generation) {
                evidence.context = count / (occurrences + 1.0);
            }
        }
    }

    /// Adds a region's favourite.
    pub(super) fn favour(&mut self, key: KeyId, count: f64) {
        self.of(key).hot = Some(count);
    }

    /// Adds a favourite of everybody, with its share of all requests.
    pub(super) fn add(&mut self, key: KeyId, share: f32) {
        self.of(key).popular = share;
    }

    /// Adds the favourites of the current key's section; `lasting` is the time in half-lives.
    pub(super) fn stay(&mut self, section: &Section, lasting: f64) {
        let one = (lasting - section.requests()).exp2() as f32;
        for (key, share) in section.shares() {
            let evidence = self.of(key);
            evidence.section = (share - evidence.times * one).max(0.0);
        }
    }

    /// Keeps the `most` candidates that look best at first sight, and of those the ones that `is_living` admits.
    pub(super) fn limit(&mut self, most: usize, is_living: impl Fn(&Evidence) -> bool) {
        // First sights are not negative, so their bits are ordered as they are. Of equals the earlier one leads.
        let rank = |(place, evidence): (u64, &Evidence)| {
            (u64::from(evidence.first_sight().to_bits()) << 32) | (PLACE_BITS - place)
        };
        self.ranks.clear();
        self.ranks.extend((0..).zip(&self.evidence).map(rank));
        let mut least = 0;
        if self.ranks.len() > most {
            self.order.clone_from(&self.ranks);
            least = *self.order.select_nth_unstable_by(most - 1, |a, b| b.cmp(a)).1;
        }
        let mut kept = 0;
        for place in 0..self.evidence.len() {
            if self.ranks[place] >= least && is_living(&self.evidence[place]) {
                self.evidence[kept] = self.evidence[place];
                kept += 1;
            }
        }
        self.evidence.truncate(kept);
    }

    fn without_own(&self, window_place: usize, found: usize, link: Link) -> Link {
        if found >= self.session_keys {
            return link;
        }
        let own = self.own_pairs[window_place][found];
        Link {
            direct: (link.direct - own.direct).max(0.0),
            after: (link.after - own.after).max(0.0),
            before: (link.before - own.before).max(0.0),
            ..link
        }
    }

    /// A key as a candidate; it becomes one when it is none.
    fn of(&mut self, key: KeyId) -> &mut Evidence {
        let place = self.place(key);
        &mut self.evidence[place]
    }

    fn place(&mut self, key: KeyId) -> usize {
        let mask = self.places.len() - 1;
        // Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4), without its lowest bits, which mix least.
        let mut at = (key.0.wrapping_mul(0x9e37_79b1) >> 7) as usize & mask;
        loop {
            let place = &mut self.places[at];
            if place.request != self.request {
                // There are fewer candidates than keys, and those are numbered by u32.
                let number = u32::try_from(self.evidence.len()).unwrap_or(u32::MAX);
                *place = Place { request: self.request, key: key.0, place: number };
                self.evidence.push(Evidence { key, ..Evidence::default() });
                return self.evidence.len() - 1;
            }
            if place.key == key.0 {
                return place.place as usize;
            }
            at = (at + 1) & mask;
        }
    }
}

impl Evidence {
    /// Notes that a link means this generation of the key; false when a later one was meant already. When only an
    /// earlier one was, what spoke for that is taken back.
    fn mean(&mut self, generation: u32) -> bool {
        match self.generation {
            Some(held) if held > generation => return false,
            Some(held) if held < generation => {
                let Self { key, nearness, times, in_history, .. } = *self;
                *self = Self { key, nearness, times, in_history, ..Self::default() };
            }
            _ => {}
        }
        self.generation = Some(generation);
        true
    }

    /// A rough guess at how probable the candidate is. The weights were chosen on the first 70 % of four logs.
    fn first_sight(&self) -> f32 {
        let in_session = 0.1 * self.nearness + if self.in_history { 0.02 } else { 0.0 };
        let favourite = self.popular + if self.hot.is_some() { 0.02 } else { 0.0 };
        self.direct
            + 0.5 * self.after
            + 0.25 * self.before
            + 0.5 * self.others
            + self.context
            + 0.02 * self.association
            + in_session
            + favourite
            + self.section
    }
}

/// Candidates that a session can bring in besides what its window is joined to: itself, its history, a context.
const SESSION_CANDIDATES_MAX: usize = 64;
const PLACE_BITS: u64 = 0xffff_ffff;
