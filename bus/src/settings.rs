//! Which bus there is, and how it is reached.

use std::{fmt, path::PathBuf, time::Duration};

/// How a bus is reached.
#[derive(Clone, Debug)]
pub struct BusSettings {
    /// Where it is.
    pub place: BusPlace,
    /// Whether streams and buckets that are not there may be made.
    pub create: bool,
    /// How far this machine's clock may be from the bus's.
    pub clock_skew_max: Duration,
}

impl BusSettings {
    /// A bus in a folder, with defaults for all else.
    pub fn embedded(folder: impl Into<PathBuf>) -> Self {
        Self::at(BusPlace::Embedded { folder: folder.into() })
    }

    /// A bus on NATS, with defaults for all else.
    pub fn nats(url: impl Into<String>) -> Self {
        Self::at(BusPlace::Nats(NatsSettings::new(url)))
    }

    fn at(place: BusPlace) -> Self {
        Self { place, create: true, clock_skew_max: CLOCK_SKEW_MAX }
    }
}

/// Where a bus is.
#[derive(Clone, Debug)]
pub enum BusPlace {
    /// Inside of this process.
    Embedded {
        /// The folder of its database.
        folder: PathBuf,
    },
    /// On NATS JetStream.
    Nats(NatsSettings),
}

/// How NATS is reached.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// `nats://host:port` or `tls://host:port`, several of one cluster separated by commas.
    pub url: String,
    /// What all streams and buckets are named after: two clusters of predictors with different prefixes do not see each
    /// other.
    pub prefix: String,
    /// What is shown at connecting.
    pub credentials: Credentials,
    /// PEM certificates of who may have signed the server's; the machine's own if none.
    pub ca: Option<PathBuf>,
    /// A PEM certificate and its key, where the server asks for one.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// How many servers of the cluster keep each record.
    pub replicas: usize,
    /// How long connecting and every answer may take.
    pub timeout: Duration,
}

impl NatsSettings {
    /// Nobody asks who we are; one replica.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "nearcast".to_owned(),
            credentials: Credentials::None,
            ca: None,
            client_certificate: None,
            replicas: 1,
            timeout: TIMEOUT,
        }
    }
}

/// What is shown to a NATS server.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nothing, or a client certificate alone.
    #[default]
    None,
    /// A token.
    Token(String),
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A file with a JWT and the seed of its key, as `nsc` writes it.
    CredentialsFile(PathBuf),
}

impl Credentials {
    /// What they are, without what they say.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "a connection without credentials",
            Self::Token(_) => "the token",
            Self::Password { .. } => "the user and password",
            Self::CredentialsFile(_) => "the credentials file",
        }
    }
}

impl fmt::Debug for Credentials {
    /// Secrets stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// Clocks that keep time by NTP are within milliseconds.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60);
/// Long for a data centre, short for an operator who waits.
const TIMEOUT: Duration = Duration::from_secs(5);
