//! Which request goes to which node, and when.

use std::{sync::Arc, time::Duration};

use nearcast_datasets::{ByteRange, Dictionaries, EventChunk, LogReader, LogSource, Timestamp};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{LoadConfig, cluster::Cluster};

/// A request to be sent.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// When, from the start of the play.
    pub(super) due: Duration,
    /// To which of the cluster's nodes.
    pub(super) node: usize,
    pub(super) client: Arc<str>,
    pub(super) key: Arc<str>,
    pub(super) range: Option<ByteRange>,
}

/// The requests of a log in the order in which they are due, planned a little ahead of being sent.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Planned requests, chunk by chunk.
    pub(super) planned: mpsc::Receiver<Vec<Planned>>,
    /// How many there will be, if that is known.
    pub(super) total: Option<u64>,
    /// The unit of time over which requests of one instant are spread, in log time.
    pub(super) spread: Duration,
    /// Ends after the last chunk, or with what stopped the reading.
    pub(super) reader: JoinHandle<nearcast_datasets::Result<()>>,
}

/// Turns rows into planned requests.
#[derive(Debug)]
struct Planner {
    cluster: Arc<Cluster>,
    speed: f64,
    spread: Duration,
    skip: u64,
    left: u64,
    first: Option<Timestamp>,
    dictionaries: Dictionaries,
    /// Rows of the instant that is not known to be complete yet.
    held: Vec<(Timestamp, Planned)>,
}

impl Schedule {
    /// Starts reading and planning.
    pub(super) fn start(config: &LoadConfig, speed: f64, cluster: Arc<Cluster>) -> anyhow::Result<Self> {
        let mut reader = LogReader::open(&config.log)?;
        let limit = config.limit.unwrap_or(u64::MAX);
        let total = reader.row_count().map(|rows| rows.saturating_sub(config.skip).min(limit));
        let spread = precision(&config.log)?;
        let mut planner = Planner {
            cluster,
            speed,
            spread,
            skip: config.skip,
            left: limit,
            first: None,
            dictionaries: Dictionaries::default(),
            held: Vec::new(),
        };
        let (sender, planned) = mpsc::channel(CHUNKS_AHEAD);
        let reader = tokio::task::spawn_blocking(move || {
            while planner.left > 0 {
                let Some(chunk) = reader.next_chunk(&mut planner.dictionaries)? else { break };
                // A closed channel means that the play was interrupted.
                if sender.blocking_send(planner.plan(&chunk)).is_err() {
                    return Ok(());
                }
            }
            let _ = sender.blocking_send(planner.release(None));
            Ok(())
        });
        Ok(Self { planned, total, spread, reader })
    }
}

impl Planner {
    fn plan(&mut self, chunk: &EventChunk) -> Vec<Planned> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
        self.skip -= skipped as u64;
        let mut planned = Vec::with_capacity(chunk.len());
        for row in skipped..chunk.len() {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            let at = chunk.timestamps[row];
            if self.held.last().is_some_and(|(held, _)| *held != at) || self.held.len() == HELD_MAX {
                planned.append(&mut self.release(Some(at)));
            }
            let names = &self.dictionaries;
            let name = |name: Option<&Arc<str>>| name.map_or_else(|| Arc::from(""), Arc::clone);
            let client = name(names.clients.name(chunk.clients[row].0));
            let region = name(names.regions.name(u32::from(chunk.regions[row].0)));
            let node = self.cluster.node_for(&region, &client);
            let key = name(names.keys.name(chunk.keys[row].0));
            self.held.push((at, Planned { due: Duration::ZERO, node, client, key, range: chunk.ranges[row] }));
        }
        planned
    }

    /// Gives the held rows, which share an instant, their times: evenly over one unit of the log's precision, or up
    /// to the next row if that comes earlier.
    fn release(&mut self, next: Option<Timestamp>) -> Vec<Planned> {
        let Some(at) = self.held.first().map(|(at, _)| *at) else { return Vec::new() };
        let first = *self.first.get_or_insert(at);
        let room = next.map_or(self.spread, |next| next.since(at).min(self.spread));
        let count = self.held.len() as f64;
        let speed = self.speed;
        let timed = self.held.drain(..).enumerate().map(|(index, (_, planned))| {
            let into = at.since(first) + room.mul_f64(index as f64 / count);
            Planned { due: into.div_f64(speed), ..planned }
        });
        timed.collect()
    }
}

/// The unit in which the log's clock counted: the largest common one that divides every instant of its beginning.
///
/// A log with whole seconds says in which second a request came, not that all of a second came at once.
fn precision(log: &LogSource) -> nearcast_datasets::Result<Duration> {
    let chunk = LogReader::open(log)?.next_chunk(&mut Dictionaries::default())?.unwrap_or_default();
    let divides = |unit: &&Duration| {
        let micros = i64::try_from(unit.as_micros()).unwrap_or(i64::MAX);
        chunk.timestamps.iter().all(|time| time.micros() % micros == 0)
    };
    Ok(UNITS.iter().find(divides).copied().unwrap_or_default())
}

/// Units of clocks, largest first.
const UNITS: [Duration; 4] =
    [Duration::from_secs(3_600), Duration::from_secs(60), Duration::from_secs(1), Duration::from_millis(1)];
/// Rows of one instant that are spread together; more are spread in groups of so many.
const HELD_MAX: usize = 65_536;
/// Chunks planned ahead of being sent.
const CHUNKS_AHEAD: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn planner(spread: Duration, speed: f64) -> Planner {
        Planner {
            cluster: Arc::default(),
            speed,
            spread,
            skip: 0,
            left: u64::MAX,
            first: None,
            dictionaries: Dictionaries::default(),
            held: Vec::new(),
        }
    }

    fn due(planner: &mut Planner, seconds: &[i64]) -> Vec<u128> {
        let rows = seconds.len();
        planner.dictionaries.keys.insert("/a");
        let chunk = EventChunk {
            timestamps: seconds.iter().map(|second| Timestamp::from_micros(second * 1_000_000)).collect(),
            clients: vec![nearcast_datasets::ClientId(0); rows],
            regions: vec![nearcast_datasets::RegionId(0); rows],
            keys: vec![nearcast_datasets::KeyId(0); rows],
            sizes_bytes: vec![1; rows],
            ranges: vec![None; rows],
        };
        let mut planned = planner.plan(&chunk);
        planned.append(&mut planner.release(None));
        planned.iter().map(|planned| planned.due.as_millis()).collect()
    }

    #[test]
    fn requests_of_one_instant_are_spread_over_the_clocks_unit() {
        let second = Duration::from_secs(1);
        assert_eq!(
            due(&mut planner(second, 1.0), &[7, 7, 8, 10, 10, 10, 10]),
            [0, 500, 1_000, 3_000, 3_250, 3_500, 3_750]
        );
        assert_eq!(due(&mut planner(second, 100.0), &[7, 7, 8, 10]), [0, 5, 10, 30]);
        assert_eq!(due(&mut planner(Duration::ZERO, 1.0), &[7, 7, 8]), [0, 0, 1_000]);
        assert_eq!(due(&mut planner(Duration::from_secs(60), 1.0), &[7, 7, 8]), [0, 500, 1_000]);
    }

    #[test]
    fn skip_and_limit_cut_the_log() {
        let mut planner = Planner { skip: 2, left: 3, ..planner(Duration::ZERO, 1.0) };
        assert_eq!(due(&mut planner, &[1, 2, 3, 4, 5, 6, 7]), [0, 1_000, 2_000]);
        assert_eq!(planner.left, 0);
    }
}
