//! What a model must beat: popularity, Markov chain, association and sequential rules, and neighbours of sessions.
//!
//! All learn request by request, so that each can be measured frozen where training ended, or learning on. Constants
//! are those that the papers recommend; nothing is tuned on the log measured.

mod neighbours;
mod popularity;
mod rules;

use std::fmt;

use nearcast_datasets::{ClientId, KeyId, Timestamp};

use self::{
    neighbours::{Neighbours, Stan, VmisKnn, Vsknn},
    popularity::Popularity,
    rules::Rules,
};
use super::rank::{PLACES, Proposals};

/// What a client has asked for in its session so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) at: Timestamp,
    pub(crate) client: ClientId,
    /// Oldest first; empty when the session is about to begin.
    pub(crate) session: &'a [KeyId],
}

/// Scores what may come next.
trait Scorer: fmt::Debug {
    /// Puts keys with positive scores into `scores`, each once.
    fn score(&self, situation: &Situation<'_>, scores: &mut Vec<(KeyId, f32)>);
}

/// Every baseline, learning side by side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Baselines {
    popularity: Popularity,
    markov: Rules,
    association: Rules,
    sequential: Rules,
    neighbours: Neighbours,
}

impl Baselines {
    /// The client asks for `key`.
    pub(crate) fn observe(&mut self, situation: &Situation<'_>, key: KeyId) {
        self.popularity.observe(key);
        self.markov.observe_direct(situation.session, key);
        self.association.observe_together(situation.session, key);
        self.sequential.observe_sequential(situation.session, key);
        self.neighbours.observe(situation, key);
    }

    /// Calls `each` with every method's name and proposals, best first; popular keys fill short lists.
    pub(crate) fn propose(&mut self, situation: &Situation<'_>, mut each: impl FnMut(&'static str, &Proposals)) {
        self.popularity.refresh();
        let Self { popularity, markov, association, sequential, neighbours } = self;
        let (mut scores, mut list) = (Vec::new(), Proposals::new());
        popularity.fill(&mut list);
        each(name::POPULARITY, &list);
        let vsknn = Vsknn(neighbours);
        let (stan, stan_wide) = (Stan::recommended(neighbours), Stan::wide(neighbours));
        let vmis_knn = VmisKnn(neighbours);
        let scorers: [(&'static str, &dyn Scorer); 7] = [
            (name::MARKOV, markov),
            (name::ASSOCIATION_RULES, association),
            (name::SEQUENTIAL_RULES, sequential),
            (name::VSKNN, &vsknn),
            (name::STAN, &stan),
            (name::STAN_WIDE, &stan_wide),
            (name::VMIS_KNN, &vmis_knn),
        ];
        for (name, scorer) in scorers {
            scores.clear();
            scorer.score(situation, &mut scores);
            scores.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            list.clear();
            list.extend(scores.iter().take(PLACES + 1).map(|(key, _)| Some(*key)));
            popularity.fill(&mut list);
            each(name, &list);
        }
    }
}

/// The baselines' names in a report.
pub(crate) mod name {
    pub(crate) const POPULARITY: &str = "popularity";
    pub(crate) const MARKOV: &str = "markov";
    pub(crate) const ASSOCIATION_RULES: &str = "association_rules";
    pub(crate) const SEQUENTIAL_RULES: &str = "sequential_rules";
    pub(crate) const VSKNN: &str = "vsknn";
    pub(crate) const STAN: &str = "stan";
    pub(crate) const STAN_WIDE: &str = "stan_wide";
    pub(crate) const VMIS_KNN: &str = "vmis_knn";
    /// All of them.
    pub(crate) const ALL: [&str; 8] =
        [POPULARITY, MARKOV, ASSOCIATION_RULES, SEQUENTIAL_RULES, VSKNN, STAN, STAN_WIDE, VMIS_KNN];
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Sessions one after the other, a minute apart; then what each method proposes after `session`.
    fn proposed(sessions: &[&[u32]], session: &[u32]) -> Vec<(&'static str, Vec<u32>)> {
        let mut baselines = Baselines::default();
        let mut at = Timestamp::from_micros(0);
        for (client, keys) in (0..).map(ClientId).zip(sessions) {
            let keys: Vec<KeyId> = keys.iter().copied().map(KeyId).collect();
            for place in 0..keys.len() {
                baselines.observe(&Situation { at, client, session: &keys[..place] }, keys[place]);
            }
            at = at.after(Duration::from_secs(60));
        }
        let keys: Vec<KeyId> = session.iter().copied().map(KeyId).collect();
        let mut all = Vec::new();
        let situation = Situation { at, client: ClientId(1_000), session: &keys };
        baselines.propose(&situation, |name, list| {
            all.push((name, list.iter().map(|key| key.map_or(u32::MAX, |key| key.0)).collect()));
        });
        all
    }

    fn by_name(all: &[(&'static str, Vec<u32>)], name: &str) -> Vec<u32> {
        all.iter().find(|(held, _)| *held == name).map(|(_, list)| list.clone()).unwrap_or_default()
    }

    #[test]
    fn every_method_has_its_say_and_popular_keys_fill_the_lists() {
        let sessions: [&[u32]; 5] = [&[1, 2, 3], &[1, 2, 4], &[5, 2, 4], &[9], &[9]];
        let all = proposed(&sessions, &[1, 2]);
        assert_eq!(all.iter().map(|(name, _)| *name).collect::<Vec<_>>(), name::ALL);
        assert!(all.iter().all(|(_, list)| list.len() == 6), "every key there is: {all:?}");
        assert_eq!(by_name(&all, name::POPULARITY)[0], 2);
        assert_eq!(by_name(&all, name::MARKOV)[..2], [4, 3], "4 followed 2 twice");
        assert_eq!(by_name(&all, name::ASSOCIATION_RULES)[..2], [1, 4], "1 and 4 met 2 twice");
    }

    #[test]
    fn sequential_rules_count_remote_followers_less() {
        let all = proposed(&[&[1, 2, 3], &[1, 3, 2], &[1, 3]], &[1]);
        assert_eq!(by_name(&all, name::SEQUENTIAL_RULES)[..2], [3, 2], "2½ against 1½");
    }

    #[test]
    fn neighbours_are_sessions_that_share_more_than_the_last_key() {
        // After 2 alone 9 is as frequent as 3; only sessions with 1 go on to 3.
        let sessions: [&[u32]; 6] = [&[1, 2, 3], &[1, 2, 3], &[7, 2, 9], &[7, 2, 9], &[7, 2, 9], &[1, 2, 3]];
        let all = proposed(&sessions, &[1, 2]);
        for name in [name::VSKNN, name::STAN, name::STAN_WIDE, name::VMIS_KNN] {
            let list: Vec<u32> = by_name(&all, name).into_iter().filter(|key| ![1, 2].contains(key)).collect();
            assert_eq!(list[0], 3, "{name}: {list:?}");
        }
    }

    #[test]
    fn a_session_is_no_neighbour_of_itself() {
        let mut baselines = Baselines::default();
        let at = Timestamp::from_micros(0);
        let session = [KeyId(1), KeyId(2)];
        for place in 0..2 {
            baselines.observe(&Situation { at, client: ClientId(1), session: &session[..place] }, session[place]);
        }
        let mut scores = Vec::new();
        VmisKnn(&baselines.neighbours).score(&Situation { at, client: ClientId(1), session: &session }, &mut scores);
        assert!(scores.is_empty(), "{scores:?}");
    }
}
