//! Changing what a strategy plans for: nodes come, go and change their capacity while it is at work.

use nearcast_datasets::Timestamp;

use super::{Placer, Strategy};
use crate::placement::{Sites, Volley};

impl Strategy {
    /// Plans for other sites from now on. The regions must be as many as before, and nodes keep their positions. What was
    /// learnt stays; a strategy that has planned before plans anew at its next [`Strategy::handle_timeout`], unless only
    /// links have changed, which counts from the next plan on.
    pub fn handle_sites(&mut self, now: Timestamp, sites: &Sites) {
        let has_room_as_before = self.placer.sites().has_room_as(sites);
        match &mut self.placer {
            Placer::Replicas(planner) => planner.handle_sites(sites.clone()),
            Placer::Single(volley) => *volley = Volley::new(sites.clone()),
        }
        if let Some(ghost) = &mut self.ghost {
            ghost.planner.handle_sites(sites.clone());
        }
        self.expected.resize(sites.regions(), 0.0);
        if self.planned_at.is_some() && !has_room_as_before {
            self.plan_due = now;
            self.requests = self.requests.max(self.config.requests_min);
        }
    }
}
