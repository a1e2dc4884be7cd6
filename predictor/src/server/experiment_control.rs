//! What operators want of experiments: words and documents in, versions found, aliases moved.

use std::sync::Arc;

use nearcast_experiment::stage::Action;
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
    let text = if request.json.is_empty() { "{}" } else { &request.json };
    let deed: Deed = serde_json::from_str(text)
        .map_err(|error| Status::invalid_argument(format!("the request's document: {error}")))?;
    let action = action_named(&request.action, &deed)?;
    Ok((action, deed))
}

/// The action of a name.
pub(super) fn action_named(word: &str, deed: &Deed) -> Result<ExperimentAction, Status> {
    let change = |action| Ok(ExperimentAction::Change(action));
    match word {
        "plan" => Ok(ExperimentAction::Plan),
        "start" => Ok(ExperimentAction::Start),
        "status" => Ok(ExperimentAction::Status),
        "report" | "history" => Ok(ExperimentAction::Report),
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
            Err(Status::invalid_argument(format!("there is no action `{word}`{hint}")))
        }
    }
}

/// The name of an action.
fn word(action: &ExperimentAction) -> &'static str {
    match action {
        ExperimentAction::Plan => "plan",
        ExperimentAction::Start => "start",
        ExperimentAction::Status => "status",
        ExperimentAction::Report => "report",
        ExperimentAction::Foresee(change) | ExperimentAction::Change(change) => match change {
            Action::Promote { .. } => "promote",
            Action::Abort => "abort",
            Action::Undo => "undo",
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Finish => "finish",
            Action::Advance => "advance",
            // Nobody asks for these.
            Action::Start | Action::Breach | Action::Pointed { .. } => "",
        },
    }
}

impl ControlService {
    /// Does what is wanted, or has it done where experiments are conducted.
    pub(super) async fn answer(&self, action: ExperimentAction, deed: Deed) -> Result<String, Status> {
        match self.relayed(word(&action), &deed).await? {
            Some(answer) => Ok(answer),
            None => self.answer_here(action, deed).await,
        }
    }

    pub(super) async fn answer_here(&self, action: ExperimentAction, mut deed: Deed) -> Result<String, Status> {
        let mut model = None;
        if matches!(action, ExperimentAction::Plan | ExperimentAction::Start)
            && let Some(question) = &mut deed.question
            && let Some(version) = question.challenger.version.clone()
        {
            let (found, loaded) = self.load(&version, action == ExperimentAction::Start).await?;
            question.challenger.version = Some(Arc::clone(&found));
            model = loaded.map(|model| (found, model));
        }
        if let Some(version) = self.move_alias(&action, &deed).await?
            && action == ExperimentAction::Change(Action::Undo)
        {
            let (found, loaded) = self.load(&version.to_string(), true).await?;
            model = loaded.map(|model| (found, model));
        }
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
    /// challenger, and before an undo of it at the version before. The version that it points at now, if it was moved.
    async fn move_alias(&self, action: &ExperimentAction, deed: &Deed) -> Result<Option<VersionName>, Status> {
        let ExperimentAction::Change(change @ (Action::Finish | Action::Undo)) = action else { return Ok(None) };
        let (action, deed) = (ExperimentAction::Foresee(change.clone()), Box::new(deed.clone()));
        let asked = self.inputs.ask(|reply| Input::Experiment { action, deed, model: None, reply }).await;
        let foreseen = asked.map_err(unavailable)?.map_err(|problem| status(&problem))?;
        let version: Option<VersionName> = serde_json::from_str(&foreseen).unwrap_or_default();
        let (Some(version), Some(versions)) = (version, self.versions.clone()) else { return Ok(None) };
        let moved = spawn_blocking(move || versions.registry.alias(&versions.alias, version)).await;
        let moved = moved.map_err(|error| Status::internal(error.to_string()))?;
        moved.map_err(|error| Status::unavailable(format!("nothing is done: the alias cannot be moved: {error}")))?;
        Ok(Some(version))
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

pub(super) fn status(problem: &Problem) -> Status {
    let code = match problem {
        Problem::Unknown(_) | Problem::NoneRunning | Problem::Node { .. } | Problem::Version { .. } => Code::NotFound,
        Problem::Refused(_) | Problem::Stage(_) | Problem::Arm(_) | Problem::UnderWay(_) => Code::FailedPrecondition,
        Problem::NameTaken(_) => Code::AlreadyExists,
        Problem::File(_) => Code::Unavailable,
        _ => Code::InvalidArgument,
    };
    Status::new(code, problem.to_string())
}

const ACTIONS: [&str; 12] = [
    "plan", "start", "status", "promote", "abort", "undo", "pause", "resume", "report", "history", "finish", "advance",
];
