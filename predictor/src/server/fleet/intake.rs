//! Requests on their way from a node to the log: divided by client, and acknowledged when the bus keeps all of them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use nearcast_bus::{Partition, Spool, Ticket};
use nearcast_proto::message::{NodeDescriptor, RequestBatch};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    clock,
    fleet::{LogRecord, split},
    server::{
        input::{Input, SessionId},
        inputs::Inputs,
    },
};

/// Where requests go to.
#[derive(Clone, Debug)]
pub(in crate::server) struct RequestLog {
    pub(super) spool: Arc<Spool>,
    pub(super) partitions: u32,
}

/// One session's way to the log.
#[derive(Debug)]
pub(in crate::server) struct Intake {
    log: RequestLog,
    node: NodeDescriptor,
    stream: u64,
    kept: mpsc::Sender<(u64, Vec<Ticket>)>,
}

impl RequestLog {
    /// The way for a session, in which the node's start is known by `stream`.
    pub(in crate::server) fn intake(
        &self,
        inputs: Inputs,
        session: SessionId,
        node: NodeDescriptor,
        stream: u64,
    ) -> Intake {
        let (kept, tickets) = mpsc::channel(BATCHES_MAX);
        // It ends with the intake.
        drop(tokio::spawn(acknowledge(inputs, session, tickets)));
        Intake { log: self.clone(), node, stream, kept }
    }
}

impl Intake {
    /// Takes a batch over; waits while there is no room, so that the node is not read on.
    pub(in crate::server) async fn take(&self, batch: &RequestBatch) {
        let record = LogRecord {
            at: clock::now(),
            node: self.node.clone(),
            stream: self.stream,
            sequence: batch.sequence,
            requests: batch.requests.clone(),
        };
        let mut parts: VecDeque<(Partition, String, bytes::Bytes)> = split(record, self.log.partitions)
            .into_iter()
            .map(|(partition, id, part)| (partition, id, part.encode()))
            .collect();
        let mut tickets = Vec::with_capacity(parts.len());
        while let Some((partition, id, payload)) = parts.front() {
            match self.log.spool.offer(*partition, id.clone(), payload.clone()) {
                Ok(ticket) => {
                    tickets.push(ticket);
                    parts.pop_front();
                }
                Err(_) => sleep(ROOM).await,
            }
        }
        // The other end is gone when the predictor ends; the node then sends the batch again.
        let _ = self.kept.send((batch.sequence, tickets)).await;
    }
}

async fn acknowledge(inputs: Inputs, session: SessionId, mut batches: mpsc::Receiver<(u64, Vec<Ticket>)>) {
    while let Some((sequence, tickets)) = batches.recv().await {
        for ticket in tickets {
            // What can never be kept is counted by the spool; sending it again would not help.
            if ticket.await.is_err() {
                return;
            }
        }
        if inputs.tell(Input::Kept(session, sequence)).await.is_err() {
            return;
        }
    }
}

/// Batches of one node that are on their way.
const BATCHES_MAX: usize = 256;
/// Pause between looks for room.
const ROOM: Duration = Duration::from_millis(5);
