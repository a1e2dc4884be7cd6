//! The signals that ask a process to end.

use std::{future::Future, io};

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first Ctrl-C, SIGTERM or SIGHUP after the call: with its terminal gone, `nearcast up` must still end its
/// nodes, as those take SIGHUP for a wish to reload. Listening begins at the call, not at the first poll.
///
/// # Errors
/// When the process cannot listen for signals.
pub(crate) fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}
