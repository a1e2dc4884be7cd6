//! Deciding: every candidate is weighed against its price, its risk and the budget.

use std::time::Duration;

use nearcast_datasets::{KeyId, SegmentId, Timestamp};
use nearcast_models::{GateFeatures, gate::features::DEMAND_PRESENT};
use rand_chacha::rand_core::RngCore;

use super::{
    Arm, Engine, NodeIndex, Observation,
    calibrator::Claim,
    candidates::{Candidate, CandidateSource, Sources, regional},
    features::{self, Context},
    keys::KeyInfo,
    labels::Watched,
    orders::Planned,
};

/// What sets decisions off.
#[derive(Clone, Copy, Debug)]
struct Occasion {
    now: Timestamp,
    /// Sine and cosine of the hour of day.
    hour: (f32, f32),
    /// Requests in the session of the client that asked; zero where no client of the node's region did.
    session_length: u32,
}

/// Which of an object's segments an order would bring.
#[derive(Clone, Copy, Debug)]
struct Missing {
    /// They are among this many first ones.
    end: u32,
    bytes: u64,
}

/// What a candidate comes to.
#[derive(Clone, Copy, Debug)]
struct Worth {
    probability: f32,
    saved_seconds: f64,
    value_seconds: f64,
    waste_bytes: f64,
}

impl Engine {
    /// Weighs what was proposed for the node that answered, and the requested key itself for nodes that lack it.
    pub(super) fn decide(&mut self, now: Timestamp, seen: &Observation, session_length: u32) {
        let occasion = Occasion { now, hour: features::hour(now), session_length };
        let candidates = self.merged.take();
        for candidate in &candidates {
            self.weigh(&occasion, seen.node, candidate);
        }
        self.merged.restore(candidates);
        self.decide_regional(&Occasion { session_length: 0, ..occasion }, seen);
        let allowance = &self.learnt.allowance;
        // What is left over, or overdrawn, is worked off over about as many requests as the selector remembers.
        let catch_up = 1.0 + allowance.balance() / (allowance.granted() * CATCH_UP_SHARE).max(1.0);
        let granted = std::mem::take(&mut self.learnt.granted_bytes);
        self.learnt.selector.advance(granted, catch_up.clamp(0.0, CATCH_UP_MAX));
    }

    fn decide_regional(&mut self, occasion: &Occasion, seen: &Observation) {
        if !self.merged.is_enabled(CandidateSource::Demand) {
            return;
        }
        let first = SegmentId { key: seen.key, index: 0 };
        let nodes_max = self.config.settings().regional_nodes_max;
        let mut lacking = std::mem::take(&mut self.lacking);
        let hash = self.keys.hash(seen.key);
        // Among many nodes each request begins with others, so that none always comes too late.
        let nodes = self.nodes.iter().len();
        let begin = if nodes > nodes_max + 1 { self.account.requests as usize % nodes } else { 0 };
        let alive = || self.nodes.alive().filter(|(_, node)| node.follows(hash)).map(|(index, _)| index);
        let is_early = |index: &NodeIndex| usize::from(index.0) < begin;
        let in_turn = alive().filter(|index| !is_early(index)).chain(alive().filter(is_early));
        lacking.extend(
            in_turn.filter(|index| *index != seen.node && !self.cache_map.holds(*index, first)).take(nodes_max),
        );
        for node in lacking.drain(..) {
            let Some(stay) = self.nodes.get(node).map(|node| node.stay_requests()) else { continue };
            let mut sources = Sources::default();
            sources.insert(CandidateSource::Demand);
            let mut probabilities = [0.0; CandidateSource::ALL.len()];
            probabilities[CandidateSource::Demand as usize] =
                regional::probability(&self.learnt.demand, seen.key, stay);
            let candidate = Candidate { key: seen.key, sources, probabilities, support: 0.0, rank: 0 };
            self.weigh(occasion, node, &candidate);
        }
        self.lacking = lacking;
    }

