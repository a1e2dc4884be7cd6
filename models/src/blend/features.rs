//! What the network sees of a candidate.

use crate::{
    blend::{candidates::Evidence, links::Entry, popular::NOTHING},
    kernel,
};

/// Numbers that the network sees of every candidate.
pub const BLEND_FEATURE_COUNT: usize = 28;

/// What they are, in order. Shares are seen as ln(share + 0.001)/3 + 1 unless called plain.
pub const BLEND_FEATURE_NAMES: [&str; BLEND_FEATURE_COUNT] = [
    "share in which it directly followed the current key",
    "share in which it followed the current key",
    "share in which it preceded the current key",
    "freshness of the direct link",
    "share in which it met the session's other keys",
    "highest share in which it met one of them",
    "association with the session's keys",
    "share in which it followed the last two keys",
    "plain share in which it directly followed",
    "plain share in which it met any of the session's keys",
    "plain share in which it followed the last two keys",
    "the same, times how well those two are known",
    "plain share in which it directly followed, times how well the current key is known",
    "how often it directly followed",
    "asked for in this session",
    "how lately in this session",
    "how often in this session",
    "is the current key",
    "asked for in an earlier session",
    "share of all requests",
    "requests",
    "recent requests",
    "recent requests in the region, when a favourite there",
    "time since its first request",
    "requests of the session",
    "requests of the current key",
    "what the sequence model says",
    "nothing but popularity speaks for it",
];

/// One candidate as the network sees it.
pub(super) type Features = [f32; BLEND_FEATURE_COUNT];

/// Numbers by which the network judges that no candidate comes next.
pub(super) const CONTEXT_COUNT: usize = 4;

/// What all candidates of a request have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings {
    /// Now, in seconds since the Unix epoch.
    pub(super) now_seconds: u32,
    /// Now, in half-lives of recent counts.
    pub(super) now_recent: f64,
    /// Now, in half-lives of favourites.
    pub(super) now_hot: f64,
    /// Decayed number of all requests.
    pub(super) requests: f32,
    /// Requests of the session.
    pub(super) session_requests: u32,
    /// Requests of the current key without the session's own.
    pub(super) current_requests: f32,
    /// Times that the last two keys came one after the other, without the session's own.
    pub(super) context_requests: f32,
    pub(super) current: nearcast_datasets::KeyId,
}

impl Surroundings {
    /// The features of one candidate. `score` is the sequence model's, a log-probability; zero without one.
    pub(super) fn features(&self, evidence: &Evidence, entry: &Entry, score: f32) -> Features {
        let requests = (entry.occurrences - evidence.times).max(0.0);
        let met = evidence.after + evidence.others;
        let current_known = kernel::ln(self.current_requests + 1.0);
        let flag = |flag: bool| if flag { 1.0 } else { 0.0 };
        let in_session = evidence.times > 0.0;
        let has_link = met + evidence.before + evidence.context > 0.0;
        let age_hours = match entry.first_at {
            0 => 0.0,
            first => self.now_seconds.saturating_sub(first) as f32 / 3_600.0,
        };
        [
            log_share(evidence.direct),
            log_share(evidence.after),
            log_share(evidence.before),
            evidence.freshness,
            log_share(evidence.others),
            log_share(evidence.others_max),
            log_share(0.1 * evidence.association),
            log_share(evidence.context),
            evidence.direct,
            met,
            evidence.context,
            evidence.context * kernel::ln(1.0 + self.context_requests) / 3.0,
            evidence.direct * current_known,
            kernel::ln(1.0 + evidence.direct_count),
            flag(in_session),
            evidence.nearness,
            kernel::ln(1.0 + evidence.times),
            flag(evidence.key == self.current),
            flag(evidence.in_history),
            kernel::ln((requests + 0.5) / (self.requests + 1.0)) / 4.0 + 1.0,
            kernel::ln(requests + 0.5) / 4.0,
            self.recent(entry.recent, self.now_recent, evidence.times),
            evidence.hot.map_or(RARELY, |count| self.recent(count, self.now_hot, evidence.times)),
            kernel::ln(1.0 + age_hours) / 3.0,
            kernel::ln(1.0 + self.session_requests as f32) / 2.0,
            current_known / 4.0,
            score / 4.0,
            flag(!in_session && !has_link),
        ]
    }

    /// By what the network judges that no candidate comes next.
    pub(super) fn context(&self, evidence: &[Evidence]) -> [f32; CONTEXT_COUNT] {
        let strongest = evidence.iter().map(|evidence| evidence.after).fold(0.0, f32::max);
        let current_known = kernel::ln(self.current_requests + 1.0) / 4.0;
        [1.0, kernel::ln(1.0 + self.session_requests as f32) / 2.0, current_known, log_share(strongest)]
    }

    /// ln(recent requests + 0.1)/3, without the session's own.
    fn recent(&self, count: f64, now: f64, own: f32) -> f32 {
        if count == NOTHING {
            return RARELY;
        }
        let log2 = ((count - now) as f32).max(-16.0);
        let requests = (kernel::exp(log2 * std::f32::consts::LN_2) - own).max(0.0);
        kernel::ln(requests + 0.1) / 3.0
    }
}

/// ln(0 + 0.1)/3.
const RARELY: f32 = -0.767_528_4;

fn log_share(share: f32) -> f32 {
    kernel::ln(share + 1e-3) / 3.0 + 1.0
}
