//! What nodes say, as calls of the engine.

use std::sync::Arc;

use nearcast_datasets::{Timestamp, segment_len};
use nearcast_proto::message::{
    CommandId, CommandResult, NodeDescriptor, NodeReport, Outcome, Request, RequestBatch, SegmentSet,
};
use serde_json::json;

use super::{Controller, Way};
use crate::{
    engine::NodeIndex,
    events::kind,
    experiments::asked_bytes,
    fleet::client_number,
    metrics::{outcome_label, status_word},
    placing::Placing,
    server::{fleet::Said, input::SessionId},
};

impl Controller {
    pub(super) fn report(&mut self, now: Timestamp, id: SessionId, report: &NodeReport) {
        self.take(now, id, report);
        // What was asked for is on the log, and that an arm is served is told once it is known to be.
        if self.fleet.is_some() && !matches!(report, NodeReport::Requests(_) | NodeReport::Assigned { .. }) {
            self.say(id, &Said::Told(report.clone()));
        }
    }

    fn take(&mut self, now: Timestamp, id: SessionId, report: &NodeReport) {
        match report {
            // The stream refuses it before it gets here.
            NodeReport::Hello { .. } => {}
            NodeReport::Purged { epoch, objects } => self.purged(id, *epoch, *objects),
            NodeReport::Assigned { assignment, arm, clock } => self.assigned(now, id, (*assignment, arm), *clock),
            NodeReport::Inventory { held, last } => self.inventory(now, id, held, *last),
            NodeReport::Delta { gained, lost } => self.delta(now, id, gained, lost),
            NodeReport::Placement { position, .. } => self.position(now, id, position.as_ref()),
            NodeReport::Leaving => self.leaving(now, id),
            NodeReport::RoundTrips(measured) => self.round_trips(now, id, measured),
            NodeReport::Requests(batch) => self.requests(now, id, batch),
            NodeReport::Outcomes(outcomes) => outcomes.iter().for_each(|outcome| self.outcome(now, id, outcome)),
            NodeReport::Results(results) => results.iter().for_each(|result| self.result(now, id, result)),
        }
    }

    /// The first page after a last one begins a new inventory, which replaces what was known of the node.
    fn inventory(&mut self, now: Timestamp, id: SessionId, held: &[SegmentSet], last: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let begins = std::mem::replace(&mut session.inventory_complete, last);
        let (node, descriptor, position) = (session.node, session.descriptor.clone(), session.position);
        if begins {
            self.arms.handle_join(now, &descriptor, &mut self.engine);
        }
        held.iter().for_each(|set| self.gained(now, node, &descriptor, set, true));
        if let (Some(placing), Some(position)) = (&mut self.placing, position) {
            placing.handle_inventory(now, position, held, begins, last);
        }
    }

