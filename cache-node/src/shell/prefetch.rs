//! Starting the prefetches that the core releases.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    Shell, State,
    flight::{Flight, Purpose},
    transfer::Transfer,
};
use crate::{clock, core::PrefetchOrder, key::Key};

impl Shell {
    /// Starts prefetches as the core releases them, until `stop`. The core bounds how many run and puts demand first.
    pub(crate) async fn run_prefetches(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let started = {
                let mut state = self.state();
                let order = state.core.poll_prefetch(clock::now());
                let started = order.map(|order| self.start_prefetch(&mut state, order));
                self.drain_events(&mut state);
                started.is_some()
            };
            if started {
                continue;
            }
            tokio::select! {
                () = self.prefetch_wake.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn start_prefetch(self: &Arc<Self>, state: &mut State, order: PrefetchOrder) {
        let PrefetchOrder { segment, sources, .. } = order;
        let (flight, _) = Flight::register(self, state, segment, Purpose::Prefetch);
        let key = state.key_name(segment.key).and_then(|name| Key::parse(name).ok());
        let Some(key) = key else {
            // Cannot be: open orders keep their keys' names. The flight fails as it is dropped, after the lock.
            self.tasks.spawn(async move { drop(flight) });
            return;
        };
        let known = state.entries.get(&segment.key).map(|entry| Arc::clone(&entry.object));
        let sources = state.resolve(&sources);
        let transfer = Transfer { key, index: segment.index, known, sources, through_peers: false };
        self.tasks.spawn(transfer.run(flight));
    }
}
