//! Who owns what: the decisions, without clock and bus.
//!
//! Members share resources: the partitions of a stream, and offices such as leading placement. Each member keeps one
//! lease, its *membership*; a *claim* is an entry per resource that names a member and the token of its membership. A
//! claim holds as long as that very membership does, so that owning a thousand partitions costs no more writes than
//! owning one, and a member that was away for too long has lost them all, whether it knows or not.
//!
//! Every member works out the same plan from what it sees ([`plan()`]), lets go of what the plan gives to others, and
//! claims what it gives to itself and nobody has. Views may be old and differ: that delays, but entries are replaced
//! only by who has seen them, so nothing is ever claimed twice under one revision. That revision is the claim's token:
//! it grows with every change of hands, and whoever is given orders refuses those under a smaller one than it has seen
//! ([`Fence`]).

mod fence;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use self::{fence::Fence, plan::plan};
use crate::{Holder, LeaseSettings, Revision, Sighting, Token};

/// What can be owned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Something that one member does for all, by its name.
    Office(String),
    /// A partition.
    Partition(u32),
}

/// A member as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Who.
    pub holder: Holder,
    /// How long it lasts unless it is renewed.
    pub ttl: Duration,
    /// The token of the lease.
    pub token: Token,
    /// Whether it wants to end: others take what it has.
    pub is_draining: bool,
}

/// Who has a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The member's name.
    pub member: String,
    /// The token of the membership that it was claimed under.
    pub membership: Token,
}

/// What a member has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimStep {
    /// Remove the entry of a member whose membership is over, so that it cannot be renewed. Until then nothing of it
    /// may be claimed.
    Bury {
        /// The member.
        member: String,
        /// Its entry.
        revision: Revision,
    },
    /// Write a claim of one's own.
    Claim {
        /// On what.
        resource: Resource,
        /// The entry to replace, if there is one.
        expected: Option<Revision>,
    },
    /// Stop to work on a resource, write down how far it has come, and remove the claim.
    Release {
        /// On what.
        resource: Resource,
        /// One's own entry.
        revision: Revision,
    },
}

/// What one member sees of all. Times are of its own clock, which only grows.
#[derive(Clone, Debug)]
pub struct Claims {
    me: Holder,
    settings: LeaseSettings,
    resources: BTreeSet<Resource>,
    /// `None` for those that were removed.
    members: BTreeMap<String, (Sighting, Option<Membership>)>,
    claims: BTreeMap<Resource, (Revision, Option<Claim>)>,
    /// Own claims that are being let go of.
    leaving: BTreeMap<Resource, Revision>,
    is_caught_up: bool,
}

impl Claims {
    /// One who knows of nobody yet; `settings` are those of memberships.
    pub fn new(me: Holder, settings: LeaseSettings, resources: impl IntoIterator<Item = Resource>) -> Self {
        Self {
            me,
            settings,
            resources: resources.into_iter().collect(),
            members: BTreeMap::new(),
            claims: BTreeMap::new(),
            leaving: BTreeMap::new(),
            is_caught_up: false,
        }
    }

    /// All that was there when one began to look has been passed to `handle_*`. Before that nothing is claimed.
    pub fn handle_caught_up(&mut self) {
        self.is_caught_up = true;
    }

    /// A member's entry has this content now; `None` when it was removed. What is older than what is known says
    /// nothing.
    pub fn handle_member(&mut self, now: Duration, name: &str, revision: Revision, membership: Option<Membership>) {
        if self.members.get(name).is_none_or(|(known, _)| known.revision() < revision) {
            self.members.insert(name.to_owned(), (Sighting::new(now, revision), membership));
        }
    }

    /// A resource's entry has this content now; `None` when it was removed. Must be told of own writes at once.
    pub fn handle_claim(&mut self, resource: &Resource, revision: Revision, claim: Option<Claim>) {
        if self.claims.get(resource).is_none_or(|(known, _)| *known < revision) {
            self.claims.insert(resource.clone(), (revision, claim));
        }
    }

    /// A resource is about to be let go of: from now on it is not owned any more.
    pub fn handle_releasing(&mut self, resource: &Resource, revision: Revision) {
        self.leaving.insert(resource.clone(), revision);
    }

