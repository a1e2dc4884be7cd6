//! A request: what is learnt from it, before anything is decided.

use std::ops::Range;

use nearcast_datasets::{SegmentId, ServedFrom, Timestamp};
use nearcast_models::BlendLearning;

use super::{
    Engine, NodeIndex, Observation,
    candidates::{CandidateSource, Scope},
    decide::is_pushed,
    parts::Part,
};

/// The part of an object that a request touched, in whole segments.
#[derive(Clone, Debug)]
struct Asked {
    bytes: u64,
    segments: Range<u64>,
    segment_bytes: u64,
}

impl Engine {
    /// A node answered a request. Orders that follow from it come out of [`Engine::poll_order`].
    pub fn handle_request(&mut self, now: Timestamp, seen: &Observation) {
        self.account.requests += 1;
        let Some(node) = self.nodes.get_mut(seen.node) else {
            self.account.unknown += 1;
            return;
        };
        node.requests += 1;
        node.trust.ease();
        if seen.served == ServedFrom::Error {
            self.account.errors += 1;
            return;
        }
        let is_followed = node.follows(self.keys.hash(seen.key));
        self.learn_labels(now, seen);
        if is_followed {
            self.learn_fetch(now, seen);
        }
        self.learn_key(now, seen);
        self.merged.clear();
        let session_length = self.learn_session(now, seen);
        self.decide(now, seen, session_length);
        self.refresh_account(seen.node);
    }

    /// Tells the gate what has become of earlier candidates for this node.
    fn learn_labels(&mut self, now: Timestamp, seen: &Observation) {
        let Some(node) = self.nodes.get(seen.node) else { return };
        let labels = &mut self.learnt.labels;
        labels.handle_asked(now, seen.node, seen.key, node.transfer());
        // Labels come after a node's stay, but while it is young after a part of what it has seen: early and modest
        // beats exact and late.
        let age = node.stay_requests().min((node.requests / YOUNG_SHARE).max(YOUNG_REQUESTS));
        while let Some((watched, used)) = labels.pop_due(seen.node, node.requests, age) {
            self.account.labels += 1;
            self.account.labels_used += u64::from(used);
            self.account.label_calibration.record(watched.claim.corrected, used);
            if !self.is_learning {
                continue;
            }
            if !watched.is_ordered {
                self.learnt.calibrators[usize::from(is_pushed(&watched.features))].learn(watched.claim.raw, used);
            }
            self.learnt.gate.learn(&watched.features, used);
        }
    }

    /// Books what the node had to fetch, and what it would have had to, and keeps the cache map right.
    fn learn_fetch(&mut self, now: Timestamp, seen: &Observation) {
        let Some(node) = self.nodes.get(seen.node) else { return };
        let segment_bytes = node.segment_bytes;
        let asked = seen.range.map_or(0..seen.size_bytes, |range| range.start..range.end.min(seen.size_bytes));
        let segments =
            asked.start / segment_bytes..asked.end.div_ceil(segment_bytes).max(asked.start / segment_bytes + 1);
        let bytes = (segments.end * segment_bytes).min(seen.size_bytes).saturating_sub(segments.start * segment_bytes);
        let touched = Asked { bytes, segments: segments.clone(), segment_bytes };
        self.compare_with_ghost(now, seen, &touched);
        for index in segments.take(SEGMENTS_MARKED_MAX).filter_map(|index| u32::try_from(index).ok()) {
            self.cache_map.insert(seen.node, SegmentId { key: seen.key, index });
        }
    }

    /// Books the difference that prefetching made to a request: what the node had to fetch against what its ghost,
    /// which is never sent anything, would have had to.
    fn compare_with_ghost(&mut self, now: Timestamp, seen: &Observation, asked: &Asked) {
        let is_missed = !seen.served.is_hit();
        let Some(node) = self.nodes.get_mut(seen.node) else { return };
        let mut saved = 0.0;
        let mut would_miss = is_missed;
        if let Some(weight) = node.ghost.weight(seen.key) {
            let lands_at = now.after(node.transfer());
            would_miss = false;
            for index in asked.segments.clone().take(SEGMENTS_MARKED_MAX) {
                let bytes = seen.size_bytes.saturating_sub(index * asked.segment_bytes).min(asked.segment_bytes);
                let segment = SegmentId { key: seen.key, index: u32::try_from(index).unwrap_or(u32::MAX) };
                would_miss |= !node.ghost.request(now, segment, bytes, lands_at);
            }
            saved = weight * (f64::from(u8::from(would_miss)) - f64::from(u8::from(is_missed)));
        }
        let mut demand_bytes = 0.0;
        // Most requests are hits either way; what a fetch takes need not be known for those.
        if is_missed || would_miss {
            let holders = self.cache_map.holders(SegmentId { key: seen.key, index: 0 });
            let seconds = self.nodes.fetch_seconds(seen.node, asked.bytes, holders);
            let Some(node) = self.nodes.get_mut(seen.node) else { return };
            node.trust.record(saved * seconds);
            if is_missed {
                let (request, stay) = (node.requests, node.stay_requests());
                node.harm.handle_missed(seen.key, asked.bytes, seconds, request, stay);
                self.account.demand_bytes += asked.bytes;
                demand_bytes = asked.bytes as f64;
            }
            self.account.saved_requests += saved;
            self.account.saved_seconds += saved * seconds;
        }
        self.account.hits += u64::from(!is_missed);
        self.learnt.granted_bytes += self.learnt.allowance.record(demand_bytes, saved * asked.bytes as f64);
    }

