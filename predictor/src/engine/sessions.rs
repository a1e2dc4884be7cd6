//! Sessions: what each client asked for last.

use std::{num::NonZeroUsize, time::Duration};

use lru::LruCache;
use nearcast_datasets::{KeyId, Timestamp};

/// How many keys of a session are remembered.
pub(super) const WINDOW: usize = 5;

/// A client's run of requests without a long pause. `S` is what the trained model keeps of it.
#[derive(Clone, Debug)]
pub(super) struct Session<S> {
    recent: [KeyId; WINDOW],
    length: u32,
    last_at: Timestamp,
    /// What the client comes back to, over all its sessions.
    pub habits: Habits,
    /// What the trained model remembers, of earlier sessions too; `None` until it is computed.
    pub state: Option<Box<S>>,
}

impl<S> Session<S> {
    fn new(now: Timestamp) -> Self {
        Self { recent: [KeyId::default(); WINDOW], length: 0, last_at: now, habits: Habits::default(), state: None }
    }

    /// The last keys asked for, newest first.
    pub(super) fn recent(&self) -> impl DoubleEndedIterator<Item = KeyId> {
        let kept = (self.length as usize).min(WINDOW);
        (0..kept).map(|age| self.recent[(self.length as usize - 1 - age) % WINDOW])
    }

    /// Requests in this session so far.
    pub(super) fn length(&self) -> u32 {
        self.length
    }

    pub(super) fn push(&mut self, key: KeyId) {
        // Wraps within the window, so that the position of the newest key stays right after saturation.
        if self.length == u32::MAX - u32::MAX % WINDOW as u32 {
            self.length = WINDOW as u32;
        }
        self.habits.record(key);
        self.recent[self.length as usize % WINDOW] = key;
        self.length += 1;
    }
}

/// What is written down of a session; the trained model's part is rebuilt as the client goes on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SessionState {
    pub client: u64,
    /// Newest first.
    pub recent: Vec<KeyId>,
    pub length: u32,
    pub last_at: Timestamp,
    pub habits: Vec<(KeyId, f32)>,
}

/// The keys that one client has asked for most, in any session, with counts that decay as it goes on asking.
#[derive(Clone, Debug, Default)]
pub(super) struct Habits {
    kept: Vec<(KeyId, f32)>,
}

impl Habits {
    /// The client asks for a key; beyond the bound, the one asked for least makes room.
    fn record(&mut self, key: KeyId) {
        self.kept.iter_mut().for_each(|(_, weight)| *weight *= HABIT_KEPT);
        if let Some((_, weight)) = self.kept.iter_mut().find(|(kept, _)| *kept == key) {
            *weight += 1.0;
        } else if self.kept.len() < HABITS_MAX {
            self.kept.push((key, 1.0));
        } else if let Some(least) = self.kept.iter_mut().min_by(|a, b| a.1.total_cmp(&b.1)) {
            *least = (key, 1.0);
        }
    }

    /// Every key kept, with its decayed count and its share of the client's requests.
    pub(super) fn iter(&self) -> impl Iterator<Item = (KeyId, f32, f32)> {
        let total: f32 = self.kept.iter().map(|(_, weight)| weight).sum();
        self.kept.iter().map(move |(key, weight)| (*key, *weight, weight / (total + HABIT_PRIOR)))
    }
}

const HABITS_MAX: usize = 16;
/// What remains of a count with every request of the client: a memory of about fifty.
const HABIT_KEPT: f32 = 0.98;
const HABIT_PRIOR: f32 = 2.0;

/// Sessions by client, bounded: the client idle longest is forgotten.
#[derive(Debug)]
pub(super) struct Sessions<S> {
    clients: LruCache<u64, Session<S>>,
    gap: Duration,
    pub forgotten: u64,
}

impl<S> Sessions<S> {
    pub(super) fn new(clients_max: usize, gap: Duration) -> Self {
        let clients_max = NonZeroUsize::new(clients_max).unwrap_or(NonZeroUsize::MIN);
        Self { clients: LruCache::new(clients_max), gap, forgotten: 0 }
    }

    /// The client's session as it was before the request of this instant; a new one after a long pause.
    pub(super) fn enter(&mut self, now: Timestamp, client: u64) -> &mut Session<S> {
        if self.clients.len() == self.clients.cap().get() && !self.clients.contains(&client) {
            self.forgotten += 1;
        }
        let gap = self.gap;
        let session = self.clients.get_or_insert_mut(client, || Session::new(now));
        if now.since(session.last_at) > gap {
            let (habits, state) = (std::mem::take(&mut session.habits), session.state.take());
            *session = Session { habits, state, ..Session::new(now) };
        }
        session.last_at = now;
        session
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Every session, that of the client idle longest first.
    pub(super) fn states(&self) -> impl Iterator<Item = SessionState> {
        self.clients.iter().rev().map(|(client, session)| SessionState {
            client: *client,
            recent: session.recent().collect(),
            length: session.length,
            last_at: session.last_at,
            habits: session.habits.kept.clone(),
        })
    }

    /// Takes a session up as that of the client that was heard of last.
    pub(super) fn resume(&mut self, state: SessionState) {
        let SessionState { client, recent, length, last_at, habits } = state;
        let mut session = Session { length, habits: Habits { kept: habits }, ..Session::new(last_at) };
        for (key, age) in recent.into_iter().zip(1..=length.min(WINDOW as u32)) {
            session.recent[(length - age) as usize % WINDOW] = key;
        }
        self.clients.put(client, session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(session: &Session<()>) -> Vec<u32> {
        session.recent().map(|key| key.0).collect()
    }

    #[test]
    fn keeps_the_newest_keys_and_starts_afresh_after_a_pause() {
        let mut sessions = Sessions::<()>::new(2, Duration::from_secs(10));
        for second in 0..7 {
            sessions.enter(Timestamp::from_micros(second * 1_000_000), 1).push(KeyId(second as u32));
        }
        let at = |second: i64| Timestamp::from_micros(second * 1_000_000);
        assert_eq!(recent(sessions.enter(at(16), 1)), [6, 5, 4, 3, 2]);
        assert!(recent(sessions.enter(at(27), 1)).is_empty());
    }

    #[test]
    fn forgets_the_client_idle_longest_beyond_the_bound() {
        let mut sessions = Sessions::<()>::new(2, Duration::from_secs(10));
        for client in [1, 2, 1, 3] {
            sessions.enter(Timestamp::default(), client).push(KeyId(9));
        }
        assert_eq!((sessions.len(), sessions.forgotten), (2, 1));
        assert!(recent(sessions.enter(Timestamp::default(), 2)).is_empty());
    }
}
