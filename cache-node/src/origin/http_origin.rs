//! An origin that speaks HTTP.

use std::error::Error;

use http::{HeaderMap, Request, Response, Uri, header, uri::PathAndQuery};
use http_body_util::LengthLimitError;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::{OriginBody, OriginError, RequestBody};
use crate::{
    config::OriginConfig,
    error::{Error as NodeError, Result},
    key::Key,
    tls::ClientTls,
};

/// A pooled client of one HTTP(S) server. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct HttpOrigin {
    client: Client<HttpsConnector<HttpConnector>, RequestBody>,
    base: Uri,
    /// The configured path, without a slash at its end.
    prefix: String,
}

impl HttpOrigin {
    pub(super) fn new(config: &OriginConfig) -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.connect_timeout));
        let builder = HttpsConnectorBuilder::new();
        let builder = match &config.ca {
            Some(ca) => builder.with_tls_config(ClientTls::trusting(ca).for_http()?),
            None => builder.with_webpki_roots(),
        };
        let connector = builder.https_or_http().enable_all_versions().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_max_idle_per_host(config.idle_connections_max)
            .build(connector);
        let unusable = |problem: String| NodeError::Origin { url: config.url.to_string(), problem };
        let base: Uri = config.url.as_str().parse().map_err(|error| unusable(format!("no URI: {error}")))?;
        if config.url.query().is_some() || config.url.fragment().is_some() {
            return Err(unusable("keys are appended to it, so it cannot have a query or fragment".to_owned()));
        }
        let prefix = base.path().trim_end_matches('/').to_owned();
        Ok(Self { client, base, prefix })
    }

    /// The address of `key`.
    pub(super) fn uri(&self, key: &Key) -> Result<Uri, OriginError> {
        let target = format!("{}{}", self.prefix, key.to_target());
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query =
            Some(PathAndQuery::try_from(target).map_err(|_| OriginError::Unusable("the key makes no URL"))?);
        Uri::from_parts(parts).map_err(|_| OriginError::Unusable("the key makes no URL"))
    }

    pub(super) async fn request(&self, request: Request<RequestBody>) -> Result<Response<OriginBody>, OriginError> {
        let mut response = self.client.request(request).await.map_err(|error| failed(&error))?;
        check_framing(response.headers_mut())?;
        Ok(response.map(OriginBody::from))
    }
}

/// Refuses what leaves in doubt where a response ends or how its bytes are coded (RFC 9112, section 6.3): kept or passed
/// on, others could understand it differently. A length that is said twice, alike, is left once; a coding that nobody
/// knows ends with the connection and is taken for none.
fn check_framing(headers: &mut HeaderMap) -> Result<(), OriginError> {
    let codings = headers
        .get_all(header::TRANSFER_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let codings: Vec<&[u8]> = codings.map(<[u8]>::trim_ascii).collect();
    let is_known = |coding: &&[u8]| CODINGS.iter().any(|known| coding.eq_ignore_ascii_case(known));
    let is_only_chunked = matches!(codings[..], [coding] if coding.eq_ignore_ascii_case(b"chunked"));
    if !is_only_chunked && codings.iter().any(is_known) {
        return Err(OriginError::Unusable("it has a transfer coding that was not asked for"));
    }
    let is_coded = !codings.is_empty();
    let length = headers.get(header::CONTENT_LENGTH).cloned();
    if is_coded && length.is_some() {
        return Err(OriginError::Unusable("it has both a Content-Length and a Transfer-Encoding"));
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    Ok(())
}

/// What an error of the client means: the request's body may be at fault.
fn failed(error: &(dyn Error + 'static)) -> OriginError {
    let (mut causes, mut next) = (Vec::new(), Some(error));
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    if causes.iter().any(|cause| cause.is::<LengthLimitError>()) {
        return OriginError::RequestTooLong;
    }
    let told = causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let is_of_body = causes.iter().filter_map(|cause| cause.downcast_ref::<hyper::Error>()).any(hyper::Error::is_user);
    if is_of_body { OriginError::RequestBody(told) } else { OriginError::Unreachable(told) }
}

/// The transfer codings that are registered.
const CODINGS: [&[u8]; 6] = [b"chunked", b"compress", b"deflate", b"gzip", b"x-compress", b"x-gzip"];
