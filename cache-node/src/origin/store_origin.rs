//! An origin that is an object store: what it returns is dressed as the HTTP response it stands for.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use nearcast_datasets::store::{Location, StoreError};
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, path::Path};

use super::{Condition, OriginBody, OriginError, Span};
use crate::{
    config::OriginConfig,
    error::{Error, Result},
    key::Key,
    object::Object,
};

/// A bucket or folder. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct StoreOrigin {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    max_age: Duration,
    /// Whether the store's entity tags carry the quotes that HTTP wants.
    has_quoted_tags: bool,
}

impl StoreOrigin {
    pub(super) fn new(config: &OriginConfig) -> Result<Self> {
        let opened = Location::from_url(config.url.clone()).and_then(|location| location.open());
        let (store, prefix) =
            opened.map_err(|error| Error::Origin { url: config.url.to_string(), problem: chain(&error) })?;
        Ok(Self { store, prefix, max_age: config.default_max_age, has_quoted_tags: config.url.scheme() != "file" })
    }

    pub(super) async fn get(
        &self,
        method: &Method,
        key: &Key,
        span: Option<Span>,
        condition: Condition<'_>,
    ) -> Result<Response<OriginBody>, OriginError> {
        let Ok(relative) = Path::parse(key.as_str().trim_start_matches('/')) else {
            return Ok(status(StatusCode::NOT_FOUND));
        };
        let path = self.prefix.parts().chain(relative.parts()).collect::<Path>();
        let mut options = GetOptions {
            range: span.map(|span| GetRange::Bounded(span.start..span.start.saturating_add(span.bytes))),
            head: *method == Method::HEAD,
            ..GetOptions::default()
        };
        match condition {
            Condition::Always => {}
            Condition::IfChanged(object) => options.if_none_match = self.tag(object),
            Condition::IfSame(object) => options.if_match = self.tag(object),
        }
        let is_partial = span.is_some();
        match self.store.get_opts(&path, options).await {
            Ok(result) => self.respond(result, is_partial),
            Err(object_store::Error::NotFound { .. }) => Ok(status(StatusCode::NOT_FOUND)),
            Err(object_store::Error::NotModified { .. }) => Ok(status(StatusCode::NOT_MODIFIED)),
            Err(object_store::Error::Precondition { .. }) => Ok(status(StatusCode::PRECONDITION_FAILED)),
            Err(error) => self.explain(&path, is_partial, error).await,
        }
    }

    /// The object's entity tag as the store writes it.
    fn tag(&self, object: &Object) -> Option<String> {
        let tag = object.etag()?;
        let tag = tag.to_str().ok()?;
        Some(if self.has_quoted_tags { tag } else { tag.trim_matches('"') }.to_owned())
    }

    /// Stores differ in how they refuse a range that begins at the end of the object; its size tells that case.
    async fn explain(
        &self,
        path: &Path,
        is_partial: bool,
        error: object_store::Error,
    ) -> Result<Response<OriginBody>, OriginError> {
        if is_partial && let Ok(meta) = self.store.head(path).await {
            let mut refusal = status(StatusCode::RANGE_NOT_SATISFIABLE);
            refusal.headers_mut().insert(header::CONTENT_RANGE, value(&format!("bytes */{}", meta.size))?);
            if meta.size == 0 {
                return Ok(refusal);
            }
        }
        Err(OriginError::Unreachable(chain(&StoreError::refused("read", path.as_ref())(error))))
    }

    fn respond(&self, result: GetResult, is_partial: bool) -> Result<Response<OriginBody>, OriginError> {
        let mut headers = HeaderMap::new();
        let size_bytes = result.range.end - result.range.start;
        if let Some(tag) = &result.meta.e_tag {
            let quoted = if self.has_quoted_tags { value(tag) } else { value(&format!("\"{tag}\"")) };
            headers.insert(header::ETAG, quoted?);
        }
        headers.insert(header::LAST_MODIFIED, value(&http_date(result.meta.last_modified))?);
        headers.insert(header::CACHE_CONTROL, value(&format!("max-age={}", self.max_age.as_secs()))?);
        if let Some(content_type) = result.attributes.get(&object_store::Attribute::ContentType) {
            headers.insert(header::CONTENT_TYPE, value(content_type)?);
        }
        if is_partial {
            let range =
                format!("bytes {}-{}/{}", result.range.start, result.range.end.saturating_sub(1), result.meta.size);
            headers.insert(header::CONTENT_RANGE, value(&range)?);
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size_bytes));
        let mut response = Response::new(OriginBody::stream(result.into_stream().boxed(), size_bytes));
        *response.status_mut() = if is_partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        *response.headers_mut() = headers;
        Ok(response)
    }
}

fn status(status: StatusCode) -> Response<OriginBody> {
    let mut response = Response::new(OriginBody::from(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn value(text: &str) -> Result<HeaderValue, OriginError> {
    HeaderValue::from_str(text).map_err(|_| OriginError::Unusable("metadata that no header can carry"))
}

fn http_date(at: DateTime<Utc>) -> String {
    httpdate::fmt_http_date(at.into())
}

/// An error and its causes, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
