//! What a blend has learned, as an artifact carries it: by key name, independent of any run's numbering.

use nearcast_datasets::{Interner, KeyId, Timestamp};

use crate::{
    Blend, BlendConfig, RankerState, Result,
    blend::{
        contexts::{Context, Stamped},
        links::Link,
        model,
        popular::NOTHING,
    },
};

/// A blend learned from a training log. Favourites of regions are not part of it: they outdate within the hour.
#[derive(Clone, Debug, Default)]
pub struct TrainedBlend {
    /// Names of the keys that the rows number.
    pub keys: Interner,
    /// When the counts were read off.
    pub at: Timestamp,
    /// Decayed number of all requests.
    pub requests: f32,
    /// Keys, by number.
    pub rows: Vec<BlendKeyRow>,
    /// What followed pairs of keys, by pair.
    pub contexts: Vec<BlendContextRow>,
    /// The network.
    pub ranker: RankerState,
}

/// What is known of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct BlendKeyRow {
    /// The key.
    pub key: KeyId,
    /// Its decayed requests.
    pub occurrences: f32,
    /// Its first request, in seconds since the Unix epoch plus one; 0 when unknown.
    pub first_at: u32,
    /// Its requests decayed by the recent half-life, at `at`.
    pub recent: f32,
    /// What it is joined to, strongest first.
    pub links: Vec<BlendLinkRow>,
}

/// How a key is joined to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlendLinkRow {
    /// The other key.
    pub to: KeyId,
    /// Decayed number of times that it came directly after.
    pub direct: f32,
    /// Decayed number of times that it came after, within the window.
    pub after: f32,
    /// Decayed number of times that it came before, within the window.
    pub before: f32,
    /// When it last came directly after, in seconds since the Unix epoch plus one; 0 for never.
    pub direct_at: u32,
}

/// What followed a pair of consecutive keys.
#[derive(Clone, Debug, PartialEq)]
pub struct BlendContextRow {
    /// The key before; `None` at the beginning of a session.
    pub before: Option<KeyId>,
    /// The current key.
    pub current: KeyId,
    /// Times that anything followed.
    pub occurrences: f32,
    /// What followed, with counts.
    pub followers: Vec<(KeyId, f32)>,
}

impl Blend {
    /// Everything learned, with keys by the names that `name` gives them; keys without a name are left out.
    pub fn export<'a>(&self, at: Timestamp, name: impl Fn(KeyId) -> Option<&'a str>) -> TrainedBlend {
        let mut keys = Interner::default();
        let mut number = |key: KeyId| name(key).map(|name| KeyId(keys.insert(name)));
        let now = model::half_lives(at, self.config.recent_half_life_seconds);
        let mut rows = Vec::new();
        for (key, entry) in (0..).map(KeyId).zip(&self.entries) {
            if entry.occurrences <= 0.0 && entry.links.is_empty() {
                continue;
            }
            let Some(key) = number(key) else { continue };
            let living = entry.links.iter().filter(|link| {
                self.entries.get(link.to.0 as usize).is_some_and(|other| other.generation == link.generation)
            });
            let row = |link: &Link| {
                let Link { direct, after, before, direct_at, .. } = *link;
                Some(BlendLinkRow { to: number(link.to)?, direct, after, before, direct_at })
            };
            let mut links: Vec<BlendLinkRow> = living.filter_map(row).collect();
            links.sort_by(|a, b| (b.after + b.before).total_cmp(&(a.after + a.before)));
            let recent = if entry.recent == NOTHING { 0.0 } else { (entry.recent - now).exp2() as f32 };
            rows.push(BlendKeyRow { key, occurrences: entry.occurrences, first_at: entry.first_at, recent, links });
        }
        let mut contexts = Vec::new();
        let mut living = |it: Stamped| (model::stamped(&self.entries, it.key) == it).then(|| number(it.key)).flatten();
        for ((before, current), context) in self.contexts.sorted() {
            let named_before = before.and_then(&mut living);
            let Some(current) = living(current).filter(|_| named_before.is_some() == before.is_some()) else {
                continue;
            };
            let followers = context.followers.iter().filter_map(|(key, count)| Some((living(*key)?, *count))).collect();
            contexts.push(BlendContextRow {
                before: named_before,
                current,
                occurrences: context.occurrences,
                followers,
            });
        }
        TrainedBlend { keys, at, requests: self.requests, rows, contexts, ranker: self.ranker() }
    }

    /// A blend that goes on from `trained`, with keys numbered by `number`; keys that it does not number are left out.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when a value of `config` is out of its range, or the network's numbers
    /// are broken.
    pub fn from_trained(
        config: &BlendConfig,
        trained: &TrainedBlend,
        mut number: impl FnMut(&str) -> Option<KeyId>,
    ) -> Result<Self> {
        let mut blend = Self::new(config, 0)?;
        blend.set_ranker(&trained.ranker)?;
        blend.requests = trained.requests;
        let at = model::seconds(trained.at);
        blend.requests_at = at;
        let numbers: Vec<Option<KeyId>> =
            (0..trained.keys.bound()).map(|code| number(trained.keys.name(u32::try_from(code).ok()?)?)).collect();
        let renumber = |key: KeyId| numbers.get(key.0 as usize).copied().flatten();
        let now = model::half_lives(trained.at, config.recent_half_life_seconds);
        let worth = model::half_lives(trained.at, config.half_life_seconds);
        for row in &trained.rows {
            let Some(key) = renumber(row.key) else { continue };
            let links = row.links.iter().take(config.links_per_key).filter_map(|link| {
                let BlendLinkRow { direct, after, before, direct_at, .. } = *link;
                Some(Link { to: renumber(link.to)?, generation: 0, direct, after, before, direct_at })
            });
            let links: Vec<Link> = links.collect();
            let entry = blend.entry(key, at);
            entry.occurrences = row.occurrences;
            entry.first_at = row.first_at;
            entry.recent = if row.recent > 0.0 { now + f64::from(row.recent).log2() } else { NOTHING };
            entry.links = links;
            if let Some(name) = trained.keys.name(row.key.0) {
                blend.introduce(key, name);
            }
            blend.count_favourite(key, row.occurrences, worth);
        }
        for row in &trained.contexts {
            let before = row.before.and_then(renumber);
            let Some(current) = renumber(row.current).filter(|_| before.is_some() == row.before.is_some()) else {
                continue;
            };
            let stamp = |key| Stamped { key, generation: 0 };
            let follower = |(key, count): &(KeyId, f32)| Some((stamp(renumber(*key)?), *count));
            let followers = row.followers.iter().filter_map(follower).collect();
            blend
                .contexts
                .insert((before.map(stamp), stamp(current)), Context { occurrences: row.occurrences, followers });
        }
        Ok(blend)
    }
}
