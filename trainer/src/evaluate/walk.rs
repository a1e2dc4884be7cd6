//! Plays requests in time order and keeps what is known of every client, as a predictor would.

use nearcast_datasets::{ClientId, KeyId, Map, RegionId, Timestamp};
use nearcast_models::{BlendSession, SequenceModel, SequenceState};

use crate::{
    Result,
    features::{Features, Request, TimeRange},
    fit::ItemMap,
};

/// A client asked for `next` after `current` within one session.
#[derive(Debug)]
pub(crate) struct Transition<'a> {
    /// When `next` was asked for.
    pub(crate) at: Timestamp,
    /// Who asked.
    pub(crate) client: ClientId,
    /// From where.
    pub(crate) region: RegionId,
    /// The key before.
    pub(crate) current: KeyId,
    /// The key asked for.
    pub(crate) next: KeyId,
    /// What the client asked for before `next`, as the blend sees it.
    pub(crate) blend: &'a BlendSession,
    /// What the sequence model knew of the client before `next`.
    pub(crate) state: &'a SequenceState,
}

/// What is remembered of one client.
#[derive(Debug)]
struct Client {
    last_at: Timestamp,
    current: KeyId,
    blend: BlendSession,
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
    features.for_each_request(warm, |Request { at, client, region, key }| {
        let known = clients.get_mut(&client).filter(|known| at.since(known.last_at) <= gap);
        if let Some(known) = known {
            if at >= range.start {
                let Client { current, state, blend, .. } = &*known;
                each(&Transition { at, client, region, current: *current, next: key, blend, state })?;
            }
            known.last_at = at;
            known.current = key;
            known.blend.push(key);
            sequence.step(&mut known.state, &items.items[key.0 as usize]);
            return Ok(());
        }
        let mut state = sequence.initial_state();
        sequence.step(&mut state, &items.items[key.0 as usize]);
        let mut blend = clients.remove(&client).map(|known| known.blend).unwrap_or_default();
        blend.pause();
        blend.push(key);
        clients.insert(client, Client { last_at: at, current: key, blend, state });
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
