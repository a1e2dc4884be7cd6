//! Everything that was learnt online: what a reset of the arm forgets.

use std::sync::Arc;

use nearcast_datasets::KeyId;
use nearcast_models::{Gate, Model};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{
    NodeIndex,
    budget::Allowance,
    calibrator::Calibrator,
    candidates::{SequenceSource, StrideSource},
    config::EngineSettings,
    demand::Demand,
    history::History,
    keys::KeyTable,
    labels::Labels,
    parts::Parts,
    refused::Refused,
    selector::Selector,
};

/// What the stream and the outcomes have taught.
#[derive(Debug)]
pub(super) struct Learnt {
    pub parts: Parts,
    pub demand: Demand,
    pub sequence: Option<SequenceSource>,
    pub stride: StrideSource,
    pub gate: Gate,
    /// Of claims for the node that was asked, and for others.
    pub calibrators: [Calibrator; 2],
    pub labels: Labels,
    pub history: History,
    pub refused: Refused,
    pub selector: Selector,
    pub allowance: Allowance,
    /// Granted since the selector was last told.
    pub granted_bytes: f64,
    pub random: ChaCha8Rng,
}

impl Learnt {
    pub(super) fn new(settings: &EngineSettings, partitions: u32) -> Self {
        let checked = "the engine's configuration was checked";
        Self {
            parts: Parts::new(settings, partitions),
            demand: Demand::new(settings.demand_short_requests, settings.demand_long_requests, settings.regions_max),
            sequence: None,
            stride: StrideSource::new(settings.families_max),
            gate: Gate::new(&settings.gate).expect(checked),
            calibrators: Default::default(),
            labels: Labels::new(settings.labels_max),
            history: History::new(settings.history_max),
            refused: Refused::default(),
            selector: Selector::new(settings.selector_requests),
            allowance: Allowance::new(settings.spendable_share(), settings.budget_carry_share),
            granted_bytes: 0.0,
            random: ChaCha8Rng::seed_from_u64(settings.seed),
        }
    }

    /// Puts a model into service; its gate is taken over while the own one has learnt less.
    pub(super) fn install(&mut self, model: Arc<Model>, keys: &KeyTable) {
        let trained = model.gate.as_ref().filter(|state| state.learned > self.gate.learned_count());
        if let Some(gate) = trained.and_then(|state| Gate::from_state(state).ok()) {
            self.gate = gate;
        }
        match &mut self.sequence {
            Some(sequence) => sequence.swap(model, keys).expect(CHECKED),
            None => self.sequence = Some(SequenceSource::new(model, keys).expect(CHECKED)),
        }
    }

    pub(super) fn forget_key(&mut self, key: KeyId, nodes: usize) {
        self.demand.clear_key(key);
        self.parts.forget(key);
        self.history.clear_key(nodes, key);
        self.stride.forget(key);
        for node in (0..nodes).filter_map(|node| u16::try_from(node).ok()) {
            self.labels.handle_gone(NodeIndex(node), key);
        }
        if let Some(sequence) = &mut self.sequence {
            sequence.forget(key);
        }
    }

    /// Trust in the gate: zero before it has learnt anything, one in the end or where it is not asked.
    pub(super) fn experience(&self, settings: &EngineSettings) -> f64 {
        if settings.gate_disabled {
            return 1.0;
        }
        let labels = self.gate.learned_count() as f64;
        if labels > 0.0 { labels / (labels + settings.novice_labels) } else { 0.0 }
    }
}

const CHECKED: &str = "a version is checked when it is loaded";
