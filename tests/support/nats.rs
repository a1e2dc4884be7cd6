//! A NATS server that a test starts and stops.

use std::{
    env,
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use tempfile::TempDir;

use crate::port::free_port;

/// A server process of its own. Dropped, it is killed.
pub(crate) struct NatsServer {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl NatsServer {
    /// A server, if there is one to start.
    #[expect(clippy::print_stderr, reason = "says why a test is skipped")]
    pub(crate) fn start() -> Option<Self> {
        if env::var_os(BINARY).is_none() {
            eprintln!("skipped: {BINARY} does not name a nats-server binary; .ci/run installs one");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self { folder, port: free_port(), child: None };
        server.run();
        Some(server)
    }

    /// Starts it, again on the same port and folder, and waits until it can be connected to.
    pub(crate) fn run(&mut self) {
        let binary = env::var_os(BINARY).expect("it was there");
        let mut command = Command::new(binary);
        command.args(["-js", "-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"]).arg(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("it starts"));
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            // There is nothing to await: the server says nowhere that it listens.
            sleep(Duration::from_millis(20));
        }
        panic!("the NATS server cannot be connected to");
    }

    /// Kills it with no warning.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

const BINARY: &str = "NEARCAST_NATS_SERVER";
