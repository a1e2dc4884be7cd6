//! The service around the engine.
//!
//! One task owns the engine ([`actor`]); everything else sends it messages through one bounded queue ([`inputs`]): the
//! streams of nodes, operators' questions and the watch over the registry. What the engine orders goes into one bounded
//! queue per node, from which the node's stream is fed.

mod actor;
mod control;
mod controller;
mod experiment_control;
mod fleet;
mod http;
mod input;
mod inputs;
mod members;
mod outgoing;
mod page;
mod registry_watch;
mod relay;
mod status;
mod streams;

use std::{future::Future, sync::Arc, time::Duration};

use nearcast_models::Registry;
use nearcast_proto::{AdminToken, ControlServer, PredictorServer, wire};
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet, spawn_blocking},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::{
    Server,
    server::{Router, TcpIncoming},
};
use tonic_health::server::HealthReporter;

use self::{
    control::{ControlService, Versions},
    controller::{Controller, Resumed},
    fleet::{OpenFleet, RunningFleet},
    http::HttpState,
    input::{Input, RelayedAsk},
    inputs::Inputs,
    page::Page,
    registry_watch::RegistryWatch,
    streams::NodeStreams,
};
use crate::{
    Error, PlacementKind, PredictorConfig, Result,
    arms::ArmSpec,
    clock,
    data_lock::DataLock,
    engine::Engine,
    events::{EventBus, EventFile},
    experiments::Experiments,
    generation::Generation,
    metrics::Metrics,
    placing::{Board, Placing, PlacingThreads},
    purges::PurgeLog,
};

/// Runs a predictor on the two listeners until `shutdown` resolves, then ends streams, drains and returns.
///
/// gRPC (nodes, control, health and reflection) is served on `listener`; probes, metrics, status and the page on
/// `http_listener`.
///
/// # Errors
/// When the data folder or the registry cannot be used, and when serving fails.
pub async fn run(
    listener: TcpListener,
    http_listener: TcpListener,
    config: PredictorConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let service = Service::start(listener, http_listener, &config).await?;
    service.until(shutdown).await
}

/// Everything that runs.
struct Service {
    /// Held until everything has ended.
    _lock: DataLock,
    drain: Duration,
    cancel: CancellationToken,
    ready: watch::Sender<bool>,
    health: HealthReporter,
    readers: TaskTracker,
    servers: JoinSet<Result<()>>,
    engine: JoinHandle<()>,
    event_file: JoinHandle<()>,
    placing: Vec<JoinHandle<()>>,
    fleet: Option<RunningFleet>,
}

/// What nothing can begin without: numbers of its own and the purges there were.
struct Ground {
    generation: Generation,
    purges: Arc<PurgeLog>,
    fleet: Option<OpenFleet>,
}

impl Ground {
    async fn lay(listener: &TcpListener, config: &PredictorConfig) -> Result<Self> {
        let Some(bus) = &config.bus else {
            let generation = Generation::begin(&config.data_dir)?;
            let purges = Arc::new(PurgeLog::open(&config.data_dir)?);
            return Ok(Self { generation, purges, fleet: None });
        };
        let listen = listener.local_addr().map_or_else(|_| config.listen.clone(), |address| address.to_string());
        let (fleet, purges) = OpenFleet::open(config, bus, &listen).await?;
        Ok(Self { generation: fleet.generation(), purges, fleet: Some(fleet) })
    }
}

