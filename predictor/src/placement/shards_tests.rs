//! Whatever happens to commands and results on the way, nodes end up holding what the strategy says.

use std::collections::BTreeSet;

use nearcast_datasets::{KeyId, Timestamp};
use nearcast_proto::message::{Action, CommandId, CommandStatus, Epoch};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

use super::{NodeSet, ShardCommand, ShardConfig, ShardManager};

/// What a node does to commands; the manager hears of it or does not.
#[derive(Debug, Default)]
struct Nodes {
    held: BTreeSet<(KeyId, usize)>,
    pinned: BTreeSet<(KeyId, usize)>,
}

impl Nodes {
    fn carry_out(&mut self, command: &ShardCommand) -> CommandStatus {
        let target = (command.key, command.node);
        match command.action {
            Action::Replicate if !self.held.insert(target) => CommandStatus::AlreadyPresent,
            Action::Pin if !self.held.contains(&target) => CommandStatus::Rejected,
            Action::Pin => {
                self.pinned.insert(target);
                CommandStatus::Done
            }
            Action::Evict => {
                self.held.remove(&target);
                self.pinned.remove(&target);
                CommandStatus::Done
            }
            Action::Unpin => {
                self.pinned.remove(&target);
                CommandStatus::Done
            }
            Action::Replicate => CommandStatus::Done,
        }
    }
}

fn nodes(bits: u8) -> NodeSet {
    (0..4).filter(|node| bits >> node & 1 == 1).collect()
}

fn strategy(keys: &[u8]) -> impl Iterator<Item = (KeyId, NodeSet)> {
    (0..).map(KeyId).zip(keys.iter().map(|bits| nodes(*bits)))
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_micros(1_000_000 * second)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nodes_end_up_with_what_the_strategy_says(
        strategies in prop::collection::vec(prop::collection::vec(any::<u8>(), 6), 1..6),
        fates in prop::collection::vec(0_u8..6, 64),
    ) {
        let config = ShardConfig { in_flight_max: 8, ..ShardConfig::default() };
        let mut manager = ShardManager::new(config, CommandId(1));
        let mut there = Nodes::default();
        let mut late: Vec<(CommandId, CommandStatus)> = Vec::new();
        let mut fate = fates.iter().cycle();
        let mut clock = 0;
        for (epoch, keys) in (1..).zip(&strategies) {
            manager.handle_strategy(Epoch(epoch), strategy(keys));
            for _ in 0..10 {
                clock += 10;
                while let Some(command) = manager.poll_command(second(clock)) {
                    prop_assert!(manager.in_flight() <= 8);
                    match fate.next().unwrap() {
                        // The command is lost.
                        0 => {}
                        // Its result is.
                        1 => drop(there.carry_out(&command)),
                        // The result comes late.
                        2 => late.push((command.id, there.carry_out(&command))),
                        // Command and result come twice.
                        3 => {
                            for _ in 0..2 {
                                let status = there.carry_out(&command);
                                manager.handle_result(second(clock), command.id, status);
                            }
                        }
                        _ => manager.handle_result(second(clock), command.id, there.carry_out(&command)),
                    }
                }
                manager.handle_timeout(second(clock));
            }
            late.drain(..).for_each(|(id, status)| manager.handle_result(second(clock), id, status));
        }
        // From here on nothing is lost; nodes say what they hold, as they do when they connect again.
        for node in 0..4 {
            let inventory = there.held.iter().filter(|(_, at)| *at == node).map(|(key, _)| *key);
            manager.handle_inventory(node, inventory.collect::<Vec<_>>());
        }
        manager.handle_strategy(Epoch(99), strategy(strategies.last().unwrap()));
        while let Some(command) = manager.poll_command(second(clock)) {
            let status = there.carry_out(&command);
            manager.handle_result(second(clock), command.id, status);
        }
        for (key, wanted) in strategy(strategies.last().unwrap()) {
            prop_assert_eq!(manager.pinned(key), wanted);
            let pinned = (0..4).filter(|node| there.pinned.contains(&(key, *node))).collect::<NodeSet>();
            prop_assert_eq!(pinned, wanted, "nothing else is left pinned");
        }
    }
}

