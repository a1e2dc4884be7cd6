//! Lets synchronous code wait for object stores, whose interface is asynchronous.

use std::{
    future::Future,
    sync::{OnceLock, mpsc},
};

use tokio::runtime::{Builder, Runtime};

/// Runs `future` on the crate's own runtime and waits for it. Works inside and outside of other runtimes; inside, it
/// blocks the calling worker, so asynchronous callers use `spawn_blocking`.
pub(crate) fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    start(future).recv().expect("the runtime is never shut down, so the task sends its result")
}

/// Starts `future` on the crate's own runtime; its result arrives at the receiver.
pub(crate) fn start<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime().spawn(async move {
        let result = future.await;
        // Nobody waits any more when the reader was dropped.
        let _ = sender.send(result);
    });
    receiver
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("log-io").enable_all();
        builder.build().expect("one thread and one epoll can be had")
    })
}