impl Service {
    async fn start(listener: TcpListener, http_listener: TcpListener, config: &PredictorConfig) -> Result<Self> {
        let lock = DataLock::take(&config.data_dir)?;
        let Ground { generation, purges, fleet } = Ground::lay(&listener, config).await?;
        let token = config.admin_token_file.as_deref().map(AdminToken::read).transpose()?;
        let mut server = Server::builder();
        if let Some(tls) = &config.tls {
            server = server.tls_config(tls.for_grpc().map_err(Error::Certificate)?).map_err(Error::ServeGrpc)?;
        }
        let metrics = Metrics::new();
        let file = EventFile::open(&config.data_dir, config.events)?;
        let prefix = generation.epoch(0).0.to_string();
        let (events, mut queue) = EventBus::new(prefix, config.events.queue_max, metrics.events_dropped.clone());
        let registry = config.registry.as_deref().map(Registry::open).transpose()?.map(Arc::new);
        let (answers, asks) = mpsc::channel(relay::ASKS_MAX);
        let ground = (generation, Arc::clone(&purges), fleet.as_ref());
        let (controller, threads, board) =
            make_controller(config, ground, registry.as_deref(), (events, metrics.clone()), answers)?;
        let versions = registry.clone().map(|registry| Versions { registry, alias: config.alias.clone() });
        let (inputs, receiver) = Inputs::bounded(config.queues.inputs_max);
        let (log, shared) = fleet.as_ref().map(|fleet| (fleet.log(), fleet.purges())).unzip();
        let (health, health_server) = tonic_health::server::health_reporter();
        let mut service = Self {
            _lock: lock,
            drain: config.drain,
            cancel: CancellationToken::new(),
            ready: watch::channel(false).0,
            health,
            readers: TaskTracker::new(),
            servers: JoinSet::new(),
            engine: tokio::spawn(actor::drive(controller, receiver, metrics.clone())),
            event_file: spawn_blocking(move || file.write_all(&mut queue)),
            placing: threads.map(|threads| start_placing(threads, config, &inputs)).unwrap_or_default(),
            fleet: None,
        };
        if let Some(fleet) = fleet {
            service.fleet = Some(fleet.start(&inputs, metrics.clone(), registry.clone()).await?);
        }
        let standing = service.fleet.as_ref().map(RunningFleet::standing);
        service.watch_registry(registry.clone(), config, &inputs);
        let http =
            HttpState { inputs: inputs.clone(), metrics: metrics.clone(), ready: service.ready.subscribe(), standing };
        let control = ControlService { inputs: inputs.clone(), purges: Arc::clone(&purges), token, versions, shared };
        let (members, cancel) = (control.clone(), service.cancel.clone());
        service.servers.spawn(async move {
            members.answer_members(asks, cancel).await;
            Ok(())
        });
        let page = Page::new(control.clone(), config.page, config.topology.clone(), registry);
        service.serve_http(http_listener, http, page);
        let streams = NodeStreams {
            inputs: inputs.clone(),
            metrics,
            purges: Arc::clone(&purges),
            board,
            hello: config.hello,
            shutdown: service.cancel.clone(),
            readers: service.readers.clone(),
            log,
        };
        let routes = server
            .http2_keepalive_interval(Some(config.keepalive))
            .http2_keepalive_timeout(Some(config.keepalive))
            .add_service(PredictorServer::new(streams))
            .add_service(ControlServer::new(control).max_decoding_message_size(REQUEST_BYTES_MAX))
            .add_service(health_server)
            .add_service(reflection());
        service.serve_grpc(listener, routes);
        Ok(service)
    }

    fn serve_grpc(&mut self, listener: TcpListener, routes: Router) {
        let cancelled = self.cancel.clone().cancelled_owned();
        self.servers.spawn(async move {
            // Commands and acknowledgements are small and follow each other: Nagle would hold every second one back.
            let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
            routes.serve_with_incoming_shutdown(connections, cancelled).await.map_err(Error::ServeGrpc)
        });
    }

    /// Without a registry the service is ready at once.
    fn watch_registry(&mut self, registry: Option<Arc<Registry>>, config: &PredictorConfig, inputs: &Inputs) {
        let ready = self.ready.clone();
        match registry {
            Some(registry) => {
                let (alias, pause) = (config.alias.clone(), config.registry_poll);
                let watch = RegistryWatch::new(registry, alias, pause, inputs.clone());
                let cancel = self.cancel.clone();
                self.servers.spawn(async move {
                    watch.run(ready, cancel).await;
                    Ok(())
                });
            }
            None => drop(ready.send_replace(true)),
        }
        let (health, mut ready, cancel) = (self.health.clone(), self.ready.subscribe(), self.cancel.clone());
        self.servers.spawn(async move {
            // Tonic's reporter says that the whole server (the empty name) serves from the start: that is liveness.
            health.set_not_serving::<PredictorServer<NodeStreams>>().await;
            let is_ready = tokio::select! {
                () = cancel.cancelled() => false,
                ready = ready.wait_for(|is_ready| *is_ready) => ready.is_ok(),
            };
            if is_ready {
                health.set_serving::<PredictorServer<NodeStreams>>().await;
                tell_systemd(NotifyState::Ready);
            }
            Ok(())
        });
    }

    fn serve_http(&mut self, listener: TcpListener, state: HttpState, page: Page) {
        let (cancelled, cancel) = (self.cancel.clone().cancelled_owned(), self.cancel.clone());
        let routes = http::router(state).merge(page.clone().router());
        self.servers.spawn(async move {
            page.watch(cancel).await;
            Ok(())
        });
        self.servers.spawn(async move {
            let serve = axum::serve(listener, routes).with_graceful_shutdown(cancelled);
            serve.await.map_err(Error::ServeHttp)
        });
    }

