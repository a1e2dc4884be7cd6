//! The shard manager: turns a strategy into commands and sees them through.
//!
//! It knows what should be held where and what nodes have confirmed, and closes the difference: replicate, then pin what
//! should be held; release what should not, and leave it to the nodes when that goes. A command has a deadline; one that fails or is not heard of by then is given
//! again, later each time, a bounded number of times. What the strategy has changed its mind about is cancelled: a result
//! that still comes for it counts for nothing but what it says is held. Commands are idempotent and results are known by
//! their command's number, so that duplicates, reordering and late arrival do no harm.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use nearcast_datasets::{KeyId, Map, Timestamp};
use nearcast_proto::message::{Action, CommandId, CommandStatus, Epoch};
use serde::Serialize;

use super::NodeSet;

/// What bounds a [`ShardManager`].
///
/// | field | default | meaning |
/// | --- | --- | --- |
/// | `deadline` | 60 s | how long a command may take |
/// | `attempts_max` | 5 | how often one thing is tried under one strategy |
/// | `backoff` | 2 s | before the second try; twice as long before each further one |
/// | `in_flight_max` | 1,024 | commands under way |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShardConfig {
    /// How long a command may take.
    pub deadline: Duration,
    /// Tries of one thing.
    pub attempts_max: u32,
    /// Before the second try.
    pub backoff: Duration,
    /// Commands under way.
    pub in_flight_max: usize,
}

impl Default for ShardConfig {
    fn default() -> Self {
        let (deadline, backoff) = (Duration::from_secs(60), Duration::from_secs(2));
        Self { deadline, attempts_max: 5, backoff, in_flight_max: 1_024 }
    }
}

/// One command to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardCommand {
    /// Names it in its result.
    pub id: CommandId,
    /// What to do.
    pub action: Action,
    /// With which key.
    pub key: KeyId,
    /// At which node.
    pub node: usize,
    /// When it is no longer waited for.
    pub deadline: Timestamp,
}

/// Running totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShardCounters {
    /// Commands given.
    pub issued: u64,
    /// Commands given again.
    pub retried: u64,
    /// Things that were tried as often as allowed.
    pub given_up: u64,
    /// Commands that a newer strategy made pointless.
    pub superseded: u64,
    /// Results of commands that are not under way: duplicates, and those that came too late.
    pub unexpected: u64,
}

type Target = (KeyId, usize);

/// What should be held where, what is, and what is being done about it.
#[derive(Clone, Debug)]
pub struct ShardManager {
    config: ShardConfig,
    epoch: Epoch,
    wanted: Map<KeyId, NodeSet>,
    /// Of that, what is to be pinned when it is there and not to be fetched for it.
    awaited: Map<KeyId, NodeSet>,
    /// Of that, what is wanted only later: it is fetched when nothing else can be.
    ahead: Map<KeyId, NodeSet>,
    /// What nodes have confirmed to hold pinned.
    pinned: Map<KeyId, NodeSet>,
    /// What nodes were ever told to pin since they last confirmed to have dropped it: it may be pinned.
    asked: Map<KeyId, NodeSet>,
    /// What nodes have confirmed to hold at all.
    held: Map<KeyId, NodeSet>,
    gone: NodeSet,
    in_flight: Map<CommandId, (Target, Action)>,
    busy: Map<Target, CommandId>,
    failures: Map<Target, u32>,
    /// Deadlines of commands and instants of new tries.
    alarms: BTreeSet<(Timestamp, Alarm)>,
    todo: VecDeque<Target>,
    /// What comes when there is nothing to do that is more pressing.
    todo_ahead: VecDeque<Target>,
    next_id: u64,
    counters: ShardCounters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Deadline(CommandId),
    Retry(Target),
}

