//! The gRPC contract between cache nodes and the predictor.
//!
//! [`message`] holds the domain types that both sides decide with; [`wire`] holds the generated types that travel.
//! [`convert`] is the only place where one becomes the other. [`topology`] says how far regions are apart, and
//! [`config_file`] reads the TOML files of every service, and a [`ConfigCheck`] says what one of them would do with its own.
//!
//! ```
//! use nearcast_proto::{message::PredictorNotice, wire};
//!
//! let sent = wire::PredictorMessage::from(PredictorNotice::Ack { sequence: 7 });
//! assert_eq!(PredictorNotice::try_from(sent)?, PredictorNotice::Ack { sequence: 7 });
//! // What means nothing is refused, not guessed.
//! assert!(PredictorNotice::try_from(wire::PredictorMessage { body: None }).is_err());
//! # Ok::<(), nearcast_proto::Error>(())
//! ```

mod admin_token;
mod config_check;
pub mod config_file;
pub mod convert;
mod error;
pub mod message;
pub mod topology;
pub mod wire;

pub use admin_token::AdminToken;
pub use config_check::ConfigCheck;
pub use error::{Error, Result};
pub use wire::{
    control_client::ControlClient, control_server::ControlServer, predictor_client::PredictorClient,
    predictor_server::PredictorServer,
};
