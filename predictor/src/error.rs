//! What can keep a predictor from running.

use std::{io, path::PathBuf};

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the predictor did not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine ended although nobody asked it to.
    #[error("the engine stopped unexpectedly; this is a defect, its message is in the log")]
    EngineStopped,
    /// Another predictor uses the data folder.
    #[error("another predictor uses `{}`: end it, or choose another `data_dir`", path.display())]
    DataDirTaken {
        /// The folder.
        path: PathBuf,
    },
    /// The bus cannot be used.
    #[error("the bus cannot be used")]
    Bus(#[from] nearcast_bus::Error),
    /// What one predictor does for all is another's by now.
    #[error("another predictor conducts experiments by now, or the bus is away; ask again in some seconds")]
    OfficeLost,
    /// A file or folder of the service could not be used.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// An address could not be listened on.
    #[error("cannot listen on {address}; is another process using it? choose another `{key}`")]
    Listen {
        /// The address.
        address: String,
        /// The configuration key that chose it.
        key: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The registry cannot be used at all.
    #[error("the model registry is not usable")]
    Registry(#[from] nearcast_models::Error),
    /// Serving gRPC failed.
    #[error("the gRPC server failed")]
    ServeGrpc(#[source] tonic::transport::Error),
    /// Serving HTTP failed.
    #[error("the HTTP server failed")]
    ServeHttp(#[source] io::Error),
    /// A setting is outside of its range.
    #[error("setting `{name}` is {value}, which is not {expected}")]
    Setting {
        /// The configuration key.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificate(nearcast_cache_node::Error),
    /// A configuration file, topology or message is not valid.
    #[error(transparent)]
    Contract(#[from] nearcast_proto::Error),
}

impl Error {
    /// Wraps a failed file operation.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.into(), source }
    }
}
