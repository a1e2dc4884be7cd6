//! Members on a bus at the test's mercy: who hears what when, who dies, who hangs and comes back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{Lease, LeaseRecord, LeaseSettings, LeaseStep};

const TTL: Duration = Duration::from_secs(3);
const PARTITIONS: u32 = 7;

/// The bus: entries with revisions, in the order of their last change.
#[derive(Debug, Default)]
struct Bus {
    last: u64,
    members: BTreeMap<String, (Revision, Option<Membership>)>,
    claims: BTreeMap<Resource, (Revision, Option<Claim>)>,
}

impl Bus {
    fn next(&mut self) -> Revision {
        self.last += 1;
        Revision(self.last)
    }

    fn write_member(&mut self, name: &str, expected: Option<Revision>, value: Option<Membership>) -> Option<Revision> {
        let found = self.members.get(name).filter(|(_, member)| member.is_some()).map(|(revision, _)| *revision);
        if found != expected {
            return None;
        }
        let revision = self.next();
        let named = |member: Membership| Membership {
            token: if member.token == Token(0) { Token(revision.0) } else { member.token },
            ..member
        };
        self.members.insert(name.to_owned(), (revision, value.map(named)));
        Some(revision)
    }

    fn write_claim(
        &mut self,
        resource: &Resource,
        expected: Option<Revision>,
        value: Option<Claim>,
    ) -> Option<Revision> {
        let found = self.claims.get(resource).filter(|(_, claim)| claim.is_some()).map(|(revision, _)| *revision);
        if found != expected {
            return None;
        }
        let revision = self.next();
        self.claims.insert(resource.clone(), (revision, value));
        Some(revision)
    }

    /// The first changes after a revision, each entry only as it is now: as a watch tells of them.
    fn after(&self, seen: Revision, max: usize) -> Vec<(Revision, Changed)> {
        let members =
            self.members.iter().map(|(name, (at, member))| (*at, Changed::Member(name.clone(), member.clone())));
        let claims = self.claims.iter().map(|(what, (at, claim))| (*at, Changed::Claim(what.clone(), claim.clone())));
        let mut all: Vec<_> = members.chain(claims).filter(|(revision, _)| *revision > seen).collect();
        all.sort_by_key(|(revision, _)| *revision);
        all.truncate(max);
        all
    }
}

enum Changed {
    Member(String, Option<Membership>),
    Claim(Resource, Option<Claim>),
}

/// A process.
#[derive(Debug)]
struct Process {
    name: String,
    lease: Lease,
    claims: Claims,
    is_draining: bool,
    /// What it has heard of.
    seen: Revision,
}

impl Process {
    fn new(name: &str, run: u32) -> Self {
        let me = Holder { name: name.to_owned(), run: run.to_string() };
        let resources = (0..PARTITIONS).map(Resource::Partition).chain([office()]);
        let settings = LeaseSettings::new(TTL);
        let lease = Lease::new(me.clone(), settings);
        let claims = Claims::new(me, settings, resources);
        Self { name: name.to_owned(), lease, claims, is_draining: false, seen: Revision(0) }
    }

    /// Hears of everything that is on the bus.
    fn hear(&mut self, now: Duration, bus: &Bus) {
        self.hear_some(now, bus, usize::MAX);
    }

    /// Hears of the next few changes.
    fn hear_some(&mut self, now: Duration, bus: &Bus, max: usize) {
        for (revision, changed) in bus.after(self.seen, max) {
            self.seen = revision;
            match changed {
                Changed::Member(name, member) => {
                    if name == self.name {
                        self.lease.handle_entry(now, member.clone().map(|member| (revision, record(member))));
                    }
                    self.claims.handle_member(now, &name, revision, member);
                }
                Changed::Claim(resource, claim) => self.claims.handle_claim(&resource, revision, claim),
            }
        }
        if self.seen.0 == bus.last {
            self.claims.handle_caught_up();
        }
    }

