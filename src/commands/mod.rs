//! The verbs of the command line, one file each.

mod compare;
mod demo;
mod drain;
mod evaluate;
#[cfg(feature = "cluster")]
mod executor;
mod experiment;
mod import;
mod load;
mod map;
mod models;
mod node;
mod origin;
mod predictor;
mod profile;
mod purge;
mod replay;
#[cfg(feature = "cluster")]
mod scheduler;
mod stat;
mod synthesize;
mod tail;
mod top;
mod train;
mod up;
mod warm;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use self::{
    profile::{duration, grouped, measure as measure_profile, percent},
    train::now,
};
use crate::output::Output;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compares two model versions: settings, metrics, and how sure one may be of the difference.
    Compare(compare::Args),
    /// The first minute: profile, train, evaluate and replay a bundled real log, offline.
    Demo(demo::Args),
    /// Moves placed keys off a node before it is taken out of service, or takes it back.
    Drain(drain::Args),
    /// Measures a model version on a log beside baselines.
    Evaluate(evaluate::Args),
    /// Runs an executor of a training cluster.
    #[cfg(feature = "cluster")]
    Executor(executor::Args),
    /// Finds out on live nodes which arm is better; promotes, rolls back, and keeps the record.
    Experiment(experiment::Args),
    /// Converts access logs of other systems into the request-log schema.
    Import(import::Args),
    /// Plays a log over HTTP against running nodes and reports what clients felt.
    Load(load::Args),
    /// Shows who holds a key, who is meant to, and why.
    Map(map::Args),
    /// Lists, shows, verifies, aliases and deletes model versions.
    Models(models::Args),
    /// Runs a cache node.
    Node(node::Args),
    /// Runs an origin that serves the objects of a log with reproducible content.
    Origin(origin::Args),
    /// Runs the predictor service.
    Predictor(predictor::Args),
    /// Describes a log: requests, keys, clients, regions, span, skew and gaps.
    Profile(profile::Args),
    /// Makes nodes forget objects, by key, prefix or tag.
    Purge(purge::Args),
    /// Drives the production engine and nodes with a log under a virtual clock.
    Replay(replay::Args),
    /// Runs the scheduler of a training cluster.
    #[cfg(feature = "cluster")]
    Scheduler(scheduler::Args),
    /// Shows how nodes do: hits, latency, misses by cause, prefetches, what is held.
    Stat(stat::Args),
    /// Makes a seeded log whose best achievable accuracy is known.
    Synthesize(synthesize::Args),
    /// Follows requests as nodes answer them.
    Tail(tail::Args),
    /// Shows what is asked for most right now.
    Top(top::Args),
    /// Trains a model version from Parquet logs and publishes it.
    Train(train::Args),
    /// Starts a whole cluster of real processes on this machine.
    Up(up::Args),
    /// Has nodes fetch objects before anybody asks for them.
    Warm(warm::Args),
}

impl Command {
    /// Runs the verb to its end.
    pub(crate) fn run(self, output: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Compare(args) => compare::run(args, output),
            Self::Demo(args) => demo::run(args, output),
            Self::Drain(args) => drain::run(args, output),
            Self::Evaluate(args) => evaluate::run(args, output),
            #[cfg(feature = "cluster")]
            Self::Executor(args) => executor::run(args),
            Self::Experiment(args) => experiment::run(args, output),
            Self::Import(args) => import::run(args, output),
            Self::Load(args) => load::run(args, output),
            Self::Map(args) => map::run(args, output),
            Self::Models(args) => models::run(args, output),
            Self::Node(args) => node::run(args, output),
            Self::Origin(args) => origin::run(args, output),
            Self::Predictor(args) => predictor::run(&args, output),
            Self::Profile(args) => profile::run(args, output),
            Self::Purge(args) => purge::run(args, output),
            Self::Replay(args) => replay::run(args, output),
            #[cfg(feature = "cluster")]
            Self::Scheduler(args) => scheduler::run(&args),
            Self::Stat(args) => stat::run(&args, output),
            Self::Synthesize(args) => synthesize::run(args, output),
            Self::Tail(args) => tail::run(&args, output),
            Self::Top(args) => top::run(&args, output),
            Self::Train(args) => train::run(args, output),
            Self::Up(args) => up::run(args, output),
            Self::Warm(args) => warm::run(&args, output),
        }
    }
}
