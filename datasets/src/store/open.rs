//! Builds stores from environment variables.

use std::{path::Path, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder, http::HttpBuilder, local::LocalFileSystem,
    path::Path as StorePath,
};
use url::{Position, Url};

use super::StoreError;

type Opened = Result<(Arc<dyn ObjectStore>, StorePath), StoreError>;

/// The local folder as a store.
pub(super) fn folder(path: &Path) -> Opened {
    let settings = |source| StoreError::Settings { location: path.display().to_string(), source };
    let absolute = std::path::absolute(path).map_err(|error| {
        settings(object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(error) })
    })?;
    let prefix = StorePath::from_absolute_path(absolute).map_err(|error| settings(error.into()))?;
    Ok((Arc::new(LocalFileSystem::new()), prefix))
}

/// The store of a URL, by the variables that `environment` yields.
pub(super) fn url(url: &Url, environment: impl Iterator<Item = (String, String)>) -> Opened {
    let settings = |source| StoreError::Settings { location: url.to_string(), source };
    let (scheme, path) = ObjectStoreScheme::parse(url).map_err(|error| settings(error.into()))?;
    let wanted = environment.filter(|(name, value)| !value.is_empty() && VARIABLES.iter().any(|p| name.starts_with(p)));
    let variables: Vec<(String, String)> = wanted.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    // The stores ask for consent to plain HTTP; whoever wrote the scheme, here or in an endpoint, has given it.
    let is_plain = url.scheme() == "http" || variables.iter().any(|(_, value)| value.starts_with("http://"));
    let client = ClientOptions::new()
        .with_allow_http(is_plain)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(REQUEST_TIMEOUT);
    macro_rules! build {
        ($builder:expr) => {{
            let builder = $builder.with_client_options(client).with_retry(retries());
            let builder = variables.iter().fold(builder, |builder, (name, value)| match name.parse() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            });
            Arc::new(builder.build().map_err(settings)?) as Arc<dyn ObjectStore>
        }};
    }
    let store = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            check_s3(url, &variables)?;
            build!(AmazonS3Builder::new().with_url(url.as_str()))
        }
        ObjectStoreScheme::GoogleCloudStorage => build!(GoogleCloudStorageBuilder::new().with_url(url.as_str())),
        ObjectStoreScheme::MicrosoftAzure => build!(MicrosoftAzureBuilder::new().with_url(url.as_str())),
        _ => {
            let builder = HttpBuilder::new().with_url(&url[..Position::BeforePath]);
            Arc::new(builder.with_client_options(client).with_retry(retries()).build().map_err(settings)?)
        }
    };
    Ok((store, path))
}

/// Without any credential the library asks the metadata service of a cloud's machine. A store of one's own has none,
/// so that the question would only take long to fail.
fn check_s3(url: &Url, variables: &[(String, String)]) -> Result<(), StoreError> {
    let has = |names: &[&str]| variables.iter().any(|(name, _)| names.contains(&name.as_str()));
    let needs = |missing: &'static str| Err(StoreError::Credentials { location: url.to_string(), missing });
    match (has(&["aws_access_key_id"]), has(&["aws_secret_access_key"])) {
        (true, false) => return needs("AWS_SECRET_ACCESS_KEY is not set"),
        (false, true) => return needs("AWS_ACCESS_KEY_ID is not set"),
        (true, true) => return Ok(()),
        (false, false) => {}
    }
    if has(&["aws_endpoint", "aws_endpoint_url", "aws_endpoint_url_s3"]) && !has(&OTHER_CREDENTIALS) {
        return needs("neither AWS_ACCESS_KEY_ID nor AWS_SECRET_ACCESS_KEY is set");
    }
    Ok(())
}

/// Bounds of what is tried again: server errors, lost connections, and timeouts of what may be repeated.
fn retries() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT }
}

/// What the variables begin with that are read; others, such as `BUCKET`, mean something else to other programs.
const VARIABLES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];
/// How an S3 store may be entered without a pair of keys.
const OTHER_CREDENTIALS: [&str; 6] = [
    "aws_skip_signature",
    "aws_web_identity_token_file",
    "aws_container_credentials_relative_uri",
    "aws_container_credentials_full_uri",
    "aws_metadata_endpoint",
    "aws_session_token",
];
const RETRIES_MAX: usize = 5;
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One request, its body included: a part of an upload is 8 MiB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(location: &str, variables: &[(&str, &str)]) -> Result<StorePath, StoreError> {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        url(&Url::parse(location).unwrap(), environment).map(|(_, path)| path)
    }

    #[test]
    fn keys_come_whole_or_are_asked_for() {
        let (id, secret) = (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"));
        let endpoint = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
        assert_eq!(opened("s3://bucket/a/b", &[id, secret, endpoint]).unwrap().as_ref(), "a/b");
        let said = |variables: &[(&str, &str)]| opened("s3://bucket/a", variables).unwrap_err().to_string();
        assert!(said(&[id]).contains("AWS_SECRET_ACCESS_KEY is not set"), "{}", said(&[id]));
        assert!(said(&[secret]).contains("AWS_ACCESS_KEY_ID is not set"));
        assert!(said(&[endpoint]).contains("neither AWS_ACCESS_KEY_ID nor AWS_SECRET_ACCESS_KEY"));
        assert!(opened("s3://bucket/a", &[endpoint, ("AWS_SKIP_SIGNATURE", "true")]).is_ok());
    }

    #[test]
    fn variables_of_other_programs_are_not_taken_for_settings() {
        assert!(opened("s3://bucket/a", &[("REGION", "x"), ("BUCKET", "y"), ("TOKEN", "z")]).is_ok());
        let broken = opened("gs://bucket/a", &[("GOOGLE_SERVICE_ACCOUNT_KEY", "no JSON")]).unwrap_err();
        assert!(matches!(broken, StoreError::Settings { .. }), "{broken:?}");
    }
}
