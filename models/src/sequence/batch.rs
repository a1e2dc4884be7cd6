//! Training batches: many sessions side by side, a few steps at a time.

/// One request to learn from: what was asked for, and what the same client asked for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchCell {
    /// Position of the request's key in the trainer's item catalogue.
    pub input: u32,
    /// Position of the next request's key in the trainer's item catalogue.
    pub target: u32,
    /// Whether this is the first request of its session: the lane's state is cleared before it.
    pub starts_session: bool,
}

/// A grid of `steps` × `lanes` cells, step by step; a lane goes on where it stopped in the batch before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceBatch {
    /// Number of lanes.
    pub lanes: usize,
    /// Cell (step, lane) is at `step * lanes + lane`; `None` where a lane has run out of sessions.
    pub cells: Vec<Option<BatchCell>>,
}

impl SequenceBatch {
    /// Number of cells to learn from.
    pub fn event_count(&self) -> usize {
        self.cells.iter().flatten().count()
    }
}

/// Cuts sessions into batches: each lane runs through one session after another, as GRU4Rec does.
#[derive(Clone, Debug)]
pub struct SessionLanes<'a> {
    events: &'a [u32],
    starts: &'a [usize],
    next_session: usize,
    /// Per lane: position of its next event and the end of its session.
    lanes: Vec<(usize, usize)>,
    steps: usize,
}

impl<'a> SessionLanes<'a> {
    /// Batches over `events` (catalogue positions), whose sessions start at `starts` (ascending; each session ends
    /// where the next one starts). Sessions of one event teach nothing and are passed over.
    pub fn new(events: &'a [u32], starts: &'a [usize], lanes: usize, steps: usize) -> Self {
        Self { events, starts, next_session: 0, lanes: vec![(0, 0); lanes], steps }
    }

    /// Fills `batch` with the next cells; `false` once every session is used up.
    pub fn next_batch(&mut self, batch: &mut SequenceBatch) -> bool {
        let lane_count = self.lanes.len();
        batch.lanes = lane_count;
        batch.cells.clear();
        batch.cells.resize(lane_count * self.steps, None);
        let mut any = false;
        for step in 0..self.steps {
            for lane in 0..lane_count {
                let cell = self.next_cell(lane);
                any |= cell.is_some();
                batch.cells[step * lane_count + lane] = cell;
            }
        }
        any
    }

    fn next_cell(&mut self, lane: usize) -> Option<BatchCell> {
        let (mut position, mut end) = self.lanes[lane];
        let mut starts_session = false;
        while position + 1 >= end {
            let session = self.next_session;
            position = *self.starts.get(session)?;
            end = self.starts.get(session + 1).copied().unwrap_or(self.events.len());
            self.next_session += 1;
            starts_session = true;
        }
        self.lanes[lane] = (position + 1, end);
        Some(BatchCell { input: self.events[position], target: self.events[position + 1], starts_session })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_cover_every_transition_once_in_order() {
        let events = [1, 2, 3, 9, 4, 5, 6, 7];
        let starts = [0, 3, 4, 6];
        let mut lanes = SessionLanes::new(&events, &starts, 2, 2);
        let mut batch = SequenceBatch::default();
        let mut seen = Vec::new();
        while lanes.next_batch(&mut batch) {
            assert_eq!((batch.lanes, batch.cells.len()), (2, 4));
            seen.extend(batch.cells.iter().flatten().map(|cell| (cell.input, cell.target, cell.starts_session)));
        }
        seen.sort_unstable();
        assert_eq!(seen, [(1, 2, true), (2, 3, false), (4, 5, true), (6, 7, true)]);
    }

    #[test]
    fn no_session_longer_than_one_event_gives_no_batch() {
        let mut batch = SequenceBatch::default();
        assert!(!SessionLanes::new(&[1, 2], &[0, 1], 3, 2).next_batch(&mut batch));
        assert!(!SessionLanes::new(&[], &[], 3, 2).next_batch(&mut batch));
    }
}
