//! The cache node: a read-through HTTP cache that fetches ahead when a predictor tells it to.
//!
//! What decides is synchronous and knows neither clock nor socket: [`core::NodeCore`] with its [`index::Index`] says
//! what is held, joined, fetched and evicted; [`core::routing`] says from whom. Around it, one concern per module, is the
//! shell: `front` answers HTTP, `shell` carries out what the core decides, `store` keeps payloads and the index on disk,
//! `origin` and `peers` fetch, `link` talks to the predictor, `log` writes the request log, `watch` shows requests to who follows
//! them, `access_log` writes them as text, `tls` reads certificates, and `reload` puts a changed configuration in force. A request never waits for
//! the predictor; without one, the node is an ordinary good cache.
//!
//! [`run`] is the whole node. The caller binds the socket and decides when to stop:
//!
//! ```
//! use nearcast_cache_node::{NodeConfig, bind, run};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let dir = tempfile::tempdir()?;
//! let text = format!(
//!     r#"
//!     name = "eu-1"
//!     region = "eu"
//!     listen = "127.0.0.1:0"
//!     data_dir = "{}"
//!     capacity = "64MiB"
//!     [origin]
//!     url = "http://127.0.0.1:9000"
//!     "#,
//!     dir.path().display()
//! );
//! let config = NodeConfig::parse(&text, "node.toml".as_ref())?;
//! let listener = bind(&config).await?;
//! run(listener, config, std::future::ready(())).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })
//! # .map_err(|error| error.to_string()).expect("the node starts and stops");
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod cli;
pub mod config;
pub mod core;
pub mod exposition;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod index;
pub mod latency;
pub mod line;

mod access_log;
mod background;
mod clock;
mod digest;
mod error;
mod front;
mod key;
mod link;
mod log;
mod log_upload;
mod metrics;
mod object;
mod origin;
mod peers;
mod purge;
mod record;
mod reload;
mod round_trips;
mod server;
mod shell;
mod status;
mod store;
pub mod tls;
mod watch;

pub use self::{
    config::NodeConfig,
    error::{Error, Result},
    server::{Listeners, bind, check_files, run, run_reloading},
    watch::ClientName,
};
