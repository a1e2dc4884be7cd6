//! The hottest names of several nodes, put together.

use std::{collections::BTreeMap, time::Duration};

use clap::ValueEnum;
use nearcast_datasets::Map;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::{Fleet, Problem, bytes, percent, ratio, table};

/// What requests are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// The object's key.
    Key,
    /// The first folders of the key.
    Prefix,
    /// Who asked, as the request log names it.
    Client,
    /// Why requests missed, or how they were hit.
    Cause,
}

/// What makes a name hot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// Being asked for.
    Requests,
    /// Bytes sent.
    Bytes,
    /// Not being answered from what the node held.
    Misses,
}

/// What to look for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) by: By,
    pub(crate) sort: Sort,
    pub(crate) depth: u8,
    pub(crate) limit: usize,
    pub(crate) window: Duration,
    /// Conditions on requests, as a query.
    pub(crate) filter: String,
}

/// What was hot: the document of `nearcast top --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Top {
    schema: &'static str,
    by: String,
    sort: String,
    seconds: f64,
    /// Requests that were looked at.
    requests: u64,
    /// Requests that nodes were too busy to look at.
    pub(crate) lost: u64,
    /// What all names together weigh.
    weight: u64,
    top: Vec<Hot>,
    /// Nodes that did not answer.
    pub(crate) failed: Vec<Problem>,
}

/// A name. All but `weight` may be too small where very many names are asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Hot {
    name: String,
    /// Requests, bytes or misses, at most `error` too large.
    weight: u64,
    error: u64,
    requests: u64,
    misses: u64,
    bytes: u64,
    latency_us: u64,
    causes: BTreeMap<String, u64>,
    /// Nodes where it is among the hottest.
    #[serde(default)]
    nodes: u64,
}

/// What one node answers.
#[derive(Debug, Deserialize)]
struct NodeTop {
    seconds: f64,
    requests: u64,
    lost: u64,
    weight: u64,
    top: Vec<Hot>,
}

impl Top {
    /// Looks at all nodes at once, for the time that is asked for.
    pub(crate) async fn look(fleet: &Fleet, ask: &Ask) -> Self {
        let (by, sort) = (word(&ask.by), word(&ask.sort));
        // A name that is not among the hottest of one node may be in all.
        let limit = (ask.limit * SPARE).clamp(LIMIT_MIN, LIMIT_MAX);
        let (seconds, depth) = (ask.window.as_secs_f64(), ask.depth);
        let path =
            format!("/_nearcast/top?by={by}&depth={depth}&sort={sort}&seconds={seconds}&limit={limit}{}", ask.filter);
        let (mut answers, mut failed) = (Vec::new(), Vec::new());
        for (_, answer) in fleet.ask::<NodeTop>(&path, ask.window + PATIENCE).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(problem) => failed.push(problem),
            }
        }
        let mut top = Self::merged(answers, ask.limit);
        (top.by, top.sort, top.failed) = (by, sort, failed);
        top
    }

    fn merged(answers: Vec<NodeTop>, limit: usize) -> Self {
        let mut top = Self {
            schema: "nearcast.top-report/1",
            by: String::new(),
            sort: String::new(),
            seconds: 0.0,
            requests: 0,
            lost: 0,
            weight: 0,
            top: Vec::new(),
            failed: Vec::new(),
        };
        let mut names: Map<String, Hot> = Map::default();
        for answer in answers {
            top.seconds = top.seconds.max(answer.seconds);
            top.requests += answer.requests;
            top.lost += answer.lost;
            top.weight += answer.weight;
            for hot in answer.top {
                let name =
                    names.entry(hot.name.clone()).or_insert_with(|| Hot { name: hot.name.clone(), ..Hot::default() });
                name.add(hot);
            }
        }
        top.top = names.into_values().collect();
        top.top.sort_by(|one, other| other.weight.cmp(&one.weight).then_with(|| one.name.cmp(&other.name)));
        top.top.truncate(limit);
        top
    }

    /// As a table.
    pub(crate) fn text(&self) -> String {
        let per_second = |count: u64| if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 };
        let mut table = table([
            &*self.by,
            "req/s",
            &format!("% of {}", self.sort),
            "miss %",
            "sent/s",
            "mean ms",
            "mostly missed as",
            "nodes",
        ]);
        for hot in &self.top {
            let cause = hot.causes.iter().max_by_key(|(_, count)| **count).map_or("-", |(cause, _)| cause);
            let mean = ratio(hot.latency_us, hot.requests).map_or_else(String::new, |us| format!("{:.2}", us / 1e3));
            table.add_row([
                shown(&hot.name),
                format!("{:.1}", per_second(hot.requests)),
                percent(ratio(hot.weight, self.weight)),
                percent(ratio(hot.misses, hot.requests)),
                bytes(per_second(hot.bytes)),
                mean,
                cause.replace('_', " "),
                hot.nodes.to_string(),
            ]);
        }
        let mut text =
            format!("{} requests in {:.1} s, {:.1}/s\n", self.requests, self.seconds, per_second(self.requests));
        if !self.top.is_empty() {
            text += &format!("{table}\n");
        }
        self.failed.iter().for_each(|problem| text += &format!("{}\n", problem.text()));
        text
    }
}

