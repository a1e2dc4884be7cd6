//! Pulling segments from other nodes, and the form in which a node hands them out.

use std::{future::Future, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prost::Message;
use thiserror::Error;
use url::Url;

use crate::{
    background::{Lane, PerLane},
    clock::Stopwatch,
    config::PeersConfig,
    core::routing::MemberId,
    digest::Digest,
    error::Result,
    key::Key,
    object::{Object, forwarded},
    record::PeerSegment,
    store::Payload,
    tls::ClientTls,
};

/// The path under which nodes hand segments to each other.
pub(crate) const SEGMENT_PATH: &str = "/_nearcast/segment";

/// Where another node is.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its number in the routing table.
    pub(crate) member: MemberId,
    /// Its name, for logs.
    pub(crate) name: Arc<str>,
    /// Its address.
    pub(crate) url: Arc<Url>,
    /// The emulated round trip to it.
    pub(crate) emulated_rtt: Duration,
}

/// What a peer is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAsk<'a> {
    pub(crate) key: &'a Key,
    pub(crate) index: u32,
    pub(crate) segment_bytes: u64,
    /// Whether the peer must not fetch it from the origin.
    pub(crate) only_if_held: bool,
    /// The headers of the request that it is for.
    pub(crate) asked: &'a HeaderMap,
}

/// A segment as a peer handed it out, verified.
#[derive(Debug)]
pub(crate) struct PeerAnswer {
    pub(crate) object: Object,
    pub(crate) payload: Payload,
    /// Whether the peer held it, or fetched it from the origin for this request.
    pub(crate) was_held: bool,
}

/// Why a peer gave no segment.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum PeerError {
    /// What it sent does not fit together.
    #[error("what it sent is damaged: {0}")]
    Damaged(&'static str),
    /// It has no usable segment: not held, or not for sharing. Not a fault of the peer.
    #[error("it has no such segment")]
    Absent,
    /// It failed while fetching from the origin for us.
    #[error("it answered {0}")]
    Failed(StatusCode),
    /// It did not even say that it is alive.
    #[error("it does not answer, not even whether it is alive")]
    Stalled,
    /// It took too long.
    #[error("no whole answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// No connection, or it broke.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
}

/// All peers, asked by a client that can be replaced.
#[derive(Debug)]
pub(crate) struct Peers {
    client: ArcSwap<PeersClient>,
}

impl Peers {
    /// # Errors
    /// When a certificate or key cannot be used.
    pub(crate) fn new(config: &PeersConfig) -> Result<Self> {
        Ok(Self { client: ArcSwap::from_pointee(PeersClient::new(config)?) })
    }

    /// Asks by `client` from now on; what is under way ends as it began.
    pub(crate) fn replace(&self, client: PeersClient) {
        self.client.store(Arc::new(client));
    }

    /// How long `peer` takes to say that it is alive; `None` when it does not.
    pub(crate) async fn round_trip(&self, peer: &Peer) -> Option<Duration> {
        let client = self.client.load_full();
        let clock = Stopwatch::start();
        let probed = client.probe(peer, Lane::Demand, ROUND_TRIP_MAX).await;
        probed.then(|| clock.elapsed() + peer.emulated_rtt)
    }

    /// Pulls a segment from `peer` and verifies it.
    pub(crate) async fn pull(&self, peer: &Peer, ask: PeerAsk<'_>, lane: Lane) -> Result<PeerAnswer, PeerError> {
        self.client.load_full().pull(peer, ask, lane).await
    }
}

/// A pooled client. With mutual TLS, it asks over https only.
#[derive(Debug)]
pub(crate) struct PeersClient {
    clients: PerLane<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>>,
    timeout: Duration,
    probe_after: Duration,
    probe_timeout: Duration,
}

