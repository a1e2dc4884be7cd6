//! The requests of a range in time order.

use arrow::datatypes::{Int64Type, UInt32Type};
use nearcast_datasets::{ClientId, KeyId, RegionId, Timestamp};

use super::{Features, TimeRange, columns::column};
use crate::Result;

/// One coded row of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// When it arrived.
    pub(crate) at: Timestamp,
    /// Who asked.
    pub(crate) client: ClientId,
    /// From where.
    pub(crate) region: RegionId,
    /// For what.
    pub(crate) key: KeyId,
}

impl Features {
    /// Calls `each` with every request of `range` in time order, requests of one instant in the input's order.
    pub(crate) fn for_each_request(&self, range: TimeRange, mut each: impl FnMut(Request) -> Result<()>) -> Result<()> {
        self.scan(range, |rows| {
            let codes = rows.client.iter().zip(rows.region).zip(rows.key);
            for (at, ((client, region), key)) in rows.at.iter().zip(codes) {
                each(Request {
                    at: Timestamp::from_micros(*at),
                    client: ClientId(*client),
                    region: region_id(*region),
                    key: KeyId(*key),
                })?;
            }
            Ok(())
        })
    }

    /// Number of requests in `range`.
    pub(crate) fn count(&self, range: TimeRange) -> Result<u64> {
        let sql = format!("SELECT COUNT(*) AS requests FROM requests WHERE {}", range.condition());
        let mut total = 0;
        self.engine.for_each(&sql, |batch| {
            total +=
                column::<Int64Type>(batch, "requests")?.values().iter().map(|count| count.unsigned_abs()).sum::<u64>();
            Ok(())
        })?;
        Ok(total)
    }
}

impl Features {
    /// The names of the regions with requests in `range`, in alphabetic order.
    pub(crate) fn regions(&self, range: TimeRange) -> Result<Vec<String>> {
        let sql = format!("SELECT DISTINCT region FROM requests WHERE {}", range.condition());
        let mut regions = Vec::new();
        self.engine.for_each(&sql, |batch| {
            let codes = column::<UInt32Type>(batch, "region")?;
            regions
                .extend(codes.values().iter().filter_map(|code| self.log.regions.name(*code)).map(ToString::to_string));
            Ok(())
        })?;
        regions.sort_unstable();
        Ok(regions)
    }

    /// The instants of the first and the last request in `range`, which must hold one.
    pub(crate) fn first_and_last(&self, range: TimeRange) -> Result<(Timestamp, Timestamp)> {
        let sql = format!("SELECT MIN(at) AS first, MAX(at) AS last FROM requests WHERE {}", range.condition());
        let mut found = (range.start, range.start);
        self.engine.for_each(&sql, |batch| {
            let (first, last) = (column::<Int64Type>(batch, "first")?, column::<Int64Type>(batch, "last")?);
            for (first, last) in first.values().iter().zip(last.values()) {
                found = (Timestamp::from_micros(*first), Timestamp::from_micros(*last));
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// A region's code: it was widened from 16 bits when the log was coded.
pub(super) fn region_id(code: u32) -> RegionId {
    RegionId(u16::try_from(code).expect("region codes come from 16-bit numbers"))
}