    /// Does what is due.
    fn act(&mut self, now: Duration, bus: &mut Bus) {
        if let LeaseStep::Write { expected, record } = self.lease.poll(now) {
            self.lease.handle_sending(now);
            let (token, holder) = (record.token.unwrap_or(Token(0)), record.holder.clone());
            let member = Membership { holder, ttl: record.ttl, token, is_draining: self.is_draining };
            if let Some(revision) = bus.write_member(&self.name, expected, Some(member)) {
                self.lease.handle_written(now, revision, record);
            }
        }
        let token = self.lease.held(now).map(|held| held.token);
        for step in self.claims.poll(now, token) {
            let mine = Claim { member: self.name.clone(), membership: token.unwrap() };
            match step {
                ClaimStep::Bury { member, revision } => {
                    bus.write_member(&member, Some(revision), None);
                }
                ClaimStep::Claim { resource, expected } => {
                    if let Some(revision) = bus.write_claim(&resource, expected, Some(mine.clone())) {
                        self.claims.handle_claim(&resource, revision, Some(mine));
                    }
                }
                ClaimStep::Release { resource, revision } => {
                    self.claims.handle_releasing(&resource, revision);
                    bus.write_claim(&resource, Some(revision), None);
                }
            }
        }
    }

    /// What it believes to own, and would act on.
    fn owned(&self, now: Duration) -> Vec<(Resource, Token)> {
        let Some(held) = self.lease.held(now) else { return Vec::new() };
        self.claims.owned(held.token).map(|(resource, token)| (resource.clone(), token)).collect()
    }
}

fn record(member: Membership) -> LeaseRecord {
    LeaseRecord { holder: member.holder, ttl: member.ttl, token: Some(member.token) }
}

fn office() -> Resource {
    Resource::Office("placement".to_owned())
}

/// Lets all hear and act until nothing changes any more, for some seconds.
fn settle(bus: &mut Bus, processes: &mut [Process], now: &mut Duration) {
    for _ in 0..40 {
        *now += Duration::from_millis(250);
        for process in processes.iter_mut() {
            process.hear(*now, bus);
            process.act(*now, bus);
        }
    }
    processes.iter_mut().for_each(|process| process.hear(*now, bus));
}

fn shares(processes: &[Process], now: Duration) -> Vec<usize> {
    let partitions = |process: &Process| {
        process.owned(now).iter().filter(|(resource, _)| matches!(resource, Resource::Partition(_))).count()
    };
    processes.iter().map(partitions).collect()
}

#[test]
fn those_who_join_share_and_move_no_more_than_they_must() {
    let (mut bus, mut now) = (Bus::default(), Duration::ZERO);
    let mut processes = vec![Process::new("a", 1)];
    settle(&mut bus, &mut processes, &mut now);
    assert_eq!(shares(&processes, now), [7]);
    let before = bus.claims.clone();
    processes.push(Process::new("b", 1));
    settle(&mut bus, &mut processes, &mut now);
    assert_eq!(shares(&processes, now), [4, 3]);
    let moved = bus.claims.iter().filter(|(resource, entry)| before.get(resource) != Some(entry)).count();
    assert_eq!(moved, 3, "only what the newcomer gets has changed hands");
    processes.push(Process::new("c", 1));
    settle(&mut bus, &mut processes, &mut now);
    let mut all = shares(&processes, now);
    all.sort_unstable();
    assert_eq!(all, [2, 2, 3]);
    assert_eq!(processes[0].claims.owner(&office()), Some("a"), "an office stays where it is");
}

#[test]
fn who_drains_hands_over_and_who_dies_is_replaced_within_its_time() {
    let (mut bus, mut now) = (Bus::default(), Duration::ZERO);
    let mut processes = vec![Process::new("a", 1), Process::new("b", 1), Process::new("c", 1)];
    settle(&mut bus, &mut processes, &mut now);
    processes[0].is_draining = true;
    settle(&mut bus, &mut processes, &mut now);
    assert_eq!(shares(&processes, now)[0], 0);
    assert_eq!(shares(&processes, now).iter().sum::<usize>(), 7);
    assert_ne!(processes[1].claims.owner(&office()), Some("a"));
    // Without a word.
    let died = now;
    let dead = processes.remove(1);
    let survivor = loop {
        now += Duration::from_millis(100);
        processes.iter_mut().for_each(|process| {
            process.hear(now, &bus);
            process.act(now, &mut bus);
        });
        processes.iter_mut().for_each(|process| process.hear(now, &bus));
        if shares(&processes, now)[1] == 7 {
            break &processes[1];
        }
        assert!(now - died < Duration::from_secs(5), "{processes:?}");
    };
    assert!(dead.owned(now).is_empty(), "its membership is over by its own clock, too");
    assert!(survivor.owned(now).iter().any(|(resource, _)| *resource == office()));
}

