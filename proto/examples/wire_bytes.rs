//! How many bytes a request event takes on the stream to the predictor, and a member in the cache map on the way back.
//!
//! ```text
//! cargo run --release -p nearcast-proto --example wire_bytes -- 256    # events of a batch
//! ```
//!
//! Encodes batches of a synthetic workload as a node sends them; clients are pseudonyms as nodes make them. Prints one JSON
//! document. Nothing of HTTP/2 and TLS is counted: about 9 bytes a frame and 22 a record.

use std::{error::Error, sync::Arc, time::Duration};

use nearcast_datasets::{
    ServedFrom,
    synthesize::{Workload, WorkloadConfig},
};
use nearcast_proto::{
    message::{CacheMap, Epoch, Member, NodeDescriptor, NodeName, NodeReport, PredictorNotice, Request, RequestBatch},
    wire,
};
use prost::Message;

#[expect(clippy::print_stdout, reason = "an example's output is its purpose")]
fn main() -> Result<(), Box<dyn Error>> {
    let batch = std::env::args().nth(1).map_or(Ok(256), |text| text.parse::<usize>())?.max(1);
    let config = WorkloadConfig { request_count: 100_000, key_count: 20_000, ..WorkloadConfig::default() };
    let mut workload = Workload::new(&config)?;
    let mut requests = Vec::new();
    while let Some(request) = workload.next_request() {
        requests.push(Request {
            timestamp: request.timestamp,
            client: Arc::from(format!("{:016x}", u64::from(request.client).wrapping_mul(0x9E37_79B9_7F4A_7C15))),
            region: Arc::from(config.regions[request.region].name.as_str()),
            key: Arc::from(workload.key_name(request.key)),
            size_bytes: workload.size_bytes(request.key),
            range: None,
            served: ServedFrom::Memory,
            latency: Duration::from_micros(350),
        });
    }
    let key_bytes: usize = requests.iter().map(|request| request.key.len()).sum();
    let mut bytes = 0;
    for (sequence, events) in (1..).zip(requests.chunks(batch)) {
        let report = NodeReport::Requests(RequestBatch { sequence, requests: events.to_vec(), dropped_count: 0 });
        bytes += wire::NodeMessage::from(report).encoded_len();
    }
    let member = |number: usize| Member { node: descriptor(number), alive: true };
    let map = CacheMap { epoch: Epoch(1 << 32), members: (0..MEMBERS).map(member).collect() };
    let map_bytes = wire::PredictorMessage::from(PredictorNotice::Map(map)).encoded_len();
    let per_event = |bytes: usize| bytes as f64 / requests.len() as f64;
    println!(
        "{{\n  \"schema\": \"nearcast.wire-bytes/1\",\n  \"events\": {},\n  \"batch\": {batch},\n  \"key_bytes\": {:.1},\n  \"bytes_per_event\": {:.1},\n  \"bytes_per_member\": {:.1}\n}}",
        requests.len(),
        per_event(key_bytes),
        per_event(bytes),
        map_bytes as f64 / MEMBERS as f64
    );
    Ok(())
}

fn descriptor(number: usize) -> NodeDescriptor {
    NodeDescriptor {
        name: NodeName::from(format!("eu-central-{number}").as_str()),
        region: Arc::from("eu-central"),
        url: Arc::from(format!("https://eu-central-{number}.cache.example:8443")),
        capacity_bytes: 1 << 40,
        segment_bytes: 1 << 20,
    }
}

const MEMBERS: usize = 1_000;
