//! Training of the sequence model: sparse rows on the host, dense arithmetic in candle.

use std::{fmt, hint::black_box, sync::Mutex};

use candle_core::Device;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    Error, ItemRef, Result, SequenceBatch, SequenceConfig, SequenceModel, Vocabulary, kernel,
    sequence::{
        dense::DenseWeights,
        items::ItemTables,
        network::{Gradients, Leaves},
        ops::{Gru, SampledSoftmax},
        retrieval::Cells,
        rows::{RowTable, Vectors},
        sampler::{Candidates, NegativeSampler},
        weights::SequenceWeights,
    },
};

/// Fresh embeddings lie within this of zero.
const EMBEDDING_INIT: f32 = 0.1;
/// The largest block whose size glibc's allocator goes by (mallopt(3), `M_MMAP_THRESHOLD`), less what it adds.
const KEPT_BYTES: usize = 31 << 20;
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
/// tokens behind those vectors are updated. The same seed and batches give the same bytes on the same device, however
/// many threads rayon has.
pub struct SequenceTrainer {
    pub(super) config: SequenceConfig,
    pub(super) catalogue: ItemCatalogue,
    sampler: NegativeSampler,
    device: Device,
    pub(super) dense: DenseWeights,
    pub(super) tables: ItemTables,
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
    /// [`Error::Config`] when a value of `config` is out of its range or the catalogue's columns differ in length;
    /// [`Error::Learn`] when the device it names is not there.
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
        keep_memory();
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
            tables: ItemTables { items: table(rows), tokens: table(buckets) },
            device: config.device.open()?,
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
        let mut items = self.sampler.draw(&targets, self.config.negatives, &mut self.rng);
        let mut labels = items.labels.iter().copied();
        let softmax = SampledSoftmax {
            vector_width: self.config.embedding_width,
            labels: batch.cells.iter().map(|cell| cell.and_then(|_| labels.next())).collect(),
            log_chances: items.log_chances.clone(),
            penalty: self.config.normaliser_penalty,
            gradients: Mutex::default(),
        };
        let inputs: Vec<Option<u32>> =
            batch.cells.iter().map(|cell| cell.map(|cell| items.insert(cell.input))).collect();
        let leaves = self.leaves(&items, &inputs).map_err(Error::learn(WHAT))?;
        let gru = self.gru(batch);
        let mut lesson = leaves.learn(gru, softmax).map_err(Error::learn(WHAT))?;
        let loss = lesson.loss;
        let mut gradients = lesson.gradients(&self.dense, self.config.embedding_width);
        if !loss.is_finite() || !gradients.dense.clip(self.config.gradient_norm_max).is_finite() {
            return Err(Error::LossNotFinite { model: "sequence", step: self.step, loss });
        }
        self.learn(&items, &inputs, gradients);
        self.state = lesson.state;
        Ok(loss)
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
            items: self.tables.items.vectors().to_vec(),
            item_biases: self.tables.items.biases().collect(),
            tokens: self.tables.tokens.vectors().to_vec(),
            token_biases: self.tables.tokens.biases().collect(),
        };
        // Serving wants one vector per key: what a key's tokens say is folded into its row.
        let width = self.config.embedding_width;
        for item in &self.catalogue.items {
            let Some(row) = item.row.map(|row| row as usize) else { continue };
            weights.item_biases[row] += self.tables.add_tokens(item, &mut weights.items[row * width..][..width]);
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

    /// The leaves of a batch about these items, with inputs by their places among them.
    fn leaves(&self, items: &Candidates, inputs: &[Option<u32>]) -> candle_core::Result<Leaves> {
        let width = self.config.embedding_width;
        let mut gathered = self.tables.gather(&self.catalogue, &items.items, width);
        let mut vectors = vec![0.0; inputs.len() * width];
        for (place, out) in inputs.iter().zip(vectors.chunks_exact_mut(width)) {
            if let Some(place) = place {
                out.copy_from_slice(&gathered.vectors[*place as usize * width..][..width]);
            }
        }
        // Inputs that are no candidates come last.
        gathered.vectors.truncate(items.log_chances.len() * width);
        gathered.biases.truncate(items.log_chances.len());
        Leaves::new(&self.dense, &vectors, &gathered, &self.device)
    }

    fn gru(&mut self, batch: &SequenceBatch) -> Gru {
        let (width, lanes) = (self.config.hidden_width, batch.lanes);
        if self.state.len() != lanes * width {
            self.state = vec![0.0; lanes * width];
        }
        Gru {
            input_width: self.config.embedding_width,
            width,
            lanes,
            state: self.state.clone(),
            starts: batch.cells.iter().map(|cell| cell.is_some_and(|cell| cell.starts_session)).collect(),
            trace: Mutex::default(),
        }
    }

    fn learn(&mut self, items: &Candidates, inputs: &[Option<u32>], gradients: Gradients<'_>) {
        let width = self.config.embedding_width;
        self.step += 1;
        self.dense.learn(gradients.dense, self.config.learning_rate, self.step);
        let (mut vectors, mut biases) = (vec![0.0; items.items.len() * width], vec![0.0; items.items.len()]);
        vectors[..gradients.vectors.len()].copy_from_slice(gradients.vectors);
        biases[..gradients.biases.len()].copy_from_slice(gradients.biases);
        for (place, gradient) in inputs.iter().zip(gradients.inputs.chunks_exact(width)) {
            if let Some(place) = place {
                kernel::add(&mut vectors[*place as usize * width..][..width], gradient);
            }
        }
        let gradients = Vectors { vectors, biases };
        self.tables.learn(&self.catalogue, &items.items, &gradients, self.config.row_learning_rate);
    }
}

/// Has glibc's allocator keep what a step frees for the next step.
///
/// It gives memory back to the system once twice the largest block that it ever took back is free. A step's few
/// megabytes would go and come at every step, page fault by page fault, on which all threads wait. The block here costs
/// nothing: its pages are never touched.
fn keep_memory() {
    drop(black_box(vec![0_u8; KEPT_BYTES]));
}
