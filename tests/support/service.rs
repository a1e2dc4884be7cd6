//! A service of the product in a process of its own: started, awaited, and ended by its id whatever happens.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

/// A running service. Dropped, also by a test that fails, it is killed.
pub(crate) struct Service {
    /// What follows `ready` in the line that it writes once it serves.
    pub(crate) ready: String,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Service {
    /// Starts `nearcast ARGUMENTS…` and waits until it serves.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// As [`start`](Self::start), with these variables in its environment.
    pub(crate) fn start_with(arguments: &[&str], variables: &[(&'static str, String)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (*name, value));
        let mut child = nearcast(arguments)
            .envs(variables)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (sender, ready) = mpsc::channel();
        let mut service = Self { ready: String::new(), child, said: Arc::default() };
        let said = Arc::clone(&service.said);
        thread::spawn(move || listen(lines, &said, &sender));
        service.ready = ready.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let said = service.said.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
            panic!("`nearcast {}` does not serve: {said}", arguments.join(" "))
        });
        service
    }

    /// Where a predictor answers HTTP and gRPC.
    pub(crate) fn addresses(&self) -> (&str, &str) {
        self.ready.split_once(" grpc ").expect("two addresses")
    }

    /// Ends it at once, by SIGKILL to its id.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        assert!(!self.child.wait().expect("it ends").success());
    }

    /// Sends a signal to its id.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Asks it to end, by SIGTERM to its id, and waits.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.child.wait().expect("it ends")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command, ready to be run.
pub(crate) fn nearcast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Remembers what the service says and reads on, so that it never waits for its pipe.
fn listen(lines: Lines<BufReader<ChildStderr>>, said: &Mutex<Vec<String>>, ready: &mpsc::Sender<String>) {
    for line in lines.map_while(Result::ok) {
        if let Some(rest) = line.strip_prefix("ready ") {
            // Nobody waits for a second one.
            let _ = ready.send(rest.to_owned());
        }
        said.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// The bundled log.
pub(crate) const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/samples/web-1995.parquet");
/// Generous, so that a loaded machine does not fail a test that would pass.
const PATIENCE: Duration = Duration::from_secs(60);
