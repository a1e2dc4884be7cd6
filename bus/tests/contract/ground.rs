//! A bus to test on: a folder, or a NATS server that the test starts and stops.

use std::{
    env,
    error::Error,
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::sleep,
    time::Duration,
};

use nearcast_bus::{
    BucketSpec, Bus, BusPlace, BusSettings, Credentials, Discard, NatsSettings, SharedClock, StreamSpec, SystemClock,
};
use tempfile::TempDir;

use crate::port::free_port;

/// What a test returns.
pub(crate) type TestResult<T = ()> = Result<T, Box<dyn Error>>;

/// A place for buses.
#[derive(Debug)]
pub(crate) struct Ground {
    folder: TempDir,
    server: Option<NatsServer>,
}

impl Ground {
    pub(crate) fn embedded() -> TestResult<Self> {
        Ok(Self { folder: tempfile::tempdir()?, server: None })
    }

    /// A server of its own, if there is one to start.
    #[expect(clippy::print_stderr, reason = "says why a test is skipped")]
    pub(crate) fn nats(arguments: &[&str]) -> TestResult<Option<Self>> {
        let Some(binary) = env::var_os("NEARCAST_NATS_SERVER") else {
            eprintln!("skipped: NEARCAST_NATS_SERVER does not name a nats-server binary; .ci/run installs one");
            return Ok(None);
        };
        let folder = tempfile::tempdir()?;
        let port = free_port();
        let mut all = vec!["-a".to_owned(), "127.0.0.1".to_owned(), "-p".to_owned(), port.to_string()];
        all.extend(["-sd".to_owned(), folder.path().join("server").display().to_string()]);
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let server = NatsServer { binary: binary.into(), arguments: all, port, child: Mutex::default() };
        server.start()?;
        Ok(Some(Self { folder, server: Some(server) }))
    }

    pub(crate) fn server(&self) -> &NatsServer {
        self.server.as_ref().expect("the test is one of NATS alone")
    }

    pub(crate) fn settings(&self) -> BusSettings {
        match &self.server {
            Some(server) => BusSettings::nats(server.url()),
            None => BusSettings::embedded(self.folder.path().join("bus")),
        }
    }

    pub(crate) async fn open(&self) -> nearcast_bus::Result<Bus> {
        Bus::open(self.settings()).await
    }

    pub(crate) async fn open_by(&self, clock: SharedClock) -> nearcast_bus::Result<Bus> {
        Bus::open_by(self.settings(), clock).await
    }

    /// Opens a bus on NATS with credentials.
    pub(crate) async fn open_with(&self, credentials: Credentials) -> nearcast_bus::Result<Bus> {
        let nats = NatsSettings { credentials, ..NatsSettings::new(self.server().url()) };
        Bus::open(BusSettings { place: BusPlace::Nats(nats), ..self.settings() }).await
    }
}

/// A server process.
#[derive(Debug)]
pub(crate) struct NatsServer {
    binary: std::path::PathBuf,
    arguments: Vec<String>,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl NatsServer {
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it, again on the same port and folder, and waits until it can be connected to.
    pub(crate) fn start(&self) -> TestResult {
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        self.child.lock().expect("no test panics while it holds this").replace(child);
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            // There is nothing to await: the server says nowhere that it listens.
            sleep(Duration::from_millis(20));
        }
        Err(format!("{:?} {:?} cannot be connected to", self.binary, self.arguments).into())
    }

    /// Kills it with no warning.
    pub(crate) fn kill(&self) {
        let child = self.child.lock().expect("no test panics while it holds this").take();
        if let Some(mut child) = child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

/// A stream with room.
pub(crate) fn stream(name: &str) -> StreamSpec {
    StreamSpec {
        name: name.to_owned(),
        version: 1,
        partitions: 3,
        bytes_max: 16 << 20,
        discard: Discard::Newest,
        duplicates_within: Duration::from_secs(120),
    }
}

/// A bucket with room.
pub(crate) fn bucket(name: &str) -> BucketSpec {
    BucketSpec { name: name.to_owned(), version: 1, bytes_max: 4 << 20 }
}
