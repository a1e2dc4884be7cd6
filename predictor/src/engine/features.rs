//! What the gate is told of a candidate.

use nearcast_datasets::{KeyId, Timestamp};
use nearcast_models::{
    GATE_FEATURE_COUNT, GateFeatures,
    gate::features::{self as at, log_odds, log_scale},
};

use super::{
    NodeIndex,
    candidates::{Candidate, CandidateSource, regional},
    demand::Demand,
    history::History,
    keys::KeyInfo,
    nodes::Node,
};

/// What is known besides the candidate itself.
pub(super) struct Context<'a> {
    pub now: Timestamp,
    /// Sine and cosine of the hour of day.
    pub hour: (f32, f32),
    pub demand: &'a Demand,
    pub history: &'a History,
    /// The node that the candidate is for.
    pub node: &'a Node,
    pub node_index: NodeIndex,
    /// How many requests all nodes together answer while the node keeps a prefetched segment.
    pub stay_of_all: f32,
    /// Requests in the session of the client that set it off.
    pub session_length: u32,
    /// Whether the model in service has a row for the key.
    pub is_in_vocabulary: bool,
}

/// The candidate's features.
pub(super) fn of(candidate: &Candidate, info: &KeyInfo, context: &Context<'_>) -> GateFeatures {
    let mut x = [0.0; GATE_FEATURE_COUNT];
    x[at::BIAS] = 1.0;
    say_sources(candidate, &mut x);
    say_demand(candidate.key, info, context, &mut x);
    x[at::SUPPORT] = log_scale(candidate.support);
    x[at::RANK] = log_scale(f32::from(candidate.rank));
    x[at::SIZE] = log_scale(info.size_bytes as f32 / 1_024.0);
    (x[at::HOUR_SIN], x[at::HOUR_COS]) = context.hour;
    x[at::PRESSURE] = context.node.pressure();
    let earlier = context.history.find(context.node_index, candidate.key);
    x[at::FAILURES] = log_scale(f32::from(earlier.unused));
    x[at::SUCCESSES] = log_scale(f32::from(earlier.used));
    x[at::NEW_KEY] = f32::from(u8::from(!context.is_in_vocabulary));
    x[at::CLIENT_ACTIVITY] = log_scale(context.session_length as f32);
    x
}

/// Sine and cosine of the hour of day, UTC, as an angle.
pub(super) fn hour(now: Timestamp) -> (f32, f32) {
    (now.micros().rem_euclid(DAY_MICROS) as f32 / DAY_MICROS as f32 * std::f32::consts::TAU).sin_cos()
}

fn say_sources(candidate: &Candidate, x: &mut GateFeatures) {
    let mut best = f32::NEG_INFINITY;
    for source in CandidateSource::ALL {
        let (odds_position, present_position) = positions(source);
        let probability = candidate.probabilities[source as usize];
        let is_proposed = candidate.sources.contains(source);
        if is_proposed || probability > 0.0 {
            x[odds_position] = log_odds(probability);
        }
        if is_proposed {
            x[present_position] = 1.0;
            best = best.max(x[odds_position]);
        }
    }
    x[at::BEST_LOG_ODDS] = best.max(-10.0);
    x[at::AGREEMENT] = candidate.sources.len().saturating_sub(1) as f32;
}

fn say_demand(key: KeyId, info: &KeyInfo, context: &Context<'_>, x: &mut GateFeatures) {
    let region = context.node.region;
    let (global, regional) = (context.demand.global(key), context.demand.regional(key, region));
    x[at::FREQUENCY_GLOBAL] = log_scale(global.long);
    x[at::FREQUENCY_REGION] = log_scale(regional.long);
    x[at::REGION_SHARE] = regional::region_share(regional, global);
    x[at::FREQUENCY_GLOBAL_SHORT] = log_scale(global.short);
    x[at::FREQUENCY_REGION_SHORT] = log_scale(regional.short);
    x[at::REGIONS] = log_scale(context.demand.regions_asking(key) as f32);
    x[at::DEMAND_LOG_ODDS] = log_odds(regional::probability(context.demand, key, context.node.stay_requests()));
    let expected = context.demand.pace(regional) * context.stay_of_all;
    x[at::EXPECTED_LOG_ODDS] = log_odds(1.0 - (-expected).exp());
    let age = if info.requests > 0 { context.now.since(info.first_at).as_secs_f32() } else { 0.0 };
    x[at::AGE] = log_scale(age);
    let seconds_since = |at: Option<Timestamp>| at.map_or(WEEK_SECONDS, |at| context.now.since(at).as_secs_f32());
    x[at::RECENCY_GLOBAL] = log_scale(seconds_since(info.asked_at()));
    x[at::RECENCY_REGION] = log_scale(seconds_since(context.demand.asked_at(key, region)));
}

fn positions(source: CandidateSource) -> (usize, usize) {
    match source {
        CandidateSource::Client => (at::CLIENT_LOG_ODDS, at::CLIENT_PRESENT),
        CandidateSource::Region => (at::REGION_LOG_ODDS, at::REGION_PRESENT),
        CandidateSource::Demand => (at::DEMAND_LOG_ODDS, at::DEMAND_PRESENT),
        CandidateSource::Sequence => (at::SEQUENCE_LOG_ODDS, at::SEQUENCE_PRESENT),
        CandidateSource::Stride => (at::STRIDE_LOG_ODDS, at::STRIDE_PRESENT),
        CandidateSource::Habit => (at::HABIT_LOG_ODDS, at::HABIT_PRESENT),
    }
}

const DAY_MICROS: i64 = 86_400_000_000;
const WEEK_SECONDS: f32 = 604_800.0;
