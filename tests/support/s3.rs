//! An S3 server in this process: `s3s-fs` behind hyper, over real HTTP with signed requests.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::store::nearcast_at;

/// A server with one bucket, for as long as the test runs.
pub(crate) struct S3 {
    folder: TempDir,
    address: SocketAddr,
}

impl S3 {
    /// Starts it on a free port.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("writable");
        let files = FileSystem::new(folder.path()).expect("the folder is there");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let (sender, address) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.expect("one thread can be had").block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                sender.send(listener.local_addr().expect("bound")).expect("the test waits");
                while let Ok((stream, _)) = listener.accept().await {
                    let service = service.clone();
                    tokio::spawn(async move {
                        // A client that goes away ends its connection as it likes.
                        let _ =
                            Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            });
        });
        Self { folder, address: address.recv().expect("it starts") }
    }

    /// The variables that lead to it.
    pub(crate) fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// `nearcast ARGUMENTS…` in an environment that leads to it and to nothing else.
    pub(crate) fn nearcast(&self, arguments: &[&str]) -> Command {
        nearcast_at(&self.variables(), arguments)
    }

    /// Where the object of this name lies.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.bucket().join(name)
    }

    /// The bucket's folder.
    pub(crate) fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// Puts a file there as `name`.
    pub(crate) fn put(&self, name: &str, file: &Path) {
        let place = self.file(name);
        std::fs::create_dir_all(place.parent().expect("below the bucket")).expect("writable");
        std::fs::copy(file, place).expect("writable");
    }
}

/// The bucket's name.
pub(crate) const BUCKET: &str = "nearcast-test";
const KEY: &str = "test-key";
const SECRET: &str = "test-secret";
