//! `POST /_nearcast/warm`: fetches objects before anybody asks for them, and tells what came of each.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use http::Response;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use nearcast_datasets::Set;
use serde::{Deserialize, Serialize};

use super::{Front, admin::typed, body::ResponseBody, operate};
use crate::{
    key::Key,
    shell::{WarmEnd, Warmed},
};

/// What to fetch. A key that is named twice is fetched once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    keys: Vec<String>,
    /// The most to fetch in a second for each of the objects at a time.
    bytes_per_second: Option<u64>,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    objects: Vec<ObjectReport>,
}

#[derive(Debug, Serialize)]
struct ObjectReport {
    key: String,
    #[serde(flatten)]
    warmed: Warmed,
}

/// Carries out the order in the body. When the client leaves before the end, so does the work.
pub(super) async fn handle(front: &Arc<Front>, body: Incoming) -> Response<ResponseBody> {
    let body = match Limited::new(body, ORDER_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            return operate::bad(
                front,
                format!("the order cannot be read, or is above {ORDER_BYTES_MAX} bytes: {error}"),
            );
        }
    };
    let order: Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => return operate::bad(front, format!("no order such as {{\"keys\": [\"/a\"]}}: {error}")),
    };
    if order.keys.len() > KEYS_MAX {
        return operate::bad(front, format!("{} keys; {KEYS_MAX} at a time is the most", order.keys.len()));
    }
    let pace = order.bytes_per_second;
    let mut named = Set::default();
    let keys: Vec<String> = order.keys.into_iter().filter(|key| named.insert(key.clone())).collect();
    let warming = stream::iter(keys).map(|key| warm(front, key, pace));
    let objects = warming.buffered(front.shell.config.front.warm_concurrency_max).collect().await;
    let report = Report { schema: "nearcast.warm/1", objects };
    match serde_json::to_string(&report) {
        Ok(document) => typed(document, "application/json"),
        Err(error) => operate::bad(front, error.to_string()),
    }
}

async fn warm(front: &Arc<Front>, text: String, bytes_per_second: Option<u64>) -> ObjectReport {
    let warmed = match Key::parse(&text) {
        Err(error) => Warmed::failed(error.to_string()),
        Ok(key) => {
            // Never closed. Held until the object is there, so that all orders together keep to the bound.
            let _permit = front.warming.acquire().await;
            tokio::select! {
                warmed = front.shell.warm(&key, bytes_per_second) => warmed,
                () = front.stop.cancelled() => Warmed::failed("the node is stopping".to_owned()),
                () = tokio::time::sleep(OBJECT_TIMEOUT) => Warmed::failed("it took too long".to_owned()),
            }
        }
    };
    if let WarmEnd::Failed = warmed.outcome {
        tracing::info!(key = text, problem = warmed.detail, "an object could not be fetched ahead");
    }
    ObjectReport { key: text, warmed }
}

const ORDER_BYTES_MAX: usize = 4 << 20;
/// Objects of one order.
const KEYS_MAX: usize = 1_024;
/// For one object, however large and however slowly it shall be fetched.
const OBJECT_TIMEOUT: Duration = Duration::from_secs(3_600);
