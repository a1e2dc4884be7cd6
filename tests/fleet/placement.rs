//! Placement while predictors and the bus go and come.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{Cluster, http::eventually};

impl Cluster {
    /// Kills whoever places keys. Meanwhile, and when another does it, all that is placed stays so.
    #[expect(clippy::print_stderr, reason = "a figure to keep")]
    #[expect(clippy::disallowed_methods, reason = "it is the time that is measured")]
    pub(super) async fn kill_who_places_keys(&mut self) {
        let first = self.leader().await.expect("somebody places keys");
        let before = self.placed_keys().await;
        assert!(before.iter().all(|placed| *placed > 0), "{before:?}");
        let began = Instant::now();
        self.kill_predictor(&first).await;
        eventually("a successor", async || self.leader().await.is_some_and(|leader| leader != first)).await;
        let idle = began.elapsed();
        eprintln!("keys were placed by another predictor after {:.2} s", idle.as_secs_f64());
        assert!(idle <= Duration::from_secs(10), "{idle:?}");
        let after = self.placed_keys().await;
        let kept = before.iter().zip(&after).all(|(before, after)| after * 10 >= before * 9);
        assert!(kept, "keys that nodes knew to be placed, before and after: {before:?} {after:?}");
    }

    /// The bus is away while clients go on. Nodes keep what is placed. The round that comes next.
    #[expect(clippy::disallowed_methods, reason = "it is the time that is waited for")]
    pub(super) async fn check_without_bus(&mut self, first_round: usize, keys: u64) -> usize {
        let away = Duration::from_secs(if std::env::var_os("NEARCAST_BARS").is_some() { 30 } else { 5 });
        self.server.kill();
        let (began, mut round) = (Instant::now(), first_round);
        while began.elapsed() < away {
            self.play(round..round + 10, async |_| ()).await;
            round += 10;
            sleep(Duration::from_millis(200)).await;
        }
        let placed = self.placed_keys().await;
        assert!(placed.iter().all(|placed| placed * 10 >= keys * 9), "{keys} keys were placed, now {placed:?}");
        self.server.run();
        self.check_links().await;
        round
    }

    /// Waits until all members and nodes have the same map of placed keys, of that version or later; how many keys are
    /// on it, and its version.
    pub(super) async fn check_map(&self, epoch: u64) -> (u64, u64) {
        let found = Mutex::new((0, 0));
        eventually("one map of placed keys everywhere", async || {
            let mut seen = Vec::new();
            for predictor in self.predictors.values() {
                let fleet = self.fleet(predictor).await;
                seen.push((fleet["map_keys"].as_u64(), fleet["map_epoch"].as_u64()));
            }
            seen.extend(
                (self.links().await.iter())
                    .map(|link| (link["placed_keys"].as_u64(), link["placement_epoch"].as_u64())),
            );
            let (Some(keys), Some(at)) = seen[0] else { return false };
            *found.lock().expect("no panic") = (keys, at);
            keys > 0 && at >= epoch.max(1) && seen.iter().all(|other| *other == seen[0])
        })
        .await;
        found.into_inner().expect("no panic")
    }

    /// Who places keys, if all that are left agree.
    async fn leader(&self) -> Option<String> {
        let mut named = Vec::new();
        for predictor in self.predictors.values() {
            named.push(self.fleet(predictor).await["places_keys"].as_str().map(str::to_owned));
        }
        named.dedup();
        if let [Some(leader)] = &named[..] { Some(leader.clone()) } else { None }
    }

    async fn placed_keys(&self) -> Vec<u64> {
        self.links().await.iter().filter_map(|link| link["placed_keys"].as_u64()).collect()
    }
}
