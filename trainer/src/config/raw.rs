//! The training configuration as written in `train.toml`, unchecked.

use std::path::{Path, PathBuf};

use nearcast_models::ModelConfig;
use serde::{Deserialize, Serialize};

use crate::Result;

/// `train.toml`: every field has a default, an unknown one is refused with the nearest name.
///
/// | section | what it sets |
/// | --- | --- |
/// | `seed` | initial weights, order of batches, negatives |
/// | `[split]` | where training ends and testing begins |
/// | `[features]` | sessions, co-access pairs, vocabulary, and the memory and disk that queries may use |
/// | `[fit]` | epochs, early stop |
/// | `[blend]` | what the blend's network is fitted on |
/// | `[demand]` | samples of the placement head |
/// | `[gate]` | what the gate is fitted and tried on |
/// | `[evaluate]` | how much is ranked |
/// | `[model]` | sizes and learning rates of the models |
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawTrainConfig {
    /// Decides everything random; the same seed and logs give the same bytes.
    pub seed: u64,
    /// Where training ends and testing begins.
    pub split: RawSplit,
    /// How features are computed.
    pub features: RawFeatures,
    /// How the sequence model is fitted.
    pub fit: RawFit,
    /// How the blend's network is fitted.
    pub blend: RawBlendFit,
    /// How demand is sampled for the placement head.
    pub demand: RawDemand,
    /// How the gate is fitted.
    pub gate: RawGateFit,
    /// How the model is measured.
    pub evaluate: RawEvaluate,
    /// Sizes and learning rates of the models.
    pub model: ModelConfig,
}

impl RawTrainConfig {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`Error::ConfigFile`](crate::Error::ConfigFile) naming the line and, for an unknown name, the nearest known one.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(nearcast_proto::config_file::load(path)?)
    }
}

/// `[split]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawSplit {
    /// Share of the time span that may be trained on, between 0 and 1; the rest is for testing.
    pub train_share: f64,
    /// Share of the training span, at its end, that decides when to stop; between 0 and 0.5.
    pub validation_share: f64,
}

impl Default for RawSplit {
    fn default() -> Self {
        Self { train_share: 0.7, validation_share: 0.1 }
    }
}

/// The engine in this process.
pub(super) const EMBEDDED: &str = "embedded";

/// `[features]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawFeatures {
    /// A client's session ends when it is silent for longer than this.
    pub session_gap_seconds: u64,
    /// How many requests ahead a co-access pair may reach, 1 to 16.
    pub pair_window: usize,
    /// Memory that queries, and the counting of co-access, may use before they spill, in MiB.
    pub memory_mib: usize,
    /// Disk that either may spill to, in MiB.
    pub spill_mib: u64,
    /// Parallel partitions of either, 1 to 256.
    pub partitions: usize,
    /// Folder for the coded log and for spilling; the system's temporary folder when not set.
    pub scratch: Option<PathBuf>,
    /// Where features are computed: `embedded`, in this process, or `ballista://HOST:PORT`, on a cluster.
    pub engine: String,
    /// Folder or object-store URL that a cluster's executors read the coded log from, when they do not see `scratch`.
    pub shared: Option<String>,
    /// Most distinct keys in the logs.
    pub keys_max: usize,
    /// Most distinct clients in the logs.
    pub clients_max: usize,
}

impl Default for RawFeatures {
    fn default() -> Self {
        Self {
            session_gap_seconds: 30 * 60,
            pair_window: 3,
            memory_mib: 1_024,
            spill_mib: 65_536,
            partitions: 2,
            scratch: None,
            engine: EMBEDDED.to_owned(),
            shared: None,
            keys_max: 20_000_000,
            clients_max: 50_000_000,
        }
    }
}

/// `[fit]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawFit {
    /// Most passes over the training sessions, at least 1.
    pub epochs_max: usize,
    /// Passes without a better validation MRR@20 before stopping, at least 1.
    pub patience: usize,
    /// Fewest pairs of consecutive requests that are worth fitting on.
    pub transitions_min: usize,
    /// Most requests trained on per epoch; with more, each epoch draws its own sessions.
    pub epoch_requests_max: usize,
    /// Most validation predictions ranked after each epoch.
    pub validation_predictions_max: usize,
}

impl Default for RawFit {
    fn default() -> Self {
        Self {
            epochs_max: 10,
            patience: 2,
            transitions_min: 32,
            epoch_requests_max: 5_000_000,
            validation_predictions_max: 5_000,
        }
    }
}

/// `[blend]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawBlendFit {
    /// Most requests that the network learns from, evenly spaced; each takes about 10 KB of memory.
    pub examples_max: usize,
    /// Most passes over them, at least 1; fewer when the loss on the latest ones stops falling.
    pub epochs_max: usize,
    /// Share of the training range, at its start, from which none are taken because little is known yet; 0 to 0.9.
    pub skipped_share: f64,
}

impl Default for RawBlendFit {
    fn default() -> Self {
        Self { examples_max: 30_000, epochs_max: 6, skipped_share: 0.3 }
    }
}

/// `[demand]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawDemand {
    /// Most samples the placement head is fitted on; with more, a seeded draw.
    pub samples_max: usize,
    /// Passes over the samples, at least 1.
    pub epochs: usize,
}

impl Default for RawDemand {
    fn default() -> Self {
        Self { samples_max: 400_000, epochs: 5 }
    }
}

/// `[gate]`: the replay that fits and tries the gate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawGateFit {
    /// Most requests played: the last ones before the split to fit, the first ones after it to try. With 0 the version
    /// carries no gate.
    pub requests_max: u64,
    /// Size of each node's cache, as a share of the distinct bytes played; above 0 and at most 1.
    pub cache_share: f64,
    /// Bound on extra fetched bytes, as a share of what is fetched without prefetching, 0 to 100.
    pub budget_share: f64,
}

impl Default for RawGateFit {
    fn default() -> Self {
        Self { requests_max: 200_000, cache_share: 0.1, budget_share: 0.25 }
    }
}

/// `[evaluate]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawEvaluate {
    /// Most predictions ranked against the whole vocabulary; with more, evenly spaced ones are taken.
    pub predictions_max: usize,
}

impl Default for RawEvaluate {
    fn default() -> Self {
        Self { predictions_max: 50_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_defaults_of_what_is_not_written_and_refuses_unknown_names() {
        let parse = |text| nearcast_proto::config_file::parse::<RawTrainConfig>(Path::new("train.toml"), text);
        let config = parse("seed = 7\n[fit]\nepochs_max = 3\n").unwrap();
        assert_eq!((config.seed, config.fit.epochs_max, config.fit.patience), (7, 3, RawFit::default().patience));
        let problem = parse("[features]\nsession_gap_second = 5\n").unwrap_err().to_string();
        assert!(problem.contains("did you mean `session_gap_seconds`?"), "{problem}");
        assert!(parse("[model.sequence]\nlane = 1\n").is_err());
    }
}
