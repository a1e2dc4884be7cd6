//! The numbers of a training as a flat table: what curves are drawn from and what experiment trackers take.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array},
    datatypes::{Field, Schema},
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde::Serialize;
use serde_json::Value;

use crate::{EpochReport, Error, Evaluation, Result, TrainMetrics};

/// One number at one point of a training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricRow {
    /// Passes over the training sessions that were done.
    pub epoch: u32,
    /// Requests learned from since the start.
    pub step: u64,
    /// `/`-separated: `train/loss`, `validation/without_repeats/mrr_20`, `test/next_key/methods/model/all/mrr_20`, …
    pub name: String,
    /// The number.
    pub value: f64,
}

impl EpochReport {
    /// The pass as rows, given the requests learned from at its end.
    pub fn rows(&self, step: u64) -> Vec<MetricRow> {
        let epoch = u32::try_from(self.epoch).unwrap_or(u32::MAX);
        let mut numbers = vec![("train/loss".to_owned(), self.loss)];
        flatten("validation", &to_value(&self.validation), &mut numbers);
        numbers.into_iter().map(|(name, value)| MetricRow { epoch, step, name, value }).collect()
    }
}

impl Evaluation {
    /// Every number measured, by its `/`-separated place in the report.
    pub fn numbers(&self) -> Vec<(String, f64)> {
        let mut numbers = Vec::new();
        flatten("test/next_key", &to_value(&self.next_key), &mut numbers);
        flatten("test/demand", &to_value(&self.demand), &mut numbers);
        numbers
    }
}

impl TrainMetrics {
    /// Every pass, then what the finished model did on later traffic.
    pub fn rows(&self) -> Vec<MetricRow> {
        let (mut rows, mut step) = (Vec::new(), 0);
        for report in &self.epochs {
            step += report.requests;
            rows.extend(report.rows(step));
        }
        rows.extend(self.final_rows());
        rows
    }

    /// What the finished model did on later traffic. Its step is that of the best pass.
    pub fn final_rows(&self) -> Vec<MetricRow> {
        let epoch = u32::try_from(self.best_epoch).unwrap_or(u32::MAX);
        let step = self.epochs.iter().take(self.best_epoch).map(|report| report.requests).sum();
        let mut numbers = self.evaluation.numbers();
        flatten("gate", &to_value(&self.gate_fit), &mut numbers);
        numbers.into_iter().map(|(name, value)| MetricRow { epoch, step, name, value }).collect()
    }
}

/// `metrics.parquet`: columns `epoch` (uint32), `step` (uint64), `name` (utf8) and `value` (float64).
pub(crate) fn parquet_table(rows: &[MetricRow]) -> Result<Vec<u8>> {
    let columns: [(&str, ArrayRef); 4] = [
        ("epoch", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.epoch)))),
        ("step", Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.step)))),
        ("name", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.name.as_str())))),
        ("value", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value)))),
    ];
    let fields: Vec<_> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), columns).map_err(|error| Error::ScratchFormat(error.into()))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}

fn to_value(report: &impl Serialize) -> Value {
    // Reports are plain structures with names for keys, which always become a value.
    serde_json::to_value(report).unwrap_or(Value::Null)
}

/// The numbers below `value`, each named by its `/`-separated place.
pub(crate) fn flatten(name: &str, value: &Value, into: &mut Vec<(String, f64)>) {
    match value {
        Value::Number(number) => into.extend(number.as_f64().map(|number| (name.to_owned(), number))),
        Value::Object(fields) => {
            fields.iter().for_each(|(field, value)| {
                flatten(&if name.is_empty() { field.clone() } else { format!("{name}/{field}") }, value, into)
            });
        }
        // Of lists only those by horizon hold numbers of their own; whole curves and words are for the report.
        Value::Array(items) => items.iter().for_each(|item| {
            if let Some(seconds) = item.get("horizon_seconds") {
                flatten(&format!("{name}/{seconds}"), item, into);
            }
        }),
        Value::Bool(_) | Value::Null | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_named_by_their_place_and_nothing_else_is_taken() {
        let value = serde_json::json!({"a": {"b": 1.5, "c": [1, 2]}, "d": 2, "e": "x", "f": null});
        let mut found = Vec::new();
        flatten("test", &value, &mut found);
        assert_eq!(found, [("test/a/b".to_owned(), 1.5), ("test/d".to_owned(), 2.0)]);
        found.clear();
        flatten("demand", &serde_json::json!([{"horizon_seconds": 900, "deviance": 0.5}, {"x": 1}]), &mut found);
        assert_eq!(found, [("demand/900/horizon_seconds".to_owned(), 900.0), ("demand/900/deviance".to_owned(), 0.5)]);
    }
}