#[test]
fn another_run_of_a_member_waits_and_claims_anew() {
    let (mut bus, mut now) = (Bus::default(), Duration::ZERO);
    let mut processes = vec![Process::new("a", 1)];
    settle(&mut bus, &mut processes, &mut now);
    let old: BTreeMap<Resource, Token> = processes[0].owned(now).into_iter().collect();
    let mut again = vec![Process::new("a", 2)];
    again[0].hear(now, &bus);
    again[0].act(now, &mut bus);
    assert!(again[0].owned(now).is_empty());
    settle(&mut bus, &mut again, &mut now);
    let new = again[0].owned(now);
    assert_eq!(new.len(), 8);
    assert!(new.iter().all(|(resource, token)| *token > old[resource]));
}

#[test]
fn a_fence_refuses_who_does_not_know_yet_that_it_leads_no_more() {
    let mut fence = Fence::default();
    assert!(fence.admit(&office(), Token(3)) && fence.admit(&office(), Token(3)) && fence.admit(&office(), Token(9)));
    assert!(!fence.admit(&office(), Token(3)));
    assert!(fence.admit(&Resource::Partition(0), Token(3)), "each resource has its own");
    assert_eq!(fence.refused(), 1);
}

/// What happens in a random history.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Hear(usize, usize),
    Act(usize),
    Drain(usize),
    /// Dies and starts again at once.
    Restart(usize),
    Pause(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0usize..3, 1usize..20).prop_map(|(who, max)| Happening::Hear(who, max)),
        6 => (0usize..3).prop_map(Happening::Act),
        1 => (0usize..3).prop_map(Happening::Drain),
        1 => (0usize..3).prop_map(Happening::Restart),
        4 => (10u64..1_500).prop_map(Happening::Pause),
    ]
}

proptest! {
    /// Whatever is heard late or not at all, and whoever dies when: no resource ever has two owners who would act, its
    /// tokens only grow, and when all is quiet everything is owned, in equal shares.
    #[test]
    fn one_owner_growing_tokens_and_equal_shares_in_the_end(
        history in proptest::collection::vec(happening(), 1..250),
    ) {
        let (mut bus, mut now, mut runs) = (Bus::default(), Duration::ZERO, 1);
        let mut processes: Vec<Process> = ["a", "b", "c"].map(|name| Process::new(name, 1)).into();
        let mut tokens: BTreeMap<Resource, Token> = BTreeMap::new();
        for happening in history {
            match happening {
                Happening::Hear(who, max) => processes[who].hear_some(now, &bus, max),
                Happening::Act(who) => processes[who].act(now, &mut bus),
                Happening::Drain(who) => processes[who].is_draining = true,
                Happening::Restart(who) => {
                    runs += 1;
                    let name = processes[who].name.clone();
                    processes[who] = Process::new(&name, runs);
                }
                Happening::Pause(milliseconds) => now += Duration::from_millis(milliseconds),
            }
            let mut owned = BTreeMap::new();
            for process in &processes {
                for (resource, token) in process.owned(now) {
                    prop_assert!(owned.insert(resource.clone(), token).is_none(), "{resource:?} has two owners at {now:?}");
                    let seen = tokens.entry(resource).or_insert(token);
                    prop_assert!(token >= *seen);
                    *seen = token;
                }
            }
        }
        processes.iter_mut().for_each(|process| process.is_draining = false);
        settle(&mut bus, &mut processes, &mut now);
        let mut all = shares(&processes, now);
        all.sort_unstable();
        prop_assert_eq!(all, vec![2, 2, 3]);
        prop_assert_eq!(processes.iter().filter(|process| process.owned(now).iter().any(|(resource, _)| *resource == office())).count(), 1);
    }
}
