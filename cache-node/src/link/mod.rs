//! The link to the predictor: reports up, commands and map down, one gRPC stream. The data plane never waits for it.

mod batch;
mod measure;
mod report;
mod session;

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

pub(crate) use self::report::{InForce, Report, SegmentReport, Uplink};
use self::session::{Session, SessionEnd};
use crate::shell::Shell;

/// Keeps the link up until `stop`: connects, and after a loss connects again, after pauses that double up to a bound.
pub(crate) async fn run(shell: Arc<Shell>, own_url: Url, mut reports: mpsc::Receiver<Report>, stop: CancellationToken) {
    let Some(config) = &shell.config.link else { return };
    let mut pause = config.backoff_min;
    loop {
        let live = shell.live_full();
        // The section cannot go while the node runs.
        let Some(config) = live.link.as_ref() else { return };
        let mut session = Session::new(&shell, config, &own_url);
        let ended = tokio::select! {
            ended = session.run(&mut reports, &stop) => ended,
            () = shell.relink.notified() => SessionEnd::Reconfigured,
            () = long_after(&stop) => break,
        };
        shell.uplink.set_connected(false);
        if stop.is_cancelled() {
            break;
        }
        if session.was_welcomed() {
            tracing::warn!(reason = %ended, "lost the predictor; serving goes on without it");
            pause = config.backoff_min;
        } else {
            tracing::debug!(reason = %ended, ?pause, "no predictor yet");
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => break,
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
