//! The page for operators, and what it reads and changes.
//!
//! | path | gives |
//! | --- | --- |
//! | `GET /`, `GET /page/…` | the page's files |
//! | `GET /api/status?after=N` | [`PageDocument`], with the samples above number N |
//! | `GET /api/key?key=K` | one key's story |
//! | `POST /api/arm` | puts an arm in force; needs the admin token |
//!
//! Reading needs no token. What changes something needs one in the header `Authorization`, which no other site can make
//! a browser send, and a body that says it is JSON. Where no admin token is configured, nothing can be changed from here:
//! whoever reaches the port would otherwise be an administrator.

mod assets;
mod document;
mod history;
mod registry;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use nearcast_models::Registry;
use nearcast_proto::{convert::KEY_BYTES_MAX, topology::Topology};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use self::{
    document::{Controls, PageDocument, Regions, SCHEMA, Series},
    history::History,
    registry::RegistryView,
};
use super::{
    control::{ARMS, ControlService, parse_arm},
    experiment_control::action_named,
    input::{ExperimentAction, Input},
    inputs::EngineGone,
};
use crate::{PageSettings, clock, engine::Arm, experiments::Deed};

/// What the handlers answer from. A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Page(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    control: ControlService,
    settings: PageSettings,
    topology: Topology,
    history: History,
    registry: RegistryView,
}

impl Page {
    pub(super) fn new(
        control: ControlService,
        settings: PageSettings,
        topology: Topology,
        registry: Option<Arc<Registry>>,
    ) -> Self {
        let history = History::new(settings.samples_max);
        Self(Arc::new(Shared { control, settings, topology, history, registry: RegistryView::new(registry) }))
    }

