//! Why a store could not be used, and what to try.

use std::error::Error;

/// Why a location could not be understood, opened or worked with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// What was given names no place.
    #[error("`{text}` is no location: {reason}; give a path, or a URL of s3, gs, az, file, http or https")]
    Location {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The environment's settings do not make a store.
    #[error("the settings for {location} cannot be used; look at the AWS_…, GOOGLE_… or AZURE_… variables")]
    Settings {
        /// The place.
        location: String,
        /// What the library says.
        source: object_store::Error,
    },
    /// The environment holds no credentials.
    #[error(
        "there are no credentials for {location}: {missing}; set both, or AWS_SKIP_SIGNATURE=true for a public bucket"
    )]
    Credentials {
        /// The place.
        location: String,
        /// What is not there.
        missing: &'static str,
    },
    /// The store refused, or did not answer.
    #[error("cannot {action} {location}: {advice}")]
    Refused {
        /// What was tried, as a verb.
        action: &'static str,
        /// The object.
        location: String,
        /// What that means, and what to try.
        advice: &'static str,
        /// What the store said.
        source: Box<object_store::Error>,
    },
    /// A local file could not take what was read.
    #[error("cannot write {path} with what {location} holds; is the disk full?")]
    Target {
        /// The file.
        path: String,
        /// Where it comes from.
        location: String,
        /// Why.
        source: std::io::Error,
    },
    /// A local file that was to be sent could not be read.
    #[error("cannot read {path} to send it to {location}")]
    Source {
        /// The file.
        path: String,
        /// Where it was to go.
        location: String,
        /// Why.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Wraps what a store said while `action` was tried at `location`.
    pub fn refused(action: &'static str, location: impl Into<String>) -> impl FnOnce(object_store::Error) -> Self {
        let location = location.into();
        move |source| Self::Refused { action, location, advice: advice(&source), source: Box::new(source) }
    }
}

/// Whether there is no such object, in a bucket that exists.
pub(super) fn is_absent(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) && !has(&words(error), &NO_BUCKET)
}

/// What an error means for whoever has to do something about it.
fn advice(error: &object_store::Error) -> &'static str {
    let words = words(error);
    if has(&words, &["RequestTimeTooSkewed", "RequestExpired", "Request date header too old"]) {
        return "the clocks of this machine and of the store differ too much; set this machine's clock (by NTP)";
    }
    if has(&words, &NO_BUCKET) {
        return "the bucket does not exist; create it, or correct its name";
    }
    if has(&words, &["169.254.169.254", "metadata.google.internal", "169.254.170.2"]) {
        return "there are no credentials in the environment, and this machine has none of its own; set \
                AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, or \
                AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY";
    }
    if has(&words, &NOT_ACCEPTED) {
        return "the store does not accept these credentials; look at the key, the secret and the region";
    }
    if has(&words, &["ExpiredToken", "InvalidToken", "TokenRefreshRequired"]) {
        return "the credentials have expired; get new ones";
    }
    match error {
        object_store::Error::NotFound { .. } => "there is no such object",
        object_store::Error::Unauthenticated { .. } => "the store wants credentials; set them in the environment",
        object_store::Error::PermissionDenied { .. } => "these credentials may not do that; ask whoever grants them",
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
            "this store cannot do that; conditional writes are needed"
        }
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            "somebody else has written it meanwhile; look, and try again"
        }
        _ if has(&words, &["onnect error", "tcp connect", "dns error", "client error (Connect)"]) => {
            "the store cannot be reached; look at the endpoint and the network"
        }
        _ if has(&words, &["NotImplemented"]) => "this store cannot do that; conditional writes are needed",
        _ => "the store failed; try again later",
    }
}

/// Everything that the error and its causes say.
fn words(error: &object_store::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

fn has(words: &str, any: &[&str]) -> bool {
    any.iter().any(|word| words.contains(word))
}

/// What stores say of a key or a secret that is none of theirs.
const NOT_ACCEPTED: [&str; 5] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthenticationFailed",
    "Server failed to authenticate the request",
    "NotSignedUp",
];
/// What stores call a bucket that is not there.
const NO_BUCKET: [&str; 4] =
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist", "The specified container does not"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stores_say_is_told_in_words() {
        let said = |code: &str| {
            let path = "x".to_owned();
            let error = object_store::Error::PermissionDenied { path, source: format!("<Code>{code}</Code>").into() };
            advice(&error)
        };
        assert!(said("RequestTimeTooSkewed").contains("clock"));
        assert!(said("InvalidAccessKeyId").contains("does not accept these credentials"));
        assert!(
            said("AuthorizationFailure</Code><Message>Server failed to authenticate the request.").contains("accept")
        );
        assert!(said("ExpiredToken").contains("expired"));
        assert!(said("AccessDenied").contains("may not"));
        let error = |code: &str| object_store::Error::NotFound { path: "x".into(), source: code.to_owned().into() };
        assert!(advice(&error("NoSuchBucket")).contains("bucket does not exist"));
        assert!(!is_absent(&error("NoSuchBucket")) && is_absent(&error("NoSuchKey")));
    }
}
