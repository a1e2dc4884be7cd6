//! Candidates of one request: every key that something speaks for, with what speaks for it.

use nearcast_datasets::KeyId;

use crate::{
    BlendSession,
    blend::{
        config::WINDOW_MAX,
        contexts::{Context, Stamped},
        links::{Entry, Link},
        session::{RECENT_MAX, Window},
    },
    kernel,
};

/// What speaks for one candidate; what the present session itself has contributed is left out everywhere, so that a
/// client's own requests are not mistaken for what others do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    pub(super) key: KeyId,
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
    /// Shares in which it met the window's keys over the root of both sides' requests, each divided by the place.
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
}

/// The candidates of one request, each once. Kept between requests, so that nothing is allocated for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    pub(super) evidence: Vec<Evidence>,
    /// Per key: the request that it was last a candidate of and its place then.
    marks: Vec<(u32, u32)>,
    request: u32,
    /// Distinct keys of the session: they come first in `evidence`.
    session_keys: usize,
    /// Times that the session asked for each of them.
    own_requests: [f32; RECENT_MAX],
    own_pairs: [[Own; RECENT_MAX]; WINDOW_MAX],
}

/// What the present session has added to a link.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    direct: f32,
    after: f32,
    before: f32,
}

impl Pool {
    /// Starts over with the keys of `session` and of its history.
    pub(super) fn begin(&mut self, session: &BlendSession, window: &Window) {
        self.evidence.clear();
        self.request = self.request.wrapping_add(1);
        if self.request == 0 {
            self.marks.fill((0, 0));
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
            window_place[self.place(*key)] = place;
        }
        let mut passing: Vec<usize> = Vec::with_capacity(WINDOW_MAX + 1);
        for key in recent {
            let to = self.place(*key);
            for (distance, from) in passing.iter().enumerate() {
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
            passing.retain(|held| *held != to);
            passing.insert(0, to);
            // A session with fewer distinct keys than the window is wide never fills it.
            passing.truncate(width);
        }
    }

    /// Adds what is joined to the window's key at `place` (0 for the current key).
    pub(super) fn join(
        &mut self,
        place: usize,
        entry: &Entry,
        entries: &[Entry],
        now_seconds: u32,
        recent_seconds: f32,
    ) {
        // The window's keys are the session's, latest first, and so are the first candidates.
        let requests = (entry.occurrences - self.own_requests[place]).max(0.0) + 1.0;
        let (share, root) = (1.0 / requests, requests.sqrt());
        let weight = 1.0 / (place + 1) as f32;
        for link in &entry.links {
            let Some(other) = entries.get(link.to.0 as usize).filter(|other| other.generation == link.generation)
            else {
                continue;
            };
            let link = self.without_own(place, *link);
            if link.both() <= 0.0 {
                continue;
            }
            let both = link.both() * share;
            let age = now_seconds.saturating_sub(link.direct_at) as f32;
            let evidence = self.of(link.to);
            if place == 0 {
                evidence.direct = link.direct * share;
                evidence.direct_count = link.direct;
                evidence.after = link.after * share;
                evidence.before = link.before * share;
                evidence.freshness = if link.direct > 0.0 { kernel::exp(-age / recent_seconds) } else { 0.0 };
            } else {
                evidence.others += both * weight;
                evidence.others_max = evidence.others_max.max(both);
            }
            evidence.association += weight * both * root / (other.occurrences + 1.0).sqrt();
        }
    }

    /// Adds what followed the last two keys; `own` are the session's own requests, oldest first.
    pub(super) fn follow(&mut self, context: &Context, entries: &[Entry], own: &[KeyId]) {
        // What this session itself did after the same two keys.
        let (mut own_occurrences, mut own_followers) = (0.0, [KeyId(0); RECENT_MAX]);
        let mut own_count = 0;
        if let [.., before, current] = own {
            for triple in own.windows(3).filter(|triple| triple[0] == *before && triple[1] == *current) {
                own_followers[own_count] = triple[2];
                own_count += 1;
                own_occurrences += 1.0;
            }
        }
        let occurrences = (context.occurrences - own_occurrences).max(0.0);
        for (Stamped { key, generation }, count) in &context.followers {
            let repeated = own_followers[..own_count].iter().filter(|own| *own == key).count();
            let count = count - repeated as f32;
            let known = entries.get(key.0 as usize).is_some_and(|entry| entry.generation == *generation);
            if known && count > 0.0 {
                self.of(*key).context = count / (occurrences + 1.0);
            }
        }
    }

    /// Adds a region's favourite.
    pub(super) fn favour(&mut self, key: KeyId, count: f64) {
        self.of(key).hot = Some(count);
    }

    /// Adds a key that nothing in particular speaks for.
    pub(super) fn add(&mut self, key: KeyId) {
        self.of(key);
    }

    /// Keeps the `most` candidates that look best at first sight, the session's own keys among them.
    pub(super) fn limit(&mut self, most: usize) {
        if self.evidence.len() <= most {
            return;
        }
        let order = |a: &Evidence, b: &Evidence| b.first_sight().total_cmp(&a.first_sight()).then(a.key.cmp(&b.key));
        self.evidence.select_nth_unstable_by(most - 1, order);
        self.evidence.truncate(most);
        // Places have changed: nothing may be looked up by mark any more.
        self.request = self.request.wrapping_add(1);
        if self.request == 0 {
            self.marks.fill((0, 0));
            self.request = 1;
        }
    }

    fn without_own(&self, window_place: usize, link: Link) -> Link {
        let (request, place) = self.marks.get(link.to.0 as usize).copied().unwrap_or_default();
        let place = place as usize;
        if request != self.request || place >= self.session_keys {
            return link;
        }
        let own = self.own_pairs[window_place][place];
        Link {
            direct: (link.direct - own.direct).max(0.0),
            after: (link.after - own.after).max(0.0),
            before: (link.before - own.before).max(0.0),
            ..link
        }
    }

    /// Place of a key that is a candidate.
    fn place(&self, key: KeyId) -> usize {
        self.marks[key.0 as usize].1 as usize
    }

    fn of(&mut self, key: KeyId) -> &mut Evidence {
        let number = key.0 as usize;
        if self.marks.len() <= number {
            self.marks.resize((number + 1).next_power_of_two(), (0, 0));
        }
        let (request, place) = self.marks[number];
        let place = if request == self.request {
            place as usize
        } else {
            // There are fewer candidates than keys, and those are numbered by u32.
            self.marks[number] = (self.request, u32::try_from(self.evidence.len()).unwrap_or(u32::MAX));
            self.evidence.push(Evidence { key, ..Evidence::default() });
            self.evidence.len() - 1
        };
        &mut self.evidence[place]
    }
}

impl Evidence {
    /// A rough guess at how probable the candidate is.
    fn first_sight(&self) -> f32 {
        let in_session = 0.1 * self.nearness + if self.in_history { 0.02 } else { 0.0 };
        let favourite = if self.hot.is_some() { 0.02 } else { 0.0 };
        self.direct
            + self.after
            + 0.5 * self.before
            + self.others
            + self.context
            + 0.05 * self.association
            + in_session
            + favourite
    }
}
