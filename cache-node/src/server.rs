//! A node from start to end.

use std::{
    fs::File,
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures::{Stream, StreamExt, stream};
use nearcast_proto::AdminToken;
use sd_notify::NotifyState;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use crate::{
    access_log::AccessLog,
    config::NodeConfig,
    error::{Error, Result},
    front::{ConnectionLimit, Front, Pseudonyms, Transport},
    link::{self, Uplink},
    log::RequestLog,
    reload::{self, Reloading},
    shell::Shell,
    tls::{ClientTls, Loaded, ServerTls},
    watch::Watchers,
};

/// The sockets that a node answers on.
#[derive(Debug)]
pub struct Listeners {
    /// The one for `listen`.
    pub main: TcpListener,
    /// The one for `tls.listen`. When it is configured and absent here, the node binds it itself.
    pub tls: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(main: TcpListener) -> Self {
        Self { main, tls: None }
    }
}

/// Runs a node on `listeners` until `shutdown` resolves; then requests under way finish and everything is written out.
///
/// # Errors
/// When the data folder cannot be used, another node uses it, or the configuration turns out not to work.
pub async fn run(listeners: impl Into<Listeners>, config: NodeConfig, shutdown: impl Future) -> Result<()> {
    run_reloading(listeners, config, stream::pending(), shutdown).await
}

/// As [`run`], and reads the configuration's file again, if it came from one, for each item of `reloads`.
///
/// # Errors
/// As [`run`].
pub async fn run_reloading(
    listeners: impl Into<Listeners>,
    config: NodeConfig,
    reloads: impl Stream<Item = ()>,
    shutdown: impl Future,
) -> Result<()> {
    let mut listeners = listeners.into();
    let config = Arc::new(config);
    let _lock = lock_data_dir(&config).await?;
    if let (None, Some(address)) = (&listeners.tls, config.tls.as_ref().and_then(|tls| tls.listen)) {
        listeners.tls = Some(bind_to(address).await?);
    }
    let url = advertised_url(&listeners, &config)?;
    let (uplink, reports) = match &config.link {
        Some(link) => {
            let (uplink, reports) = Uplink::bounded(link.queue_max);
            (uplink, Some(reports))
        }
        None => (Uplink::none(), None),
    };
    let shell = Shell::open(Arc::clone(&config), uplink).await?;
    let log = start_log(&config, &shell)?;
    let stop = CancellationToken::new();
    let background = TaskTracker::new();
    background.spawn(Arc::clone(&shell).run_prefetches(stop.clone()));
    if let Some(reports) = reports {
        background.spawn(link::run(Arc::clone(&shell), url.clone(), reports, stop.clone()));
    }
    let front = Arc::new(front(&shell, log, stop.clone())?);
    background.spawn(reload::watch(Arc::clone(&front)));
    let serving = tokio::spawn({
        let (front, listeners) = (Arc::clone(&front), transports(listeners, &config));
        async move { front.serve(listeners).await }
    });
    announce(&url);
    tell_systemd(&[NotifyState::Ready]);
    wait_for_end(&front, reloads, shutdown).await;
    tell_systemd(&[NotifyState::Stopping]);
    tracing::info!("stopping: no new connections, requests under way finish");
    stop.cancel();
    if serving.await.is_err() {
        tracing::error!("the front panicked");
    }
    background.close();
    background.wait().await;
    shell.close().await;
    if let Some(log) = &front.log {
        log.close();
    }
    if let Some(log) = &front.access_log {
        log.close();
    }
    Ok(())
}

/// Reads what the configuration names besides itself, as a node does when it starts: token, certificates, keys. What works
/// but should be looked after, such as a certificate that has expired, is logged.
///
/// # Errors
/// When a file cannot be used.
pub fn check_files(config: &NodeConfig) -> Result<()> {
    config.front.admin_token_file.as_deref().map(AdminToken::read).transpose()?;
    config.tls.as_ref().map(|tls| Loaded::read(tls, config.peers.tls.as_ref())).transpose()?;
    config.peers.tls.as_ref().map(|tls| ClientTls::of_peers(tls).for_http()).transpose()?;
    config.origin.ca.as_deref().map(|ca| ClientTls::trusting(ca).for_http()).transpose()?;
    if let Some(link) = config.link.as_ref().filter(|link| link.urls.iter().any(|url| url.scheme() == "https")) {
        ClientTls::of_link(link, config.peers.tls.as_ref()).for_grpc()?;
    }
    Ok(())
}

fn front(shell: &Arc<Shell>, log: Option<RequestLog>, stop: CancellationToken) -> Result<Front> {
    let config = &shell.config;
    let reloading = Reloading::new(config);
    let secret = config.data_dir.join("client.key");
    let pseudonyms = Pseudonyms::open(&secret).map_err(|source| Error::DataDir { path: secret, source })?;
    let admin_token = config.front.admin_token_file.as_deref().map(AdminToken::read).transpose()?;
    let tls = config.tls.as_ref().map(|tls| Loaded::read(tls, config.peers.tls.as_ref())).transpose()?;
    Ok(Front {
        shell: Arc::clone(shell),
        log,
        pseudonyms,
        admin_token: ArcSwapOption::new(admin_token.map(Arc::new)),
        tls: tls.map(ServerTls::new),
        connection_limit: ConnectionLimit::new(config.front.connections_max),
        reloading,
        access_log: start_access_log(config, shell)?,
        watchers: Watchers::new(config.front.watchers_max, config.front.watch_queue_max),
        warming: Semaphore::new(config.front.warm_concurrency_max),
        stop,
    })
}

/// What each socket speaks.
fn transports(listeners: Listeners, config: &NodeConfig) -> Vec<(TcpListener, Transport)> {
    let main = if main_speaks_tls(config) { Transport::Tls } else { Transport::Plain };
    let beside = listeners.tls.map(|listener| (listener, Transport::Tls));
    [(listeners.main, main)].into_iter().chain(beside).collect()
}

fn main_speaks_tls(config: &NodeConfig) -> bool {
    config.tls.as_ref().is_some_and(|tls| tls.listen.is_none())
}

/// Reloads whenever it is asked for, until the node shall end.
async fn wait_for_end(front: &Arc<Front>, reloads: impl Stream<Item = ()>, shutdown: impl Future) {
    tokio::pin!(reloads, shutdown);
    loop {
        tokio::select! {
            _ = &mut shutdown => return,
            Some(()) = reloads.next() => {
                // systemd wants the time with it, to tell this reload from one before.
                match NotifyState::monotonic_usec_now() {
                    Ok(now) => tell_systemd(&[NotifyState::Reloading, now]),
                    Err(error) => tracing::warn!(%error, "systemd is not told of the reload"),
                }
                reload::reload(front).await;
                tell_systemd(&[NotifyState::Ready]);
            }
        }
    }
}

/// Binds the configured addresses.
///
/// # Errors
/// When one is taken or not allowed.
pub async fn bind(config: &NodeConfig) -> Result<Listeners> {
    let main = bind_to(config.listen).await?;
    let tls = match config.tls.as_ref().and_then(|tls| tls.listen) {
        Some(address) => Some(bind_to(address).await?),
        None => None,
    };
    Ok(Listeners { main, tls })
}

async fn bind_to(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })
}

