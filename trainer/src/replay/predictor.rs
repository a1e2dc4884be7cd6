//! The production engine at the other end of two lines.

use std::{sync::Arc, time::Duration};

use nearcast_datasets::{KeyId, RegionId, SegmentId, ServedFrom, Timestamp};
use nearcast_models::Model;
use nearcast_predictor::engine::{Engine, NodeIndex, Observation, Order};
use nearcast_proto::message::{CommandId, CommandStatus, NodeDescriptor, OutcomeKind};

use super::{LogColumns, agenda::Line, columns::Row, names::Names};

/// What a node tells the predictor. Keys are the log's numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    Gained { node: usize, segment: SegmentId, bytes: u64 },
    Lost { node: usize, segment: SegmentId },
    Outcome { command: CommandId, kind: OutcomeKind, residence: Duration },
    Request { row: usize, served: ServedFrom },
    Result { command: CommandId, status: CommandStatus, bytes: u64 },
}

/// An engine, with what is on its way to it and from it.
#[derive(Debug)]
pub(super) struct Predictor<'a> {
    log: &'a LogColumns,
    names: Names<'a>,
    engine: Engine,
    nodes: Vec<NodeIndex>,
    regions: Vec<RegionId>,
    /// The engine's number of each of the log's keys, given out at the key's first request and not before: numbers
    /// must not tell what is still to come.
    numbers: Vec<Option<KeyId>>,
    numbers_are_stable: bool,
    pub(super) to_engine: Line<Message>,
    pub(super) to_nodes: Line<Order>,
    timed_out_at: Timestamp,
}

impl<'a> Predictor<'a> {
    /// Joins all nodes at the log's first instant. `one_way` is what a message takes in either direction.
    pub(super) fn new(
        log: &'a LogColumns,
        mut engine: Engine,
        descriptors: impl IntoIterator<Item = NodeDescriptor>,
        one_way: Duration,
    ) -> Self {
        let now = log.first_timestamp();
        let nodes = descriptors.into_iter().map(|descriptor| engine.handle_join(now, descriptor)).collect();
        let regions = log.region_names().iter().map(|name| engine.intern_region(name)).collect();
        Self {
            log,
            names: Names::new(log),
            nodes,
            regions,
            numbers: vec![None; log.key_count()],
            numbers_are_stable: engine.config().settings().keys_max > log.key_count(),
            to_engine: Line::new(one_way),
            to_nodes: Line::new(one_way),
            timed_out_at: Timestamp::MIN,
            engine,
        }
    }

    /// When the engine wants to be called though nothing happens.
    pub(super) fn timeout_at(&self) -> Option<Timestamp> {
        self.engine.poll_timeout().filter(|at| *at > self.timed_out_at)
    }

    pub(super) fn install_model(&mut self, now: Timestamp, version: Arc<str>, model: Arc<Model>) {
        self.engine.install_model(now, version, model);
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.timed_out_at = now;
        self.engine.handle_timeout(now);
        self.collect_orders(now);
    }

    /// The next message has arrived.
    pub(super) fn handle_message(&mut self, now: Timestamp) {
        let Some(message) = self.to_engine.receive() else { return };
        match message {
            Message::Gained { node, segment, bytes } => {
                let segment = self.translate(segment);
                self.engine.handle_gained(now, self.nodes[node], segment, bytes);
            }
            Message::Lost { node, segment } => {
                let segment = self.translate(segment);
                self.engine.handle_lost(now, self.nodes[node], segment);
            }
            Message::Outcome { command, kind, residence } => self.engine.handle_outcome(now, command, kind, residence),
            Message::Request { row, served } => {
                let observation = self.observation(&self.log.row(row), served);
                self.engine.handle_request(now, &observation);
            }
            Message::Result { command, status, bytes } => self.engine.handle_result(now, command, status, bytes),
        }
        self.collect_orders(now);
    }

    /// The place of an order and the key it names, in the log's numbers or after them.
    pub(super) fn locate(&mut self, order: &Order) -> Option<(usize, KeyId)> {
        let node = self.nodes.iter().position(|index| *index == order.node)?;
        let key = self.names.key(self.engine.key_name(order.key)?);
        Some((node, key))
    }

    /// The place of a node, in the log's numbers.
    pub(super) fn node(&self, index: NodeIndex) -> Option<usize> {
        self.nodes.iter().position(|known| *known == index)
    }

    pub(super) fn into_engine(self) -> Engine {
        self.engine
    }

    fn observation(&mut self, row: &Row, served: ServedFrom) -> Observation {
        Observation {
            node: self.nodes[usize::from(row.region.0)],
            client: row.client,
            region: self.regions[usize::from(row.region.0)],
            key: self.number(row.key),
            size_bytes: row.size_bytes,
            range: row.range,
            served,
        }
    }

    fn translate(&mut self, segment: SegmentId) -> SegmentId {
        SegmentId { key: self.number(segment.key), index: segment.index }
    }

    fn number(&mut self, key: KeyId) -> KeyId {
        let index = key.0 as usize;
        if let Some(Some(number)) = self.numbers.get(index)
            && self.numbers_are_stable
        {
            return *number;
        }
        let number = self.engine.intern_key(self.names.name(key));
        if let Some(known) = self.numbers.get_mut(index) {
            *known = Some(number);
        }
        number
    }

    fn collect_orders(&mut self, now: Timestamp) {
        while let Some(order) = self.engine.poll_order(now) {
            self.to_nodes.send(now, order);
        }
    }
}
