//! Collects rows into columns of the canonical schema.

use std::{fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringDictionaryBuilder, TimestampMicrosecondBuilder, UInt64Builder},
    datatypes::Int32Type,
    error::ArrowError,
};

use crate::{RequestEvent, schema};

type TextBuilder = StringDictionaryBuilder<Int32Type>;

/// Rows on their way into a batch.
pub(super) struct Builders {
    times: TimestampMicrosecondBuilder,
    client: TextBuilder,
    region: TextBuilder,
    key: TextBuilder,
    size: UInt64Builder,
    optional: Option<OptionalBuilders>,
    row_count: usize,
}

#[derive(Default)]
struct OptionalBuilders {
    range_start: UInt64Builder,
    range_end: UInt64Builder,
    node: TextBuilder,
    outcome: TextBuilder,
    latency_us: UInt64Builder,
    arm: TextBuilder,
    model_version: TextBuilder,
}

impl Builders {
    pub(super) fn new(with_optional: bool) -> Self {
        Self {
            times: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            client: TextBuilder::new(),
            region: TextBuilder::new(),
            key: TextBuilder::new(),
            size: UInt64Builder::new(),
            optional: with_optional.then(OptionalBuilders::default),
            row_count: 0,
        }
    }

    pub(super) fn push(&mut self, event: &RequestEvent) {
        self.times.append_value(event.timestamp.micros());
        self.client.append_value(&event.client);
        self.region.append_value(&event.region);
        self.key.append_value(&event.key);
        self.size.append_value(event.size_bytes);
        if let Some(optional) = &mut self.optional {
            optional.push(event);
        }
        self.row_count += 1;
    }

    pub(super) const fn len(&self) -> usize {
        self.row_count
    }

    pub(super) const fn has_optional(&self) -> bool {
        self.optional.is_some()
    }

    /// The batch, in the order of [`schema::request_log`].
    pub(super) fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let with_optional = self.optional.is_some();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.times.finish()),
            Arc::new(self.client.finish()),
            Arc::new(self.region.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.size.finish()),
        ];
        columns.extend(self.optional.into_iter().flat_map(OptionalBuilders::finish));
        RecordBatch::try_new(schema::request_log(with_optional), columns)
    }
}

impl fmt::Debug for Builders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builders").field("row_count", &self.row_count).finish_non_exhaustive()
    }
}

impl OptionalBuilders {
    fn push(&mut self, event: &RequestEvent) {
        self.range_start.append_option(event.range.map(|range| range.start));
        self.range_end.append_option(event.range.map(|range| range.end));
        self.node.append_option(event.node.as_deref());
        self.outcome.append_option(event.outcome.map(crate::ServedFrom::as_str));
        self.latency_us.append_option(event.latency_us);
        self.arm.append_option(event.arm.as_deref());
        self.model_version.append_option(event.model_version.as_deref());
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.range_start.finish()),
            Arc::new(self.range_end.finish()),
            Arc::new(self.node.finish()),
            Arc::new(self.outcome.finish()),
            Arc::new(self.latency_us.finish()),
            Arc::new(self.arm.finish()),
            Arc::new(self.model_version.finish()),
        ]
    }
}
