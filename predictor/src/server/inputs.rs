//! The way to the engine's task, for everything else in the service.

use tokio::sync::{mpsc, oneshot};

use super::input::Input;

/// A cheap handle; sending waits while the engine has `queues.inputs_max` messages to take.
#[derive(Clone, Debug)]
pub(super) struct Inputs(mpsc::Sender<Input>);

/// A way to the engine's task while there is one.
#[derive(Clone, Debug)]
pub(super) struct WeakInputs(mpsc::WeakSender<Input>);

impl WeakInputs {
    /// Tells the engine's task something, and blocks its thread while that has too much to take.
    pub(super) fn tell_blocking(&self, input: Input) -> Result<(), EngineGone> {
        let sender = self.0.upgrade().ok_or(EngineGone)?;
        sender.blocking_send(input).map_err(|_| EngineGone)
    }

    /// Tells the engine's task something.
    pub(super) async fn tell(&self, input: Input) -> Result<(), EngineGone> {
        let sender = self.0.upgrade().ok_or(EngineGone)?;
        sender.send(input).await.map_err(|_| EngineGone)
    }

    /// Asks the engine's task something.
    pub(super) async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Input) -> Result<T, EngineGone> {
        let (reply, answer) = oneshot::channel();
        self.tell(question(reply)).await?;
        answer.await.map_err(|_| EngineGone)
    }
}

/// The engine's task has ended, as it does at shutdown.
#[derive(Debug, thiserror::Error)]
#[error("the predictor is shutting down")]
pub(super) struct EngineGone;

impl Inputs {
    pub(super) fn bounded(inputs_max: usize) -> (Self, mpsc::Receiver<Input>) {
        let (sender, receiver) = mpsc::channel(inputs_max);
        (Self(sender), receiver)
    }

    /// A way that does not keep the engine's task from ending, for a thread that ends after it.
    pub(super) fn downgrade(&self) -> WeakInputs {
        WeakInputs(self.0.downgrade())
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
