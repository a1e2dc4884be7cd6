//! The predictor: a synchronous decision engine and its gRPC server.
//!
//! [`engine`] decides; it reads no clock and does no I/O, so replay drives the same type as the live service. [`run`] is
//! the live service: nodes stream to it what they serve, and it streams commands back.
//!
//! ```no_run
//! use nearcast_predictor::{PredictorConfig, listen, run};
//!
//! # async fn start() -> nearcast_predictor::Result<()> {
//! let config = PredictorConfig::load("predictor.toml".as_ref())?;
//! let (grpc, http) = listen(&config).await?;
//! let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
//! run(grpc, http, config, ctrl_c).await
//! # }
//! ```

pub mod arms;
mod clock;
mod config;
mod data_lock;
pub mod engine;
mod error;
mod events;
pub mod experiments;
pub mod fleet;
mod generation;
mod metrics;
pub mod placement;
mod placing;
mod purges;
mod server;
mod whole;

use nearcast_models::Registry;
use tokio::net::TcpListener;

pub use config::{BusConfig, EventSettings, PageSettings, PredictorConfig, PredictorSettings, QueueSettings, RawBus};
pub use error::{Error, Result};
pub use placing::{PlacementKind, PlacementSettings, RawPlacement};
pub use server::run;

/// Binds the two addresses of a configuration, gRPC, then HTTP, and makes sure that its data folder and registry can
/// be used: whoever is told the addresses may rely on a predictor behind them.
///
/// # Errors
/// [`Error::Listen`] when an address is taken or is none, [`Error::File`] for the folder, [`Error::Registry`].
pub async fn listen(config: &PredictorConfig) -> Result<(TcpListener, TcpListener)> {
    let bind = async |address: &str, key: &'static str| {
        let refused = |source| Error::Listen { address: address.to_owned(), key, source };
        TcpListener::bind(address).await.map_err(refused)
    };
    let listeners = (bind(&config.listen, "listen").await?, bind(&config.http_listen, "http_listen").await?);
    config.registry.as_deref().map(Registry::open).transpose()?;
    std::fs::create_dir_all(&config.data_dir).map_err(Error::file("create", &config.data_dir))?;
    Ok(listeners)
}