impl ShardManager {
    /// A manager of nothing; its commands are numbered from `first_id` on.
    pub fn new(config: ShardConfig, first_id: CommandId) -> Self {
        Self {
            config,
            epoch: Epoch(0),
            wanted: Map::default(),
            awaited: Map::default(),
            ahead: Map::default(),
            pinned: Map::default(),
            asked: Map::default(),
            held: Map::default(),
            gone: NodeSet::EMPTY,
            in_flight: Map::default(),
            busy: Map::default(),
            failures: Map::default(),
            alarms: BTreeSet::new(),
            todo: VecDeque::new(),
            todo_ahead: VecDeque::new(),
            next_id: first_id.0,
            counters: ShardCounters::default(),
        }
    }

    /// A new strategy: all keys that should be held, with where, the most pressing first. Older epochs than the present
    /// are ignored.
    pub fn handle_strategy(&mut self, epoch: Epoch, keys: impl IntoIterator<Item = (KeyId, NodeSet)>) {
        if epoch < self.epoch {
            return;
        }
        self.epoch = epoch;
        let keys: Vec<_> = keys.into_iter().filter(|(_, nodes)| !nodes.is_empty()).collect();
        self.wanted = keys.iter().copied().collect();
        self.failures.clear();
        let mut pointless: Vec<CommandId> = Vec::new();
        for (id, ((key, node), action)) in &self.in_flight {
            if self.wants(*key, *node) != (*action != Action::Unpin) {
                pointless.push(*id);
            }
        }
        for id in pointless {
            self.end(id);
            self.counters.superseded += 1;
        }
        // Room is made before it is needed.
        let mut targets: Vec<Target> = targets(self.asked.iter().map(|(key, nodes)| (*key, *nodes))).collect();
        targets.retain(|(key, node)| !self.wants(*key, *node));
        targets.sort_unstable();
        let (ahead, now): (Vec<Target>, _) =
            self::targets(keys.into_iter()).partition(|target| has(&self.ahead, *target));
        targets.extend(now);
        (self.todo, self.todo_ahead) = (targets.into(), ahead.into());
    }

    /// Of what the strategy wants, so much is worth keeping and not worth fetching. To be said before the strategy is.
    pub fn handle_awaited(&mut self, keys: impl IntoIterator<Item = (KeyId, NodeSet)>) {
        self.awaited = keys.into_iter().filter(|(_, nodes)| !nodes.is_empty()).collect();
    }

    /// Of what the strategy wants, so much is for later: it gives way to all the rest. To be said before the strategy is.
    pub fn handle_ahead(&mut self, keys: impl IntoIterator<Item = (KeyId, NodeSet)>) {
        self.ahead = keys.into_iter().filter(|(_, nodes)| !nodes.is_empty()).collect();
    }

    /// The next command to send, `None` while there is none or enough are under way. Call again after any `handle_*`.
    #[must_use]
    pub fn poll_command(&mut self, now: Timestamp) -> Option<ShardCommand> {
        self.poll_command_if(now, |_, _| true)
    }

    /// The next command to send of those that fetch what may be fetched by a node now; the others keep their turn.
    #[must_use]
    pub fn poll_command_if(
        &mut self,
        now: Timestamp,
        mut may_fetch: impl FnMut(KeyId, usize) -> bool,
    ) -> Option<ShardCommand> {
        for is_ahead in [false, true] {
            let mut waiting: Vec<Target> = Vec::new();
            let mut todo = std::mem::take(if is_ahead { &mut self.todo_ahead } else { &mut self.todo });
            let command = self.next_command(now, &mut todo, &mut waiting, &mut may_fetch);
            waiting.into_iter().rev().for_each(|target| todo.push_front(target));
            *(if is_ahead { &mut self.todo_ahead } else { &mut self.todo }) = todo;
            if command.is_some() {
                return command;
            }
        }
        None
    }

    fn next_command(
        &mut self,
        now: Timestamp,
        todo: &mut VecDeque<Target>,
        waiting: &mut Vec<Target>,
        may_fetch: &mut impl FnMut(KeyId, usize) -> bool,
    ) -> Option<ShardCommand> {
        while self.in_flight.len() < self.config.in_flight_max && waiting.len() < WAITING_MAX {
            let target = todo.pop_front()?;
            let Some(action) = self.lacking(target).filter(|_| !self.busy.contains_key(&target)) else { continue };
            if action == Action::Replicate && !may_fetch(target.0, target.1) {
                waiting.push(target);
                continue;
            }
            let id = CommandId(self.next_id);
            self.next_id += 1;
            let deadline = now.after(self.config.deadline);
            self.in_flight.insert(id, (target, action));
            self.busy.insert(target, id);
            self.alarms.insert((deadline, Alarm::Deadline(id)));
            self.counters.issued += 1;
            if action == Action::Pin {
                add(&mut self.asked, target);
            }
            let (key, node) = target;
            return Some(ShardCommand { id, action, key, node, deadline });
        }
        None
    }

