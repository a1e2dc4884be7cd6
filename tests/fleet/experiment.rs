//! An experiment while predictors go.

use std::path::Path;

use serde_json::Value;

use super::{Cluster, REGIONS, history::write_history, http::eventually, service::nearcast, text};

impl Cluster {
    /// Has whoever conducts experiments begin one, asked through another.
    pub(super) async fn start_experiment(&self, folder: &Path) {
        let history = folder.join("history.parquet");
        write_history(&history, &REGIONS, 1_500, 100);
        let asking = ["start", "trial", "--challenger", "online", "--turnover", "1s", "--block", "10s", "--span", "1h"];
        let more =
            ["--shadow", "0", "--canary-blocks", "1", "--effect", "0.5", "--why", "x", "--history", text(&history)];
        let started = self.experiment("a", &[&asking[..], &more].concat());
        assert_eq!(started["arm"], "online");
        for predictor in self.predictors.values() {
            eventually("nodes of the challenger at every member", async || {
                let status = self.http.json(&format!("{}status", predictor.http)).await;
                let arms = status["arms"]["in_force"].as_object().cloned().unwrap_or_default();
                arms.values().any(|arm| arm == "online") && arms.values().any(|arm| arm == "nearcast")
            })
            .await;
        }
    }

    /// Another goes on with the record of whoever is gone.
    pub(super) async fn check_experiment(&self) {
        let (name, predictor) = self.predictors.iter().next().expect("some are left");
        eventually("another who conducts", async || {
            let conducts = self.fleet(predictor).await["conducts_experiments"].clone();
            conducts.as_str().is_some_and(|conducts| self.predictors.contains_key(conducts))
        })
        .await;
        let report = self.experiment(name, &["report", "trial"]);
        let first = &report["changes"][0];
        assert_eq!((&first["action"], &first["why"]), (&"start".into(), &"x".into()), "{report:#}");
        assert!(["canary", "ab"].iter().any(|stage| report["stage"] == *stage), "{report:#}");
    }

    pub(super) async fn end_experiment(&self) {
        let (name, predictor) = self.predictors.iter().next().expect("some are left");
        eventually("somebody who conducts", async || {
            let status = nearcast(&["experiment", "report", "trial", "--predictor", &predictor.grpc]).output();
            status.is_ok_and(|output| output.status.success())
        })
        .await;
        let ended = self.experiment(name, &["abort", "trial", "--why", "enough", "--timeout", "30s"]);
        assert_eq!(ended["stage"], "rolled_back", "{ended:#}");
    }

    /// Runs `nearcast experiment` against a predictor.
    fn experiment(&self, name: &str, arguments: &[&str]) -> Value {
        let mut command = nearcast(&["--json", "experiment"]);
        let output = command.args(arguments).args(["--predictor", &self.predictors[name].grpc]).output();
        let output = output.expect("it starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("a document")
    }
}
