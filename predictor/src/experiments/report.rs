//! Experiments as operators see them.

use std::{collections::BTreeMap, sync::Arc};

use nearcast_datasets::Timestamp;
use nearcast_experiment::{
    Interval,
    stage::{Change, Stage},
    verdict::{Better, Finding, Role, Verdict},
};
use serde::Serialize;

use super::{
    Problem,
    trial::{Design, Trial, moment},
};
use crate::{arms::ArmSpec, events::rfc3339};

/// A document as operators get it.
///
/// # Errors
/// When it cannot be expressed.
pub(crate) fn document(value: &impl Serialize) -> Result<String, Problem> {
    let text = serde_json::to_string(value).map_err(std::io::Error::from);
    Ok(text.map_err(crate::Error::file("express", "the document"))?)
}

/// One experiment; the field names are a contract.
#[derive(Clone, Debug, Serialize)]
pub struct TrialReport {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub stage: Stage,
    /// Whether it stays there.
    pub is_paused: bool,
    /// Who is to replace the champion, by the name that logs go by.
    pub arm: Arc<str>,
    /// The same in full.
    pub challenger: ArmSpec,
    /// The champion's version when it was planned.
    pub control_version: Arc<str>,
    /// The design.
    pub design: DesignReport,
    /// The block of now.
    pub block: Option<usize>,
    /// Blocks that have ended and been measured.
    pub blocks_counted: usize,
    /// Pairs times blocks that the goal's interval rests on.
    pub units: u64,
    /// What it shows.
    pub verdict: Verdict,
    /// Why the numbers must not be believed.
    pub flaws: Vec<String>,
    /// Every metric: treated less control.
    pub metrics: Vec<MetricReport>,
    /// Nodes that have not confirmed what a promote or rollback told them.
    pub pending: Vec<String>,
    /// By node, which side it is on now.
    pub cells: BTreeMap<Arc<str>, String>,
    /// What can be done with it now.
    pub actions: Vec<&'static str>,
}

/// One metric as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct MetricReport {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Which way is better.
    pub better: Better,
    /// Treated less control; the interval holds at every look.
    pub effect: Interval,
    /// Control's mean.
    pub control: f64,
    /// What that says.
    pub finding: Finding,
}

/// A design; the field names are a contract.
#[derive(Clone, Debug, Serialize)]
pub struct DesignReport {
    /// Names of the nodes that are compared with each other, and how closely they went together.
    pub pairs: Vec<(String, String, f64)>,
    /// The node left over.
    pub spare: Option<String>,
    /// When the first block begins, RFC 3339.
    pub start: String,
    /// When the last one ends.
    pub end: String,
    /// The length of a block.
    pub block_seconds: f64,
    /// What of each block is left out.
    pub burn_in_seconds: f64,
    /// How many blocks there are.
    pub blocks: usize,
    /// After how many of them the effect asked for is found.
    pub blocks_needed: u64,
    /// The smallest effect that is found at the end.
    pub reach: f64,
    /// The metric to be improved.
    pub goal: &'static str,
}

/// One look at the goal.
#[derive(Clone, Debug, Serialize)]
pub struct Look {
    /// After which block.
    pub block: usize,
    /// The effect on the goal.
    pub effect: Interval,
}

impl DesignReport {
    pub(super) fn of(design: &Design) -> Self {
        let plan = &design.plan;
        let name = |cell: usize| plan.cells[cell].clone();
        let pairs = plan.matching.pairs.iter().map(|pair| (name(pair.a), name(pair.b), pair.correlation));
        Self {
            pairs: pairs.collect(),
            spare: plan.matching.spare.map(name),
            start: rfc3339(moment(plan.start)),
            end: rfc3339(moment(plan.end())),
            block_seconds: plan.block.as_secs_f64(),
            burn_in_seconds: plan.burn_in.as_secs_f64(),
            blocks: plan.schedule.blocks(),
            blocks_needed: plan.blocks_needed,
            reach: plan.reach,
            goal: design.question.goal.as_str(),
        }
    }
}

impl TrialReport {
    pub(super) fn of(trial: &Trial, now: Timestamp) -> Self {
        let judgement = trial.judgement();
        let metrics = trial.metrics().into_iter().map(|metric| MetricReport {
            finding: metric.finding(),
            name: metric.name,
            role: metric.role,
            better: metric.better,
            effect: metric.effect,
            control: metric.control,
        });
        let side = |node: Arc<str>| {
            let arm = trial.arm_of(&node, now).map(|arm| arm.to_string()).unwrap_or_default();
            (node, arm)
        };
        Self {
            name: trial.design.question.name.clone(),
            stage: trial.experiment.stage(),
            is_paused: trial.experiment.is_paused(),
            arm: Arc::clone(&trial.arm),
            challenger: trial.design.question.challenger.clone(),
            control_version: Arc::clone(&trial.design.control_version),
            design: DesignReport::of(&trial.design),
            block: trial.block_now(now),
            blocks_counted: trial.counted,
            units: trial.units(),
            verdict: judgement.verdict,
            flaws: judgement.flaws.iter().map(ToString::to_string).collect(),
            metrics: metrics.collect(),
            pending: trial.experiment.pending().into_iter().map(|pointer| pointer.cell).collect(),
            cells: trial.nodes().into_iter().map(side).collect(),
            actions: actions(trial.experiment.stage(), trial.experiment.is_paused()),
        }
    }
}

fn actions(stage: Stage, is_paused: bool) -> Vec<&'static str> {
    let pause = if is_paused { "resume" } else { "pause" };
    match stage {
        Stage::Planned | Stage::Shadow | Stage::Canary => vec!["advance", pause, "abort"],
        Stage::Ab => vec!["promote", pause, "abort"],
        Stage::Holdback => vec!["finish", "undo"],
        Stage::Promoting | Stage::Promoted => vec!["undo"],
        Stage::RollingBack | Stage::RolledBack => Vec::new(),
    }
}

/// An experiment with everything that led to where it is; schema `nearcast.experiment-report/1`.
#[derive(Clone, Debug, Serialize)]
pub struct FullReport {
    /// The schema's name.
    pub schema: &'static str,
    /// The experiment.
    #[serde(flatten)]
    pub trial: TrialReport,
    /// The goal's interval after each block.
    pub looks: Vec<Look>,
    /// Who did what, when, why and on what evidence.
    pub changes: Vec<Change>,
}

impl FullReport {
    pub(super) fn of(trial: &Trial, now: Timestamp, looks_max: usize) -> Self {
        let skipped = trial.timeline.len().saturating_sub(looks_max);
        let look = |(block, effect): &(usize, Interval)| Look { block: *block, effect: *effect };
        Self {
            schema: "nearcast.experiment-report/1",
            trial: TrialReport::of(trial, now),
            looks: trial.timeline[skipped..].iter().map(look).collect(),
            changes: trial.experiment.record().changes().to_vec(),
        }
    }
}
