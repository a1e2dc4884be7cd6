//! Measuring round trips to peers, and telling the predictor of them.

use std::{convert::Infallible, sync::Arc, time::Duration};

use nearcast_proto::{
    message::{NodeName, NodeReport},
    wire,
};
use tokio::{sync::mpsc, time::sleep};

use super::session::{SessionEnd, send};
use crate::{clock, peers::Peer, shell::Shell};

/// Asks a few peers at a time whether they are alive, and says how long that took whenever it changed. The origin is not
/// asked: the answers that it gives anyway say it.
pub(super) async fn measure(shell: &Shell, sender: mpsc::Sender<wire::NodeMessage>) -> Result<Infallible, SessionEnd> {
    shell.round_trips.forget_told();
    let (mut pause, mut turn) = (FIRST, 0);
    loop {
        sleep(pause).await;
        pause = EVERY;
        for peer in next_peers(shell, &mut turn) {
            if let Some(took) = shell.peers.round_trip(&peer).await {
                shell.round_trips.note(clock::now(), Some(&NodeName(Arc::clone(&peer.name))), took);
            }
        }
        if let Some(measured) = shell.round_trips.take_changed(clock::now()) {
            send(&sender, NodeReport::RoundTrips(measured)).await?;
        }
    }
}

/// Those whose turn it is.
fn next_peers(shell: &Shell, turn: &mut usize) -> Vec<Peer> {
    let mut peers = shell.state().all_peers();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let count = peers.len().min(AT_A_TIME);
    if count > 0 {
        let first = *turn % peers.len();
        peers.rotate_left(first);
        *turn = first + count;
    }
    peers.truncate(count);
    peers
}

/// The first look comes soon, since plans wait for it.
const FIRST: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_secs(5);
const AT_A_TIME: usize = 8;
