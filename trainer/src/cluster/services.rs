//! The scheduler and the executors, as services of this binary.

use std::{future::Future, io, path::PathBuf, sync::Arc};

use ballista_core::extension::SessionConfigExt;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::{
    cluster::BallistaCluster,
    config::{SchedulerConfig, TaskDistributionPolicy},
    scheduler_process::{create_scheduler, start_grpc_service_with_listener},
};
use datafusion::{
    execution::{SessionState, SessionStateBuilder},
    prelude::SessionConfig,
};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::net::TcpListener;

use super::{codec::Codec, stores};
use crate::{Error, Result};

/// How an executor runs.
#[derive(Clone, Debug)]
pub struct ExecutorOptions {
    /// Host and port of the scheduler.
    pub scheduler: (String, u16),
    /// Address to listen on.
    pub bind: String,
    /// The host under which scheduler, trainer and other executors reach it.
    pub host: String,
    /// Port that results are fetched from.
    pub port: u16,
    /// Port that tasks arrive at.
    pub grpc_port: u16,
    /// Tasks at a time.
    pub cores: usize,
    /// Folder for results and for what spills.
    pub work: PathBuf,
}

/// Serves a scheduler on `listener` until `shutdown`; executors are told to reach it as `host`.
///
/// # Errors
/// [`Error::Cluster`] when it cannot start or breaks off.
pub async fn run_scheduler(listener: TcpListener, host: &str, shutdown: impl Future<Output = ()>) -> Result<()> {
    let address = listener.local_addr().map_err(|error| failed(host, &error))?;
    let scheduler = format!("{host}:{}", address.port());
    let codec = Arc::new(Codec::new(std::env::temp_dir()));
    let mut config = SchedulerConfig {
        external_host: host.to_owned(),
        bind_port: address.port(),
        task_distribution: TaskDistributionPolicy::RoundRobin,
        executor_timeout_seconds: EXECUTOR_TIMEOUT_SECONDS,
        expire_dead_executor_interval_seconds: EXPIRY_SECONDS,
        no_executors_grace_period_seconds: GRACE_SECONDS,
        ..SchedulerConfig::default()
    };
    let known = Arc::clone(&codec);
    config.override_config_producer = Some(Arc::new(move || session_config(&known)));
    config.override_session_builder = Some(Arc::new(session_state));
    config.override_physical_codec = Some(codec);
    let serve = async {
        let cluster = BallistaCluster::new_from_config(&config).await?;
        let server = create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, Arc::new(config)).await?;
        start_grpc_service_with_listener(listener, server).await
    };
    tokio::select! {
        served = serve => served.map_err(|error| failed(&scheduler, &error)),
        () = shutdown => Ok(()),
    }
}

/// Runs an executor until SIGTERM or Ctrl-C: it finishes what it has under way first.
///
/// # Errors
/// [`Error::Cluster`] when it cannot start, or cannot reach the scheduler.
pub async fn run_executor(options: ExecutorOptions) -> Result<()> {
    let ExecutorOptions { scheduler: (scheduler_host, scheduler_port), bind, host, port, grpc_port, cores, work } =
        options;
    let name = format!("{scheduler_host}:{scheduler_port}");
    let scratch = |source: io::Error| Error::Scratch { path: work.clone(), source };
    std::fs::create_dir_all(&work).map_err(scratch)?;
    let codec = Arc::new(Codec::new(work.clone()));
    let known = Arc::clone(&codec);
    let config = ExecutorProcessConfig {
        bind_host: bind,
        external_host: Some(host),
        port,
        grpc_port,
        scheduler_host,
        scheduler_port,
        scheduler_connect_timeout_seconds: CONNECT_SECONDS,
        vcores: cores,
        work_dir: Some(work.display().to_string()),
        job_data_ttl_seconds: RESULT_SECONDS,
        job_data_clean_up_interval_seconds: RESULT_SECONDS,
        executor_heartbeat_interval_seconds: HEARTBEAT_SECONDS,
        override_runtime_producer: Some(Arc::new(|_| stores::runtime())),
        override_config_producer: Some(Arc::new(move || session_config(&known))),
        override_physical_codec: Some(codec),
        ..ExecutorProcessConfig::default()
    };
    start_executor_process(Arc::new(config)).await.map_err(|error| failed(&name, &error))
}

fn session_config(codec: &Arc<Codec>) -> SessionConfig {
    SessionConfig::new_with_ballista().with_ballista_physical_extension_codec(Arc::clone(codec) as _)
}

fn session_state(config: SessionConfig) -> datafusion::error::Result<SessionState> {
    let builder = SessionStateBuilder::new().with_config(config).with_runtime_env(stores::runtime()?);
    Ok(builder.with_default_features().build())
}

fn failed(scheduler: &str, error: &dyn std::error::Error) -> Error {
    Error::Cluster { scheduler: scheduler.to_owned(), problem: error.to_string() }
}

/// An executor that is silent for so long is lost, and its tasks go to others.
const EXECUTOR_TIMEOUT_SECONDS: u64 = 10;
const HEARTBEAT_SECONDS: u64 = 2;
const EXPIRY_SECONDS: u64 = 2;
/// How long jobs wait when the last executor is lost.
const GRACE_SECONDS: u64 = 60;
/// How long an executor waits for its scheduler at start.
const CONNECT_SECONDS: u16 = 30;
/// How long results are kept.
const RESULT_SECONDS: u64 = 3_600;
