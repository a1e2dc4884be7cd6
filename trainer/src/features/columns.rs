//! Typed access to the columns of a query's result.

use arrow::{
    array::{Array, ArrowPrimitiveType, PrimitiveArray, RecordBatch},
    compute::cast,
};
use datafusion::error::DataFusionError;

use crate::Result;

/// The values of the column called `name`, converted to `T`.
///
/// # Errors
/// When there is no such column, or it cannot be converted, or it holds a null: the query does not fit its reader.
pub(crate) fn column<T: ArrowPrimitiveType>(batch: &RecordBatch, name: &str) -> Result<PrimitiveArray<T>> {
    let found = batch.column_by_name(name).ok_or_else(|| unexpected(name, "is missing"))?;
    let converted = cast(found, &T::DATA_TYPE).map_err(DataFusionError::from)?;
    let values = converted.as_any().downcast_ref::<PrimitiveArray<T>>();
    let values = values.ok_or_else(|| unexpected(name, "has another type"))?;
    if values.null_count() > 0 {
        return Err(unexpected(name, "holds nulls").into());
    }
    Ok(values.clone())
}

fn unexpected(name: &str, what: &str) -> DataFusionError {
    DataFusionError::Internal(format!("the result column `{name}` {what}"))
}
