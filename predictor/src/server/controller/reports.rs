//! What nodes say, as calls of the engine.

use std::hash::BuildHasher;

use nearcast_datasets::{Map, SegmentId, Timestamp};
use nearcast_proto::message::{CommandResult, NodeDescriptor, NodeReport, Outcome, Request, RequestBatch, SegmentSet};
use serde_json::json;

use super::{Controller, arm_name};
use crate::{
    engine::{Engine, NodeIndex, Observation},
    events::kind,
    metrics::{outcome_label, status_word},
    server::input::SessionId,
};

impl Controller {
    pub(super) fn report(&mut self, now: Timestamp, id: SessionId, report: &NodeReport) {
        match report {
            // The stream refuses the one and handles the other before they get here.
            NodeReport::Hello { .. } | NodeReport::Purged { .. } => {}
            NodeReport::Inventory { held, last } => self.inventory(now, id, held, *last),
            NodeReport::Delta { gained, lost } => self.delta(now, id, gained, lost),
            NodeReport::Requests(batch) => self.requests(now, id, batch),
            NodeReport::Outcomes(outcomes) => outcomes.iter().for_each(|outcome| self.outcome(now, outcome)),
            NodeReport::Results(results) => results.iter().for_each(|result| self.result(now, id, result)),
        }
    }

    /// The first page after a last one begins a new inventory, which replaces what was known of the node.
    fn inventory(&mut self, now: Timestamp, id: SessionId, held: &[SegmentSet], last: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let begins = std::mem::replace(&mut session.inventory_complete, last);
        let (node, descriptor) = (session.node, session.descriptor.clone());
        if begins {
            self.engine.handle_join(now, descriptor.clone());
        }
        held.iter().for_each(|set| self.gained(now, node, &descriptor, set, Engine::handle_inventory));
    }

    fn delta(&mut self, now: Timestamp, id: SessionId, gained: &[SegmentSet], lost: &[SegmentSet]) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (node, descriptor) = (session.node, session.descriptor.clone());
        gained.iter().for_each(|set| self.gained(now, node, &descriptor, set, Engine::handle_gained));
        for set in lost {
            let key = self.engine.intern_key(&set.key);
            set.segments.iter().for_each(|index| self.engine.handle_lost(now, node, SegmentId { key, index: *index }));
            let data = json!({ "node": descriptor.name.0, "segments": set.segments });
            self.events.publish(now, kind::SEGMENTS_EVICTED, &set.key, data);
        }
    }

    fn gained(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        descriptor: &NodeDescriptor,
        set: &SegmentSet,
        tell: impl Fn(&mut Engine, Timestamp, NodeIndex, SegmentId, u64),
    ) {
        let key = self.engine.intern_key(&set.key);
        for index in &set.segments {
            let start = u64::from(*index).saturating_mul(descriptor.segment_bytes);
            let bytes = set.size_bytes.saturating_sub(start).min(descriptor.segment_bytes);
            tell(&mut self.engine, now, node, SegmentId { key, index: *index }, bytes);
        }
    }

    fn requests(&mut self, now: Timestamp, id: SessionId, batch: &RequestBatch) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.sequence.is_some_and(|last| batch.sequence != last.wrapping_add(1)) {
            self.metrics.log_sequence_gaps.get_or_create(&session.label).inc();
        }
        session.sequence = Some(batch.sequence);
        self.metrics.log_records.get_or_create(&session.label).inc_by(batch.requests.len() as u64);
        self.metrics.log_dropped.get_or_create(&session.label).inc_by(batch.dropped_count);
        if let Some(newest) = batch.requests.last() {
            let lag = now.since(newest.timestamp).as_secs_f64();
            self.metrics.log_lag_seconds.get_or_create(&session.label).set(lag);
        }
        let node = session.node;
        let arm = arm_name(self.engine.arm());
        self.tallies.record(node, &session.descriptor.name.0, arm, &batch.requests);
        batch.requests.iter().for_each(|request| self.request(now, node, request));
        if let Some(session) = self.sessions.get(&id) {
            session.taken.send_replace(batch.sequence);
        }
    }

    fn request(&mut self, now: Timestamp, node: NodeIndex, request: &Request) {
        let observation = Observation {
            node,
            client: client_number(&request.client),
            region: self.engine.intern_region(&request.region),
            key: self.engine.intern_key(&request.key),
            size_bytes: request.size_bytes,
            range: request.range,
            served: request.served,
        };
        self.engine.handle_request(now, &observation);
        // The engine's order queue is bounded; what one batch leads to must not overflow it.
        self.send_orders(now);
    }

    fn outcome(&mut self, now: Timestamp, outcome: &Outcome) {
        self.metrics.outcomes.get_or_create(&outcome_label(outcome.kind)).inc();
        self.tallies.outcomes.record(outcome.kind);
        self.ledger.outcome(outcome.command, outcome.kind);
        match self.generation.engine_command(outcome.command) {
            Some(command) => self.engine.handle_outcome(now, command, outcome.kind, outcome.residence),
            None => drop(self.metrics.foreign_commands.inc()),
        }
    }

    fn result(&mut self, now: Timestamp, id: SessionId, result: &CommandResult) {
        let status = status_word(result.status);
        self.metrics.command_results.get_or_create(&status.into()).inc();
        let Some(command) = self.generation.engine_command(result.id) else {
            self.metrics.foreign_commands.inc();
            return;
        };
        self.engine.handle_result(now, command, result.status, result.bytes);
        self.ledger.end(now, result);
        let node = self.sessions.get(&id).map(|session| &session.descriptor.name.0);
        let data = json!({
            "command": result.id.0, "status": status, "bytes": result.bytes, "detail": result.detail,
        });
        self.events.publish(now, kind::COMMAND_ENDED, node.map_or("", |name| name), data);
    }
}

/// A number for a pseudonym that is the same in every process.
fn client_number(client: &str) -> u64 {
    Map::<(), ()>::default().hasher().hash_one(client)
}