impl PeersClient {
    /// # Errors
    /// When a certificate or key cannot be used.
    pub(crate) fn new(config: &PeersConfig) -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.timeout));
        let builder = HttpsConnectorBuilder::new();
        let connector = match &config.tls {
            Some(tls) => builder
                .with_tls_config(ClientTls::of_peers(tls).for_http()?)
                .https_only()
                .enable_http1()
                .wrap_connector(connector),
            None => builder.with_webpki_roots().https_or_http().enable_http1().wrap_connector(connector),
        };
        let clients = PerLane::new(|| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .build(connector.clone())
        });
        let (probe_after, probe_timeout) = (config.probe_after, config.probe_timeout);
        Ok(Self { clients, timeout: config.timeout, probe_after, probe_timeout })
    }

    async fn pull(&self, peer: &Peer, ask: PeerAsk<'_>, lane: Lane) -> Result<PeerAnswer, PeerError> {
        let limit = self.timeout + peer.emulated_rtt;
        let pulling = async {
            if !peer.emulated_rtt.is_zero() {
                tokio::time::sleep(peer.emulated_rtt).await;
            }
            self.pull_now(peer, ask, lane).await
        };
        let watched = self.watch(peer, lane, pulling);
        tokio::time::timeout(limit, watched).await.map_err(|_| PeerError::Timeout(limit))?
    }

    /// Gives a pull up when the peer turns out to be stalled. A peer may have to wait for the origin itself, so that a
    /// late answer alone says nothing: after `probe_after` it is asked whether it is alive, and again from time to time.
    async fn watch(
        &self,
        peer: &Peer,
        lane: Lane,
        pulling: impl Future<Output = Result<PeerAnswer, PeerError>>,
    ) -> Result<PeerAnswer, PeerError> {
        tokio::pin!(pulling);
        let mut pause = peer.emulated_rtt + self.probe_after;
        loop {
            tokio::select! {
                answer = &mut pulling => return answer,
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                answer = &mut pulling => return answer,
                is_alive = self.probe(peer, lane, self.probe_timeout) => {
                    if !is_alive {
                        return Err(PeerError::Stalled);
                    }
                }
            }
            pause = self.probe_after * PROBES_APART;
        }
    }

    async fn probe(&self, peer: &Peer, lane: Lane, limit: Duration) -> bool {
        let mut url = Url::clone(&peer.url);
        url.set_path(LIVE_PATH);
        let Ok(request) = Request::get(url.as_str()).body(Empty::new()) else { return false };
        let answer = self.clients.get(lane).request(request);
        // What it answers does not matter: an overloaded peer is alive too.
        tokio::time::timeout(limit, answer).await.is_ok_and(|answer| answer.is_ok())
    }

    async fn pull_now(&self, peer: &Peer, ask: PeerAsk<'_>, lane: Lane) -> Result<PeerAnswer, PeerError> {
        let key = utf8_percent_encode(ask.key.as_str(), NON_ALPHANUMERIC);
        let query = format!("key={key}&index={}&segment_bytes={}", ask.index, ask.segment_bytes);
        let mut url = Url::clone(&peer.url);
        url.set_path(SEGMENT_PATH);
        url.set_query(Some(&query));
        let mut request =
            Request::get(url.as_str()).body(Empty::new()).map_err(|error| PeerError::Unreachable(error.to_string()))?;
        *request.headers_mut() = forwarded(ask.asked);
        request.headers_mut().remove(header::CACHE_CONTROL);
        if ask.only_if_held {
            request.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("only-if-cached"));
        }
        let sent = self.clients.get(lane).request(request).await;
        let response = sent.map_err(|error| PeerError::Unreachable(error.to_string()))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::MISDIRECTED_REQUEST => {
                return Err(PeerError::Absent);
            }
            other => return Err(PeerError::Failed(other)),
        }
        let bytes_max = usize::try_from(ask.segment_bytes).unwrap_or(usize::MAX).saturating_add(RECORD_BYTES_MAX);
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        decode(body.map_err(|error| PeerError::Unreachable(error.to_string()))?.to_bytes(), ask)
    }
}

/// A segment in the form that [`Peers::pull`] understands.
pub(crate) fn encode(object: &Object, payload: &Payload, was_held: bool) -> [Bytes; 2] {
    let head = PeerSegment { object: Some(object.to_record()), digest: payload.digest.to_bytes().to_vec(), was_held };
    let mut record = BytesMut::with_capacity(size_of::<u32>() + head.encoded_len());
    record.put_u32_le(u32::try_from(head.encoded_len()).expect("a record is far below 4 GiB"));
    record.put_slice(&head.encode_to_vec());
    [record.freeze(), payload.bytes.clone()]
}

/// Verifies what a peer sent for `ask`.
pub(crate) fn decode(mut body: Bytes, ask: PeerAsk<'_>) -> Result<PeerAnswer, PeerError> {
    let short = PeerError::Damaged("it is too short");
    let Some(length) = body.first_chunk().copied().map(u32::from_le_bytes) else { return Err(short) };
    let mut rest = body.split_off(size_of::<u32>());
    if rest.len() < length as usize {
        return Err(short);
    }
    let record = rest.split_to(length as usize);
    let head = PeerSegment::decode(record).map_err(|_| PeerError::Damaged("its record cannot be read"))?;
    let object = head.object.as_ref().and_then(Object::from_record);
    let object = object.ok_or(PeerError::Damaged("its record describes no object"))?;
    let payload = Payload::new(rest);
    if Digest::from_slice(&head.digest) != Some(payload.digest) {
        return Err(PeerError::Damaged("its payload does not match the digest"));
    }
    if object.key.base() != *ask.key
        || object.segment_bytes != ask.segment_bytes
        || object.segment_len(ask.index) != payload.bytes.len() as u64
    {
        return Err(PeerError::Damaged("it is another segment than was asked for"));
    }
    Ok(PeerAnswer { object, payload, was_held: head.was_held })
}

/// A longer round trip is of no use.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(2);
const LIVE_PATH: &str = "/_nearcast/livez";
/// The second and later probes of a pull come less often.
const PROBES_APART: u32 = 5;
const IDLE_CONNECTIONS_MAX: usize = 64;
/// Room for the object's record before the payload.
const RECORD_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use nearcast_datasets::Timestamp;

    use super::*;
    use crate::object::{Freshness, ObjectParts};

    #[test]
    fn a_segment_that_is_damaged_or_another_is_refused() {
        let key = Key::parse("/a").unwrap();
        let object = Object::new(ObjectParts {
            key: key.clone(),
            status: StatusCode::OK,
            size_bytes: 15,
            segment_bytes: 10,
            headers: HeaderMap::new(),
            received_at: Timestamp::from_micros(5),
            freshness: Freshness::default(),
        });
        let ask = PeerAsk { key: &key, index: 1, segment_bytes: 10, only_if_held: true, asked: &HeaderMap::new() };
        let payload = Payload::new(Bytes::from_static(b"12345"));
        let body = encode(&object, &payload, true).concat();
        let answer = decode(body.clone().into(), ask).unwrap();
        assert_eq!((answer.object.version, &*answer.payload.bytes), (object.version, &b"12345"[..]));
        assert!(decode(body.clone().into(), PeerAsk { index: 0, ..ask }).is_err(), "another segment");
        for length in [0, 3, 10, body.len() - 1] {
            assert!(decode(body[..length].to_vec().into(), ask).is_err(), "cut at {length}");
        }
        let mut flipped = body;
        *flipped.last_mut().unwrap() ^= 1;
        assert!(decode(flipped.into(), ask).is_err(), "flipped bit");
    }
}
