//! Publishing with an acknowledgement, and what a refusal means.

use std::error::Error as _;

use async_nats::{
    HeaderMap,
    jetstream::{
        self, Context,
        context::{PublishError, PublishErrorKind},
        publish::PublishAck,
    },
};
use bytes::Bytes;

use crate::Error;

/// Why something was not published.
#[derive(Debug)]
pub(super) enum Refused {
    /// The expected revision was not the last.
    Conflict,
    /// There is no room.
    Full,
    /// Anything else.
    Other(Error),
}

/// Publishes and waits until it is kept.
pub(super) async fn publish(
    context: &Context,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<PublishAck, Refused> {
    let sent = context.publish_with_headers(subject, headers, payload).await.map_err(refused)?;
    sent.await.map_err(refused)
}

fn refused(error: PublishError) -> Refused {
    if error.kind() == PublishErrorKind::WrongLastSequence {
        return Refused::Conflict;
    }
    let said = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    // The server has one code for all that keeps it from storing, and says in words what it was.
    let is_full = said.is_some_and(|said| FULL.iter().any(|words| said.to_string().contains(words)));
    if is_full {
        return Refused::Full;
    }
    let is_final = said.is_some_and(|said| said.code() < SERVER_AT_FAULT);
    Refused::Other(if is_final || error.kind() == PublishErrorKind::MaxPayloadExceeded {
        Error::Refused { action: "publishing", source: Box::new(error) }
    } else {
        Error::away("publishing")(error)
    })
}

/// Codes from here on say that the server cannot just now, as those of HTTP do.
const SERVER_AT_FAULT: usize = 500;
const FULL: [&str; 2] = ["maximum bytes exceeded", "maximum messages exceeded"];