    /// The routes; serving them is the caller's.
    pub(super) fn router(self) -> Router {
        let files = assets::paths().fold(Router::new(), |router, path| router.route(path, get(file)));
        files
            .route("/api/status", get(status))
            .route("/api/key", get(key))
            .route("/api/experiment", post(experiment).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)))
            .route("/api/arm", post(set_arm).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)))
            .with_state(self)
    }

    /// Takes samples, and looks at the registry, until `shutdown`. A registry that is slow to answer holds up no sample.
    pub(super) async fn watch(self, shutdown: CancellationToken) {
        let Shared { control: ControlService { inputs, .. }, settings, history, registry, .. } = &*self.0;
        let mut pause = interval(Duration::from_secs_f64(settings.sample_seconds));
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watch = async {
            loop {
                pause.tick().await;
                let Ok(facts) = inputs.ask(Input::Facts).await else { return };
                history.record(clock::now(), &facts);
            }
        };
        let look = async {
            loop {
                registry.look().await;
                sleep(REGISTRY_PAUSE).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = watch => {}
            () = look => {}
        }
    }

    async fn document(&self, after: u64) -> Result<PageDocument, EngineGone> {
        let shared = &*self.0;
        let (facts, experiments) = shared.control.inputs.ask(Input::Page).await?;
        let may_change = shared.control.token.is_some();
        Ok(PageDocument {
            schema: SCHEMA,
            now_ms: clock::now().micros() / 1_000,
            nodes: facts.tallies.nodes.into_values().collect(),
            regions: Regions::new(&facts.status, &shared.topology),
            status: facts.status,
            experiments,
            registry: shared.registry.read(),
            series: Series {
                sample_seconds: shared.settings.sample_seconds,
                samples_max: shared.settings.samples_max,
                samples: shared.history.after(after),
            },
            controls: Controls {
                set_arm: may_change.then_some("/api/arm"),
                arms: ARMS.map(Arm::name).to_vec(),
                experiment: may_change.then_some("/api/experiment"),
            },
        })
    }

    /// Whether whoever asks may change something; otherwise what to answer.
    fn check_change(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.0.control.token else {
            let message = "nothing can be changed from here: the predictor has no `admin_token_file`";
            return Err(Refusal(StatusCode::FORBIDDEN, message.to_owned()));
        };
        let given = headers.get(header::AUTHORIZATION);
        if !given.is_some_and(|given| token.is_in(given.as_bytes())) {
            return Err(Refusal(StatusCode::UNAUTHORIZED, "this needs the predictor's admin token".to_owned()));
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().map(str::trim) != Some("application/json") {
            let message = "the body must be application/json".to_owned();
            return Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        Ok(())
    }
}

/// Why something is not done, as a status and a document.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, [NO_STORE], Json(json!({ "error": self.1 }))).into_response();
        if self.0 == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<tonic::Status> for Refusal {
    fn from(status: tonic::Status) -> Self {
        let code = match status.code() {
            tonic::Code::NotFound => StatusCode::NOT_FOUND,
            tonic::Code::FailedPrecondition => StatusCode::CONFLICT,
            tonic::Code::InvalidArgument => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(code, status.message().to_owned())
    }
}

impl From<EngineGone> for Refusal {
    fn from(gone: EngineGone) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, gone.to_string())
    }
}

async fn file(uri: Uri, headers: HeaderMap) -> Response {
    assets::serve(uri.path(), &headers)
}

#[derive(Debug, Deserialize)]
struct StatusQuery {
    #[serde(default)]
    after: u64,
}

async fn status(State(page): State<Page>, Query(query): Query<StatusQuery>) -> Result<Response, Refusal> {
    Ok(([NO_STORE], Json(page.document(query.after).await?)).into_response())
}

#[derive(Debug, Deserialize)]
struct KeyQuery {
    key: Arc<str>,
}

async fn key(State(page): State<Page>, Query(query): Query<KeyQuery>) -> Result<Response, Refusal> {
    if query.key.is_empty() || query.key.len() > KEY_BYTES_MAX {
        let message = format!("a key has 1 to {KEY_BYTES_MAX} bytes, and this one {}", query.key.len());
        return Err(Refusal(StatusCode::BAD_REQUEST, message));
    }
    let story = page.0.control.inputs.ask(|reply| Input::KeyStory(query.key, reply)).await?;
    Ok(([NO_STORE], Json(story)).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArmChange {
    arm: String,
    /// Whether to forget everything that was learnt online.
    #[serde(default)]
    reset: bool,
}

async fn set_arm(State(page): State<Page>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    page.check_change(&headers)?;
    let bad = |message: String| Refusal(StatusCode::BAD_REQUEST, message);
    let ArmChange { arm, reset } = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
    let arm = parse_arm(&arm)?;
    page.0.control.set(arm, reset).await?;
    tracing::info!(arm = arm.name(), reset, "arm set from the page");
    Ok(([NO_STORE], Json(json!({ "schema": "nearcast.arm/1", "arm": arm.name() }))).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExperimentChange {
    name: String,
    action: String,
    why: String,
}

/// Does what `nearcast experiment` does with an experiment that is there.
async fn experiment(State(page): State<Page>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    page.check_change(&headers)?;
    let bad = |message: String| Refusal(StatusCode::BAD_REQUEST, message);
    let change: ExperimentChange = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
    let ExperimentChange { name, action: word, why } = change;
    let deed = Deed { name: Some(name), who: "page".to_owned(), why, full: false, question: None };
    let action = action_named(&word, &deed)?;
    if !matches!(action, ExperimentAction::Change(_)) {
        return Err(bad(format!("`{word}` is not done from the page")));
    }
    let json = page.0.control.answer(action, deed).await?;
    Ok(([NO_STORE, (header::CONTENT_TYPE, "application/json")], json).into_response())
}

const NO_STORE: (header::HeaderName, &str) = (header::CACHE_CONTROL, "no-store");
const BODY_BYTES_MAX: usize = 4_096;
/// Between two looks at the registry, which may be far away.
const REGISTRY_PAUSE: Duration = Duration::from_secs(10);
