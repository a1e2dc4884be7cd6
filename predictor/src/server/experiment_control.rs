//! What operators want of experiments: words and documents in, versions found, aliases moved.

use std::sync::Arc;

use nearcast_experiment::stage::{Action, Stage};
use nearcast_models::{Model, Registry, VersionName};
use nearcast_proto::{config_file, wire};
use tokio::task::spawn_blocking;
use tonic::{Code, Status};

use super::{
    control::{ControlService, Versions},
    input::{ExperimentAction, Input},
    streams::unavailable,
};
use crate::experiments::{Deed, Problem};

/// What is wanted, of what.
pub(super) fn parse_action(request: &wire::ExperimentRequest) -> Result<(ExperimentAction, Deed), Status> {
    let word = request.action.as_str();
    let text = if request.json.is_empty() { "{}" } else { &request.json };
    let deed: Deed = serde_json::from_str(text)
        .map_err(|error| Status::invalid_argument(format!("the request's document: {error}")))?;
    let change = |action| ExperimentAction::Change(action);
    let action = match word {
        "plan" => ExperimentAction::Plan,
        "start" => ExperimentAction::Start,
        "status" => ExperimentAction::Status,
        "report" | "history" => ExperimentAction::Report,
        "promote" => change(Action::Promote { full: deed.full }),
        "abort" => change(Action::Abort),
        "undo" => change(Action::Undo),
        "pause" => change(Action::Pause),
        "resume" => change(Action::Resume),
        "finish" => change(Action::Finish),
        "advance" => change(Action::Advance),
        _ => {
            let nearest = config_file::nearest(word, ACTIONS);
            let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
            return Err(Status::invalid_argument(format!("there is no action `{word}`{hint}")));
        }
    };
    Ok((action, deed))
}

impl ControlService {
    /// Does what is wanted.
    pub(super) async fn answer(&self, action: ExperimentAction, mut deed: Deed) -> Result<String, Status> {
        let mut model = None;
        if matches!(action, ExperimentAction::Plan | ExperimentAction::Start)
            && let Some(question) = &mut deed.question
            && let Some(version) = question.challenger.version.clone()
        {
            let (found, loaded) = self.load(&version, action == ExperimentAction::Start).await?;
            question.challenger.version = Some(found);
            model = loaded;
        }
        self.move_alias(&action, &deed).await?;
        let deed = Box::new(deed);
        let asked = self.inputs.ask(|reply| Input::Experiment { action, deed, model, reply }).await;
        asked.map_err(unavailable)?.map_err(|problem| status(&problem))
    }

    /// A version by its name or an alias; the model only where it is to be put to work.
    async fn load(&self, version: &str, is_needed: bool) -> Result<(Arc<str>, Option<Arc<Model>>), Status> {
        let name = version.to_owned();
        let refused = |reason: String| status(&Problem::Version { version: name.clone(), reason });
        let Some(Versions { registry, .. }) = self.versions.clone() else {
            return Err(refused("this predictor has no registry".to_owned()));
        };
        let wanted = version.to_owned();
        let found = spawn_blocking(move || find(&registry, &wanted, is_needed)).await;
        let found = found.map_err(|error| Status::internal(error.to_string()))?;
        found.map_err(|error| refused(error.to_string()))
    }

    /// A promotion that is final is final for the next start as well: before it goes on record the alias points at the
    /// challenger, and before an undo of it at the version before.
    async fn move_alias(&self, action: &ExperimentAction, deed: &Deed) -> Result<(), Status> {
        let is_end = matches!(action, ExperimentAction::Change(Action::Finish | Action::Undo));
        let (true, Some(versions)) = (is_end, self.versions.clone()) else { return Ok(()) };
        let report = Box::new(deed.clone());
        let asked = |reply| Input::Experiment { action: ExperimentAction::Report, deed: report, model: None, reply };
        let report = self.inputs.ask(asked).await.map_err(unavailable)?.map_err(|problem| status(&problem))?;
        let report: serde_json::Value =
            serde_json::from_str(&report).map_err(|error| Status::internal(error.to_string()))?;
        let stage: Option<Stage> = serde_json::from_value(report["stage"].clone()).ok();
        let target = match (action, stage) {
            (ExperimentAction::Change(Action::Finish), Some(Stage::Holdback)) => &report["challenger"]["version"],
            (ExperimentAction::Change(Action::Undo), Some(Stage::Promoted)) => &report["control_version"],
            _ => return Ok(()),
        };
        let Some(version) = target.as_str().and_then(|version| version.parse::<VersionName>().ok()) else {
            return Ok(());
        };
        let moved = spawn_blocking(move || versions.registry.alias(&versions.alias, version)).await;
        let moved = moved.map_err(|error| Status::internal(error.to_string()))?;
        moved.map_err(|error| Status::unavailable(format!("nothing is done: the alias cannot be moved: {error}")))
    }
}

fn find(
    registry: &Registry,
    wanted: &str,
    is_needed: bool,
) -> Result<(Arc<str>, Option<Arc<Model>>), nearcast_models::Error> {
    if is_needed {
        let (version, model) = registry.load(wanted)?;
        return Ok((version.to_string().into(), Some(Arc::new(model))));
    }
    Ok((registry.resolve(wanted)?.to_string().into(), None))
}

fn status(problem: &Problem) -> Status {
    let code = match problem {
        Problem::Unknown(_) | Problem::NoneRunning | Problem::Node { .. } | Problem::Version { .. } => Code::NotFound,
        Problem::Refused(_) | Problem::Stage(_) | Problem::Arm(_) => Code::FailedPrecondition,
        Problem::NameTaken(_) => Code::AlreadyExists,
        Problem::File(_) => Code::Unavailable,
        _ => Code::InvalidArgument,
    };
    Status::new(code, problem.to_string())
}

const ACTIONS: [&str; 12] = [
    "plan", "start", "status", "promote", "abort", "undo", "pause", "resume", "report", "history", "finish", "advance",
];
