//! The page's files, which are part of the program.

use std::sync::LazyLock;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// One file.
#[derive(Debug)]
struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! assets {
    ($($path:literal $kind:ident $file:literal),* $(,)?) => {
        [$(Asset { path: $path, kind: $kind, text: include_str!(concat!("../../../page/", $file)) }),*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

static ASSETS: [Asset; 14] = assets![
    "/" HTML "index.html",
    "/page/style.css" CSS "style.css",
    "/page/icon.svg" SVG "icon.svg",
    "/page/app.js" JS "app.js",
    "/page/actions.js" JS "actions.js",
    "/page/chart.js" JS "chart.js",
    "/page/dom.js" JS "dom.js",
    "/page/experiments.js" JS "experiments.js",
    "/page/key.js" JS "key.js",
    "/page/map.js" JS "map.js",
    "/page/models.js" JS "models.js",
    "/page/places.js" JS "places.js",
    "/page/predictors.js" JS "predictors.js",
    "/page/series.js" JS "series.js",
];

/// The hashes of the files, in their order.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    ASSETS.iter().map(|asset| format!("\"{}\"", &blake3::hash(asset.text.as_bytes()).to_hex()[..32])).collect()
});

/// Every path that has a file.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    ASSETS.iter().map(|asset| asset.path)
}

/// The file at a path; unchanged ones are not sent again.
pub(super) fn serve(path: &str, headers: &HeaderMap) -> Response {
    let Some(place) = ASSETS.iter().position(|asset| asset.path == path) else {
        return (StatusCode::NOT_FOUND, "there is nothing here; the page is at /\n").into_response();
    };
    let (asset, tag) = (&ASSETS[place], &TAGS[place]);
    let given = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = if given.is_some_and(|given| given.split(',').any(|one| one.trim() == tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, asset.kind)], asset.text).into_response()
    };
    let cache = [(header::CACHE_CONTROL, "no-cache"), (header::ETAG, tag.as_str())];
    for (name, value) in SAFE_HEADERS.into_iter().chain(cache) {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Nothing comes from elsewhere, no script or style stands in the document, nobody frames it, and text never becomes
/// markup.
const SAFE_HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];
