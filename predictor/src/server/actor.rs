//! The one task that owns the engine.

use std::{future::pending, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use super::{controller::Controller, input::Input};
use crate::{clock, metrics::Metrics};

/// Waits for the next message or the engine's next timeout, applies it, and so on until every sender is gone.
pub(super) async fn drive(mut controller: Controller, mut inputs: mpsc::Receiver<Input>, metrics: Metrics) {
    loop {
        let now = clock::now();
        // Checked here and not only awaited below: under a steady stream of messages the wait is always cut short.
        if controller.poll_timeout().is_some_and(|due| due <= now) {
            controller.handle_timeout(now);
        }
        let wait = controller.poll_timeout().map(|due| due.since(now));
        tokio::select! {
            input = inputs.recv() => {
                let Some(input) = input else { break };
                let start = clock::now();
                controller.apply(start, input);
                metrics.inputs.inc();
                metrics.input_duration_seconds.observe(clock::now().since(start).as_secs_f64());
            }
            () = pause(wait) => {}
        }
    }
    controller.close();
}

async fn pause(wait: Option<Duration>) {
    match wait {
        Some(wait) => sleep(wait.max(WAIT_MIN)).await,
        None => pending().await,
    }
}

/// An engine that always has something due must not spin.
const WAIT_MIN: Duration = Duration::from_millis(1);
