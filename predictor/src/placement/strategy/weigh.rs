//! What of a plan is worth fetching ahead of a reader.

use nearcast_datasets::KeyId;

use super::{Holdings, Strategy, expected_at};
use crate::placement::{DemandTable, Plan, PlannedKey};

impl Strategy {
    /// Spends the budget of waste on what is planned and not held, the best per byte first; what it does not suffice for
    /// is to be kept from when it is there. A key whose class asks for several replicas gets them in any case.
    pub(super) fn weigh(&mut self, plan: &mut Plan, demand: &DemandTable, held: &dyn Holdings) {
        let Some(budget) = &mut self.budget else { return };
        let lacking = |key: KeyId, planned: &PlannedKey| planned.nodes.minus(held.holders(key));
        let mut keys: Vec<_> = plan.iter_mut().filter(|(key, planned)| !lacking(*key, planned).is_empty()).collect();
        let per_byte = |planned: &PlannedKey| {
            planned.saved_seconds / planned.nodes.len().max(1) as f32 / planned.bytes.max(1) as f32
        };
        keys.sort_by(|a, b| per_byte(b.1).total_cmp(&per_byte(a.1)).then(a.0.cmp(&b.0)));
        for (key, planned) in keys {
            let value_seconds = planned.saved_seconds / planned.nodes.len().max(1) as f32;
            let nodes = lacking(key, planned);
            let mut there = planned.nodes.len() - nodes.len();
            let expected = |node| expected_at(self.placer.sites(), demand.requests(planned.row as usize), node);
            let mut nodes: Vec<(f32, usize)> = nodes.iter().map(|node| (expected(node), node)).collect();
            // Where most is asked for first: if not all are fetched, those are.
            nodes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            for (requests, node) in nodes {
                let is_required = self.config.replicas_min > 1 && there < usize::from(self.config.replicas_min);
                if budget.spend(planned.bytes, requests, value_seconds) || is_required {
                    there += 1;
                } else {
                    planned.awaited = planned.awaited.with(node);
                }
            }
        }
    }
}
