//! The link to the predictor: reports up, commands and map down, one gRPC stream. The data plane never waits for it.

mod batch;
mod measure;
mod outbox;
mod report;
mod session;

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

pub(crate) use self::report::{InForce, Report, SegmentReport, Uplink};
use self::{
    batch::Batch,
    outbox::{Outbox, absorb},
    session::{Session, SessionEnd},
};
use crate::{clock, core::routing::key_hash, shell::Shell};

/// Keeps the link up until `stop`: connects, and after a loss connects again: where there are several predictors to the
/// next one at once, and when all were tried in vain after pauses that double up to a bound. Requests that none has
/// acknowledged are kept over all that.
pub(crate) async fn run(shell: Arc<Shell>, own_url: Url, mut reports: mpsc::Receiver<Report>, stop: CancellationToken) {
    let Some(config) = &shell.config.link else { return };
    let mut pause = config.backoff_min;
    let outbox = Outbox::new(clock::now());
    let mut batch = Batch::default();
    // Nodes spread over the predictors by their names.
    let mut turn = key_hash(&shell.config.name.0) as usize;
    let mut failed = 0;
    loop {
        let live = shell.live_full();
        // The section cannot go while the node runs.
        let Some(config) = live.link.as_ref() else { return };
        let url = &config.urls[turn % config.urls.len()];
        let mut session = Session::new(&shell, config, (url, &own_url), &outbox);
        let ended = tokio::select! {
            ended = session.run(&mut reports, &mut batch, &stop) => ended,
            () = shell.relink.notified() => SessionEnd::Reconfigured,
            () = long_after(&stop) => break,
        };
        shell.uplink.set_connected(false);
        if stop.is_cancelled() {
            break;
        }
        if session.was_welcomed() {
            tracing::warn!(predictor = %url, reason = %ended, "lost the predictor; serving goes on without it");
            (pause, failed) = (config.backoff_min, 0);
        } else {
            tracing::debug!(predictor = %url, reason = %ended, ?pause, "no predictor yet");
        }
        // The same predictor is told anew where only the telling was at fault.
        let is_lost = !matches!(ended, SessionEnd::OutOfStep | SessionEnd::Reconfigured);
        turn = turn.wrapping_add(usize::from(is_lost));
        failed += if is_lost { 1 } else { config.urls.len() };
        batch.forget_state();
        if failed < config.urls.len() {
            continue;
        }
        failed = 0;
        let keeping =
            absorb(&mut reports, &mut batch, (&outbox, &shell.uplink), (config.batch_max, config.unacknowledged_max));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => break,
            () = keeping => break,
        }
        pause = (pause * 2).min(config.backoff_max);
    }
    shell.uplink.set_connected(false);
}

/// Resolves when a session that was to end has not.
async fn long_after(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_TIMEOUT).await;
}

const STOP_TIMEOUT: Duration = Duration::from_secs(1);
