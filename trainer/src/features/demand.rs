//! Demand: how often each key was requested in each region, bucket by bucket.

use std::time::Duration;

use arrow::datatypes::{Int64Type, UInt32Type};
use nearcast_datasets::{KeyId, RegionId};

use super::{Features, TimeRange, columns::column, requests::region_id};
use crate::Result;

/// One non-empty cell of the demand table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DemandCell {
    /// The bucket's number, from zero at the start of the range.
    pub(crate) bucket: u32,
    /// What was asked for.
    pub(crate) key: KeyId,
    /// From where.
    pub(crate) region: RegionId,
    /// How often.
    pub(crate) requests: u32,
}

impl Features {
    /// Calls `each` with every non-empty cell of `range`, by bucket, then key, then region.
    pub(crate) fn for_each_demand(
        &self,
        range: TimeRange,
        bucket: Duration,
        mut each: impl FnMut(DemandCell) -> Result<()>,
    ) -> Result<()> {
        let sql = format!(
            "SELECT CAST((at - {}) / {} AS BIGINT) AS bucket, key, region, COUNT(*) AS requests FROM requests \
             WHERE {} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
            range.start.micros(),
            bucket.as_micros(),
            range.condition(),
        );
        self.engine.for_each(&sql, |batch| {
            let bucket = column::<UInt32Type>(batch, "bucket")?;
            let key = column::<UInt32Type>(batch, "key")?;
            let region = column::<UInt32Type>(batch, "region")?;
            let requests = column::<Int64Type>(batch, "requests")?;
            for row in 0..batch.num_rows() {
                each(DemandCell {
                    bucket: bucket.value(row),
                    key: KeyId(key.value(row)),
                    region: region_id(region.value(row)),
                    requests: u32::try_from(requests.value(row)).unwrap_or(u32::MAX),
                })?;
            }
            Ok(())
        })
    }
}