    /// A node says how a command ended.
    pub fn handle_result(&mut self, now: Timestamp, id: CommandId, status: CommandStatus) {
        let Some((target, action)) = self.end(id) else {
            self.counters.unexpected += 1;
            return;
        };
        if !matches!(status, CommandStatus::Done | CommandStatus::AlreadyPresent) {
            if action == Action::Pin {
                // Most likely it is no longer there.
                take(&mut self.held, target);
            }
            self.fail(now, target);
            return;
        }
        match action {
            Action::Replicate => add(&mut self.held, target),
            Action::Pin => add(&mut self.pinned, target),
            Action::Evict | Action::Unpin => {
                take(&mut self.held, target);
                take(&mut self.pinned, target);
                take(&mut self.asked, target);
            }
        }
        self.todo.push_back(target);
    }

    /// One key of the strategy should be held elsewhere than it said.
    pub fn handle_wanted(&mut self, key: KeyId, nodes: NodeSet) {
        let before = self.wanted.insert(key, nodes).unwrap_or_default();
        nodes.minus(before).iter().for_each(|node| self.handle_needed(key, node));
        self.todo.extend(before.minus(nodes).iter().map(|node| (key, node)));
    }

    /// What is wanted of a key at a node is needed now, whatever the strategy said.
    pub fn handle_needed(&mut self, key: KeyId, node: usize) {
        take(&mut self.awaited, (key, node));
        take(&mut self.ahead, (key, node));
        self.todo.push_back((key, node));
    }

    /// A node was found to hold a key: it need not be fetched.
    pub fn handle_held(&mut self, key: KeyId, node: usize) {
        let is_news = !self.held.get(&key).is_some_and(|nodes| nodes.contains(node));
        if is_news && self.wants(key, node) {
            add(&mut self.held, (key, node));
            self.todo.push_back((key, node));
        }
    }

    /// A former manager told these nodes to pin these keys, which they may have done.
    pub fn handle_asked(&mut self, keys: impl IntoIterator<Item = (KeyId, NodeSet)>) {
        self.asked.extend(keys);
    }

    /// A node dropped a key on its own, or a copy of it was found damaged.
    pub fn handle_lost(&mut self, key: KeyId, node: usize) {
        take(&mut self.held, (key, node));
        take(&mut self.pinned, (key, node));
        self.todo.push_back((key, node));
    }

    /// A node is gone: nothing is asked of it until it comes back.
    pub fn handle_gone(&mut self, node: usize) {
        self.gone = self.gone.with(node);
        let theirs: Vec<CommandId> =
            self.in_flight.iter().filter(|(_, ((_, at), _))| *at == node).map(|(id, _)| *id).collect();
        for id in theirs {
            self.end(id);
        }
    }

