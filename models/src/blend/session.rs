//! What the blend remembers of one client.

use nearcast_datasets::KeyId;

use crate::blend::config::WINDOW_MAX;

/// What a client asked for: the present session's latest requests and, once each, keys of its earlier sessions. At most
/// 160 bytes of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlendSession {
    /// Oldest first.
    recent: Vec<KeyId>,
    /// Oldest first.
    history: Vec<KeyId>,
    requests: u32,
}

impl BlendSession {
    /// The client was silent for longer than a session's gap: its next request begins a new session.
    pub fn pause(&mut self) {
        for key in self.recent.drain(..) {
            if let Some(place) = self.history.iter().position(|held| *held == key) {
                self.history.remove(place);
            } else if self.history.len() == HISTORY_MAX {
                self.history.remove(0);
            }
            self.history.push(key);
        }
        self.requests = 0;
    }

    /// The key asked for last; `None` when the session has not begun.
    pub fn current(&self) -> Option<KeyId> {
        self.recent.last().copied()
    }

    /// The client asked for `key`.
    pub fn push(&mut self, key: KeyId) {
        if self.recent.len() == RECENT_MAX {
            self.recent.remove(0);
        }
        self.recent.push(key);
        self.requests = self.requests.saturating_add(1);
    }

    /// Oldest first.
    pub(super) fn oldest_first(&self) -> &[KeyId] {
        &self.recent
    }

    pub(super) fn history(&self) -> &[KeyId] {
        &self.history
    }

    /// Requests of the session, forgotten ones included.
    pub(super) fn requests(&self) -> u32 {
        self.requests
    }

    /// The last two keys asked for; the earlier one is `None` when the session has only one.
    pub(super) fn context(&self) -> Option<(Option<KeyId>, KeyId)> {
        let (current, earlier) = self.recent.split_last()?;
        Some((earlier.last().copied(), *current))
    }
}

/// The distinct keys of a session, latest first: what its next request is joined to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    keys: [KeyId; WINDOW_MAX],
    count: usize,
}

impl Window {
    /// The window after all of `keys`, oldest first.
    pub(super) fn of(keys: &[KeyId], width: usize) -> Self {
        let mut window = Self::default();
        for key in keys.iter().rev() {
            if window.count == width {
                break;
            }
            if !window.keys().contains(key) {
                window.keys[window.count] = *key;
                window.count += 1;
            }
        }
        window
    }

    /// Latest first.
    pub(super) fn keys(&self) -> &[KeyId] {
        &self.keys[..self.count]
    }
}

/// Requests of a session that are remembered.
pub(super) const RECENT_MAX: usize = 24;
/// Keys of earlier sessions that are remembered.
const HISTORY_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_moves_keys_into_the_history_once_each() {
        let mut session = BlendSession::default();
        for key in [1, 2, 1, 3] {
            session.push(KeyId(key));
        }
        assert_eq!(session.context(), Some((Some(KeyId(1)), KeyId(3))));
        session.pause();
        assert_eq!((session.current(), session.requests()), (None, 0));
        assert_eq!(session.history(), [KeyId(2), KeyId(1), KeyId(3)]);
        (0..40).for_each(|key| session.push(KeyId(key)));
        assert_eq!((session.oldest_first().len(), session.requests()), (RECENT_MAX, 40));
        session.pause();
        assert_eq!(session.history().len(), HISTORY_MAX);
        assert_eq!(session.history().last(), Some(&KeyId(39)));
    }

    #[test]
    fn a_window_holds_the_latest_distinct_keys() {
        let keys = [5, 1, 2, 1, 3].map(KeyId);
        assert_eq!(Window::of(&keys, 3).keys(), [3, 1, 2].map(KeyId));
        assert_eq!(Window::of(&keys, 8).keys(), [3, 1, 2, 5].map(KeyId));
    }
}