    /// Waits for `shutdown`, or for something to fail; either way everything is ended in order.
    async fn until(mut self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            failure = first_failure(&mut self.servers) => failure,
            _ = &mut self.engine => return Err(Error::EngineStopped),
        };
        let drain = self.drain;
        if timeout(drain, self.drain()).await.is_err() {
            tracing::warn!(?drain, "not everything ended in time");
        }
        outcome
    }

    async fn drain(mut self) {
        tell_systemd(NotifyState::Stopping);
        self.ready.send_replace(false);
        self.health.set_not_serving::<PredictorServer<NodeStreams>>().await;
        self.cancel.cancel();
        self.readers.close();
        self.readers.wait().await;
        while self.servers.join_next().await.is_some() {}
        let bus = match self.fleet.take() {
            Some(fleet) => Some(fleet.leave().await),
            None => None,
        };
        // Every sender is gone now, so the engine's task ends, and with it the event bus and the event log.
        let _ = self.engine.await;
        let _ = self.event_file.await;
        if let Some(bus) = bus {
            bus.close().await;
        }
        for thread in self.placing {
            let _ = thread.await;
        }
    }
}

/// The controller with what it goes on with, the threads that placement works in, and the map that nodes are told.
fn make_controller(
    config: &PredictorConfig,
    (generation, purges, fleet): (Generation, Arc<PurgeLog>, Option<&OpenFleet>),
    registry: Option<&Registry>,
    (events, metrics): (EventBus, Metrics),
    answers: mpsc::Sender<RelayedAsk>,
) -> Result<(Controller, Option<PlacingThreads>, Arc<Board>)> {
    let (placing, threads) = open_placing(config)?;
    let board = board(fleet, placing.as_ref());
    let engine = make_engine(config, fleet);
    // In a fleet whoever holds the office takes them up.
    let experiments = match fleet {
        Some(_) => None,
        None => Some(Experiments::open(&config.data_dir, config.slot, clock::now())?),
    };
    let challengers = experiments.as_ref().map(Experiments::challengers).unwrap_or_default();
    let resumed = resumed(registry, challengers);
    let mut controller = Controller::new(engine, experiments, generation, purges, config, events, metrics)
        .with_placing(placing)
        .with_fleet(fleet.map(|fleet| fleet.side(answers)));
    controller.resume(clock::now(), resumed);
    Ok((controller, threads, board))
}

/// An error with its causes.
fn explain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// An engine that knows nothing yet, divided as the log is where there are several predictors.
fn make_engine(config: &PredictorConfig, fleet: Option<&OpenFleet>) -> Engine {
    let mut engine = Engine::new(config.engine.clone(), config.topology.clone());
    if let Some(fleet) = fleet {
        engine = engine.divided(fleet.partitions());
    }
    engine.set_arm(config.arm, false);
    engine
}

/// Tells systemd, when it started the predictor and waits to be told (`Type=notify`).
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

/// Takes placement up where it is configured.
fn open_placing(config: &PredictorConfig) -> Result<(Option<Placing>, Option<PlacingThreads>)> {
    // In a fleet whoever holds the office takes it up.
    if config.placement.kind == PlacementKind::None || config.bus.is_some() {
        return Ok((None, None));
    }
    let (settings, topology) = (config.placement.clone(), config.topology.clone());
    let (placing, threads) = Placing::open(settings, topology, &config.data_dir, clock::now())?;
    Ok((Some(placing), Some(threads)))
}

/// The map that nodes are told: everybody's, one's own, or one on which nothing will ever be.
fn board(fleet: Option<&OpenFleet>, placing: Option<&Placing>) -> Arc<Board> {
    let own = || placing.map_or_else(Placing::empty_board, Placing::board);
    fleet.map_or_else(own, OpenFleet::board)
}

/// Starts what plans and what writes the map down; both end after the engine's task.
fn start_placing(threads: PlacingThreads, config: &PredictorConfig, inputs: &Inputs) -> Vec<JoinHandle<()>> {
    let inputs = inputs.downgrade();
    let publish = move |planned| {
        // The engine being gone is how the service ends.
        let _ = inputs.tell_blocking(Input::Planned(planned));
    };
    threads.start(&config.data_dir, publish).into()
}

/// Resolves when a server fails; one that ends because its work is done does not count.
async fn first_failure(servers: &mut JoinSet<Result<()>>) -> Result<()> {
    loop {
        match servers.join_next().await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return Err(error),
            Some(Err(_)) | None => return Err(Error::EngineStopped),
        }
    }
}

/// The models of arms that were at work when the predictor ended.
fn resumed(registry: Option<&Registry>, challengers: Vec<(String, ArmSpec)>) -> Vec<Resumed> {
    let load = |spec: &ArmSpec| {
        let Some(version) = &spec.version else { return Ok(None) };
        let registry = registry.ok_or_else(|| "there is no registry".to_owned())?;
        registry.load(version).map(|(_, model)| Some(Arc::new(model))).map_err(|error| error.to_string())
    };
    challengers.into_iter().map(|(name, spec)| (name, spec.clone(), load(&spec))).collect()
}

fn reflection()
-> tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the generated descriptors are well-formed")
}

/// What operators may send at once: the history of some hundred nodes.
const REQUEST_BYTES_MAX: usize = 64 << 20;
