//! Starting the prefetches that the core releases.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    SharedHead, Shell, State,
    flight::{Flight, Purpose},
    transfer::Transfer,
};
use crate::{background::Lane, clock, core::PrefetchOrder, key::Key};

impl Shell {
    /// Starts prefetches as the core releases them, until `stop`. The core bounds how many run and puts demand first.
    pub(crate) async fn run_prefetches(self: Arc<Self>, stop: CancellationToken) {
        loop {
            // Started once the state is no longer locked, see `obtain`.
            let start = {
                let mut state = self.state();
                let order = state.core.poll_prefetch(clock::now());
                let start = order.map(|order| self.prepare(&mut state, &order));
                self.drain_events(&mut state);
                start
            };
            match start {
                Some((Some(transfer), flight)) => {
                    self.background.spawn(&self.tasks, transfer.run_unless_recalled(flight));
                    continue;
                }
                // Cannot be: open orders keep their keys' names. Dropped, the flight fails.
                Some((None, flight)) => {
                    drop(flight);
                    continue;
                }
                None => {}
            }
            tokio::select! {
                () = self.prefetch_wake.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn prepare(self: &Arc<Self>, state: &mut State, order: &PrefetchOrder) -> (Option<Transfer>, Flight) {
        let segment = order.segment;
        let (flight, _) = Flight::register(self, state, segment, Purpose::Prefetch);
        let key = state.key_name(segment.key).and_then(|name| Key::parse(name).ok());
        let known = state.entries.get(segment.key).map(|entry| Arc::clone(&entry.object));
        let sources = state.resolve(&order.sources);
        let transfer = key.map(|key| Transfer {
            key,
            index: segment.index,
            known,
            sources,
            through_peers: false,
            asked: SharedHead::default(),
            is_whole: false,
            lane: Lane::Background,
        });
        (transfer, flight)
    }
}
