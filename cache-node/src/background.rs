//! A thread for what can wait: the system lets it work when nobody else wants the processor.

use std::{
    io,
    sync::{Mutex, PoisonError},
    thread::JoinHandle,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};
use tokio_util::task::TaskTracker;

/// Which connections and which threads a transfer has to itself. A connection is driven by the thread that made it, so
/// that demand must share none with prefetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// What somebody waits for.
    Demand,
    /// What nobody waits for yet.
    Background,
}

/// One thing for each lane.
#[derive(Clone, Debug)]
pub(crate) struct PerLane<T> {
    demand: T,
    background: T,
}

impl<T> PerLane<T> {
    pub(crate) fn new(mut make: impl FnMut() -> T) -> Self {
        Self { demand: make(), background: make() }
    }

    /// # Errors
    /// Of `make`.
    pub(crate) fn try_new<E>(mut make: impl FnMut() -> Result<T, E>) -> Result<Self, E> {
        Ok(Self { demand: make()?, background: make()? })
    }

    pub(crate) fn get(&self, lane: Lane) -> &T {
        match lane {
            Lane::Demand => &self.demand,
            Lane::Background => &self.background,
        }
    }
}

/// The thread, with a runtime of its own.
#[derive(Debug)]
pub(crate) struct Background {
    handle: Handle,
    thread: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Background {
    /// Starts it.
    ///
    /// # Errors
    /// When the system has no thread or descriptors left.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("nearcast-idle".to_owned()).spawn(move || {
            give_way();
            // Without its sender it ends as well.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { handle, thread: Mutex::new(Some((stop, thread))) })
    }

    /// Has it work on a task, which counts among `tasks`.
    pub(crate) fn spawn(&self, tasks: &TaskTracker, task: impl Future<Output = ()> + Send + 'static) {
        drop(tasks.spawn_on(task, &self.handle));
    }

    /// Ends the thread; tasks that have not ended are cut off.
    pub(crate) fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((stop, thread)) = thread else { return };
        drop(stop);
        if thread.join().is_err() {
            tracing::error!("the background thread panicked");
        }
    }
}

/// Has the system prefer every other thread to this one.
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::unix::{
            NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let zero = thread_priority::ThreadPriority::Min;
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), zero, idle) {
            tracing::warn!(?error, "prefetches cannot be given a lower priority; they share the processor with demand");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn works_on_a_thread_of_its_own_until_it_is_closed() {
        let background = Background::start().unwrap();
        let tasks = TaskTracker::new();
        let (sender, receiver) = oneshot::channel();
        background.spawn(&tasks, async move { sender.send(std::thread::current().id()).unwrap() });
        assert_ne!(receiver.await.unwrap(), std::thread::current().id());
        background.spawn(&tasks, std::future::pending());
        background.close();
        tasks.close();
        tasks.wait().await;
    }

    /// The system says what it has been asked for, unless it is not allowed.
    #[cfg(target_os = "linux")]
    #[test]
    fn gives_way_to_others() {
        let policy = std::thread::spawn(|| {
            give_way();
            thread_priority::unix::thread_schedule_policy().unwrap()
        });
        let expected = thread_priority::unix::ThreadSchedulePolicy::Normal(
            thread_priority::unix::NormalThreadSchedulePolicy::Idle,
        );
        assert_eq!(policy.join().unwrap(), expected);
    }
}
