//! `[bus]`: what a predictor shares with others.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nearcast_bus::{BusPlace, BusSettings, Credentials, NatsSettings, PARTITIONS_MAX};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// `[bus]` before it is checked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBus {
    /// `nats://host:port`, `tls://host:port`, several of one cluster separated by commas; or `embedded`: a file in the
    /// data folder, for one predictor.
    pub url: String,
    /// What tells this member from the others; the machine's name and the gRPC address if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What all streams and buckets are named after: predictors with different prefixes do not see each other.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// A file with a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// A file with a JWT and its seed, as `nsc` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// A user, whose password is in `password_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A file with the user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// PEM certificates of who may have signed the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The certificate that this predictor shows; `client_key` goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// Servers that keep each record.
    #[serde(default = "default_replicas")]
    pub replicas: usize,
    /// Whether streams and buckets that are not there are made.
    #[serde(default = "default_create")]
    pub create: bool,
    /// Parts that clients are divided in; it can never be changed under one prefix.
    #[serde(default = "default_partitions")]
    pub partitions: u32,
    /// How long a predictor that is gone keeps its partitions.
    #[serde(default = "default_lease")]
    pub lease_seconds: f64,
    /// Pause between looks at how far each partition has come.
    #[serde(default = "default_checkpoint")]
    pub checkpoint_seconds: f64,
    /// How long connecting and every answer may take.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: f64,
    /// How far this machine's clock may be from the bus's.
    #[serde(default = "default_clock_skew_max")]
    pub clock_skew_max_seconds: f64,
    /// Bytes of requests that wait here for the bus; beyond it, nodes are not read.
    #[serde(default = "default_spool")]
    pub spool_bytes_max: usize,
    /// Bytes of requests in each partition that nobody has learnt from yet; beyond it, nodes are not read.
    #[serde(default = "default_log")]
    pub log_bytes_max: u64,
}

/// The bus, checked.
#[derive(Clone, Debug)]
pub struct BusConfig {
    raw: RawBus,
    /// How long a predictor that is gone keeps its partitions.
    pub lease: Duration,
    /// Pause between looks at how far each partition has come.
    pub checkpoint: Duration,
    timeout: Duration,
    clock_skew_max: Duration,
}

impl RawBus {
    /// The same files, where relative paths start at `base`.
    #[must_use]
    pub(super) fn below(mut self, base: &Path) -> Self {
        let files = [
            &mut self.token_file,
            &mut self.credentials_file,
            &mut self.password_file,
            &mut self.ca,
            &mut self.client_certificate,
            &mut self.client_key,
        ];
        for file in files {
            *file = file.take().map(|file| base.join(file));
        }
        self
    }
}

impl TryFrom<RawBus> for BusConfig {
    type Error = Error;

    fn try_from(raw: RawBus) -> Result<Self> {
        let is_nats = raw.url.split(',').all(|url| ["nats://", "tls://"].iter().any(|it| url.trim().starts_with(it)));
        if !is_nats && raw.url != EMBEDDED {
            return Err(setting("bus.url", &raw.url, "`nats://host:port`, `tls://host:port` or `embedded`"));
        }
        let ways = [raw.token_file.is_some(), raw.credentials_file.is_some(), raw.user.is_some()];
        if ways.into_iter().filter(|is_given| *is_given).count() > 1 {
            let given = "more than one of `token_file`, `credentials_file` and `user`";
            return Err(setting("bus", given, "a bus with one kind of credentials: keep one"));
        }
        if raw.user.is_some() != raw.password_file.is_some() {
            return Err(setting("bus.user", "half of a pair", "`user` and `password_file`, or neither"));
        }
        if raw.client_certificate.is_some() != raw.client_key.is_some() {
            let expected = "`client_certificate` and `client_key`, or neither";
            return Err(setting("bus.client_certificate", "half of a pair", expected));
        }
        if !(1..=PARTITIONS_MAX).contains(&raw.partitions) {
            return Err(setting("bus.partitions", &raw.partitions.to_string(), "between 1 and 1024"));
        }
        if !(1..=REPLICAS_MAX).contains(&raw.replicas) {
            return Err(setting("bus.replicas", &raw.replicas.to_string(), "between 1 and 5"));
        }
        for (name, bytes) in
            [("bus.spool_bytes_max", raw.spool_bytes_max as u64), ("bus.log_bytes_max", raw.log_bytes_max)]
        {
            if bytes < BYTES_MIN {
                return Err(setting(name, &bytes.to_string(), "at least 4194304"));
            }
        }
        if let Some(name) = &raw.name
            && (name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_name_byte))
        {
            return Err(setting("bus.name", name, "a name of 1 to 100 letters, digits and `-`"));
        }
        Ok(Self {
            lease: super::seconds("bus.lease_seconds", raw.lease_seconds)?,
            checkpoint: super::seconds("bus.checkpoint_seconds", raw.checkpoint_seconds)?,
            timeout: super::seconds("bus.timeout_seconds", raw.timeout_seconds)?,
            clock_skew_max: super::seconds("bus.clock_skew_max_seconds", raw.clock_skew_max_seconds)?,
            raw,
        })
    }
}

