//! Arms as `/status` and metrics show them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    Arms,
    ghosts::Ghosts,
    seat::Seat,
    tally::{Sampled, ShadowAccount, Tally},
};
use crate::{
    engine::{Arm, Engine, NodeIndex},
    events::rfc3339,
};

/// Every arm, and who is in force where.
#[derive(Clone, Debug, Serialize)]
pub struct ArmsStatus {
    /// By node, the name of the arm in force.
    pub in_force: BTreeMap<Arc<str>, Arc<str>>,
    /// What miniatures of every arm count.
    pub shadow: ShadowStatus,
}

/// The miniatures.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowStatus {
    /// Share of the keys that they follow.
    pub sample_share: f64,
    /// Since when they count, RFC 3339; absent before the first node.
    pub since: Option<String>,
    /// *None* first, then the champion; nobody without miniatures.
    pub arms: Vec<ArmShadow>,
}

/// One arm's miniatures.
#[derive(Clone, Debug, Serialize)]
pub struct ArmShadow {
    /// Its name.
    pub arm: Arc<str>,
    /// The version of its model.
    pub model_version: Option<Arc<str>>,
    /// Whether it learns from the stream.
    pub learning: bool,
    /// What its miniatures count.
    #[serde(flatten)]
    pub account: ShadowAccount,
    /// Hits per request more than *none* has.
    pub hit_ratio_over_none: Sampled,
    /// Milliseconds that a request waits less than under *none*.
    pub wait_ms_under_none: Sampled,
    /// The longest turnover of any of its miniatures, in seconds; absent until enough has been evicted.
    pub turnover_seconds: Option<f64>,
    /// Orders that a miniature turned away because too much was under way.
    pub turned_away: u64,
}

impl Arms {
    /// Everything about arms.
    pub fn status(&self, engine: &Engine) -> ArmsStatus {
        let in_force = self.worlds.iter().map(|world| {
            let rival = self.rivals.iter().find(|rival| rival.seat.slot == world.in_force);
            let name =
                rival.and_then(|rival| rival.seat.name.clone()).unwrap_or_else(|| Arc::from(engine.arm().name()));
            (Arc::clone(&world.descriptor.name.0), name)
        });
        if self.is_blind {
            let shadow = ShadowStatus { sample_share: 0.0, since: None, arms: Vec::new() };
            return ArmsStatus { in_force: in_force.collect(), shadow };
        }
        let none = self.none.tally(self.sample.share());
        let mut arms = vec![self.shadow(Arc::from("none"), None, false, &self.none, &none)];
        // The champion may be told to order nothing; then it is another *none*, and is not listed twice.
        if engine.arm() != Arm::None {
            let champion = Arc::from(engine.arm().name());
            let version = engine.model_version().cloned();
            arms.push(self.shadow(champion, version, engine.is_learning(), &self.champion.ghosts, &none));
        }
        for rival in &self.rivals {
            let Seat { name, version, spec, ghosts, .. } = &rival.seat;
            let orders = spec.as_ref().is_none_or(|spec| spec.orders);
            if let Some(name) = name.clone().filter(|_| orders) {
                let learning = spec.as_ref().is_none_or(|spec| spec.learning);
                arms.push(self.shadow(name, version.clone(), learning, ghosts, &none));
            }
        }
        let since = self.started_at.map(rfc3339);
        let shadow = ShadowStatus { sample_share: self.sample.share(), since, arms };
        ArmsStatus { in_force: in_force.collect(), shadow }
    }

    /// The longest turnover of these nodes under any arm; none while it cannot be told.
    pub fn turnover(&self, nodes: &[NodeIndex]) -> Option<Duration> {
        let rivals = self.rivals.iter().map(|rival| &rival.seat.ghosts);
        let measured: Option<Vec<Duration>> =
            rivals.chain([&self.champion.ghosts, &self.none]).map(|ghosts| ghosts.turnover(nodes)).collect();
        measured.and_then(|measured| measured.into_iter().max())
    }

    fn shadow(
        &self,
        arm: Arc<str>,
        model_version: Option<Arc<str>>,
        learning: bool,
        ghosts: &Ghosts,
        none: &Tally,
    ) -> ArmShadow {
        let share = self.sample.share();
        let tally = ghosts.tally(share);
        let nodes: Vec<NodeIndex> =
            (0..self.worlds.len()).filter_map(|node| u16::try_from(node).ok()).map(NodeIndex).collect();
        ArmShadow {
            arm,
            model_version,
            learning,
            account: tally.account(share),
            hit_ratio_over_none: tally.hits_more_than(none, share),
            wait_ms_under_none: tally.wait_ms_less_than(none, share),
            turnover_seconds: ghosts.turnover(&nodes).map(|turnover| turnover.as_secs_f64()),
            turned_away: ghosts.turned_away(),
        }
    }
}
