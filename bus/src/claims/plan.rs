//! Who should own what.

use std::collections::{BTreeMap, BTreeSet};

use super::Resource;

/// Who should own each resource, given who is there (and whether it is draining) and who owns what now.
///
/// The same view gives every member the same plan. Partitions are spread so that no member has two more than another;
/// an owner keeps what it has as far as that allows. An office stays where it is, else goes to whom the fewest
/// offices are with. A draining member is given nothing, unless all are draining: then owners keep what they have, for
/// nobody else could take it.
pub fn plan<'a>(
    resources: &'a BTreeSet<Resource>,
    members: &BTreeMap<&'a str, bool>,
    owners: &BTreeMap<&'a Resource, &'a str>,
) -> BTreeMap<&'a Resource, &'a str> {
    let staying: Vec<&str> = members.iter().filter(|(_, draining)| !**draining).map(|(name, _)| *name).collect();
    if staying.is_empty() {
        return owners.iter().map(|(resource, owner)| (*resource, *owner)).collect();
    }
    let is_partition = |resource: &Resource| matches!(resource, Resource::Partition(_));
    let (partitions, offices): (Vec<&Resource>, Vec<&Resource>) =
        resources.iter().partition(|resource| is_partition(resource));
    let mut plan = share(&partitions, &staying, owners);
    let mut held: BTreeMap<&str, usize> = staying.iter().map(|name| (*name, 0)).collect();
    let mut open = Vec::new();
    for office in offices {
        match owners.get(office).filter(|owner| held.contains_key(**owner)) {
            Some(owner) => {
                plan.insert(office, owner);
                *held.entry(owner).or_default() += 1;
            }
            None => open.push(office),
        }
    }
    for office in open {
        let Some(name) = least(&held) else { break };
        plan.insert(office, name);
        *held.entry(name).or_default() += 1;
    }
    plan
}

/// Partitions by owner: equal shares, moving as few as possible.
fn share<'a>(
    partitions: &[&'a Resource],
    staying: &[&'a str],
    owners: &BTreeMap<&'a Resource, &'a str>,
) -> BTreeMap<&'a Resource, &'a str> {
    let mut held: BTreeMap<&str, Vec<&Resource>> = staying.iter().map(|name| (*name, Vec::new())).collect();
    let mut open = Vec::new();
    for partition in partitions {
        match owners.get(partition).and_then(|owner| held.get_mut(owner)) {
            Some(own) => own.push(partition),
            None => open.push(*partition),
        }
    }
    let (least, extra) = (partitions.len() / staying.len(), partitions.len() % staying.len());
    // Whoever has most keeps the ones that do not divide.
    let mut order: Vec<&str> = staying.to_vec();
    order.sort_by_key(|name| std::cmp::Reverse(held.get(name).map_or(0, Vec::len)));
    let quota: BTreeMap<&str, usize> =
        order.iter().enumerate().map(|(rank, name)| (*name, least + usize::from(rank < extra))).collect();
    let mut plan = BTreeMap::new();
    for (name, own) in &mut held {
        open.extend(own.drain(quota[name].min(own.len())..));
        plan.extend(own.iter().map(|partition| (*partition, *name)));
    }
    open.sort_unstable();
    let mut open = open.into_iter();
    for (name, own) in &held {
        plan.extend(open.by_ref().take(quota[name] - own.len()).map(|partition| (partition, *name)));
    }
    plan
}

/// The first of those who hold the fewest.
fn least<'a>(held: &BTreeMap<&'a str, usize>) -> Option<&'a str> {
    held.iter().min_by_key(|(_, count)| **count).map(|(name, _)| *name)
}
