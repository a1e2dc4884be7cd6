//! Placement as one member of a fleet does it for all.

use nearcast_bus::Token;
use nearcast_datasets::Timestamp;
use nearcast_proto::message::NodeReport;

use super::Controller;
use crate::{
    fleet::LogRecord,
    placing::{Placing, Planned},
    server::{fleet::office, input::SessionId},
};

impl Controller {
    /// Places keys from now on: every node that is known joins it, with what it holds.
    pub(super) fn take_office(&mut self, now: Timestamp, token: Token, mut placing: Placing) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.office = Some(token);
        for node in &self.draining {
            placing.handle_drain(now, node, false);
        }
        if let Some(model) = self.engine.model() {
            placing.handle_model(model);
        }
        self.placing = Some(placing);
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in sessions {
            self.enter_placement(now, id);
        }
    }

    /// Another member places keys, or nobody does.
    pub(super) fn end_office(&mut self, token: Token) {
        let Some(fleet) = self.fleet.as_mut().filter(|fleet| fleet.office == Some(token)) else { return };
        fleet.office = None;
        // Its threads end with it.
        self.placing = None;
        self.sessions.values_mut().for_each(|session| session.position = None);
    }

    pub(super) fn planned_in_office(&mut self, now: Timestamp, token: Token, planned: &Planned) {
        // Numbers of keys mean something in one term only.
        if self.fleet.as_ref().is_some_and(|fleet| fleet.office == Some(token)) {
            self.planned(now, planned);
        }
    }

    /// Clients have asked for something somewhere.
    pub(super) fn demand(&mut self, now: Timestamp, batch: &LogRecord) {
        let position = self.session_named(&batch.node.name).and_then(|session| session.position);
        if let (Some(placing), Some(position)) = (&mut self.placing, position) {
            batch.requests.iter().for_each(|request| placing.handle_request(now, position, request));
        }
    }

    /// Sends what placement has to say, as the office's holder in a fleet.
    pub(super) fn send_placement(&mut self, now: Timestamp) {
        if let Some(fleet) = &mut self.fleet {
            let Some(token) = fleet.office else { return };
            fleet.give(Some((office(), token)));
        }
        self.send_placement_orders(now);
        if let Some(fleet) = &mut self.fleet {
            fleet.give(None);
        }
    }

    fn enter_placement(&mut self, now: Timestamp, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let is_complete = session.inventory_complete;
        let pages = if is_complete { self.inventory_pages(session) } else { Vec::new() };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(placing) = &mut self.placing else { return };
        session.position = placing.handle_join(&session.descriptor);
        let Some(position) = session.position else { return };
        for (number, page) in pages.iter().enumerate() {
            if let NodeReport::Inventory { held, last } = page {
                placing.handle_inventory(now, position, held, number == 0, *last);
            }
        }
    }
}