    fn weigh(&mut self, occasion: &Occasion, to: NodeIndex, candidate: &Candidate) {
        let Some((info, missing)) = self.admissible(to, candidate) else { return };
        for source in candidate.sources.iter() {
            self.account.sources.of_mut(source).weighed += 1;
        }
        let Some(features) = self.features(occasion, to, candidate, &info) else { return };
        let claimed = self.claim(candidate, &features);
        let Some(worth) = self.worth(to, candidate.key, missing.bytes, claimed.corrected) else { return };
        if !self.admits(to, &worth) {
            self.learnt.refused.record(to, candidate.key, self.account.requests, candidate.best());
            self.follow_some(occasion.now, to, candidate.key, features, claimed);
            return;
        }
        let patience = Duration::from_secs_f64(self.config.settings().order_seconds_max);
        self.queue.push(Planned {
            node: to,
            key: candidate.key,
            size_bytes: info.size_bytes,
            bytes: missing.bytes,
            segments_end: missing.end,
            sources: candidate.sources,
            features,
            claimed,
            probability: worth.probability,
            saved_seconds: worth.saved_seconds,
            value_seconds: worth.value_seconds,
            deadline: occasion.now.after(patience),
        });
    }

    /// What is known of a candidate and what of it is missing at a node, unless it need not or cannot be weighed.
    fn admissible(&mut self, to: NodeIndex, candidate: &Candidate) -> Option<(KeyInfo, Missing)> {
        let key = candidate.key;
        let refusals = &mut self.account.refusals;
        let node = self.nodes.get(to)?;
        if !node.follows(self.keys.hash(key)) {
            return None;
        }
        let segment_bytes = node.segment_bytes;
        // True of most candidates, and told without looking up what is known of them.
        if self.cache_map.holds(to, SegmentId { key, index: 0 }) && self.keys.fits(key, segment_bytes) {
            refusals.held += 1;
            return None;
        }
        let info = *self.keys.info(key)?;
        if info.size_bytes == 0 {
            refusals.unknown_size += 1;
            return None;
        }
        if !node.alive {
            return None;
        }
        let order_bytes_max = self.config.settings().order_bytes_max;
        let end = info.size_bytes.div_ceil(segment_bytes).min((order_bytes_max / segment_bytes).max(1));
        let missing = |index: &u64| {
            let index = u32::try_from(*index).unwrap_or(u32::MAX);
            !self.cache_map.holds(to, SegmentId { key, index })
        };
        let bytes_of = |index: u64| (info.size_bytes - index * segment_bytes).min(segment_bytes);
        let bytes: u64 = (0..end).filter(missing).map(bytes_of).sum();
        if bytes == 0 {
            refusals.held += 1;
            return None;
        }
        if self.outstanding.contains(to, key) {
            refusals.ordered += 1;
            return None;
        }
        if self.learnt.refused.contains(to, key, self.account.requests, candidate.best()) {
            refusals.recently_refused += 1;
            return None;
        }
        Some((info, Missing { end: u32::try_from(end).unwrap_or(u32::MAX), bytes }))
    }

    fn features(
        &self,
        occasion: &Occasion,
        to: NodeIndex,
        candidate: &Candidate,
        info: &KeyInfo,
    ) -> Option<GateFeatures> {
        let sequence = self.learnt.sequence.as_ref();
        let context = Context {
            now: occasion.now,
            hour: occasion.hour,
            demand: &self.learnt.demand,
            history: &self.learnt.history,
            node: self.nodes.get(to)?,
            node_index: to,
            stay_of_all: self.stay_of_all(to) as f32,
            session_length: occasion.session_length,
            is_in_vocabulary: sequence.is_some_and(|sequence| sequence.knows(candidate.key)),
        };
        Some(features::of(candidate, info, &context))
    }

    /// P(used), unless the gate is disabled as the gate sees it.
    fn claim(&self, candidate: &Candidate, features: &GateFeatures) -> Claim {
        if self.config.settings().gate_disabled {
            let best = candidate.best();
            return Claim { raw: best, corrected: best };
        }
        let raw = self.learnt.gate.probability(features);
        let corrected = self.learnt.calibrators[usize::from(is_pushed(features))].correct(raw);
        Claim { raw, corrected }
    }

