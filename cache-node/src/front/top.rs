//! `GET /_nearcast/top`: looks at requests for a few seconds and tells what was asked for most.
//!
//! Nothing is counted for it while nobody asks. The query says `by` (`key`, `prefix` with `depth`, `client`, `cause`), `sort`
//! (`requests`, `bytes`, `misses`), `seconds` and `limit`, and may hold the conditions of a [`Filter`] besides.

use std::{sync::Arc, time::Duration};

use http::{Response, StatusCode};
use serde_json::json;
use url::form_urlencoded;

use super::{Front, admin::typed, body::ResponseBody, operate, respond::text};
use crate::{
    clock::Stopwatch,
    watch::{By, Filter, Hottest, Watch, Weight},
};

/// What is asked for.
struct Ask {
    by: By,
    weight: Weight,
    window: Duration,
    limit: usize,
}

/// Answers once it has looked for as long as the query says.
pub(super) async fn handle(front: &Arc<Front>, query: &str) -> Response<ResponseBody> {
    let ask = match Ask::parse(query) {
        Ok(ask) => ask,
        Err(problem) => return operate::bad(front, problem),
    };
    let filter = match Filter::parse(query) {
        Ok(filter) => filter,
        Err(error) => return operate::bad(front, error.to_string()),
    };
    let Some(watch) = front.watchers.join(filter, false, &front.shell.metrics) else { return operate::full(front) };
    tokio::select! {
        document = look(front, &ask, watch) => typed(document, "application/json"),
        () = front.stop.cancelled() => text(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    }
}

async fn look(front: &Front, ask: &Ask, mut watch: Watch) -> String {
    let mut hottest = Hottest::new(ask.by, ask.weight, NAMES_MAX);
    let stopwatch = Stopwatch::start();
    let looking = async {
        while let Some(seen) = watch.requests.recv().await {
            hottest.add(&seen);
        }
    };
    // It does not end by itself: the node goes on.
    let _ = tokio::time::timeout(ask.window, looking).await;
    let (weight, requests) = hottest.totals();
    let config = &front.shell.config;
    json!({
        "schema": "nearcast.top/1",
        "node": &*config.name.0,
        "region": &*config.region,
        "seconds": stopwatch.elapsed().as_secs_f64(),
        "requests": requests,
        "lost": watch.take_lost(),
        "weight": weight,
        "top": hottest.top(ask.limit),
    })
    .to_string()
}

impl Ask {
    fn parse(query: &str) -> Result<Self, String> {
        let mut ask =
            Self { by: By::Key, weight: Weight::Requests, window: Duration::from_secs(2), limit: LIMIT_DEFAULT };
        let mut depth = 1;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (&*name, &*value) {
                ("by", "key") => ask.by = By::Key,
                ("by", "prefix") => ask.by = By::Prefix(depth),
                ("by", "client") => ask.by = By::Client,
                ("by", "cause") => ask.by = By::Cause,
                ("by", other) => return Err(format!("`{other}` is none of key, prefix, client, cause")),
                ("sort", "requests") => ask.weight = Weight::Requests,
                ("sort", "bytes") => ask.weight = Weight::Bytes,
                ("sort", "misses") => ask.weight = Weight::Misses,
                ("sort", other) => return Err(format!("`{other}` is none of requests, bytes, misses")),
                ("depth", text) => depth = within("depth", text, 1.0..=DEPTH_MAX)? as usize,
                ("limit", text) => ask.limit = within("limit", text, 1.0..=LIMIT_MAX)? as usize,
                ("seconds", text) => {
                    ask.window = Duration::from_secs_f64(within("seconds", text, 0.01..=SECONDS_MAX)?);
                }
                _ => {}
            }
        }
        if let By::Prefix(folders) = &mut ask.by {
            *folders = depth;
        }
        Ok(ask)
    }
}

fn within(name: &str, text: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("{name}: `{text}` is no number from {} to {}", range.start(), range.end()))
}

/// Names that are counted at a time: what is above a thousandth of the whole is never missed.
const NAMES_MAX: usize = 2_048;
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: f64 = 1_000.0;
const DEPTH_MAX: f64 = 64.0;
const SECONDS_MAX: f64 = 60.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_says_what_to_look_for() {
        let ask = Ask::parse("by=prefix&depth=3&sort=bytes&seconds=0.5&limit=7&key_prefix=/a").unwrap();
        assert_eq!((ask.by, ask.weight, ask.limit), (By::Prefix(3), Weight::Bytes, 7));
        assert_eq!(ask.window, Duration::from_millis(500));
        for (query, word) in [("by=host", "host"), ("sort=age", "age"), ("seconds=nan", "nan"), ("limit=0", "limit")] {
            assert!(Ask::parse(query).err().is_some_and(|problem| problem.contains(word)), "{query}");
        }
    }
}