#[test]
fn what_fails_is_tried_later_and_later_and_then_no_more() {
    let config = ShardConfig::default();
    let mut manager = ShardManager::new(config, CommandId(1));
    manager.handle_strategy(Epoch(1), [(KeyId(0), nodes(1))]);
    let mut tried_at = Vec::new();
    for clock in 0..100 {
        manager.handle_timeout(second(clock));
        while let Some(command) = manager.poll_command(second(clock)) {
            tried_at.push(clock);
            manager.handle_result(second(clock), command.id, CommandStatus::Failed);
        }
    }
    assert_eq!(tried_at, [0, 2, 6, 14, 30]);
    assert_eq!((manager.counters().given_up, manager.in_flight()), (1, 0));
    manager.handle_strategy(Epoch(2), [(KeyId(0), nodes(1))]);
    assert!(manager.poll_command(second(200)).is_some(), "a new strategy is a new chance");
}

#[test]
fn a_strategy_that_changes_its_mind_cancels_and_an_old_one_is_ignored() {
    let mut manager = ShardManager::new(ShardConfig::default(), CommandId(1));
    manager.handle_strategy(Epoch(2), [(KeyId(0), nodes(1))]);
    let command = manager.poll_command(second(0)).unwrap();
    manager.handle_strategy(Epoch(1), [(KeyId(5), nodes(1))]);
    assert_eq!((manager.poll_command(second(0)), manager.counters().superseded), (None, 0));
    manager.handle_strategy(Epoch(3), [(KeyId(1), nodes(2))]);
    assert_eq!(manager.counters().superseded, 1);
    manager.handle_result(second(1), command.id, CommandStatus::Done);
    assert_eq!(manager.counters().unexpected, 1);
    assert_eq!(manager.poll_command(second(1)).map(|command| command.key), Some(KeyId(1)));
}

#[test]
fn a_node_that_was_gone_when_the_strategy_changed_is_told_when_it_is_back() {
    let mut manager = ShardManager::new(ShardConfig::default(), CommandId(1));
    manager.handle_strategy(Epoch(1), [(KeyId(0), nodes(1))]);
    for action in [Action::Replicate, Action::Pin] {
        let command = manager.poll_command(second(0)).unwrap();
        assert_eq!(command.action, action);
        manager.handle_result(second(0), command.id, CommandStatus::Done);
    }
    manager.handle_gone(0);
    manager.handle_strategy(Epoch(2), []);
    assert_eq!(manager.poll_command(second(1)), None, "nothing is asked of a node that is gone");
    manager.handle_inventory(0, [KeyId(0)]);
    assert_eq!(manager.poll_command(second(2)).map(|command| command.action), Some(Action::Unpin));
}

#[test]
fn what_is_there_already_is_only_pinned_and_the_best_comes_first() {
    let mut manager = ShardManager::new(ShardConfig::default(), CommandId(1));
    manager.handle_asked([(KeyId(3), nodes(1))]);
    manager.handle_strategy(Epoch(1), [(KeyId(9), nodes(1)), (KeyId(4), nodes(1))]);
    manager.handle_held(KeyId(4), 0);
    let commands: Vec<_> = std::iter::from_fn(|| manager.poll_command(second(0))).collect();
    let told: Vec<_> = commands.iter().map(|command| (command.key, command.action)).collect();
    assert_eq!(told, [(KeyId(3), Action::Unpin), (KeyId(9), Action::Replicate), (KeyId(4), Action::Pin)]);
    let [_, replicate, _] = &commands[..] else { unreachable!() };
    assert_eq!(manager.command(replicate.id), Some((KeyId(9), 0, Action::Replicate)));
    manager.handle_wanted(KeyId(9), nodes(3));
    assert_eq!(manager.poll_command(second(0)).map(|command| (command.key, command.node)), Some((KeyId(9), 1)));
}

#[test]
fn what_is_for_later_is_fetched_when_nothing_else_can_be_and_at_once_when_it_becomes_needed() {
    let mut manager = ShardManager::new(ShardConfig::default(), CommandId(1));
    manager.handle_ahead([(KeyId(1), nodes(1)), (KeyId(2), nodes(1))]);
    manager.handle_strategy(Epoch(1), [(KeyId(1), nodes(1)), (KeyId(2), nodes(1)), (KeyId(3), nodes(3))]);
    let next = |manager: &mut ShardManager, may_fetch: fn(usize) -> bool| {
        let command = manager.poll_command_if(second(0), |_, node| may_fetch(node));
        command.map(|command| (command.key.0, command.node))
    };
    assert_eq!(next(&mut manager, |node| node == 1), Some((3, 1)));
    assert_eq!(next(&mut manager, |node| node == 1), None, "a link that is full is full for later as well");
    manager.handle_needed(KeyId(2), 0);
    let order = [(); 4].map(|()| next(&mut manager, |_| true));
    assert_eq!(order, [Some((3, 0)), Some((2, 0)), Some((1, 0)), None]);
}