/// Takes the data folder for this process alone; the lock goes with the file, also when the process is killed.
async fn lock_data_dir(config: &NodeConfig) -> Result<File> {
    let path = config.data_dir.join("lock");
    let failed = |source| Error::DataDir { path: path.clone(), source };
    std::fs::create_dir_all(&config.data_dir).map_err(failed)?;
    let file = File::create(&path).map_err(failed)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // A process that ends, or one that it is just starting, may hold it for a moment yet.
            Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
    Err(Error::DataDirTaken { path: config.data_dir.clone() })
}

const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

fn start_log(config: &NodeConfig, shell: &Shell) -> Result<Option<RequestLog>> {
    if !config.log.is_enabled {
        return Ok(None);
    }
    RequestLog::start(&config.log, &config.name.0, &shell.metrics).map(Some)
}

fn start_access_log(config: &NodeConfig, shell: &Shell) -> Result<Option<AccessLog>> {
    let start = |log| AccessLog::start(log, &config.name.0, &config.region, &shell.metrics);
    config.access_log.as_ref().map(start).transpose()
}

/// Where peers and clients reach the node. Peers that ask by mutual TLS need the listener that speaks it.
fn advertised_url(listeners: &Listeners, config: &NodeConfig) -> Result<Url> {
    if let Some(url) = &config.advertise_url {
        return Ok(url.clone());
    }
    let (scheme, listener) = match &listeners.tls {
        _ if main_speaks_tls(config) => ("https", &listeners.main),
        Some(listener) if config.peers.tls.is_some() => ("https", listener),
        _ => ("http", &listeners.main),
    };
    let address = listener.local_addr().map_err(|source| Error::Bind { address: config.listen, source })?;
    Url::parse(&format!("{scheme}://{address}"))
        .map_err(|error| Error::ConfigValue { key: "advertise_url", problem: error.to_string() })
}

/// Tells systemd, when it started the node and waits to be told (`Type=notify`).
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

/// Tells whoever started the node that it serves, and where.
fn announce(url: &Url) {
    // With stderr gone there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "ready {}", url.as_str().trim_end_matches('/'));
}
