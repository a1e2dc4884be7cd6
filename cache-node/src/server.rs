//! A node from start to end.

use std::{
    fs::File,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use crate::{
    access_log::AccessLog,
    config::NodeConfig,
    error::{Error, Result},
    front::{AdminToken, Front, Pseudonyms},
    link::{self, Uplink},
    log::RequestLog,
    shell::Shell,
    watch::Watchers,
};

/// Runs a node on `listener` until `shutdown` resolves; then requests under way finish and everything is written out.
///
/// # Errors
/// When the data folder cannot be used, another node uses it, or the configuration turns out not to work.
pub async fn run(listener: TcpListener, config: NodeConfig, shutdown: impl Future) -> Result<()> {
    let config = Arc::new(config);
    let _lock = lock_data_dir(&config).await?;
    let url = advertised_url(&listener, &config)?;
    let (uplink, reports) = match &config.link {
        Some(link) => {
            let (uplink, reports) = Uplink::bounded(link.queue_max);
            (uplink, Some(reports))
        }
        None => (Uplink::none(), None),
    };
    let shell = Shell::open(Arc::clone(&config), uplink).await?;
    let log = start_log(&config, &shell)?;
    let secret = config.data_dir.join("client.key");
    let pseudonyms = Pseudonyms::open(&secret).map_err(|source| Error::DataDir { path: secret, source })?;
    let token_file = config.front.admin_token_file.as_deref();
    let admin_token = token_file.map(AdminToken::read).transpose()?;
    let access_log = start_access_log(&config, &shell)?;
    let watchers = Watchers::new(config.front.watchers_max, config.front.watch_queue_max);
    let stop = CancellationToken::new();
    let background = TaskTracker::new();
    background.spawn(Arc::clone(&shell).run_prefetches(stop.clone()));
    if let Some(reports) = reports {
        background.spawn(link::run(Arc::clone(&shell), url.clone(), reports, stop.clone()));
    }
    let front = Arc::new(Front {
        shell: Arc::clone(&shell),
        log,
        pseudonyms,
        admin_token,
        access_log,
        watchers,
        warming: Semaphore::new(config.front.warm_concurrency_max),
        stop: stop.clone(),
    });
    let serving = tokio::spawn({
        let front = Arc::clone(&front);
        async move { front.serve(listener).await }
    });
    announce(&url);
    tell_systemd(NotifyState::Ready);
    shutdown.await;
    tell_systemd(NotifyState::Stopping);
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

/// Binds the configured address.
///
/// # Errors
/// When it is taken or not allowed.
pub async fn bind(config: &NodeConfig) -> Result<TcpListener> {
    TcpListener::bind(config.listen).await.map_err(|source| Error::Bind { address: config.listen, source })
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

/// Where peers and clients reach the node.
fn advertised_url(listener: &TcpListener, config: &NodeConfig) -> Result<Url> {
    if let Some(url) = &config.advertise_url {
        return Ok(url.clone());
    }
    let address = listener.local_addr().map_err(|source| Error::Bind { address: config.listen, source })?;
    Url::parse(&format!("http://{address}"))
        .map_err(|error| Error::ConfigValue { key: "advertise_url", problem: error.to_string() })
}

/// Tells systemd, when it started the node and waits to be told (`Type=notify`).
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

/// Tells whoever started the node that it serves, and where.
fn announce(url: &Url) {
    // With stderr gone there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "ready {}", url.as_str().trim_end_matches('/'));
}
