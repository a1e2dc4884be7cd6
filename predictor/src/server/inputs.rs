//! The way to the engine's task, for everything else in the service.

use tokio::sync::{mpsc, oneshot};

use super::input::Input;

/// A cheap handle; sending waits while the engine has `queues.inputs_max` messages to take.
#[derive(Clone, Debug)]
pub(super) struct Inputs(mpsc::Sender<Input>);

/// The engine's task has ended, as it does at shutdown.
#[derive(Debug, thiserror::Error)]
#[error("the predictor is shutting down")]
pub(super) struct EngineGone;

impl Inputs {
    pub(super) fn bounded(inputs_max: usize) -> (Self, mpsc::Receiver<Input>) {
        let (sender, receiver) = mpsc::channel(inputs_max);
        (Self(sender), receiver)
    }

    /// Tells the engine's task something.
    pub(super) async fn tell(&self, input: Input) -> Result<(), EngineGone> {
        self.0.send(input).await.map_err(|_| EngineGone)
    }

    /// Asks the engine's task something.
    pub(super) async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Input) -> Result<T, EngineGone> {
        let (reply, answer) = oneshot::channel();
        self.tell(question(reply)).await?;
        answer.await.map_err(|_| EngineGone)
    }
}
