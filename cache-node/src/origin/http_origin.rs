//! An origin that speaks HTTP.

use http::{Request, Response, Uri, uri::PathAndQuery};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::{OriginBody, OriginError, RequestBody};
use crate::{
    config::OriginConfig,
    error::{Error, Result},
    key::Key,
    tls,
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
            Some(ca) => builder.with_tls_config(tls::origin_client(ca)?),
            None => builder.with_webpki_roots(),
        };
        let connector = builder.https_or_http().enable_all_versions().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_max_idle_per_host(config.idle_connections_max)
            .build(connector);
        let unusable = |problem: String| Error::Origin { url: config.url.to_string(), problem };
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
        let answered = self.client.request(request).await;
        answered.map(|response| response.map(OriginBody::from)).map_err(|error| OriginError::Unreachable(chain(&error)))
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
