//! Training of the sequence model: sparse rows on the host, dense arithmetic in candle.

use std::{fmt, sync::Mutex};

use candle_core::{Device, Tensor, Var, backprop::GradStore};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    Error, ItemRef, Result, SequenceBatch, SequenceConfig, SequenceModel, Vocabulary, kernel,
    sequence::{
        dense::{self, DenseWeights},
        network::Leaves,
        ops::SampledSoftmax,
        retrieval::Cells,
        rows::RowTable,
        sampler::{Candidates, NegativeSampler},
        weights::SequenceWeights,
    },
};

/// Fresh embeddings lie within this of zero.
const EMBEDDING_INIT: f32 = 0.1;
const WHAT: &str = "a step of the sequence model";

/// Every key of a training log: batches name keys by their position here.
#[derive(Clone, Debug, Default)]
pub struct ItemCatalogue {
    /// The keys as the models see them.
    pub items: Vec<ItemRef>,
    /// How often each was requested; as many as there are items.
    pub counts: Vec<u64>,
}

/// Learns a [`SequenceModel`] from batches of sessions.
///
/// A step's cost depends on the batch alone, never on the size of the vocabulary: the vectors of the batch's inputs,
/// targets and sampled negatives are gathered into leaves, candle works out the gradients, and only the rows and
/// tokens behind those vectors are updated. The same seed and batches give the same bytes.
pub struct SequenceTrainer {
    pub(super) config: SequenceConfig,
    pub(super) catalogue: ItemCatalogue,
    sampler: NegativeSampler,
    pub(super) dense: DenseWeights,
    pub(super) items: RowTable,
    pub(super) item_biases: RowTable,
    pub(super) tokens: RowTable,
    pub(super) token_biases: RowTable,
    /// (lanes, H): where the last batch left its lanes.
    pub(super) state: Vec<f32>,
    pub(super) rng: ChaCha8Rng,
    pub(super) seed: u64,
    pub(super) step: u64,
}

