//! A fleet's part of the controller: nodes that are connected to other predictors, partitions that come and go, and
//! orders that are relayed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nearcast_bus::{
    Token,
    claims::{Fence, Resource},
    fleet::FleetView,
};
use nearcast_datasets::{Map, Timestamp};
use nearcast_proto::message::{Command, NodeDescriptor, NodeName, NodeReport, SegmentSet};
use tokio::sync::mpsc;

use super::{Controller, Session, Way, regime::FleetExperiments};
use crate::{
    engine::{NodeIndex, PartState, StateUnreadable},
    fleet::{LogRecord, client_number},
    placing::Board,
    server::{
        fleet::{FleetStatus, Home, NodeRecord, OrderRecord, Outlets, Said, experiments_office, office},
        input::{Arrival, Input, RelayedAsk, SessionId},
    },
};

/// What a controller has in a fleet, and not by itself.
#[derive(Debug)]
pub(in crate::server) struct FleetSide {
    pub(super) name: String,
    pub(super) outlets: Outlets,
    fence: Fence,
    /// How long a member may be missing before its nodes are taken for gone.
    grace: Duration,
    partitions: BTreeMap<u32, Token>,
    /// What orders are given for at this moment.
    giving: Option<(Resource, Token)>,
    remotes: BTreeMap<Home, SessionId>,
    /// Every node that was heard of, connected or not.
    known: Map<NodeName, NodeIndex>,
    pub(super) view: FleetView,
    /// Members that were asked for their nodes.
    asked: BTreeSet<u32>,
    /// Members that are missing, and since when.
    missing: BTreeMap<u32, Timestamp>,
    /// Until when this member owns what it owns for sure.
    holds_until: Option<Timestamp>,
    /// The term in which it places keys.
    pub(super) office: Option<Token>,
    pub(super) experiments: FleetExperiments,
    /// The map that nodes are told.
    board: Arc<Board>,
}

impl FleetSide {
    /// What other members ask of this one goes to `answers`.
    pub(in crate::server) fn new(
        name: String,
        outlets: Outlets,
        grace: Duration,
        board: Arc<Board>,
        answers: mpsc::Sender<RelayedAsk>,
    ) -> Self {
        Self {
            name,
            outlets,
            fence: Fence::default(),
            grace,
            partitions: BTreeMap::new(),
            giving: None,
            remotes: BTreeMap::new(),
            known: Map::default(),
            view: FleetView::default(),
            asked: BTreeSet::new(),
            missing: BTreeMap::new(),
            holds_until: None,
            office: None,
            experiments: FleetExperiments::new(answers),
            board,
        }
    }

    /// Whether what is ordered now is ordered by its owner: nobody with a greater token was heard of, and the membership
    /// is not over. Without the second, one that is cut off from the bus would go on for its own nodes.
    pub(super) fn may_give(&mut self, now: Timestamp) -> bool {
        let Some((resource, token)) = &self.giving else { return false };
        self.holds_until.is_some_and(|until| now < until) && self.fence.admit(resource, *token)
    }

    /// What is ordered from now on is ordered for this.
    pub(super) fn give(&mut self, giving: Option<(Resource, Token)>) {
        self.giving = giving;
    }

    /// The nodes that are asked for a key, as all members tell theirs.
    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    /// Gives a command to a node of another member; whether it is on its way.
    pub(super) fn relay(&mut self, node: &NodeName, command: Command) -> bool {
        let Some((resource, token)) = self.giving.clone() else { return false };
        self.outlets.order(OrderRecord { resource, token, node: node.clone(), command }).is_ok()
    }

    fn status(&self) -> FleetStatus {
        let mut owners: BTreeMap<String, u32> = self.view.members.keys().map(|member| (member.clone(), 0)).collect();
        for (resource, owner) in &self.view.owners {
            if matches!(resource, Resource::Partition(_)) {
                *owners.entry(owner.clone()).or_default() += 1;
            }
        }
        let counts = self.outlets.counts();
        let conducts = self.view.owners.get(&experiments_office()).cloned();
        let is_own = conducts.as_ref() == Some(&self.name);
        FleetStatus {
            name: self.name.clone(),
            generation: self.outlets.generation(),
            partitions: self.partitions.keys().copied().collect(),
            members: owners,
            orders_refused: self.fence.refused(),
            unsaid_records: counts.waiting,
            bus_retries: counts.retries,
            places_keys: self.view.owners.get(&office()).cloned(),
            conducts_experiments: conducts,
            experiments_trouble: self.experiments.trouble().filter(|_| is_own).map(str::to_owned),
            arms_lacking: self.experiments.lacking(&self.view.members),
            map_epoch: self.board.epoch().0,
            map_keys: self.board.len(),
        }
    }
}

