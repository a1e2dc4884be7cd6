//! Fetching objects before anybody asks, because an operator says so.
//!
//! What is fetched so is kept like what was asked for, not on probation: nobody guessed. It is no client's request and
//! counts as none, and it steps aside while demand is busy.

use std::{sync::Arc, time::Duration};

use nearcast_datasets::{SegmentId, Set};
use serde::Serialize;

use super::{Ask, Obtained, Route, SharedHead, Shell};
use crate::{clock, key::Key, object::SharedObject};

/// What came of fetching one object ahead.
#[derive(Debug, Serialize)]
pub(crate) struct Warmed {
    pub(crate) outcome: WarmEnd,
    /// Bytes of the object, as far as they are known.
    pub(crate) size: u64,
    /// Segments that it has and that are held now.
    segments: u32,
    held_segments: u32,
    /// What was not held before.
    fetched_segments: u32,
    fetched_bytes: u64,
    /// Why it is not all there.
    pub(crate) detail: Option<String>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WarmEnd {
    /// It could not be fetched.
    Failed,
    /// It is all there, and some of it was not before.
    Fetched,
    /// It was all there already.
    Held,
    /// It was fetched but may not be kept, or something else is worth more.
    NotKept,
}

impl Warmed {
    /// The account of an object of which nothing can be had.
    pub(crate) fn failed(detail: String) -> Self {
        let detail = Some(detail);
        Self {
            outcome: WarmEnd::Failed,
            size: 0,
            segments: 0,
            held_segments: 0,
            fetched_segments: 0,
            fetched_bytes: 0,
            detail,
        }
    }
}

impl Shell {
    /// Fetches what is not held of an object, and looks whether it is held then.
    pub(crate) async fn warm(self: &Arc<Self>, key: &Key, bytes_per_second: Option<u64>) -> Warmed {
        let before = self.held_of(key).map(|(object, held)| (object.version, held));
        let problem = self.fetch_missing(key, bytes_per_second).await.err();
        let Some((object, held)) = self.held_of(key) else {
            return match problem {
                Some((outcome, detail)) => Warmed { outcome, ..Warmed::failed(detail) },
                None => {
                    Warmed { outcome: WarmEnd::NotKept, ..Warmed::failed("the node kept nothing of it".to_owned()) }
                }
            };
        };
        let was_held = |index: &u32| {
            before.as_ref().is_some_and(|(version, held)| *version == object.version && held.contains(index))
        };
        let fetched: Vec<u32> = held.iter().copied().filter(|index| !was_held(index)).collect();
        let fetched_bytes = fetched.iter().map(|index| object.segment_len(*index)).sum();
        self.metrics.warmed_segments.inc_by(fetched.len() as u64);
        self.metrics.warmed_bytes.inc_by(fetched_bytes);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let is_whole = count(held.len()) >= object.segment_count();
        let (outcome, detail) = match problem {
            Some((outcome, detail)) => (outcome, Some(detail)),
            None if !is_whole => {
                (WarmEnd::NotKept, Some("the node did not keep all of it: is it too large?".to_owned()))
            }
            None if fetched.is_empty() => (WarmEnd::Held, None),
            None => (WarmEnd::Fetched, None),
        };
        Warmed {
            outcome,
            size: object.size_bytes,
            segments: object.segment_count(),
            held_segments: count(held.len()),
            fetched_segments: count(fetched.len()),
            fetched_bytes,
            detail,
        }
    }

    async fn fetch_missing(
        self: &Arc<Self>,
        key: &Key,
        bytes_per_second: Option<u64>,
    ) -> Result<(), (WarmEnd, String)> {
        let mut changes_left = CHANGES_MAX;
        let (mut index, mut count) = (0, 1);
        let mut pinned = None;
        while index < count {
            if let Some(segments) = self.segments_if_held(key, index) {
                count = segments;
                index += 1;
                continue;
            }
            self.let_demand_pass().await?;
            let asked_at = clock::now();
            let ask = Ask {
                key: key.clone(),
                index,
                pinned: pinned.clone(),
                route: Route::Anywhere,
                asked_at,
                must_validate: false,
                asked: SharedHead::default(),
                is_whole: false,
            };
            match self.obtain(&ask).await {
                Ok(Obtained::Segment(delivery)) => {
                    let object = delivery.object;
                    if !object.status.is_success() {
                        return Err((WarmEnd::Failed, format!("the origin answers {}", object.status)));
                    }
                    count = object.segment_count();
                    index += 1;
                    pinned = Some(object);
                    pause(bytes_per_second, delivery.bytes.len()).await;
                }
                Ok(Obtained::Changed) if changes_left > 0 => {
                    changes_left -= 1;
                    (index, count, pinned) = (0, 1, None);
                }
                Ok(Obtained::Changed) => return Err((WarmEnd::Failed, "the object keeps changing".to_owned())),
                Ok(Obtained::Answered(answered)) => {
                    return Err((WarmEnd::Failed, format!("the origin answers {}", answered.status)));
                }
                Ok(Obtained::Passed(_) | Obtained::Uncacheable) => {
                    return Err((WarmEnd::NotKept, "the origin does not let it be kept".to_owned()));
                }
                Ok(Obtained::NotHeld) => return Err((WarmEnd::Failed, "it may not be fetched".to_owned())),
                Err(error) => return Err((WarmEnd::Failed, error.to_string())),
            }
        }
        Ok(())
    }

    /// What is held of an object, as a client without particular wishes gets it.
    fn held_of(&self, key: &Key) -> Option<(SharedObject, Set<u32>)> {
        let mut state = self.state();
        let object = state.find_object(key, &SharedHead::default())?;
        let id = state.key_id(&object.key);
        let index = state.core.index();
        let held =
            (0..object.segment_count()).filter(|index_of| index.contains(SegmentId { key: id, index: *index_of }));
        let held = held.collect();
        Some((object, held))
    }

    /// How many segments an object has, if it is fresh and one of them is held.
    fn segments_if_held(&self, key: &Key, index: u32) -> Option<u32> {
        let mut state = self.state();
        let object = state.find_object(key, &SharedHead::default())?;
        let segment = SegmentId { key: state.key_id(&object.key), index };
        let is_there = object.is_fresh(clock::now()) && state.core.index().contains(segment);
        is_there.then(|| object.segment_count())
    }

    /// Waits while demand has many transfers under way.
    async fn let_demand_pass(&self) -> Result<(), (WarmEnd, String)> {
        for _ in 0..DEMAND_LOOKS_MAX {
            if !self.state().core.is_demand_busy() {
                return Ok(());
            }
            tokio::time::sleep(DEMAND_PAUSE).await;
        }
        Err((WarmEnd::Failed, "the node is too busy; try again later".to_owned()))
    }
}

/// Waits for as long as the bytes should have taken.
async fn pause(bytes_per_second: Option<u64>, bytes: usize) {
    if let Some(rate) = bytes_per_second {
        tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)).await;
    }
}

/// How often an object may change while it is fetched.
const CHANGES_MAX: u32 = 2;
const DEMAND_PAUSE: Duration = Duration::from_millis(50);
/// For a minute.
const DEMAND_LOOKS_MAX: u32 = 1_200;
