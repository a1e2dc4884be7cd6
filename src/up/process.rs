//! One child process: its log file, its `ready` line, its end.

use std::{
    collections::VecDeque,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

/// A service of the cluster, running in its own process.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    ready: Option<oneshot::Receiver<String>>,
    last_lines: LastLines,
    pump: JoinHandle<()>,
    log: PathBuf,
}

/// The end of what a process said, for when it dies.
type LastLines = Arc<Mutex<VecDeque<String>>>;

impl Process {
    /// Starts `nearcast ARGUMENTS…`, with its stderr going to `logs/NAME.log`.
    pub(super) fn start(name: &str, arguments: &[&str], logs: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let log = logs.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal goes to the whole group; the cluster's processes are ended in order instead.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stderr = child.stderr.take().context("the child has no stderr")?;
        let (said_ready, ready) = oneshot::channel();
        let last_lines = LastLines::default();
        let pump = tokio::spawn(pump(stderr, file, said_ready, Arc::clone(&last_lines)));
        Ok(Self { name: name.to_owned(), child, ready: Some(ready), last_lines, pump, log })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What follows `ready` in the line that the process writes once it serves.
    pub(super) async fn ready(&mut self) -> anyhow::Result<String> {
        let ready = self.ready.take().context("the ready line was read before")?;
        match timeout(START_TIMEOUT, ready).await {
            Ok(Ok(line)) => Ok(line),
            // Its stderr has ended, so it has ended or is about to.
            Ok(Err(_)) => {
                let status = timeout(LAST_WORDS, self.child.wait()).await;
                let status = status.ok().and_then(Result::ok);
                Err(anyhow!("{}", self.obituary(status).await))
            }
            Err(_) => bail!("{} is not ready after {START_TIMEOUT:?}; see {}", self.name, self.log.display()),
        }
    }

    /// How it ended, when it has.
    pub(super) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Says how the process ended, with the last lines that it wrote.
    pub(super) async fn obituary(&mut self, status: Option<ExitStatus>) -> String {
        // What it wrote may still be on its way through the pipe.
        let _ = timeout(LAST_WORDS, &mut self.pump).await;
        let how = status.map_or_else(|| "closed its stderr".to_owned(), |status| format!("ended ({status})"));
        let lines = self.last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: String = lines.iter().map(|line| format!("\n    {line}")).collect();
        format!("{} {how}; its last words, from {}:{lines}", self.name, self.log.display())
    }

    /// Asks the process to end, waits, and kills it when it takes too long. Returns whether it ended by itself with 0.
    pub(super) async fn stop(mut self) -> bool {
        if self.try_wait().is_none() {
            self.terminate().await;
        }
        match timeout(STOP_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) => status.success(),
            Ok(Err(_)) => false,
            Err(_) => {
                tracing::warn!(name = self.name, "did not end in time and is killed");
                // An error means that it has ended in the meantime.
                let _ = self.child.kill().await;
                false
            }
        }
    }

    /// Sends SIGTERM. The standard library can only kill, and the lint against `unsafe` rules out the system call.
    async fn terminate(&self) {
        let Some(id) = self.child.id() else { return };
        let sent = Command::new("kill").arg("-TERM").arg(id.to_string()).stderr(Stdio::null()).status().await;
        if sent.is_err() {
            tracing::warn!(name = self.name, "cannot ask to end: there is no `kill`");
        }
    }
}

/// Copies what a process says into its log until it ends.
async fn pump(stderr: ChildStderr, mut file: File, said_ready: oneshot::Sender<String>, last_lines: LastLines) {
    let mut said_ready = Some(said_ready);
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // A full disk must not block the process on its pipe.
        let _ = writeln!(file, "{line}");
        if let (Some(rest), true) = (line.strip_prefix("ready "), said_ready.is_some())
            && let Some(said_ready) = said_ready.take()
        {
            // Nobody waits any more once the start was given up.
            let _ = said_ready.send(rest.to_owned());
        }
        let mut last_lines = last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        if last_lines.len() == LAST_LINES_MAX {
            last_lines.pop_front();
        }
        last_lines.push_back(line);
    }
}

/// How long a service may take to serve: an origin first reads its whole log.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a service may take to end after SIGTERM; longer than its own drain.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the end of a dead process's output is waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Lines that are kept for an obituary.
const LAST_LINES_MAX: usize = 12;
