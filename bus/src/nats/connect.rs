//! Connecting to NATS, and refusing what cannot work.

use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, Event, jetstream::Context};
use tokio::{sync::watch, time::timeout};

use crate::{Credentials, Error, NatsSettings, Result};

/// The oldest NATS server that this crate's tests pass on.
pub const SERVER_VERSION_MIN: &str = "2.10";
const SERVER_MIN: (u64, u64) = (2, 10);

/// Connects, and makes sure that the server is new enough and keeps what it is given. Also returns a count that grows
/// with every connection.
pub(super) async fn connect(settings: &NatsSettings) -> Result<(Context, watch::Receiver<u64>)> {
    let url = &settings.url;
    let (connected, connections) = watch::channel(0);
    let options = options(settings).await?.event_callback(move |event| {
        if event == Event::Connected {
            connected.send_modify(|count| *count += 1);
        }
        async {}
    });
    let connecting = options.connect(url.split(',').map(str::trim).collect::<Vec<_>>());
    let connected = timeout(settings.timeout * 2, connecting).await;
    let refused = |source: async_nats::ConnectError| match source.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            Error::Credentials { url: url.clone(), credentials: settings.credentials.kind(), source: Box::new(source) }
        }
        _ => Error::Connect { url: url.clone(), source: Box::new(source) },
    };
    let elapsed = |source| Error::Connect { url: url.clone(), source: Box::new(source) };
    let client = connected.map_err(elapsed)?.map_err(refused)?;
    check_version(url, &client.server_info().version)?;
    let mut context = async_nats::jetstream::new(client);
    context.set_timeout(settings.timeout);
    let account = context.query_account().await;
    account.map_err(|source| Error::NoJetStream { url: url.clone(), source: Box::new(source) })?;
    Ok((context, connections))
}

async fn options(settings: &NatsSettings) -> Result<ConnectOptions> {
    let mut options = ConnectOptions::new()
        .name("nearcast")
        .connection_timeout(settings.timeout)
        .request_timeout(Some(settings.timeout))
        .reconnect_delay_callback(reconnect_delay);
    options = match &settings.credentials {
        Credentials::None => options,
        Credentials::Token(token) => options.token(token.clone()),
        Credentials::Password { user, password } => options.user_and_password(user.clone(), password.clone()),
        Credentials::CredentialsFile(path) => {
            let unreadable = |source| Error::CredentialsFile { key: "credentials_file", path: path.clone(), source };
            options.credentials_file(path).await.map_err(unreadable)?
        }
    };
    if let Some(ca) = &settings.ca {
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let Some((certificate, key)) = &settings.client_certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
    }
    Ok(options)
}

/// Soon at first, then every second: a server that restarts is found at once, one that is away is not stormed.
fn reconnect_delay(attempts: usize) -> Duration {
    RECONNECT_STEP.saturating_mul(u32::try_from(attempts).unwrap_or(u32::MAX)).min(RECONNECT_MAX)
}

/// Refuses servers whose answers this client cannot read.
fn check_version(url: &str, version: &str) -> Result<()> {
    if parse(version).is_some_and(|version| version >= SERVER_MIN) {
        return Ok(());
    }
    Err(Error::ServerTooOld { url: url.to_owned(), found: version.to_owned(), needed: SERVER_VERSION_MIN })
}

/// Major and minor version.
fn parse(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

const RECONNECT_STEP: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_and_what_is_no_version_are_refused() {
        for version in ["2.10.0", "2.12.8", "2.14.0", "2.15.1-beta.2", "v2.14.0", "3.0.0"] {
            assert!(check_version("nats://h", version).is_ok(), "{version}");
        }
        for version in ["2.9.10", "2.9.25", "1.4.1", "", "new"] {
            let refused = check_version("nats://h", version);
            assert!(matches!(refused, Err(Error::ServerTooOld { .. })), "{version}");
        }
    }
}