    fn delta(&mut self, now: Timestamp, id: SessionId, gained: &[SegmentSet], lost: &[SegmentSet]) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (node, descriptor, position) = (session.node, session.descriptor.clone(), session.position);
        gained.iter().for_each(|set| self.gained(now, node, &descriptor, set, false));
        for set in lost {
            for index in &set.segments {
                self.arms.handle_lost(now, node, &set.key, *index, &mut self.engine);
            }
            let data = json!({ "node": descriptor.name.0, "segments": set.segments });
            self.events.publish(now, kind::SEGMENTS_EVICTED, &set.key, data);
        }
        if let (Some(placing), Some(position)) = (&mut self.placing, position) {
            placing.handle_delta(now, position, gained, lost);
        }
    }

    fn gained(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        descriptor: &NodeDescriptor,
        set: &SegmentSet,
        is_inventory: bool,
    ) {
        for index in &set.segments {
            let bytes = segment_len(set.size_bytes, descriptor.segment_bytes, *index);
            self.arms.handle_gained(now, node, &set.key, (*index, bytes), is_inventory, &mut self.engine);
        }
    }

    fn requests(&mut self, now: Timestamp, id: SessionId, batch: &RequestBatch) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let last = self.reported.entry(session.descriptor.name.clone()).or_default();
        if (session.stream, batch.sequence) <= *last {
            // Its acknowledgement was lost with a connection.
            self.metrics.log_repeated.get_or_create(&session.label).inc();
            if self.fleet.is_none() {
                session.taken.send_replace(last.1);
            }
            return;
        }
        *last = (session.stream, batch.sequence);
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
        let (node, position, name) = (session.node, session.position, Arc::clone(&session.descriptor.name.0));
        let arm = Arc::clone(&session.in_force.borrow().arm);
        self.note_dropped(id, batch.dropped_count);
        if let Some(experiments) = &mut self.experiments {
            if batch.dropped_count > 0 {
                experiments.handle_dropped(now, &name, batch.dropped_count);
            }
            for request in &batch.requests {
                let (bytes, served, latency) = (asked_bytes(request), request.served, request.latency);
                experiments.handle_request(now, &name, request.timestamp, served, bytes, latency);
            }
        }
        self.tallies.record(node, &name, &arm, &batch.requests);
        if self.fleet.is_some() {
            // Whoever owns the clients' partitions learns from it, and it is acknowledged when it is kept.
            return;
        }
        batch.requests.iter().for_each(|request| self.request(now, node, request));
        if let (Some(placing), Some(position)) = (&mut self.placing, position) {
            batch.requests.iter().for_each(|request| placing.handle_request(now, position, request));
        }
        if let Some(session) = self.sessions.get(&id) {
            session.taken.send_replace(batch.sequence);
        }
    }

    fn request(&mut self, now: Timestamp, node: NodeIndex, request: &Request) {
        self.arms.handle_request(now, node, client_number(&request.client), request, &mut self.engine);
        // The engine's order queue is bounded; what one batch leads to must not overflow it.
        self.send_orders(now);
    }

    /// A node serves what it was told; an older confirmation than the last assignment's says nothing.
    fn assigned(&mut self, now: Timestamp, id: SessionId, named: (u64, &str), clock: Timestamp) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (assignment, arm) = named;
        session.is_confirmed = session.in_force.borrow().assignment == assignment;
        if session.is_confirmed {
            let name = Arc::clone(&session.descriptor.name.0);
            self.experiments.iter_mut().for_each(|it| it.handle_confirmed(now, &name, arm, clock));
            self.note_serves(id, arm, clock.micros().saturating_sub(now.micros()));
        }
    }

    /// A node has carried a purge out. Of those that are connected here the stream has taken note.
    fn purged(&self, id: SessionId, epoch: u64, objects: u64) {
        if let Some(session) = self.sessions.get(&id).filter(|session| matches!(session.way, Way::At(_))) {
            self.purges.note(&session.descriptor.name, epoch, objects);
        }
    }

    fn outcome(&mut self, now: Timestamp, id: SessionId, outcome: &Outcome) {
        if self.is_of_another(outcome.command) {
            return;
        }
        self.metrics.outcomes.get_or_create(&outcome_label(outcome.kind)).inc();
        let command = self.generation.engine_command(outcome.command);
        self.tallies.outcomes.record(outcome.kind);
        self.ledger.outcome(outcome.command, outcome.kind);
        // What becomes of a placed copy is no label for the gate.
        if command.is_some_and(Placing::is_own) {
            return;
        }
        let (kind, residence) = (outcome.kind, outcome.residence);
        let arms = &mut self.arms;
        match command.and_then(|id| arms.handle_outcome(now, id, kind, residence, &mut self.engine)) {
            None => drop(self.metrics.foreign_commands.inc()),
            Some(0) => {}
            Some(wasted) => {
                let node = self.sessions.get(&id).map(|session| &session.descriptor.name.0);
                if let (Some(node), Some(experiments)) = (node, &mut self.experiments) {
                    experiments.handle_wasted(now, node, wasted);
                }
                self.note_wasted(id, wasted);
            }
        }
    }

    /// In a fleet everybody hears of every command, and whoever gave it counts.
    fn is_of_another(&self, command: CommandId) -> bool {
        self.fleet.is_some() && self.generation.engine_command(command).is_none()
    }

    fn result(&mut self, now: Timestamp, id: SessionId, result: &CommandResult) {
        if self.is_of_another(result.id) {
            return;
        }
        let status = status_word(result.status);
        self.metrics.command_results.get_or_create(&status.into()).inc();
        let command = self.generation.engine_command(result.id);
        let (ended, bytes) = (result.status, result.bytes);
        let is_known = match (command, &mut self.placing) {
            (Some(command), Some(placing)) if Placing::is_own(command) => {
                placing.handle_result(now, command, ended);
                true
            }
            (Some(command), _) => self.arms.handle_result(now, command, ended, bytes, &mut self.engine),
            (None, _) => false,
        };
        if !is_known {
            self.metrics.foreign_commands.inc();
            return;
        }
        self.ledger.end(now, result);
        let node = self.sessions.get(&id).map(|session| &session.descriptor.name.0);
        let data = json!({
            "command": result.id.0, "status": status, "bytes": result.bytes, "detail": result.detail,
        });
        self.events.publish(now, kind::COMMAND_ENDED, node.map_or("", |name| name), data);
    }
}
