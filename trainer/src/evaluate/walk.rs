//! Plays requests in time order and keeps what is known of every client, as a predictor would.

use nearcast_datasets::{ClientId, KeyId, Map, Timestamp};
use nearcast_models::{SequenceModel, SequenceState};

use crate::{
    Result,
    features::{Features, Request, TimeRange},
    fit::ItemMap,
};

/// A client asked for `next` after `current` within one session.
#[derive(Debug)]
pub(crate) struct Transition<'a> {
    /// The key before.
    pub(crate) current: KeyId,
    /// The key asked for.
    pub(crate) next: KeyId,
    /// What the model knew of the client before `next`.
    pub(crate) state: &'a SequenceState,
}

/// What is remembered of one client.
#[derive(Debug)]
struct Client {
    last_at: Timestamp,
    current: KeyId,
    state: SequenceState,
}

/// Calls `each` with every transition whose second request lies in `range`; the session gap before it only warms up.
pub(crate) fn walk(
    features: &Features,
    range: TimeRange,
    sequence: &SequenceModel,
    items: &ItemMap,
    mut each: impl FnMut(&Transition<'_>) -> Result<()>,
) -> Result<()> {
    let gap = features.session_gap();
    let warm = TimeRange { start: range.start.before(gap), end: range.end };
    let mut clients: Map<ClientId, Client> = Map::default();
    let mut sweep_at = SWEEP_MIN;
    features.for_each_request(warm, |Request { at, client, key, .. }| {
        let known = clients.get_mut(&client).filter(|known| at.since(known.last_at) <= gap);
        if let Some(known) = known {
            if at >= range.start {
                each(&Transition { current: known.current, next: key, state: &known.state })?;
            }
            known.last_at = at;
            known.current = key;
            sequence.step(&mut known.state, &items.items[key.0 as usize]);
            return Ok(());
        }
        let mut state = sequence.initial_state();
        sequence.step(&mut state, &items.items[key.0 as usize]);
        clients.insert(client, Client { last_at: at, current: key, state });
        if clients.len() >= sweep_at {
            // Whoever has been silent for longer starts a new session anyway.
            clients.retain(|_, known| at.since(known.last_at) <= gap);
            sweep_at = SWEEP_MIN.max(2 * clients.len());
        }
        Ok(())
    })
}

/// Fewer clients than this are not worth sweeping.
const SWEEP_MIN: usize = 16_384;