impl Controller {
    /// The same, in a fleet.
    pub(in crate::server) fn with_fleet(mut self, fleet: Option<FleetSide>) -> Self {
        self.fleet = fleet;
        self
    }

    /// Takes a message that exists in a fleet of predictors alone.
    pub(super) fn apply_of_fleet(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Kept(session, sequence) => self.kept(session, sequence),
            Input::BeginPartition { partition, token, part, reply } => {
                let _ = reply.send(self.begin_partition(partition, token, part.map(|part| *part)));
            }
            Input::Learn { partition, token, batches } => self.learn(now, partition, token, &batches),
            Input::PartState(partition, reply) => drop(reply.send(self.engine.part(partition))),
            Input::EndPartition { partition, token } => self.end_partition(partition, token),
            Input::Heard(record) => self.heard(now, record),
            Input::Missed => self.missed(),
            Input::Order(record) => self.relayed(now, record),
            Input::View(view, left) => self.handle_view(now, view, left),
            Input::TakeOffice { token, placing } => self.take_office(now, token, *placing),
            Input::EndOffice(token) => self.end_office(token),
            Input::OfficePlanned { token, planned } => self.planned_in_office(now, token, &planned),
            Input::Demand(batch) => self.demand(now, &batch),
            Input::Obey(regime, models) => self.obey(now, *regime, models),
            Input::TakeExperiments { token, seat } => self.take_experiments(token, seat),
            Input::EndExperiments(token) => self.end_experiments(token),
            Input::ExperimentsTrouble(reason) => self.trouble_experiments(reason),
            Input::Relay { action, json, reply } => self.relay_ask(action, json, reply),
            Input::Answer { of, number, code, text } => self.answer_to(of, number, code, text),
            // All others are every predictor's.
            _ => {}
        }
    }

    pub(super) fn fleet_status(&self) -> Option<FleetStatus> {
        self.fleet.as_ref().map(FleetSide::status)
    }

    /// A batch of a session is kept by the bus.
    pub(super) fn kept(&self, id: SessionId, sequence: u64) {
        if let Some(session) = self.sessions.get(&id) {
            session.taken.send_replace(sequence);
        }
    }

    pub(super) fn begin_partition(
        &mut self,
        partition: u32,
        token: Token,
        part: Option<PartState>,
    ) -> Result<(), StateUnreadable> {
        self.engine.resume_part(partition, part)?;
        self.arms.forget_part(partition);
        if let Some(fleet) = &mut self.fleet {
            fleet.partitions.insert(partition, token);
            fleet.fence.raise(&Resource::Partition(partition), token);
        }
        Ok(())
    }

    pub(super) fn end_partition(&mut self, partition: u32, token: Token) {
        let Some(fleet) = &mut self.fleet else { return };
        // Another work on the partition may have begun already.
        if fleet.partitions.get(&partition) == Some(&token) {
            fleet.partitions.remove(&partition);
            // It has such a part, or the partition could not have begun.
            let _ = self.engine.resume_part(partition, None);
            self.arms.forget_part(partition);
        }
    }

    /// Learns from batches of a partition, and orders what follows from them.
    pub(super) fn learn(&mut self, now: Timestamp, partition: u32, token: Token, batches: &[LogRecord]) {
        let Some(fleet) = &mut self.fleet else { return };
        if fleet.partitions.get(&partition) != Some(&token) {
            return;
        }
        fleet.giving = Some((Resource::Partition(partition), token));
        for batch in batches {
            let Some(node) = self.node_of(batch.at, &batch.node) else { continue };
            for request in &batch.requests {
                // Dated by when the batch was taken, so that everybody learns the same from it.
                let client = client_number(&request.client);
                self.arms.handle_request(batch.at, node, client, request, &mut self.engine);
                self.send_orders(now);
            }
            self.metrics.fleet.learnt.inc_by(batch.requests.len() as u64);
            self.metrics.fleet.lag_seconds.set(now.since(batch.at).as_secs_f64());
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.giving = None;
        }
    }

    /// The number of a node that may have left long ago, or not have been heard of yet.
    fn node_of(&mut self, now: Timestamp, descriptor: &NodeDescriptor) -> Option<NodeIndex> {
        let fleet = self.fleet.as_mut()?;
        if let Some(index) = fleet.known.get(&descriptor.name) {
            return Some(*index);
        }
        if fleet.known.len() >= self.engine.config().settings().nodes_max {
            return None;
        }
        let index = self.arms.handle_join(now, descriptor, &mut self.engine);
        self.arms.handle_leave(now, index, &mut self.engine);
        fleet.known.insert(descriptor.name.clone(), index);
        Some(index)
    }

    pub(super) fn note_known(&mut self, name: &NodeName, index: NodeIndex) {
        if let Some(fleet) = &mut self.fleet {
            fleet.known.insert(name.clone(), index);
        }
    }

    pub(super) fn note_gone(&mut self, home: Home) {
        if let Some(fleet) = &mut self.fleet {
            fleet.remotes.remove(&home);
        }
    }

    /// Another member has said something.
    pub(super) fn heard(&mut self, now: Timestamp, record: NodeRecord) {
        let Some(fleet) = &self.fleet else { return };
        let NodeRecord { home, said } = record;
        let own = fleet.outlets.generation();
        let known = fleet.remotes.get(&home).copied();
        match said {
            Said::Ask { of } if of == own => self.tell_all(),
            // One's own come back as well.
            _ if home.generation == own => {}
            Said::Ask { .. } => {}
            Said::Drain { node, undo } => drop(self.drain_here(now, &node, undo)),
            Said::Joined { stream, hello } => {
                if let NodeReport::Hello { node, purges, placement, .. } = *hello {
                    self.join_elsewhere(now, home, Arrival { node, stream, purges, placement });
                }
            }
            Said::Told(report) => known.into_iter().for_each(|id| self.report(now, id, &report)),
            Said::Left => known.into_iter().for_each(|id| self.leave(now, id)),
            said => self.heard_of_experiments(home, known, said),
        }
    }

    fn join_elsewhere(&mut self, now: Timestamp, home: Home, arrival: Arrival) {
        self.purges.know(arrival.node.name.clone(), arrival.purges.as_ref());
        let Some(fleet) = &self.fleet else { return };
        if fleet.remotes.contains_key(&home) {
            // It is told of once more, and what it holds follows.
            return;
        }
        if let Some((id, session)) = self.session_of(&arrival.node.name) {
            if arrival.stream < session.stream {
                return;
            }
            // The same node, or a later start of it: what was here is gone, and its end not noticed yet.
            tracing::info!(node = %arrival.node.name, "node has moved to another predictor");
            self.leave(now, id);
        }
        if let Err(refused) = self.check_arrival(&arrival.node) {
            tracing::warn!(node = %arrival.node.name, %refused, "a node of another predictor cannot be followed");
            return;
        }
        let joined = self.admit(now, arrival, Some(home));
        if let Some(fleet) = &mut self.fleet {
            fleet.remotes.insert(home, joined.session);
        }
    }

    /// A member has given a command to a node.
    pub(super) fn relayed(&mut self, now: Timestamp, record: OrderRecord) {
        let Some(id) = self.session_of(&record.node).map(|(id, _)| id) else { return };
        let (Some(fleet), Some(session)) = (&mut self.fleet, self.sessions.get(&id)) else { return };
        let Way::Here(queue) = &session.way else { return };
        if !fleet.fence.admit(&record.resource, record.token) {
            self.metrics.fleet.orders_refused.inc();
            return;
        }
        if !self.is_of_arm_in_force(id, &record.resource, &record.command.arm) {
            self.metrics.fleet.orders_refused.inc();
            return;
        }
        if record.command.deadline < now {
            self.metrics.fleet.orders_late.inc();
            return;
        }
        // Nodes compare it with the map that they have from here.
        let command = Command { epoch: self.members.map().epoch, ..record.command };
        let counter =
            if queue.try_send(command).is_ok() { &self.metrics.commands_sent } else { &self.metrics.commands_dropped };
        counter.get_or_create(&session.label).inc();
    }

    /// Who takes part, and who owns what.
    pub(super) fn handle_view(&mut self, now: Timestamp, view: FleetView, left: Option<Duration>) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.holds_until = left.map(|left| now.after(left));
        view.tokens.iter().for_each(|(resource, token)| fleet.fence.raise(resource, *token));
        let members: BTreeSet<u32> = view.members.values().filter_map(|run| run.parse().ok()).collect();
        fleet.asked.retain(|member| members.contains(member));
        let own = fleet.outlets.generation();
        for member in members.iter().filter(|member| **member != own) {
            if !fleet.asked.contains(member) && fleet.outlets.ask(*member).is_ok() {
                fleet.asked.insert(*member);
            }
        }
        let absent: BTreeSet<u32> =
            fleet.remotes.keys().map(|home| home.generation).filter(|member| !members.contains(member)).collect();
        fleet.missing.retain(|member, _| absent.contains(member));
        for member in absent {
            fleet.missing.entry(member).or_insert(now);
        }
        let grace = fleet.grace;
        let gone: Vec<u32> =
            fleet.missing.iter().filter(|(_, since)| now.since(**since) >= grace).map(|(member, _)| *member).collect();
        let sessions: Vec<SessionId> =
            (fleet.remotes.iter()).filter(|(home, _)| gone.contains(&home.generation)).map(|(_, id)| *id).collect();
        fleet.view = view;
        sessions.into_iter().for_each(|id| self.leave(now, id));
        self.review_experiments();
    }

    /// Something that was said is gone: everybody is asked again.
    pub(super) fn missed(&mut self) {
        if let Some(fleet) = &mut self.fleet {
            fleet.asked.clear();
        }
    }

    /// Tells the other members what a node of this one has said.
    pub(super) fn say(&mut self, id: SessionId, said: &Said) {
        let (Some(fleet), Some(session)) = (&mut self.fleet, self.sessions.get_mut(&id)) else { return };
        if matches!(session.way, Way::At(_)) {
            return;
        }
        let ends_inventory = matches!(said, Said::Told(NodeReport::Inventory { last: true, .. }));
        if !session.is_unsaid {
            session.is_unsaid = fleet.outlets.say(&session.descriptor.name, id.0, said).is_err();
        }
        let has_room = fleet.outlets.counts().waiting_bytes < ROOM_BYTES;
        if (session.is_unsaid && has_room) || (session.is_asked && ends_inventory) {
            self.tell(id);
        }
    }

    fn tell_all(&mut self) {
        let here = self.sessions.iter().filter(|(_, session)| matches!(session.way, Way::Here(_)));
        let here: Vec<SessionId> = here.map(|(id, _)| *id).collect();
        here.into_iter().for_each(|id| self.tell(id));
        let draining: Vec<NodeName> = self.draining.iter().cloned().collect();
        draining.iter().for_each(|node| self.tell_drain(node, false));
    }

    /// Tells the other members that a node is drained, or used again.
    pub(super) fn tell_drain(&mut self, node: &NodeName, undo: bool) {
        if let Some(fleet) = &mut self.fleet {
            // Who does not hear of it now asks for everything later.
            let _ = fleet.outlets.say(node, 0, &Said::Drain { node: node.clone(), undo });
        }
    }

    /// Tells the other members of a node as if it had just joined.
    fn tell(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let mut all = vec![Said::Joined { stream: session.stream, hello: Box::new(self.hello(session)) }];
        if session.inventory_complete {
            all.extend(self.inventory_pages(session).into_iter().map(Said::Told));
        }
        all.extend(session.serves.clone().map(|arm| Said::Serves { arm, skew_micros: None }));
        let (Some(fleet), Some(session)) = (&mut self.fleet, self.sessions.get_mut(&id)) else { return };
        // Pages that are still to come would replace what is told of now.
        session.is_asked = !session.inventory_complete;
        let name = &session.descriptor.name;
        session.is_unsaid = all.iter().any(|said| fleet.outlets.say(name, id.0, said).is_err());
    }

    fn hello(&self, session: &Session) -> NodeReport {
        let node = session.descriptor.clone();
        let purges = self.purges.position(&node.name);
        NodeReport::Hello { node, code_version: String::new(), purges, placement: None, stream: session.stream }
    }

    pub(super) fn inventory_pages(&self, session: &Session) -> Vec<NodeReport> {
        let mut held: BTreeMap<Arc<str>, (u64, Vec<u32>)> = BTreeMap::new();
        for (key, size_bytes, segment) in self.arms.engine_at(session.node, &self.engine).held(session.node) {
            let entry = held.entry(key).or_default();
            // What nobody has asked for here is at least as long as what is held of it.
            let at_least = (u64::from(segment) + 1) * session.descriptor.segment_bytes;
            entry.0 = if size_bytes > 0 { size_bytes } else { entry.0.max(at_least) };
            entry.1.push(segment);
        }
        let set = |(key, (size_bytes, mut segments)): (_, (_, Vec<u32>))| {
            segments.sort_unstable();
            SegmentSet { key, size_bytes, segments }
        };
        let sets: Vec<SegmentSet> = held.into_iter().map(set).collect();
        let mut pages: Vec<Vec<SegmentSet>> = sets.chunks(PAGE_SETS).map(<[SegmentSet]>::to_vec).collect();
        if pages.is_empty() {
            pages.push(Vec::new());
        }
        let count = pages.len();
        let page = |(number, held)| NodeReport::Inventory { held, last: number + 1 == count };
        pages.into_iter().enumerate().map(page).collect()
    }
}

/// Objects on one page of what a node holds.
const PAGE_SETS: usize = 512;
/// What may wait for the bus when a node of which something went unsaid is told of anew.
const ROOM_BYTES: u64 = 1 << 20;
