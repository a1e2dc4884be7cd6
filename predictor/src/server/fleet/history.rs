//! What nodes measured, slot by slot, as one conductor leaves it to the next.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use nearcast_bus::{Partition, Read, Result, SharedStream, Spool, SpoolSettings};

use crate::experiments::Shelf;

/// The stream of finished slots. What does not reach it leaves a gap in the history that plans are made from.
#[derive(Clone, Debug)]
pub(super) struct HistoryStream {
    stream: SharedStream,
    spool: Arc<Spool>,
    generation: u32,
    /// The lines of this member, by number.
    sent: Arc<AtomicU64>,
}

impl HistoryStream {
    pub(super) fn new(stream: SharedStream, generation: u32) -> Self {
        let settings = SpoolSettings { bytes_max: SPOOL_BYTES, ..SpoolSettings::default() };
        let spool = Arc::new(Spool::start(Arc::clone(&stream), settings));
        Self { stream, spool, generation, sent: Arc::default() }
    }

    /// All lines that there are.
    ///
    /// # Errors
    /// A bus that is away.
    pub(super) async fn read(&self) -> Result<Vec<String>> {
        let extent = self.stream.extent(PARTITION).await?;
        let mut tail = self.stream.tail(PARTITION, extent.first).await?;
        let mut lines = Vec::new();
        while tail.position() < extent.next {
            // What is gone meanwhile is the oldest.
            if let Read::Records(records) = tail.next(RECORDS_MAX).await? {
                lines.extend(records.iter().map(|record| String::from_utf8_lossy(&record.payload).into_owned()));
            }
        }
        Ok(lines)
    }
}

impl Shelf for HistoryStream {
    fn put(&mut self, line: &str) -> io::Result<()> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}/{number}", self.generation);
        let offered = self.spool.offer(PARTITION, id, line.to_owned().into());
        offered.map(drop).map_err(|_| io::Error::other("the bus is away, or slow"))
    }
}

const PARTITION: Partition = Partition(0);
const RECORDS_MAX: usize = 256;
/// Lines of some thousand nodes.
const SPOOL_BYTES: usize = 4 << 20;
