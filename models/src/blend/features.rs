//! What the network sees of a candidate.

use nearcast_datasets::KeyId;

use crate::{
    blend::{candidates::Evidence, links::Entry},
    kernel,
};

/// Numbers that the network sees of every candidate.
pub const BLEND_FEATURE_COUNT: usize = 28;

/// What they are, in order. Shares are seen as ln(share + 0.001)/3 + 1 unless called plain; that of a section's requests
/// as ln(1000·share + 1)/3, so that it is zero where no section is known.
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
    "share of its section's requests",
    "nothing but popularity speaks for it",
];

/// One candidate as the network sees it.
pub(super) type Features = [f32; BLEND_FEATURE_COUNT];

/// Numbers by which the network judges that no candidate comes next.
pub(crate) const CONTEXT_COUNT: usize = 4;

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
    pub(super) current: KeyId,
}

impl Surroundings {
    /// Puts the features of all candidates into `out`; `entry` is what is known of a key.
    pub(super) fn features<'a>(
        &self,
        evidence: &[Evidence],
        entry: impl Fn(KeyId) -> &'a Entry,
        out: &mut Vec<Features>,
    ) {
        out.clear();
        let (current_known, all) = (kernel::ln(self.current_requests + 1.0), kernel::ln(self.requests + 1.0));
        let context_known = kernel::ln(1.0 + self.context_requests) / 3.0;
        let session = kernel::ln(1.0 + self.session_requests as f32) / 2.0;
        for evidence in evidence.chunks(LANES) {
            // Logarithms are taken of many candidates at once, which is several times as fast.
            let mut logs = [[1.0_f32; LANES]; LOGS];
            for (lane, evidence) in evidence.iter().enumerate() {
                let log = self.arguments(evidence, entry(evidence.key));
                logs.iter_mut().zip(log).for_each(|(row, argument)| row[lane] = argument);
            }
            kernel::vectorised(|| {
                for number in logs.as_flattened_mut() {
                    *number = kernel::ln(*number);
                }
            });
            for (lane, evidence) in evidence.iter().enumerate() {
                let log = |row: usize| logs[row][lane];
                let share = |row: usize| log(row) / 3.0 + 1.0;
                let met = evidence.after + evidence.others;
                let in_session = evidence.times > 0.0;
                let is_linked = met + evidence.before + evidence.context > 0.0;
                out.push([
                    share(0),
                    share(1),
                    share(2),
                    evidence.freshness,
                    share(3),
                    share(4),
                    share(5),
                    share(6),
                    evidence.direct,
                    met,
                    evidence.context,
                    evidence.context * context_known,
                    evidence.direct * current_known,
                    log(7),
                    flag(in_session),
                    evidence.nearness,
                    log(8),
                    flag(evidence.key == self.current),
                    flag(evidence.in_history),
                    (log(9) - all) / 4.0 + 1.0,
                    log(9) / 4.0,
                    log(10) / 3.0,
                    log(11) / 3.0,
                    log(12) / 3.0,
                    session,
                    current_known / 4.0,
                    log(13) / 3.0,
                    flag(!in_session && !is_linked),
                ]);
            }
        }
    }

    /// What logarithms are taken of, for one candidate.
    fn arguments(&self, evidence: &Evidence, entry: &Entry) -> [f32; LOGS] {
        let requests = (entry.occurrences - evidence.times).max(0.0);
        let association = 0.1 * evidence.association * kernel::inverse_root(entry.occurrences + 1.0);
        let age_hours = match entry.first_at {
            0 => 0.0,
            first => self.now_seconds.saturating_sub(first) as f32 / 3_600.0,
        };
        let recent = |count: f64, now: f64| {
            // Beyond this a count is nothing; f64's own −∞ is among that.
            let log2 = (count - now).max(-16.0) as f32;
            (kernel::exp(log2 * std::f32::consts::LN_2) - evidence.times).max(0.0) + 0.1
        };
        [
            evidence.direct + SHARE_MIN,
            evidence.after + SHARE_MIN,
            evidence.before + SHARE_MIN,
            evidence.others + SHARE_MIN,
            evidence.others_max + SHARE_MIN,
            association + SHARE_MIN,
            evidence.context + SHARE_MIN,
            evidence.direct_count + 1.0,
            evidence.times + 1.0,
            requests + 0.5,
            recent(entry.recent, self.now_recent),
            evidence.hot.map_or(0.1, |count| recent(count, self.now_hot)),
            age_hours + 1.0,
            evidence.section / SHARE_MIN + 1.0,
        ]
    }

    /// By what the network judges that no candidate comes next.
    pub(super) fn context(&self, evidence: &[Evidence]) -> [f32; CONTEXT_COUNT] {
        let strongest = evidence.iter().map(|evidence| evidence.after).fold(0.0, f32::max);
        let current_known = kernel::ln(self.current_requests + 1.0) / 4.0;
        [1.0, kernel::ln(1.0 + self.session_requests as f32) / 2.0, current_known, log_share(strongest)]
    }
}

fn log_share(share: f32) -> f32 {
    kernel::ln(share + SHARE_MIN) / 3.0 + 1.0
}

fn flag(flag: bool) -> f32 {
    if flag { 1.0 } else { 0.0 }
}

/// Candidates whose logarithms are taken together.
const LANES: usize = 16;
/// Logarithms per candidate.
const LOGS: usize = 14;
/// Added to shares before their logarithm is taken.
const SHARE_MIN: f32 = 1e-3;
