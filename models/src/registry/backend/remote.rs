//! A registry in an object store.

use std::{
    future::Future,
    sync::{Arc, OnceLock, mpsc},
};

use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};
use tokio::runtime::{Builder, Runtime};

use super::Backend;
use crate::{Error, Result};

/// Objects below a prefix.
#[derive(Debug)]
pub(in crate::registry) struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Remote {
    pub(in crate::registry) fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { store, prefix }
    }

    fn path(&self, path: &str) -> Path {
        path.split('/').fold(self.prefix.clone(), |whole, part| whole.join(part))
    }

    /// Runs one operation on the store and waits for its result.
    fn wait<T, F>(&self, operation: impl FnOnce(Arc<dyn ObjectStore>) -> F) -> object_store::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::sync_channel(1);
        let future = operation(Arc::clone(&self.store));
        runtime().spawn(async move {
            // The receiver waits below until this arrives.
            let _ = sender.send(future.await);
        });
        receiver.recv().expect("the runtime is never shut down, so the task sends its result")
    }
}

impl Backend for Remote {
    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let path = self.path(folder);
        let place = path.clone();
        let found = self.wait(|store| async move { store.list_with_delimiter(Some(&place)).await });
        let found = found.map_err(failed("list", &path))?;
        let objects = found.objects.into_iter().map(|object| object.location);
        let paths = objects.chain(found.common_prefixes);
        let mut names: Vec<String> = paths.filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(path);
        let place = path.clone();
        match self.wait(|store| async move { store.get(&place).await?.bytes().await }) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    fn create(&self, path: &str, bytes: Vec<u8>) -> Result<bool> {
        let path = self.path(path);
        let (place, options) = (path.clone(), PutOptions { mode: PutMode::Create, ..PutOptions::default() });
        match self.wait(|store| async move { store.put_opts(&place, bytes.into(), options).await }) {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(failed("create", &path)(error)),
        }
    }

    fn replace(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        let path = self.path(path);
        let place = path.clone();
        let put = self.wait(|store| async move { store.put(&place, bytes.into()).await });
        put.map(|_| ()).map_err(failed("write", &path))
    }

    /// Only that the store answers: a write would have to be deleted, which not everybody may do.
    fn probe(&self) -> Result<()> {
        self.list("versions").map(drop)
    }

    fn remove(&self, path: &str) -> Result<()> {
        let path = self.path(path);
        let place = path.clone();
        match self.wait(|store| async move { store.delete(&place).await }) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("remove", &path)(error)),
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(object_store::Error) -> Error {
    let path = path.to_string();
    move |source| Error::Store { action, path, source }
}

/// One thread that drives all object stores' I/O; it outlives every registry, so that waiting works in any context.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("registry-io").enable_all();
        builder.build().expect("one thread and one epoll can be had")
    })
}