    fn learn_key(&mut self, now: Timestamp, seen: &Observation) {
        let Some(info) = self.keys.info_mut(seen.key) else { return };
        if info.requests == 0 {
            info.first_at = now;
        }
        info.requests = info.requests.saturating_add(1);
        info.last_at = now;
        info.last_request = self.account.requests;
        if seen.size_bytes > 0 && info.size_bytes != seen.size_bytes {
            self.keys.set_size(seen.key, seen.size_bytes);
        }
        self.learnt.demand.record(now, seen.key, seen.region);
    }

    /// Moves the client's session and the region's stream on and collects what they propose.
    fn learn_session(&mut self, now: Timestamp, seen: &Observation) -> u32 {
        let learnt = &mut self.learnt;
        let Part { sessions, coaccess } = learnt.parts.of(seen.client);
        let session = sessions.enter(now, seen.client);
        if self.is_learning {
            coaccess.learn_client(now, session.recent(), seen.key);
            coaccess.learn_region(now, usize::from(seen.region.0), seen.key);
        }
        coaccess.propose(now, Scope::Client, seen.key, 1.0, &mut self.merged);
        for (earlier, weight) in session.recent().zip(EARLIER_WEIGHTS).filter(|(earlier, _)| *earlier != seen.key) {
            coaccess.propose(now, Scope::Client, earlier, weight, &mut self.merged);
        }
        for ((key, weight, share), rank) in session.habits.iter().zip(0..).filter(|((key, ..), _)| *key != seen.key) {
            self.merged.propose(key, CandidateSource::Habit, share, weight, rank);
        }
        coaccess.propose(now, Scope::Region, seen.key, 1.0, &mut self.merged);
        if let Some(sequence) = &mut learnt.sequence {
            let learning = if self.is_learning { BlendLearning::ALL } else { BlendLearning::NONE };
            sequence.learn(now, seen.region, session, seen.key, learning);
            if let Some(state) = &session.state {
                sequence.propose(now, seen.region, state, &mut self.merged);
            }
        }
        session.push(seen.key);
        let length = session.length();
        self.foresee(seen);
        length
    }

    /// Lets numbered keys go on; those that nobody has asked for yet are taken to be as large as the one before.
    fn foresee(&mut self, seen: &Observation) {
        let mut foreseen = std::mem::take(&mut self.foreseen);
        let (request, merged) = (self.account.requests, &mut self.merged);
        self.learnt.stride.propose(seen.key, &self.keys, request, merged, &mut foreseen);
        for next in foreseen.drain(..) {
            let key = self.intern_key(&next.name);
            self.learnt.stride.handle_foreseen(key);
            if self.keys.info(key).is_some_and(|info| info.size_bytes == 0) {
                self.keys.set_size(key, seen.size_bytes);
            }
            self.merged.propose(key, CandidateSource::Stride, next.probability, 0.0, next.rank);
        }
        self.foreseen = foreseen;
    }

    /// Brings the account's gauges up to date.
    pub(super) fn refresh_account(&mut self, node: NodeIndex) {
        let (learnt, account) = (&self.learnt, &mut self.account);
        account.budget.baseline_bytes = learnt.allowance.baseline();
        account.budget.extra_bytes = learnt.allowance.extra();
        account.budget.granted_bytes = learnt.allowance.granted();
        account.budget.balance_bytes = learnt.allowance.balance();
        account.budget.bar_seconds_per_byte = learnt.selector.bar();
        let bounds = &mut account.bounds;
        bounds.keys = self.keys.len();
        bounds.keys_forgotten = self.keys.forgotten;
        bounds.clients = learnt.parts.clients();
        bounds.clients_forgotten = learnt.parts.clients_forgotten();
        bounds.segments = self.cache_map.further_segments();
        bounds.segments_refused = self.cache_map.refused();
        bounds.outstanding = self.outstanding.len();
        bounds.outstanding_given_up = self.outstanding.given_up;
        bounds.labels = learnt.labels.len();
        bounds.labels_refused = learnt.labels.refused;
        bounds.queue_dropped = self.queue.dropped;
        bounds.nodes_refused = self.nodes.refused;
        let (client, region) = (learnt.parts.counters(Scope::Client), learnt.parts.counters(Scope::Region));
        (bounds.client_keys, bounds.region_keys) = (client.keys, region.keys);
        let replaced = [client, region].map(|table| table.keys_replaced + table.successors_replaced);
        bounds.coaccess_replaced = replaced.iter().sum();
        bounds.families_refused = learnt.stride.refused;
        self.refresh_node(node);
    }

    fn refresh_node(&mut self, node: NodeIndex) {
        let (Some(known), position) = (self.nodes.get(node), usize::from(node.0)) else { return };
        if self.account.nodes.len() <= position {
            self.account.nodes.resize_with(position + 1, Default::default);
        }
        let account = &mut self.account.nodes[position];
        if account.name.is_empty() {
            account.name = known.descriptor.name.0.clone();
        }
        account.alive = known.alive;
        account.requests = known.requests;
        account.stay_requests = known.stay_requests();
        account.transfer_seconds = known.transfer().as_secs_f64();
        account.harm_seconds_per_byte = known.harm.seconds_per_byte();
        account.trust = known.trust;
    }
}

/// What the successors of a client's earlier keys are worth, the latest first.
const EARLIER_WEIGHTS: [f32; 2] = [0.6, 0.4];
/// Segments of one request that are marked as held at once; the node's deltas tell of the others.
const SEGMENTS_MARKED_MAX: usize = 64;
/// A node that has answered fewer requests than this many times its stay is young: labels do not wait for all of it.
const YOUNG_SHARE: u64 = 8;
const YOUNG_REQUESTS: u64 = 32;