impl Hot {
    fn add(&mut self, other: Self) {
        self.weight += other.weight;
        self.error += other.error;
        self.requests += other.requests;
        self.misses += other.misses;
        self.bytes += other.bytes;
        self.latency_us += other.latency_us;
        self.nodes += 1;
        other.causes.into_iter().for_each(|(cause, count)| *self.causes.entry(cause).or_default() += count);
    }
}

/// A condition for the node, as part of a query.
pub(crate) fn condition(name: &str, value: &str) -> String {
    format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
}

fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// What clients send may be long, and may hold anything.
fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(SHOWN_MAX).flat_map(printable).collect();
    if name.chars().nth(SHOWN_MAX).is_some() {
        text.push('…');
    }
    text
}

/// A character that does nothing to a terminal.
pub(super) fn printable(c: char) -> impl Iterator<Item = char> {
    let is_harmless = !c.is_control();
    is_harmless.then_some(c).into_iter().chain((!is_harmless).then(|| c.escape_default()).into_iter().flatten())
}

/// Names asked of each node for every one that is shown.
const SPARE: usize = 5;
const LIMIT_MIN: usize = 100;
/// The most that a node tells.
const LIMIT_MAX: usize = 1_000;
/// Characters of a name in the table.
const SHOWN_MAX: usize = 70;
/// For a node to answer once it has looked.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(names: &[(&str, u64)]) -> NodeTop {
        let hot = |(name, weight): &(&str, u64)| Hot {
            name: (*name).to_owned(),
            weight: *weight,
            requests: *weight,
            ..Hot::default()
        };
        let weight = names.iter().map(|(_, weight)| weight).sum();
        NodeTop { seconds: 2.0, requests: weight, lost: 1, weight, top: names.iter().map(hot).collect() }
    }

    #[test]
    fn what_is_hot_on_several_nodes_is_hot_in_all() {
        let top = Top::merged(vec![answer(&[("/a", 5), ("/b", 4)]), answer(&[("/c", 6), ("/b", 4)])], 2);
        let told: Vec<_> = top.top.iter().map(|hot| (hot.name.as_str(), hot.weight, hot.nodes)).collect();
        assert_eq!(told, [("/b", 8, 2), ("/c", 6, 1)]);
        assert_eq!((top.requests, top.weight, top.lost), (19, 19, 2));
        assert!(top.text().contains("42.1"), "{}", top.text());
    }

    #[test]
    fn names_do_nothing_to_the_terminal() {
        assert_eq!(shown("/a\u{1b}[2J\n"), "/a\\u{1b}[2J\\n");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), SHOWN_MAX + 1);
    }
}