    /// A node is there, with all that it holds: what was believed of it before counts no more.
    pub fn handle_inventory(&mut self, node: usize, keys: impl IntoIterator<Item = KeyId>) {
        self.handle_gone(node);
        self.gone = self.gone.without(node);
        let believed: Vec<KeyId> = self.held.keys().chain(self.pinned.keys()).copied().collect();
        for key in believed {
            take(&mut self.held, (key, node));
            take(&mut self.pinned, (key, node));
        }
        keys.into_iter().for_each(|key| add(&mut self.held, (key, node)));
        // What it was told to pin and need no longer is to be released: it may not have heard while it was gone.
        let known = self.wanted.iter().chain(&self.asked);
        let mut theirs: Vec<Target> =
            known.filter(|(_, nodes)| nodes.contains(node)).map(|(key, _)| (*key, node)).collect();
        theirs.sort_unstable();
        theirs.dedup();
        for target in &theirs {
            self.failures.remove(target);
        }
        self.todo.extend(theirs);
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Gives up waiting for what is overdue, and tries again what is due for it.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some((at, alarm)) = self.alarms.first().copied().filter(|(at, _)| *at <= now) {
            self.alarms.remove(&(at, alarm));
            match alarm {
                Alarm::Retry(target) => {
                    self.counters.retried += 1;
                    let is_ahead = has(&self.ahead, target);
                    (if is_ahead { &mut self.todo_ahead } else { &mut self.todo }).push_back(target);
                }
                Alarm::Deadline(id) => {
                    if let Some((target, _)) = self.end(id) {
                        self.fail(now, target);
                    }
                }
            }
        }
    }

    /// The nodes that have confirmed to hold `key` pinned: the ones to route to.
    pub fn pinned(&self, key: KeyId) -> NodeSet {
        self.pinned.get(&key).copied().unwrap_or_default().minus(self.gone)
    }

    /// What a command under way is about.
    pub fn command(&self, id: CommandId) -> Option<(KeyId, usize, Action)> {
        self.in_flight.get(&id).map(|((key, node), action)| (*key, *node, *action))
    }

    /// Whether a key may be pinned anywhere.
    pub fn is_asked(&self, key: KeyId) -> bool {
        self.asked.contains_key(&key)
    }

    /// What may be pinned, wanted or not.
    pub fn asked(&self) -> impl Iterator<Item = (KeyId, NodeSet)> {
        self.asked.iter().map(|(key, nodes)| (*key, *nodes))
    }

    /// Commands under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Running totals.
    pub fn counters(&self) -> &ShardCounters {
        &self.counters
    }

    fn wants(&self, key: KeyId, node: usize) -> bool {
        self.wanted.get(&key).is_some_and(|nodes| nodes.contains(node))
    }

    /// What is to be done about a key at a node, if anything.
    fn lacking(&self, (key, node): Target) -> Option<Action> {
        let has = |set: &Map<KeyId, NodeSet>| has(set, (key, node));
        if self.gone.contains(node) {
            return None;
        }
        if !self.wants(key, node) {
            return has(&self.asked).then_some(Action::Unpin);
        }
        match (has(&self.held), has(&self.pinned)) {
            (_, true) => None,
            (true, false) => Some(Action::Pin),
            (false, false) if has(&self.awaited) => None,
            (false, false) => Some(Action::Replicate),
        }
    }

    fn fail(&mut self, now: Timestamp, target: Target) {
        let failures = self.failures.entry(target).or_default();
        *failures += 1;
        if *failures >= self.config.attempts_max {
            self.counters.given_up += 1;
            return;
        }
        let wait = self.config.backoff * 2_u32.saturating_pow(*failures - 1);
        self.alarms.insert((now.after(wait), Alarm::Retry(target)));
    }

    fn end(&mut self, id: CommandId) -> Option<(Target, Action)> {
        let (target, action) = self.in_flight.remove(&id)?;
        self.busy.remove(&target);
        Some((target, action))
    }
}

/// Targets at the head of the queue that may have to wait for their links while others go first.
const WAITING_MAX: usize = 256;

fn targets(keys: impl Iterator<Item = (KeyId, NodeSet)>) -> impl Iterator<Item = Target> {
    keys.flat_map(|(key, nodes)| nodes.iter().map(move |node| (key, node)))
}

fn has(set: &Map<KeyId, NodeSet>, (key, node): Target) -> bool {
    set.get(&key).is_some_and(|nodes| nodes.contains(node))
}

fn add(set: &mut Map<KeyId, NodeSet>, (key, node): Target) {
    let nodes = set.entry(key).or_default();
    *nodes = nodes.with(node);
}

fn take(set: &mut Map<KeyId, NodeSet>, (key, node): Target) {
    if let Some(nodes) = set.get_mut(&key) {
        *nodes = nodes.without(node);
        if nodes.is_empty() {
            set.remove(&key);
        }
    }
}