    /// How many requests all nodes together answer while a node keeps a prefetched segment.
    fn stay_of_all(&self, node: NodeIndex) -> f64 {
        let Some(node) = self.nodes.get(node) else { return 0.0 };
        node.stay_requests() as f64 * self.account.requests as f64 / node.requests.max(1) as f64
    }

    /// `value = P(use) × latency saved − price × bytes − displaced − P(no use) × waste price`.
    fn worth(&self, to: NodeIndex, key: KeyId, bytes: u64, claimed: f32) -> Option<Worth> {
        let settings = self.config.settings();
        let node = self.nodes.get(to)?;
        let believed = f64::from(claimed) * node.trust.faith() * self.learnt.experience(settings);
        let holders = self.cache_map.holders(SegmentId { key, index: 0 });
        let saved_seconds = self.nodes.fetch_seconds(to, bytes, holders);
        let idle_bytes = (1.0 - believed) * bytes as f64;
        let price = settings.price_seconds_per_byte() * bytes as f64;
        let displacing_bytes = bytes as f64 * node.expected_stay_share(believed);
        let waste = (1.0 - believed) * settings.waste_price * saved_seconds;
        let harm = displacing_bytes * node.harm.seconds_per_byte();
        Some(Worth {
            probability: believed as f32,
            saved_seconds,
            value_seconds: believed * saved_seconds - price - harm - waste,
            waste_bytes: displacing_bytes.mul_add(node.harm.bytes_per_byte(), idle_bytes),
        })
    }

    /// Whether a candidate is worth its bytes, better than what else the budget could buy, and not turned down.
    fn admits(&mut self, to: NodeIndex, worth: &Worth) -> bool {
        if worth.value_seconds <= 0.0 {
            self.account.refusals.worthless += 1;
            return false;
        }
        let ratio = worth.value_seconds / worth.waste_bytes.max(f64::MIN_POSITIVE);
        self.learnt.selector.record(ratio, worth.waste_bytes);
        if ratio < self.learnt.selector.bar() {
            self.account.refusals.below_bar += 1;
            return false;
        }
        let rate = self.nodes.get(to).map_or(0.0, |node| node.trust.rate());
        if rate < 1.0 && self.draw() >= rate {
            self.account.refusals.turned_down += 1;
            return false;
        }
        if self.arm == Arm::None {
            self.account.refusals.arm += 1;
            return false;
        }
        true
    }

    /// Follows a share of what is not issued, so that the gate learns of those too; all of it while it knows little.
    pub(super) fn follow_some(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        key: KeyId,
        features: GateFeatures,
        claimed: Claim,
    ) {
        let learnt = self.account.labels as f64;
        let eagerness = EAGER_LABELS / (EAGER_LABELS + learnt);
        let share = self.config.settings().sample_share.max(eagerness) * f64::from(1.0 - self.learnt.labels.fill());
        if self.draw() < share {
            self.follow(now, node, key, features, claimed, false);
        }
    }

    pub(super) fn follow(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        key: KeyId,
        features: GateFeatures,
        claim: Claim,
        is_ordered: bool,
    ) {
        let Some(at_request) = self.nodes.get(node).map(|node| node.requests) else { return };
        self.learnt.labels.watch(Watched { node, key, features, claim, is_ordered, at: now, at_request });
    }

    /// A number from 0 to below 1.
    fn draw(&mut self) -> f64 {
        f64::from(self.learnt.random.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }
}

/// Whether a candidate was proposed by another region's request for the key itself.
pub(super) fn is_pushed(features: &GateFeatures) -> bool {
    features[DEMAND_PRESENT] > 0.0
}

/// Labels up to which most candidates are followed.
const EAGER_LABELS: f64 = 1_000.0;
const CATCH_UP_SHARE: f64 = 0.05;
const CATCH_UP_MAX: f64 = 3.0;
