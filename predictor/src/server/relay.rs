//! Operators may ask any predictor of a fleet: what concerns experiments is answered by the one that conducts them.

use nearcast_proto::wire;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{
    control::{ControlService, parse_arm},
    experiment_control::parse_action,
    input::{Input, Relayed, RelayedAsk},
    streams::unavailable,
};
use crate::engine::Arm;

/// What the champion is to do, as it is passed on.
#[derive(Debug, Serialize, Deserialize)]
struct SetArm {
    arm: String,
    reset: bool,
}

impl ControlService {
    /// Another member's answer to an action of experiments, or none if it is this member's to answer.
    pub(super) async fn relayed<T: Serialize + Sync>(&self, action: &str, asked: &T) -> Result<Option<String>, Status> {
        if self.shared.is_none() {
            return Ok(None);
        }
        let json = serde_json::to_string(asked).map_err(|error| Status::internal(error.to_string()))?;
        let relay = |reply| Input::Relay { action: action.to_owned(), json, reply };
        let relayed = timeout(PATIENCE, self.inputs.ask(relay)).await;
        match relayed.map_err(|_| Status::unavailable(UNANSWERED))?.map_err(unavailable)? {
            Relayed::Here => Ok(None),
            Relayed::Answer { code: 0, text } => Ok(Some(text)),
            Relayed::Answer { code, text } => Err(Status::new(Code::from_i32(code), text)),
            Relayed::Nobody(None) => Err(Status::unavailable(NOBODY)),
            Relayed::Nobody(Some(trouble)) => {
                Err(Status::unavailable(format!("this predictor is to conduct experiments, and cannot: {trouble}")))
            }
            Relayed::TooLong(member) => Err(Status::invalid_argument(format!(
                "this is too long for the bus: ask predictor `{member}` itself, which conducts experiments (`--predictor`), or give fewer nodes or a shorter history"
            ))),
        }
    }

    /// The same of the champion's arm.
    pub(super) async fn relayed_arm(&self, arm: Arm, reset: bool) -> Result<bool, Status> {
        let asked = SetArm { arm: arm.name().to_owned(), reset };
        Ok(self.relayed(SET_ARM, &asked).await?.is_some())
    }

    /// Answers what other members ask until `shutdown`.
    pub(super) async fn answer_members(self, mut asks: mpsc::Receiver<RelayedAsk>, shutdown: CancellationToken) {
        let answer = async {
            while let Some(RelayedAsk { from, number, action, json }) = asks.recv().await {
                let answer = timeout(PATIENCE, self.answer_member(action, json)).await;
                let (code, text) = match answer.unwrap_or_else(|_| Err(Status::unavailable(UNANSWERED))) {
                    Ok(text) => (Code::Ok, text),
                    Err(status) => (status.code(), status.message().to_owned()),
                };
                let answer = Input::Answer { of: from, number, code: code as i32, text };
                if self.inputs.tell(answer).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = answer => {}
        }
    }

    async fn answer_member(&self, action: String, json: String) -> Result<String, Status> {
        if action == SET_ARM {
            let SetArm { arm, reset } =
                serde_json::from_str(&json).map_err(|error| Status::invalid_argument(error.to_string()))?;
            self.set_here(parse_arm(&arm)?, reset).await?;
            return Ok("{}".to_owned());
        }
        let (action, deed) = parse_action(&wire::ExperimentRequest { action, json })?;
        self.answer_here(action, deed).await
    }
}

/// Questions of other members that wait for an answer.
pub(super) const ASKS_MAX: usize = 64;
const SET_ARM: &str = "set-arm";
/// For loading a version, and for writing down what is done.
const PATIENCE: Duration = Duration::from_secs(30);
const UNANSWERED: &str =
    "the predictor that conducts experiments did not answer in time; what was asked may be done all the same";
const NOBODY: &str = "no predictor conducts experiments now; ask again in some seconds";