impl BusConfig {
    /// Where it is, as far as may be told to everybody.
    pub fn url(&self) -> &str {
        &self.raw.url
    }

    /// Parts that clients are divided in.
    pub fn partitions(&self) -> u32 {
        self.raw.partitions
    }

    /// Bytes of requests that wait here for the bus.
    pub fn spool_bytes_max(&self) -> usize {
        self.raw.spool_bytes_max
    }

    /// Bytes of each partition of the log.
    pub fn log_bytes_max(&self) -> u64 {
        self.raw.log_bytes_max
    }

    /// The member's name, on a predictor that listens at this address.
    pub fn name(&self, listen: &str) -> String {
        self.raw.name.clone().unwrap_or_else(|| {
            let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "predictor".to_owned());
            let name = format!("{}-{listen}", host.trim());
            name.bytes().map(|byte| if is_name_byte(byte) { char::from(byte) } else { '-' }).collect()
        })
    }

    /// How the bus is reached; reads the files with secrets.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn settings(&self, data_dir: &Path) -> Result<BusSettings> {
        let raw = &self.raw;
        let place = if raw.url == EMBEDDED {
            BusPlace::Embedded { folder: data_dir.join("bus") }
        } else {
            let pair = raw.client_certificate.clone().zip(raw.client_key.clone());
            BusPlace::Nats(NatsSettings {
                url: raw.url.clone(),
                prefix: raw.prefix.clone(),
                credentials: self.credentials()?,
                ca: raw.ca.clone(),
                client_certificate: pair,
                replicas: raw.replicas,
                timeout: self.timeout,
            })
        };
        Ok(BusSettings { place, create: raw.create, clock_skew_max: self.clock_skew_max })
    }

    fn credentials(&self) -> Result<Credentials> {
        let secret = |path: &PathBuf| {
            fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(Error::file("read", path))
        };
        let raw = &self.raw;
        Ok(match (&raw.token_file, &raw.credentials_file, &raw.user, &raw.password_file) {
            (Some(path), ..) => Credentials::Token(secret(path)?),
            (_, Some(path), ..) => Credentials::CredentialsFile(path.clone()),
            (.., Some(user), Some(path)) => Credentials::Password { user: user.clone(), password: secret(path)? },
            _ => Credentials::None,
        })
    }
}

fn setting(name: &'static str, value: &str, expected: &'static str) -> Error {
    Error::Setting { name, value: value.to_owned(), expected }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

const EMBEDDED: &str = "embedded";
const NAME_BYTES_MAX: usize = 100;
const REPLICAS_MAX: usize = 5;
/// Some of the largest records.
const BYTES_MIN: u64 = 4 << 20;

fn default_prefix() -> String {
    "nearcast".to_owned()
}

fn default_replicas() -> usize {
    1
}

fn default_create() -> bool {
    true
}

fn default_partitions() -> u32 {
    12
}

fn default_lease() -> f64 {
    3.0
}

fn default_checkpoint() -> f64 {
    10.0
}

fn default_timeout() -> f64 {
    5.0
}

fn default_clock_skew_max() -> f64 {
    60.0
}

fn default_spool() -> usize {
    256 << 20
}

fn default_log() -> u64 {
    256 << 20
}