impl fmt::Debug for SequenceTrainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SequenceTrainer")
            .field("config", &self.config)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl SequenceTrainer {
    /// A trainer with random weights drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Config`] when a value of `config` is out of its range or the catalogue's columns differ in length.
    pub fn new(config: &SequenceConfig, vocabulary: &Vocabulary, catalogue: ItemCatalogue, seed: u64) -> Result<Self> {
        config.check()?;
        if catalogue.items.len() != catalogue.counts.len() || catalogue.items.is_empty() {
            let value = format!("{} items with {} counts", catalogue.items.len(), catalogue.counts.len());
            return Err(Error::Config {
                field: "item catalogue",
                value,
                expected: "at least one item, one count each",
            });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let dense = DenseWeights::random(config, &mut rng);
        let width = config.embedding_width;
        let mut table = |rows: usize| {
            let draw = |_| rng.random_range(-EMBEDDING_INIT..EMBEDDING_INIT);
            RowTable::new(width, (0..rows * width).map(draw).collect())
        };
        let (rows, buckets) = (vocabulary.len(), vocabulary.token_buckets() as usize);
        Ok(Self {
            sampler: NegativeSampler::new(&catalogue.counts, config.negative_power),
            items: table(rows),
            tokens: table(buckets),
            item_biases: RowTable::new(1, vec![0.0; rows]),
            token_biases: RowTable::new(1, vec![0.0; buckets]),
            config: config.clone(),
            catalogue,
            dense,
            state: Vec::new(),
            rng,
            seed,
            step: 0,
        })
    }

    /// Learns from one batch and returns its mean loss (nats per request, among the sampled candidates).
    ///
    /// Lanes go on from the state that the batch before left; a batch with another number of lanes starts afresh.
    ///
    /// # Errors
    /// [`Error::LossNotFinite`] naming the step, [`Error::Learn`] when candle refuses; weights are as before then.
    pub fn train_batch(&mut self, batch: &SequenceBatch) -> Result<f32> {
        let targets: Vec<u32> = batch.cells.iter().flatten().map(|cell| cell.target).collect();
        if targets.is_empty() {
            return Ok(0.0);
        }
        let candidates = self.sampler.draw(&targets, self.config.negatives, &mut self.rng);
        let label = |cell: &Option<crate::BatchCell>| cell.and_then(|cell| candidates.place(cell.target));
        let softmax = SampledSoftmax {
            labels: batch.cells.iter().map(label).collect(),
            log_chances: candidates.log_chances.clone(),
            penalty: self.config.normaliser_penalty,
            gradient: Mutex::default(),
        };
        let leaves = self.leaves(batch, &candidates).map_err(Error::learn(WHAT))?;
        let (loss, state) = leaves.loss(softmax).map_err(Error::learn(WHAT))?;
        let value = loss.to_scalar::<f32>().map_err(Error::learn(WHAT))?;
        if !value.is_finite() {
            return Err(Error::LossNotFinite { model: "sequence", step: self.step, loss: value });
        }
        let mut gradients = loss.backward().map_err(Error::learn(WHAT))?;
        let state = state.flatten_all().and_then(|state| state.to_vec1()).map_err(Error::learn(WHAT))?;
        self.learn(batch, &candidates, &leaves, &mut gradients).map_err(Error::learn(WHAT))?;
        self.state = state;
        Ok(value)
    }

    /// The model as trained so far, while training goes on: what validation looks at.
    ///
    /// # Errors
    /// [`Error::Learn`] when clustering for retrieval fails.
    pub fn snapshot(&self) -> Result<SequenceModel> {
        let mut weights = SequenceWeights {
            weight_ih: self.dense.weight_ih.values.clone(),
            weight_hh: self.dense.weight_hh.values.clone(),
            bias_ih: self.dense.bias_ih.values.clone(),
            bias_hh: self.dense.bias_hh.values.clone(),
            projection: self.dense.projection.values.clone(),
            items: self.items.values().to_vec(),
            item_biases: self.item_biases.values().to_vec(),
            tokens: self.tokens.values().to_vec(),
            token_biases: self.token_biases.values().to_vec(),
        };
        // Serving wants one vector per key: what a key's tokens say is folded into its row.
        let width = self.config.embedding_width;
        for item in &self.catalogue.items {
            let Some(row) = item.row.map(|row| row as usize) else { continue };
            let tokens = item.tokens.as_slice();
            let share = 1.0 / tokens.len().max(1) as f32;
            for token in tokens {
                kernel::add_scaled(&mut weights.items[row * width..][..width], share, self.tokens.row(*token));
                weights.item_biases[row] += share * self.token_biases.row(*token)[0];
            }
        }
        let cells = Cells::build(&self.config, &weights, self.seed)?;
        Ok(SequenceModel::from_parts(self.config.clone(), weights, cells))
    }

    /// The trained model.
    ///
    /// # Errors
    /// [`Error::Learn`] when clustering for retrieval fails.
    pub fn finish(self) -> Result<SequenceModel> {
        self.snapshot()
    }

    fn leaves(&mut self, batch: &SequenceBatch, candidates: &Candidates) -> candle_core::Result<Leaves> {
        let (width, hidden, lanes) = (self.config.embedding_width, self.config.hidden_width, batch.lanes);
        let mut inputs = vec![0.0; batch.cells.len() * width];
        for (cell, out) in batch.cells.iter().zip(inputs.chunks_exact_mut(width)) {
            if let Some(cell) = cell {
                self.gather(cell.input, out);
            }
        }
        let mut vectors = vec![0.0; candidates.items.len() * width];
        let mut biases = Vec::with_capacity(candidates.items.len());
        for (item, out) in candidates.items.iter().zip(vectors.chunks_exact_mut(width)) {
            biases.push(self.gather(*item, out));
        }
        if self.state.len() != lanes * hidden {
            self.state = vec![0.0; lanes * hidden];
        }
        let keeps = batch.cells.chunks_exact(lanes).map(|step| keep(step, hidden)).collect::<Result<_, _>>()?;
        Ok(Leaves {
            dense: self.dense.leaves(&Device::Cpu)?,
            inputs: Var::from_vec(inputs, (batch.cells.len(), width), &Device::Cpu)?,
            candidates: Var::from_vec(vectors, (candidates.items.len(), width), &Device::Cpu)?,
            biases: Var::from_vec(biases, candidates.items.len(), &Device::Cpu)?,
            state: Tensor::from_slice(&self.state, (lanes, hidden), &Device::Cpu)?,
            keeps,
        })
    }

    /// Adds an item's vector to `out` and returns its bias: its row's plus the mean of its tokens'.
    fn gather(&self, item: u32, out: &mut [f32]) -> f32 {
        let item = &self.catalogue.items[item as usize];
        let tokens = item.tokens.as_slice();
        let share = 1.0 / tokens.len().max(1) as f32;
        let mut bias = 0.0;
        for token in tokens {
            kernel::add_scaled(out, share, self.tokens.row(*token));
            bias += share * self.token_biases.row(*token)[0];
        }
        if let Some(row) = item.row {
            kernel::add_scaled(out, 1.0, self.items.row(row));
            bias += self.item_biases.row(row)[0];
        }
        bias
    }

    fn learn(
        &mut self,
        batch: &SequenceBatch,
        candidates: &Candidates,
        leaves: &Leaves,
        gradients: &mut GradStore,
    ) -> candle_core::Result<()> {
        let width = self.config.embedding_width;
        let mut read = |leaf: &Var| match gradients.remove(leaf) {
            Some(gradient) => gradient.flatten_all()?.to_vec1::<f32>(),
            None => Ok(vec![0.0; leaf.elem_count()]),
        };
        let (inputs, vectors, biases) = (read(&leaves.inputs)?, read(&leaves.candidates)?, read(&leaves.biases)?);
        let [bias_hh, bias_ih, projection, weight_hh, weight_ih] = leaves.dense.all();
        let mut dense = [read(bias_hh)?, read(bias_ih)?, read(projection)?, read(weight_hh)?, read(weight_ih)?];
        dense::clip(&mut dense, self.config.gradient_norm_max);
        self.step += 1;
        self.dense.learn(&dense, self.config.learning_rate, self.step);
        for (cell, gradient) in batch.cells.iter().zip(inputs.chunks_exact(width)) {
            if let Some(cell) = cell {
                self.scatter(cell.input, gradient);
            }
        }
        for ((item, gradient), bias) in candidates.items.iter().zip(vectors.chunks_exact(width)).zip(&biases) {
            self.scatter(*item, gradient);
            self.scatter_bias(*item, *bias);
        }
        let rate = self.config.row_learning_rate;
        for table in [&mut self.items, &mut self.item_biases, &mut self.tokens, &mut self.token_biases] {
            table.learn(rate);
        }
        Ok(())
    }

    fn scatter(&mut self, item: u32, gradient: &[f32]) {
        let item = &self.catalogue.items[item as usize];
        let tokens = item.tokens.as_slice();
        tokens.iter().for_each(|token| self.tokens.add_gradient(*token, 1.0 / tokens.len() as f32, gradient));
        if let Some(row) = item.row {
            self.items.add_gradient(row, 1.0, gradient);
        }
    }

    fn scatter_bias(&mut self, item: u32, gradient: f32) {
        let item = &self.catalogue.items[item as usize];
        let tokens = item.tokens.as_slice();
        let share = 1.0 / tokens.len().max(1) as f32;
        tokens.iter().for_each(|token| self.token_biases.add_gradient(*token, share, &[gradient]));
        if let Some(row) = item.row {
            self.item_biases.add_gradient(row, 1.0, &[gradient]);
        }
    }
}

/// 0 for the lanes whose session starts at this step and 1 for the others, (lanes, H); `None` when none starts.
fn keep(step: &[Option<crate::BatchCell>], hidden: usize) -> candle_core::Result<Option<Tensor>> {
    if !step.iter().flatten().any(|cell| cell.starts_session) {
        return Ok(None);
    }
    let kept = |cell: &Option<crate::BatchCell>| if cell.is_some_and(|cell| cell.starts_session) { 0.0 } else { 1.0 };
    let numbers: Vec<f32> = step.iter().flat_map(|cell| std::iter::repeat_n(kept(cell), hidden)).collect();
    Tensor::from_vec(numbers, (step.len(), hidden), &Device::Cpu).map(Some)
}