    /// What to do now, under one's own membership; without one nothing may be done. Ask again after every `handle_*`
    /// and when [`poll_timeout`](Self::poll_timeout) says so.
    #[must_use]
    pub fn poll(&self, now: Duration, membership: Option<Token>) -> Vec<ClaimStep> {
        let Some(token) = membership.filter(|_| self.is_caught_up) else { return Vec::new() };
        let mut steps = self.burials(now);
        let plan = self.plan();
        for resource in &self.resources {
            let is_planned = plan.get(resource).is_some_and(|member| *member == self.me.name);
            let entry = self.claims.get(resource);
            let claim = entry.and_then(|(revision, claim)| Some((*revision, claim.as_ref()?)));
            if let Some((revision, claim)) = claim.filter(|_| self.is_valid(resource)) {
                if self.is_own(claim, token) && !is_planned {
                    steps.push(ClaimStep::Release { resource: resource.clone(), revision });
                }
            } else if is_planned {
                // Nobody's: it was let go of, or its owner has gone or is another run by now.
                let expected = claim.map(|(revision, _)| revision);
                steps.push(ClaimStep::Claim { resource: resource.clone(), expected });
            }
        }
        steps
    }

    /// When [`poll`](Self::poll) may say something else without anything having happened.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.others().map(|(_, sighting, member)| self.over(sighting, member.ttl)).min()
    }

    /// What is one's own under a membership, with the tokens to act under. It is so only as long as the membership
    /// lasts: whoever acts asks its lease first.
    pub fn owned(&self, membership: Token) -> impl Iterator<Item = (&Resource, Token)> {
        self.claims.iter().filter_map(move |(resource, (revision, claim))| {
            let is_owned = self.is_own(claim.as_ref()?, membership) && self.leaving.get(resource) != Some(revision);
            is_owned.then_some((resource, Token(revision.0)))
        })
    }

    /// Who owns a resource, as far as is known.
    pub fn owner(&self, resource: &Resource) -> Option<&str> {
        let (_, claim) = self.claims.get(resource)?;
        claim.as_ref().filter(|_| self.is_valid(resource)).map(|claim| claim.member.as_str())
    }

    /// Who owns what, as far as is known.
    pub fn owners(&self) -> impl Iterator<Item = (&Resource, &str)> {
        self.claims.keys().filter_map(|resource| Some((resource, self.owner(resource)?)))
    }

    /// The tokens under which others and oneself own what they own, as far as is known.
    pub fn tokens(&self) -> impl Iterator<Item = (&Resource, Token)> {
        let owned = self.claims.iter().filter(|(resource, _)| self.owner(resource).is_some());
        owned.map(|(resource, (revision, _))| (resource, Token(revision.0)))
    }

    /// The members that are known, by name.
    pub fn members(&self) -> impl Iterator<Item = &Membership> {
        self.members.values().filter_map(|(_, member)| member.as_ref())
    }

    /// Who should own what.
    fn plan(&self) -> BTreeMap<&Resource, &str> {
        let living: BTreeMap<&str, bool> =
            self.members().map(|member| (member.holder.name.as_str(), member.is_draining)).collect();
        plan(&self.resources, &living, &self.owners().collect())
    }

    /// Members whose entries have not changed for longer than they last.
    fn burials(&self, now: Duration) -> Vec<ClaimStep> {
        let dead = self.others().filter(|(_, sighting, member)| self.over(sighting, member.ttl) <= now);
        let bury = |(name, sighting, _): (&String, &Sighting, _)| ClaimStep::Bury {
            member: name.clone(),
            revision: sighting.revision(),
        };
        dead.map(bury).collect()
    }

    fn others(&self) -> impl Iterator<Item = (&String, &Sighting, &Membership)> {
        let known = self.members.iter().filter(|(name, _)| **name != self.me.name);
        known.filter_map(|(name, (sighting, member))| Some((name, sighting, member.as_ref()?)))
    }

    fn over(&self, sighting: &Sighting, ttl: Duration) -> Duration {
        sighting.since() + ttl + self.settings.drift
    }

    fn is_own(&self, claim: &Claim, membership: Token) -> bool {
        claim.member == self.me.name && claim.membership == membership
    }

    /// Whether a claim's membership may still last. Entries are heard of in the order of their last changes and at any
    /// time, so that a claim can be heard of before the membership that it was made under: only what is newer than the
    /// claim speaks against it. Every membership is heard of in the end, as what is removed leaves a mark.
    fn is_valid(&self, resource: &Resource) -> bool {
        let Some((revision, Some(claim))) = self.claims.get(resource) else { return false };
        let Some((member, membership)) = self.members.get(&claim.member) else { return true };
        let is_same = membership.as_ref().is_some_and(|membership| membership.token == claim.membership);
        is_same || member.revision() < *revision
    }
}

#[cfg(test)]
mod tests;
