//! What the sequence model looks like and how it learns.

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Shape, learning and retrieval of a [`SequenceModel`](crate::SequenceModel).
///
/// | field | default | meaning | range |
/// | --- | --- | --- | --- |
/// | `embedding_width` | 64 | width E of key and token embeddings | 1..=1,024 |
/// | `hidden_width` | 64 | width H of the recurrent state | 1..=1,024 |
/// | `lanes` | 128 | sessions trained side by side | ≥ 1 |
/// | `steps` | 4 | requests of a lane that one training step unrolls | ≥ 1 |
/// | `negatives` | 256 | sampled keys each target competes with, besides the batch's other targets | ≥ 1 |
/// | `negative_power` | 0.5 | negatives are drawn by request count to this power; 0 is uniform | 0..=1 |
/// | `learning_rate` | 0.003 | step size of the dense weights (Adam) | > 0 |
/// | `row_learning_rate` | 0.1 | step size of embedding rows (row-wise Adagrad) | > 0 |
/// | `gradient_norm_max` | 5.0 | dense gradients longer than this are scaled down to it | > 0 |
/// | `normaliser_penalty` | 0.02 | how hard the log-partition is pulled to zero, so that scores are log-probabilities | ≥ 0 |
/// | `exact_rows_max` | 8,192 | vocabularies up to this many rows are searched exhaustively | ≥ 0 |
/// | `cells_probed` | 0.08 | share of the retrieval cells that a search in a larger one looks into | 0..=1 |
/// | `device` | `cpu` | where training computes | `cpu`, or `cuda` in a build with that feature |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SequenceConfig {
    /// Width E of key and token embeddings.
    pub embedding_width: usize,
    /// Width H of the recurrent state.
    pub hidden_width: usize,
    /// Sessions trained side by side.
    pub lanes: usize,
    /// Requests of a lane that one training step unrolls; gradients stop at its start, the state does not.
    pub steps: usize,
    /// Sampled keys each target competes with, besides the batch's other targets.
    pub negatives: usize,
    /// Negatives are drawn by request count to this power; 0 is uniform.
    pub negative_power: f64,
    /// Step size of the dense weights (Adam).
    pub learning_rate: f64,
    /// Step size of embedding rows (row-wise Adagrad).
    pub row_learning_rate: f32,
    /// Dense gradients longer than this are scaled down to it.
    pub gradient_norm_max: f32,
    /// How hard the log-partition is pulled to zero, so that scores are log-probabilities.
    pub normaliser_penalty: f32,
    /// Vocabularies up to this many rows are searched exhaustively.
    pub exact_rows_max: usize,
    /// Share of the retrieval cells that a search in a larger vocabulary looks into.
    pub cells_probed: f64,
    /// Where training computes.
    pub device: TrainingDevice,
}

/// Where training computes; serving never leaves the CPU.
///
/// The same seed and data give the same bytes on the same device; across devices, sums round differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainingDevice {
    /// All cores of this machine.
    #[default]
    Cpu,
    /// The first NVIDIA GPU, in a build with the feature `cuda`: for wider networks, or more lanes.
    Cuda,
}

impl TrainingDevice {
    /// The device as candle knows it.
    pub(super) fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if cfg!(feature = "cuda") => {
                Device::new_cuda(0).map_err(Error::learn("the first CUDA device, which `sequence.device` asks for,"))
            }
            Self::Cuda => Err(Error::Config {
                field: "sequence.device",
                value: "cuda".to_owned(),
                expected: "cpu, since this build lacks the feature `cuda`",
            }),
        }
    }
}

impl Default for SequenceConfig {
    fn default() -> Self {
        Self {
            embedding_width: 64,
            hidden_width: 64,
            lanes: 128,
            steps: 4,
            negatives: 256,
            negative_power: 0.5,
            learning_rate: 0.003,
            row_learning_rate: 0.1,
            gradient_norm_max: 5.0,
            normaliser_penalty: 0.02,
            exact_rows_max: 8_192,
            cells_probed: 0.08,
            device: TrainingDevice::Cpu,
        }
    }
}

impl SequenceConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that is out of its range.
    pub fn check(&self) -> Result<()> {
        let width = |value: usize| (1..=1_024).contains(&value);
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let penalty = f64::from(self.normaliser_penalty);
        let checks: [(&'static str, bool, f64, &'static str); 10] = [
            ("sequence.embedding_width", width(self.embedding_width), self.embedding_width as f64, "from 1 to 1024"),
            ("sequence.hidden_width", width(self.hidden_width), self.hidden_width as f64, "from 1 to 1024"),
            ("sequence.lanes", self.lanes > 0, self.lanes as f64, "at least 1"),
            ("sequence.steps", self.steps > 0, self.steps as f64, "at least 1"),
            ("sequence.negatives", self.negatives > 0, self.negatives as f64, "at least 1"),
            ("sequence.negative_power", share(self.negative_power), self.negative_power, "from 0 to 1"),
            ("sequence.learning_rate", positive(self.learning_rate), self.learning_rate, "above 0"),
            (
                "sequence.row_learning_rate",
                positive(self.row_learning_rate.into()),
                self.row_learning_rate.into(),
                "above 0",
            ),
            (
                "sequence.gradient_norm_max",
                positive(self.gradient_norm_max.into()),
                self.gradient_norm_max.into(),
                "above 0",
            ),
            ("sequence.normaliser_penalty", penalty.is_finite() && penalty >= 0.0, penalty, "0 or more"),
        ];
        for (field, good, value, expected) in checks {
            if !good {
                return Err(Error::Config { field, value: value.to_string(), expected });
            }
        }
        if !share(self.cells_probed) {
            let value = self.cells_probed.to_string();
            return Err(Error::Config { field: "sequence.cells_probed", value, expected: "from 0 to 1" });
        }
        Ok(())
    }
}
