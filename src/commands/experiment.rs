//! `nearcast experiment`: which arm is better, and who switched what on what evidence.

use std::{process::ExitCode, time::Duration};

use clap::{Subcommand, ValueEnum};
use nearcast_predictor::{
    arms::ArmSpec,
    experiments::{Deed, MetricName, Question},
};
use serde_json::Value;

use crate::{
    experiment::{Asked, changes, plan, read_history, report, status},
    load::Access,
    operate::span,
    output::{Output, note},
};

/// Arguments of `nearcast experiment`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Args {
    /// The cluster: the `cluster.json` that `nearcast up` writes, or its folder.
    #[arg(long, global = true, value_name = "CLUSTER")]
    to: Option<String>,
    /// The predictor's gRPC address; goes before the cluster file's.
    #[arg(long, global = true, value_name = "URL")]
    predictor: Option<String>,
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
An experiment assigns nodes, in matched pairs and block by block of time, never clients: arms that share a cache cannot
be told apart. It goes from shadow to canary to A/B by itself, rolls back by itself when a guardrail is breached, and
waits for somebody to promote it. Changes go on a record with who, when, why and a hash of the evidence.

Examples:
  nearcast experiment plan news --challenger v0003 --to cluster/ --span 24h
  nearcast experiment start news --challenger v0003 --to cluster/ --span 24h --why \"trained on May\"
  nearcast experiment status --to cluster/
  nearcast experiment --token-file admin.token promote news --predictor http://10.0.0.9:7700 --why \"PASS\"
  nearcast experiment undo news --predictor http://10.0.0.9:7700 --why \"complaints\" --json";

/// What to do.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Says what an experiment would come to, or why it cannot answer the question. Begins nothing.
    Plan(Asking),
    /// Plans an experiment and begins with its shadow stage.
    Start(Asking),
    /// Shows all experiments, and what miniatures of every arm count.
    Status,
    /// Puts the challenger in force at every node but for one pair, which goes on switching.
    Promote(Promotion),
    /// Ends an experiment before its promotion: every node serves the champion.
    Abort(Change),
    /// Ends an experiment after its promotion: every node serves the old champion again.
    Undo(Change),
    /// Has an experiment stay in its stage.
    Pause(Change),
    /// Lets a paused experiment go on.
    Resume(Change),
    /// Goes on to the next stage now, without waiting.
    Advance(Change),
    /// Ends the holdback: the challenger becomes champion, and the registry's alias follows.
    Finish(Change),
    /// Shows one experiment with its intervals over time and its record.
    Report(Named),
    /// Shows who changed what in an experiment, when, why and on what evidence.
    History(Named),
}

#[derive(Debug, clap::Args)]
struct Asking {
    /// The experiment's name.
    name: String,
    /// Who is to replace the champion: a version or alias of the registry, `online` for one without, or `none`.
    #[arg(long, value_name = "VERSION|online|none")]
    challenger: String,
    /// The challenger does not learn from the stream.
    #[arg(long)]
    fixed: bool,
    /// The nodes that take part, instead of all that are connected.
    #[arg(long, value_delimiter = ',', value_name = "NODE,…")]
    nodes: Vec<String>,
    /// What is assigned: `cell`; `client` is refused, with the reason.
    #[arg(long, value_enum, default_value = "cell")]
    by: By,
    /// The metric to be improved.
    #[arg(long, default_value = "hit_ratio", value_parser = metric)]
    goal: MetricName,
    /// The smallest effect to be found, in the goal's unit: 0.01 is a point of a hit ratio.
    #[arg(long, default_value_t = 0.01)]
    effect: f64,
    /// The least improvement that is worth a switch, in the goal's unit.
    #[arg(long, default_value_t = 0.0)]
    least: f64,
    /// The false alarms to bear, over all looks.
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,
    /// The probability to find the effect when it is there.
    #[arg(long, default_value_t = 0.8)]
    power: f64,
    /// How long the live part may take.
    #[arg(long, value_parser = long_span, default_value = "7d")]
    span: Duration,
    /// How long only miniatures compare before.
    #[arg(long, value_parser = long_span, default_value = "1h")]
    shadow: Duration,
    /// Blocks in which only the first pair switches.
    #[arg(long, default_value_t = 4)]
    canary_blocks: usize,
    /// The length of a block, instead of the shortest.
    #[arg(long, value_parser = long_span)]
    block: Option<Duration>,
    /// How long caches remember the arm they served before, instead of what miniatures measured.
    #[arg(long, value_parser = long_span)]
    turnover: Option<Duration>,
    /// How far a metric may become worse: `p99_ms=10%` of the champion's, or `error_ratio=0.001`.
    #[arg(long = "guardrail", value_name = "METRIC=MARGIN", value_parser = guardrail)]
    guardrails: Vec<(MetricName, Margin)>,
    /// Logs that nodes wrote, instead of what the predictor has seen since it was started.
    #[arg(long, value_name = "LOG", num_args = 1..)]
    history: Vec<String>,
    /// What the coins are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    why: String,
    /// Who, for the record; the user of this machine without.
    #[arg(long)]
    who: Option<String>,
}

