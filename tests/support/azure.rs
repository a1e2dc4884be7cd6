//! Azurite, the emulator of Azure's Blob Storage, in a process of its own.

use std::{
    env,
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use tempfile::TempDir;

use crate::port::free_port;

/// A server with one container. Dropped, it is killed.
pub(crate) struct Azure {
    _folder: TempDir,
    address: String,
    child: Child,
}

impl Azure {
    /// A server, if there is one to start.
    #[expect(clippy::print_stderr, reason = "says why a test is skipped")]
    pub(crate) fn start() -> Option<Self> {
        let Some(script) = env::var_os(SCRIPT) else {
            eprintln!("skipped: {SCRIPT} does not name azurite-blob; .ci/run installs it");
            return None;
        };
        let port = free_port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new("node");
        command.arg(script).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--location"]);
        command.arg(folder.path()).args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server =
            Self { _folder: folder, address: format!("http://127.0.0.1:{port}"), child: child.expect("it starts") };
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                server.create_container();
                return Some(server);
            }
            // There is nothing to await: it is silent.
            sleep(Duration::from_millis(20));
        }
        panic!("Azurite cannot be connected to");
    }

    /// The variables that lead to it.
    pub(crate) fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("AZURE_STORAGE_USE_EMULATOR", "true".to_owned()),
            ("AZURITE_BLOB_STORAGE_URL", self.address.clone()),
            ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.to_owned()),
            ("AZURE_STORAGE_ACCOUNT_KEY", KEY.to_owned()),
        ]
    }

    /// Objects can be put into a container alone, and the product makes none.
    fn create_container(&self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/azure_container.mjs");
        let said = Command::new("node").args([script, &self.address, ACCOUNT, KEY, CONTAINER]).output();
        let said = said.expect("it starts");
        assert!(said.status.success(), "no container: {}", String::from_utf8_lossy(&said.stderr));
    }
}

impl Drop for Azure {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The container's name.
pub(crate) const CONTAINER: &str = "nearcast-test";
const SCRIPT: &str = "NEARCAST_AZURITE";
/// The account that every Azurite has; it is no secret.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
