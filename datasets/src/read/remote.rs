//! A Parquet file in an object store: ranged reads, and batches fetched one ahead.

use std::{
    ops::Range,
    sync::{Arc, mpsc::Receiver},
};

use arrow::{array::RecordBatch, error::ArrowError};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryFutureExt, future::BoxFuture, stream::BoxStream};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::{
    arrow::{arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
    errors::{ParquetError, Result},
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

use crate::blocking;

/// An object that holds a Parquet file.
#[derive(Clone, Debug)]
pub(crate) struct RemoteFile {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    pub(crate) bytes: u64,
}

impl AsyncFileReader for RemoteFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.store.get_range(&self.path, range).map_err(external).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        let bytes = self.bytes;
        let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
        async move { reader.load_and_finish(self, bytes).await.map(Arc::new) }.boxed()
    }
}

/// The batches of a remote file, one of them on its way while the one before is worked on.
pub(crate) struct ReadAhead(Option<Receiver<Step>>);

type Stream = BoxStream<'static, Result<RecordBatch>>;
type Step = (Option<Result<RecordBatch>>, Stream);

impl ReadAhead {
    /// Asks for the first batch.
    pub(crate) fn start(mut stream: Stream) -> Self {
        Self(Some(blocking::start(async move { (stream.next().await, stream) })))
    }
}

impl Iterator for ReadAhead {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (item, stream) = self.0.take()?.recv().ok()?;
        let item = item?;
        if item.is_ok() {
            *self = Self::start(stream);
        }
        Some(item.map_err(ArrowError::from))
    }
}

fn external(source: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(source))
}
