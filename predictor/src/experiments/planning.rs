//! From a question to a design: who takes part, what they measured before, and what that allows.

use std::{sync::Arc, time::Duration};

use nearcast_datasets::Timestamp;
use nearcast_experiment::{
    Alpha,
    design::{Assignment, Claim, PlanRequest, Refusal, Running, plan},
};

use super::{
    Experiments, NodeHistory, Problem, Question, Scene, slots,
    trial::{Design, since_epoch},
};
use crate::Result;

impl Experiments {
    pub(super) fn design(&self, now: Timestamp, question: &Question, scene: &Scene) -> Result<Design, Problem> {
        if question.assignment == Assignment::Client {
            return Err(Refusal::ByClient.into());
        }
        check_name(&question.name)?;
        if self.trials.contains_key(&question.name) {
            return Err(Problem::NameTaken(question.name.clone()));
        }
        let nodes = chosen(question, scene)?;
        let turnover = seconds("turnover_seconds", question.turnover_seconds)?.or(scene.turnover);
        let known = turnover.filter(|turnover| !turnover.is_zero()).ok_or(Refusal::TurnoverUnknown)?;
        let block = seconds("block_seconds", question.block_seconds)?;
        let length = block.unwrap_or(known * 9);
        let histories = nodes.iter().map(|node| self.history(question, node)).collect::<Result<Vec<_>, _>>()?;
        if let Some(coarse) = histories.iter().find(|history| history.slot_seconds > length.as_secs_f64()) {
            let (slot_seconds, block_seconds) = (coarse.slot_seconds, length.as_secs_f64());
            return Err(Problem::Coarse { slot_seconds, block_seconds });
        }
        let histories = slots::cut(&histories, length, known * 3);
        let no_cells = Vec::new();
        let cells = histories.get(&question.goal).unwrap_or(&no_cells);
        let season = (DAY.as_secs_f64() / length.as_secs_f64()).round().clamp(1.0, 1e6) as usize;
        let shadow = seconds("shadow_seconds", Some(question.shadow_seconds))?.unwrap_or_default();
        let running = self.trials.values().filter(|trial| trial.is_running()).map(|trial| Running {
            name: trial.design.question.name.clone(),
            cells: trial.design.plan.cells.clone(),
            until: Duration::MAX,
        });
        let running: Vec<Running> = running.collect();
        let request = PlanRequest {
            assignment: question.assignment,
            cells,
            turnover,
            block,
            season_blocks: question.season_blocks.unwrap_or(season),
            start: since_epoch(now) + shadow,
            span: seconds("span_seconds", Some(question.span_seconds))?.unwrap_or_default(),
            claim: Claim { effect: question.effect, alpha: Alpha::new(question.alpha)?, power: question.power },
            running: &running,
            seed: question.seed,
        };
        let plan = plan(&request)?;
        Ok(Design {
            schema: "nearcast.experiment/1".to_owned(),
            // What it was planned from is kept cut into blocks.
            question: Question { history: None, ..question.clone() },
            control_version: Arc::clone(&scene.champion_version),
            plan,
            histories,
        })
    }

    fn history(&self, question: &Question, node: &str) -> Result<NodeHistory, Problem> {
        let found = match &question.history {
            Some(given) => given.iter().find(|history| &*history.node == node).cloned(),
            None => self.slots.history(node),
        };
        let too_short = Refusal::HistoryTooShort { cell: node.to_owned(), found: 0, least: HISTORY_LEAST };
        let found = found.filter(|history| !history.slots.is_empty() && history.slot_seconds > 0.0);
        found.ok_or_else(|| too_short.into())
    }
}

fn chosen(question: &Question, scene: &Scene) -> Result<Vec<String>, Problem> {
    if question.nodes.is_empty() {
        return Ok(scene.connected.iter().map(|node| node.as_ref().to_owned()).collect());
    }
    for node in &question.nodes {
        if !scene.connected.contains(node.as_str()) {
            return Err(Problem::unknown_node(node, &scene.connected));
        }
    }
    Ok(question.nodes.clone())
}

/// Names become folders.
fn check_name(name: &str) -> Result<(), Problem> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_sound = (1..=64).contains(&name.len()) && name.chars().all(is_plain);
    if is_sound { Ok(()) } else { Err(Problem::Name(name.to_owned())) }
}

fn seconds(field: &'static str, value: Option<f64>) -> Result<Option<Duration>, Problem> {
    let checked = |value: f64| {
        let is_sound = (0.0..=SECONDS_MAX).contains(&value);
        if is_sound { Ok(Duration::from_secs_f64(value)) } else { Err(Problem::Seconds { field, value }) }
    };
    value.map(checked).transpose()
}

const DAY: Duration = Duration::from_secs(86_400);
const SECONDS_MAX: f64 = 366.0 * 86_400.0;
/// What the planner asks for at least.
const HISTORY_LEAST: usize = 8;
