//! What the gate knows about a candidate: one number per named position, all of magnitude about one to ten.
//!
//! Positions are part of the artifact format: append, never reorder. A feature that does not apply stays zero.

/// Number of features.
pub const GATE_FEATURE_COUNT: usize = 35;

/// One candidate's features, indexed by the constants of this module.
pub type GateFeatures = [f32; GATE_FEATURE_COUNT];

/// Always 1.
pub const BIAS: usize = 0;
/// [`log_odds`] of the sequence model's probability that the client asks for the key next.
pub const SEQUENCE_LOG_ODDS: usize = 1;
/// 1 when the sequence model proposed the key.
pub const SEQUENCE_PRESENT: usize = 2;
/// [`log_odds`] of the same-client co-access probability.
pub const CLIENT_LOG_ODDS: usize = 3;
/// 1 when same-client co-access proposed the key.
pub const CLIENT_PRESENT: usize = 4;
/// [`log_odds`] of the other-clients-of-the-region co-access probability.
pub const REGION_LOG_ODDS: usize = 5;
/// 1 when region co-access proposed the key.
pub const REGION_PRESENT: usize = 6;
/// [`log_odds`] of the probability, from predicted demand, that the region asks for the key before it is evicted.
pub const DEMAND_LOG_ODDS: usize = 7;
/// 1 when predicted demand proposed the key.
pub const DEMAND_PRESENT: usize = 8;
/// [`log_odds`] of the probability that a learned stride goes on.
pub const STRIDE_LOG_ODDS: usize = 9;
/// 1 when a stride proposed the key.
pub const STRIDE_PRESENT: usize = 10;
/// The largest [`log_odds`] among the sources that proposed the key.
pub const BEST_LOG_ODDS: usize = 11;
/// How many sources beyond the first proposed the key.
pub const AGREEMENT: usize = 12;
/// [`log_scale`] of the decayed count behind the best co-access source.
pub const SUPPORT: usize = 13;
/// [`log_scale`] of the candidate's rank within its best source, from zero.
pub const RANK: usize = 14;
/// [`log_scale`] of the seconds since the region last asked for the key; of a week when it never did.
pub const RECENCY_REGION: usize = 15;
/// [`log_scale`] of the seconds since any region last asked for the key; of a week when none ever did.
pub const RECENCY_GLOBAL: usize = 16;
/// [`log_scale`] of the region's decayed request count for the key.
pub const FREQUENCY_REGION: usize = 17;
/// [`log_scale`] of all regions' decayed request count for the key.
pub const FREQUENCY_GLOBAL: usize = 18;
/// [`log_scale`] of the size in KiB.
pub const SIZE: usize = 19;
/// Sine of the hour of day (UTC) as an angle.
pub const HOUR_SIN: usize = 20;
/// Cosine of the hour of day (UTC) as an angle.
pub const HOUR_COS: usize = 21;
/// The region's share of the key's requests; 0..=1.
pub const REGION_SHARE: usize = 22;
/// How hard the destination node's cache is pressed: 0 when empty, 1 when what it holds is evicted within the hour.
pub const PRESSURE: usize = 23;
/// [`log_scale`] of earlier prefetches of the key to the node that were never used.
pub const FAILURES: usize = 24;
/// [`log_scale`] of earlier prefetches of the key to the node that were used.
pub const SUCCESSES: usize = 25;
/// 1 when the key has no row in the model's vocabulary.
pub const NEW_KEY: usize = 26;
/// [`log_scale`] of the requests that the client has made in its session.
pub const CLIENT_ACTIVITY: usize = 27;
/// [`log_odds`] of the share of the client's requests, over all its sessions, that were for the key.
pub const HABIT_LOG_ODDS: usize = 28;
/// 1 when the client's habits proposed the key.
pub const HABIT_PRESENT: usize = 29;
/// [`log_scale`] of the seconds since the key was first asked for; zero when it never was.
pub const AGE: usize = 30;
/// [`log_scale`] of the region's request count for the key, decayed quickly.
pub const FREQUENCY_REGION_SHORT: usize = 31;
/// [`log_scale`] of all regions' request count for the key, decayed quickly.
pub const FREQUENCY_GLOBAL_SHORT: usize = 32;
/// [`log_scale`] of the number of regions that have asked for the key.
pub const REGIONS: usize = 33;
/// [`log_odds`] of P(the region asks for the key while the node would keep it) at the pace of its latest requests.
pub const EXPECTED_LOG_ODDS: usize = 34;
/// What the gate multiplies each feature by before learning, so that all have about the same spread: learning by
/// gradient is quickest then.
pub(super) const SCALES: GateFeatures = {
    let mut scales = [1.0; GATE_FEATURE_COUNT];
    scales[RECENCY_REGION] = 0.2;
    scales[RECENCY_GLOBAL] = 0.2;
    scales[SIZE] = 0.25;
    scales[FREQUENCY_REGION] = 0.4;
    scales[FREQUENCY_GLOBAL] = 0.4;
    scales[SUPPORT] = 0.4;
    scales[CLIENT_ACTIVITY] = 0.4;
    scales[AGE] = 0.2;
    scales[FREQUENCY_REGION_SHORT] = 0.4;
    scales[FREQUENCY_GLOBAL_SHORT] = 0.4;
    scales[EXPECTED_LOG_ODDS] = 0.4;
    scales
};

/// Probabilities closer to zero or one than this are treated as this close: log-odds stay within ±10.
const PROBABILITY_MIN: f32 = 4.539_787e-5;

/// ln(p / (1 − p)), within ±10.
pub fn log_odds(probability: f32) -> f32 {
    let p = probability.clamp(PROBABILITY_MIN, 1.0 - PROBABILITY_MIN);
    (p / (1.0 - p)).ln()
}

/// ln(1 + x) for counts, seconds and sizes; negative values count as zero.
pub fn log_scale(x: f32) -> f32 {
    // Exact near zero does not matter here, and the plain logarithm takes half the time.
    (1.0 + x.max(0.0)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_distinct_and_fill_the_array() {
        let positions = [
            BIAS,
            SEQUENCE_LOG_ODDS,
            SEQUENCE_PRESENT,
            CLIENT_LOG_ODDS,
            CLIENT_PRESENT,
            REGION_LOG_ODDS,
            REGION_PRESENT,
            DEMAND_LOG_ODDS,
            DEMAND_PRESENT,
            STRIDE_LOG_ODDS,
            STRIDE_PRESENT,
            BEST_LOG_ODDS,
            AGREEMENT,
            SUPPORT,
            RANK,
            RECENCY_REGION,
            RECENCY_GLOBAL,
            FREQUENCY_REGION,
            FREQUENCY_GLOBAL,
            SIZE,
            HOUR_SIN,
            HOUR_COS,
            REGION_SHARE,
            PRESSURE,
            FAILURES,
            SUCCESSES,
            NEW_KEY,
            CLIENT_ACTIVITY,
            HABIT_LOG_ODDS,
            HABIT_PRESENT,
            AGE,
            FREQUENCY_REGION_SHORT,
            FREQUENCY_GLOBAL_SHORT,
            REGIONS,
            EXPECTED_LOG_ODDS,
        ];
        assert!(positions.into_iter().eq(0..GATE_FEATURE_COUNT));
    }

    #[test]
    fn log_odds_are_symmetric_and_bounded() {
        assert!((log_odds(0.5)).abs() < 1e-6 && (log_odds(0.9) + log_odds(0.1)).abs() < 1e-5);
        assert!((log_odds(0.0) + 10.0).abs() < 1e-2 && (log_odds(1.0) - 10.0).abs() < 1e-2);
    }
}