type Margin = nearcast_experiment::verdict::Margin;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// Nodes, block by block.
    Cell,
    /// Clients.
    Client,
}

#[derive(Debug, clap::Args)]
struct Change {
    /// The experiment; the only one that is under way where none is named.
    name: Option<String>,
    /// Why, for the record.
    #[arg(long)]
    why: String,
    /// Who, for the record; the user of this machine without.
    #[arg(long)]
    who: Option<String>,
    /// How long nodes may take to confirm.
    #[arg(long, value_parser = span, default_value = "10s")]
    timeout: Duration,
}

#[derive(Debug, clap::Args)]
struct Promotion {
    #[command(flatten)]
    change: Change,
    /// Even without PASS: somebody's decision, on record.
    #[arg(long)]
    full: bool,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The experiment; the only one that is under way where none is named.
    name: Option<String>,
}

/// Asks the predictor.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask(args, output))
}

async fn ask(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let deed = args.verb.deed()?;
    let mut asked = Asked::find(args.to.as_deref(), args.predictor, &args.access).await?;
    let word = args.verb.word();
    match args.verb {
        Verb::Plan(_) => output.show(&asked.ask(word, &deed).await?, plan)?,
        Verb::Status => output.show(&asked.ask(word, &deed).await?, status)?,
        Verb::Start(_) | Verb::Report(_) => output.show(&asked.ask(word, &deed).await?, report)?,
        Verb::History(_) => output.show(&asked.ask(word, &deed).await?, changes)?,
        Verb::Promote(Promotion { change, .. })
        | Verb::Abort(change)
        | Verb::Undo(change)
        | Verb::Pause(change)
        | Verb::Resume(change)
        | Verb::Advance(change)
        | Verb::Finish(change) => return settle(&mut asked, word, deed, change.timeout, output).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Changes something and waits until the nodes have confirmed.
#[expect(clippy::disallowed_methods, reason = "how long it took is told")]
async fn settle(
    asked: &mut Asked,
    word: &str,
    deed: Deed,
    within: Duration,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let since = std::time::Instant::now();
    let done = asked.ask(word, &deed).await?;
    let deed = Deed { name: done["name"].as_str().map(str::to_owned), ..deed };
    let (mut document, took) = asked.await_confirmed(&deed, since, within).await?;
    if let Value::Object(fields) = &mut document {
        let millis = took.map(|took| took.as_secs_f64() * 1e3);
        fields.insert("confirmed_ms".to_owned(), serde_json::to_value(millis)?);
    }
    output.show(&document, report)?;
    match took {
        Some(took) => note(&format!("confirmed by every node after {:.0} ms", took.as_secs_f64() * 1e3)),
        None => note("not every node has confirmed yet: those that are away will as they come back"),
    }
    Ok(if took.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Verb {
    fn word(&self) -> &'static str {
        match self {
            Self::Plan(_) => "plan",
            Self::Start(_) => "start",
            Self::Status => "status",
            Self::Promote(_) => "promote",
            Self::Abort(_) => "abort",
            Self::Undo(_) => "undo",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Advance(_) => "advance",
            Self::Finish(_) => "finish",
            Self::Report(_) => "report",
            Self::History(_) => "history",
        }
    }

    fn deed(&self) -> anyhow::Result<Deed> {
        let deed = |name: Option<&String>, who: Option<&String>, why: &str| Deed {
            name: name.cloned(),
            who: who.cloned().unwrap_or_else(user),
            why: why.to_owned(),
            full: false,
            question: None,
        };
        Ok(match self {
            Self::Plan(asking) | Self::Start(asking) => {
                let why = if asking.why.is_empty() { "to find out" } else { &asking.why };
                Deed { question: Some(asking.question()?), ..deed(Some(&asking.name), asking.who.as_ref(), why) }
            }
            Self::Promote(Promotion { change, full }) => {
                Deed { full: *full, ..deed(change.name.as_ref(), change.who.as_ref(), &change.why) }
            }
            Self::Abort(change)
            | Self::Undo(change)
            | Self::Pause(change)
            | Self::Resume(change)
            | Self::Advance(change)
            | Self::Finish(change) => deed(change.name.as_ref(), change.who.as_ref(), &change.why),
            Self::Report(named) | Self::History(named) => deed(named.name.as_ref(), None, ""),
            Self::Status => deed(None, None, ""),
        })
    }
}

impl Asking {
    fn question(&self) -> anyhow::Result<Question> {
        let version = match self.challenger.as_str() {
            "none" | "online" => None,
            version => Some(version.into()),
        };
        let challenger = ArmSpec { version, learning: !self.fixed, orders: self.challenger != "none" };
        let history = if self.history.is_empty() { None } else { Some(read_history(&self.history, SLOT_SECONDS)?) };
        Ok(Question {
            nodes: self.nodes.clone(),
            assignment: match self.by {
                By::Cell => nearcast_experiment::design::Assignment::Cell,
                By::Client => nearcast_experiment::design::Assignment::Client,
            },
            goal: self.goal,
            effect: self.effect,
            least: self.least,
            alpha: self.alpha,
            power: self.power,
            span_seconds: self.span.as_secs_f64(),
            shadow_seconds: self.shadow.as_secs_f64(),
            canary_blocks: self.canary_blocks,
            block_seconds: self.block.map(|block| block.as_secs_f64()),
            turnover_seconds: self.turnover.map(|turnover| turnover.as_secs_f64()),
            guardrails: self.guardrails.iter().copied().collect(),
            seed: self.seed,
            history,
            ..Question::new(&self.name, challenger)
        })
    }
}

fn user() -> String {
    let from = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    from("USER").or_else(|| from("LOGNAME")).unwrap_or_else(|| "unknown".to_owned())
}

/// As `span`, and also days and no time at all.
fn long_span(text: &str) -> Result<Duration, String> {
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<f64>().ok()) {
        let is_sound = (0.0..=366.0).contains(&days);
        return if is_sound {
            Ok(Duration::from_secs_f64(days * 86_400.0))
        } else {
            Err(format!("`{text}` is no time"))
        };
    }
    if matches!(text, "0" | "0s") { Ok(Duration::ZERO) } else { span(text) }
}

fn metric(text: &str) -> Result<MetricName, String> {
    MetricName::ALL.into_iter().find(|metric| metric.as_str() == text).ok_or_else(|| {
        let known: Vec<&str> = MetricName::ALL.iter().map(|metric| metric.as_str()).collect();
        format!("the metrics are {}", known.join(", "))
    })
}

fn guardrail(text: &str) -> Result<(MetricName, Margin), String> {
    let (name, margin) = text.split_once('=').ok_or_else(|| format!("`{text}` is no METRIC=MARGIN"))?;
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
    let margin = match margin.strip_suffix('%') {
        Some(share) => number(share).map(|share| Margin::Relative(share / 100.0)),
        None => number(margin).map(Margin::Absolute),
    };
    Ok((metric(name)?, margin.ok_or_else(|| format!("`{text}` has no margin such as 5% or 0.001"))?))
}

/// The slots that logs are cut into; a plan's blocks are longer.
const SLOT_SECONDS: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_and_spans_are_read_as_people_write_them() {
        assert_eq!(guardrail("p99_ms=10%"), Ok((MetricName::P99Ms, Margin::Relative(0.1))));
        assert_eq!(guardrail("error_ratio=0.001"), Ok((MetricName::ErrorRatio, Margin::Absolute(0.001))));
        for bad in ["p99=10%", "p99_ms", "p99_ms=x", "p99_ms=-1"] {
            assert!(guardrail(bad).is_err(), "{bad}");
        }
        assert_eq!(long_span("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!((long_span("0"), long_span("2s")), (Ok(Duration::ZERO), Ok(Duration::from_secs(2))));
        assert!(long_span("-1d").is_err() && long_span("x").is_err());
    }
}
