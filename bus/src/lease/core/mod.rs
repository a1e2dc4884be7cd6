//! Who holds a lease: the decisions, without clock and bus.
//!
//! Clocks of different machines are never compared. Whoever wants a lease that another holds waits until the entry has
//! not changed for its time to live, by its own clock; whoever holds one counts from before it wrote it last. So a
//! holder stops to hold before anybody else may begin to, if only all clocks run about equally fast
//! ([`LeaseSettings::drift`]); they may show what they like.

mod sighting;

use std::time::Duration;

pub use self::sighting::Sighting;
use crate::Revision;

/// Proves who held a lease later: a greater one is newer. Whoever acts on orders of lease holders refuses those with a
/// smaller token than it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// How a lease lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// How long it lasts unless it is renewed.
    pub ttl: Duration,
    /// How much longer others wait than it lasts, for clocks that run faster.
    pub drift: Duration,
}

impl LeaseSettings {
    /// A lease that lasts so long, with a tenth of that for drift.
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, drift: ttl / 10 }
    }

    /// How often a holder writes it anew: two attempts may fail.
    pub fn renew_every(&self) -> Duration {
        self.ttl / 3
    }
}

/// What is written under a lease's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Who holds it, and which run of it: a process that was restarted is another.
    pub holder: Holder,
    /// How long it lasts, as its holder understands it.
    pub ttl: Duration,
    /// The token, unless this is the entry that began it: then the entry's revision is.
    pub token: Option<Token>,
}

impl LeaseRecord {
    /// The token of an entry with this revision.
    pub fn token(&self, revision: Revision) -> Token {
        self.token.unwrap_or(Token(revision.0))
    }
}

/// One run of a process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// Its name, which it keeps.
    pub name: String,
    /// What tells one run from the next.
    pub run: String,
}

/// What is to be done about a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Write this record: in place of the entry with this revision, or as the first.
    Write {
        /// What to replace.
        expected: Option<Revision>,
        /// What to write.
        record: LeaseRecord,
    },
    /// Look again then, or when the entry has changed.
    Wait {
        /// When, by the clock that is passed in.
        until: Duration,
    },
}

/// One lease as one process sees it. Times are of a clock that only grows.
#[derive(Clone, Debug)]
pub struct Lease {
    me: Holder,
    settings: LeaseSettings,
    seen: Option<(Sighting, LeaseRecord)>,
    /// When a record was sent last.
    sent: Option<Duration>,
    held: Option<Held>,
}

/// A lease that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its token.
    pub token: Token,
    /// Until when at least nobody else holds it.
    pub until: Duration,
}

impl Lease {
    /// A lease of which nothing is known yet.
    pub fn new(me: Holder, settings: LeaseSettings) -> Self {
        Self { me, settings, seen: None, sent: None, held: None }
    }

    /// Takes note of what is written under the lease's key.
    pub fn handle_entry(&mut self, now: Duration, entry: Option<(Revision, LeaseRecord)>) {
        let Some((revision, record)) = entry else {
            self.seen = None;
            self.held = None;
            return;
        };
        if self.seen.as_ref().is_some_and(|(sighting, _)| sighting.revision() > revision) {
            // What one has written since says more.
            return;
        }
        // An own record of which nobody said that it is kept is no lease yet: when it was sent is not known any more.
        if record.holder != self.me {
            self.held = None;
        }
        let sighting = match self.seen.take() {
            Some((sighting, _)) => sighting.again(now, revision),
            None => Sighting::new(now, revision),
        };
        self.seen = Some((sighting, record));
    }

    /// Takes note that a record is about to be sent. Must be called before every write.
    pub fn handle_sending(&mut self, now: Duration) {
        self.sent = Some(now);
    }

    /// Takes note that what was sent is kept.
    pub fn handle_written(&mut self, now: Duration, revision: Revision, record: LeaseRecord) {
        let sent = self.sent.unwrap_or(now);
        self.held = Some(Held { token: record.token(revision), until: sent + self.settings.ttl });
        self.seen = Some((Sighting::new(now, revision), record));
    }

    /// What to do now. Ask again after every `handle_*`, and when the time has come that it says.
    #[must_use]
    pub fn poll(&self, now: Duration) -> LeaseStep {
        let record = |token| LeaseRecord { holder: self.me.clone(), ttl: self.settings.ttl, token };
        let Some((sighting, seen)) = &self.seen else {
            return LeaseStep::Write { expected: None, record: record(None) };
        };
        let expected = Some(sighting.revision());
        if seen.holder == self.me {
            // Long over, perhaps, but nobody has taken it: it can be gone on with under the same token.
            let last = self.held.and(self.sent);
            let due = last.map_or(now, |sent| sent + self.settings.renew_every());
            let token = Some(seen.token(sighting.revision()));
            return if due <= now {
                LeaseStep::Write { expected, record: record(token) }
            } else {
                LeaseStep::Wait { until: due }
            };
        }
        let over = sighting.since() + seen.ttl + self.settings.drift;
        if over <= now { LeaseStep::Write { expected, record: record(None) } } else { LeaseStep::Wait { until: over } }
    }

    /// The lease, if it is held and will be for some time yet.
    pub fn held(&self, now: Duration) -> Option<Held> {
        self.held.filter(|held| now < held.until)
    }

    /// Who holds it, as far as is known.
    pub fn holder(&self) -> Option<&Holder> {
        self.seen.as_ref().map(|(_, record)| &record.holder)
    }

    /// The revision of the entry, to give the lease up with.
    pub fn revision(&self) -> Option<Revision> {
        let own = self.seen.as_ref().filter(|(_, record)| record.holder == self.me);
        own.map(|(sighting, _)| sighting.revision())
    }
}

#[cfg(test)]
mod tests;
