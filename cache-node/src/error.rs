//! Why a node could not start or ended early.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

/// What stops a node as a whole. What fails one request is answered to that request instead.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration file cannot be read, is no TOML, lacks a key or has one that nobody knows.
    #[error(transparent)]
    ConfigFile(#[from] nearcast_proto::Error),
    /// A value of the configuration is outside its range.
    #[error("configuration key `{key}`: {problem}")]
    ConfigValue {
        /// The key, with its section.
        key: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The address to listen on is taken or not allowed.
    #[error("cannot listen on {address}; is another process using it?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder below the data folder cannot be used.
    #[error("cannot use {path} in the node's data folder; check its permissions and free space")]
    DataDir {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The access log cannot be opened.
    #[error("cannot write the access log {path}; check its folder's permissions, or move `access_log.path`")]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("cannot use {path} for TLS: {problem}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to try.
        problem: String,
    },
    /// Another node runs on the same data folder.
    #[error("the data folder {path} is in use by another node; give each node its own `data_dir`")]
    DataDirTaken {
        /// The folder.
        path: PathBuf,
    },
    /// The payload store cannot be opened.
    #[error("cannot open the payload store in {path}")]
    Store {
        /// Its folder.
        path: PathBuf,
        /// What foyer said.
        #[source]
        source: Box<foyer::Error>,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread; the limit on threads or open files may be too low")]
    Thread(#[source] io::Error),
    /// The node was ended while it started.
    #[error("interrupted while it started")]
    Interrupted,
    /// The store that the request log is sent to cannot be used.
    #[error("cannot send the request log away (`log.upload`)")]
    LogUpload(#[source] Box<nearcast_datasets::store::StoreError>),
    /// The origin cannot be used as configured.
    #[error("cannot use the origin {url}: {problem}")]
    Origin {
        /// The configured address.
        url: String,
        /// What is wrong.
        problem: String,
    },
}

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
