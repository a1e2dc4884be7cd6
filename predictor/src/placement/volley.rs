//! One copy of each key where its readers are, after Volley (Agarwal et al., NSDI 2010).
//!
//! Volley puts every item at the weighted centre of those who read it, then resolves overfull data centres by moving
//! items where that costs least. Here the centre is the node that minimises the weighted round trips, since round trips
//! and not coordinates are known; links between items are left out. It places one copy of each item.

use super::{DemandTable, NodeSet, Plan, Sites};

/// The single-copy placer.
#[derive(Clone, Debug)]
pub struct Volley {
    sites: Sites,
}

impl Volley {
    /// For `sites`.
    pub fn new(sites: Sites) -> Self {
        Self { sites }
    }

    /// The sites that it plans for.
    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    /// One node for each key, the most asked-for per byte first, until all nodes are full.
    pub fn plan(&self, demand: &DemandTable) -> Plan {
        let mut plan = Plan::new(self.sites.nodes());
        let worth = |row: usize| demand.requests(row).iter().sum::<f32>() / demand.key(row).bytes.max(1) as f32;
        let mut rows: Vec<(f32, usize)> = (0..demand.len()).map(|row| (worth(row), row)).collect();
        rows.retain(|(worth, _)| *worth > 0.0);
        rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut costs = Vec::new();
        for (_, row) in rows {
            let key = *demand.key(row);
            let bytes = key.bytes as f32;
            let waiting = |holders: NodeSet| -> f32 {
                let asked = demand.requests(row).iter().enumerate().filter(|(_, count)| **count > 0.0);
                asked.map(|(region, count)| count * self.sites.read_seconds(region, bytes, holders)).sum()
            };
            costs.clear();
            costs.extend((0..self.sites.nodes()).map(|node| (waiting(NodeSet::EMPTY.with(node)), node)));
            costs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let fits = |node: usize| plan.load_bytes(node) + key.bytes <= self.sites.capacity(node);
            if let Some((cost, node)) = costs.iter().find(|(_, node)| fits(*node)) {
                let saved = waiting(NodeSet::EMPTY) - cost;
                plan.add(row, &key, NodeSet::EMPTY.with(*node), saved);
            }
        }
        plan
    }
}
