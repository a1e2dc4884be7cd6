//! What a trainer knows between two batches, as one safetensors file: training goes on from it byte by byte.

use std::{borrow::Cow, fmt::Display};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{
    Error, ItemCatalogue, Result, SequenceConfig, SequenceTrainer, Vocabulary,
    sequence::{
        dense::DenseWeight,
        rows::{RowTable, Squares},
    },
};

/// Header entry with everything that is no tensor.
const HEADER: &str = "nearcast_sequence_training";
const FORMAT: u32 = 1;

/// What a checkpoint says besides its tensors.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    config: SequenceConfig,
    /// Hash of the items and counts that batches name by position.
    catalogue: String,
    /// Hash of all tensors, in the order that they are named in.
    tensors: String,
    seed: u64,
    step: u64,
    random: RandomState,
}

/// Where the negatives' generator stands.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RandomState {
    seed: [u8; 32],
    stream: u64,
    /// Words drawn so far: a text, since JSON's readers do not agree on numbers of 128 bits.
    position: String,
}

/// A tensor's name, its columns (none for a vector) and its numbers.
type Named<'a> = (String, Option<usize>, Cow<'a, [f32]>);

impl SequenceTrainer {
    /// Everything that the trainer knows, as the bytes of a safetensors file.
    ///
    /// [`restore`](Self::restore)d with the same vocabulary and catalogue, it learns from the batches that follow
    /// exactly as this trainer would: the same bytes, on the same kind of device. Besides the weights that means what both optimisers remember,
    /// where lanes stand and where the generator of negatives stands.
    ///
    /// # Errors
    /// [`Error::Learn`] when the tensors cannot be written.
    pub fn checkpoint(&self) -> Result<Vec<u8>> {
        const WHAT: &str = "a training checkpoint";
        let tensors = self.tensors();
        let bytes: Vec<Vec<u8>> = tensors.iter().map(|(.., numbers)| to_bytes(numbers)).collect();
        let mut views = Vec::with_capacity(tensors.len());
        for ((name, columns, numbers), bytes) in tensors.iter().zip(&bytes) {
            let shape = match columns {
                Some(columns) => vec![numbers.len() / columns, *columns],
                None => vec![numbers.len()],
            };
            views.push((name, TensorView::new(Dtype::F32, shape, bytes).map_err(Error::learn(WHAT))?));
        }
        let header = Header {
            format: FORMAT,
            config: self.config.clone(),
            catalogue: hash_catalogue(&self.catalogue),
            tensors: hash_tensors(bytes.iter().map(Vec::as_slice)),
            seed: self.seed,
            step: self.step,
            random: RandomState {
                seed: self.rng.get_seed(),
                stream: self.rng.get_stream(),
                position: self.rng.get_word_pos().to_string(),
            },
        };
        let header = serde_json::to_string(&header).map_err(Error::learn(WHAT))?;
        let metadata = [(HEADER.to_owned(), header)].into_iter().collect();
        safetensors::serialize(views, Some(metadata)).map_err(Error::learn(WHAT))
    }

    /// The trainer that wrote the [`checkpoint`](Self::checkpoint) `bytes`, as it was then.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the bytes are damaged, or belong to another configuration, vocabulary or catalogue;
    /// [`Error::Config`] as in [`new`](Self::new).
    pub fn restore(
        config: &SequenceConfig,
        vocabulary: &Vocabulary,
        catalogue: ItemCatalogue,
        bytes: &[u8],
    ) -> Result<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| broken(&error))?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(HEADER));
        let header = header.ok_or_else(|| broken(&"its header is not that of a training checkpoint"))?;
        let header: Header = serde_json::from_str(header).map_err(|error| broken(&error))?;
        if header.format != FORMAT {
            return Err(broken(&format!("it has format {}, this build reads format {FORMAT}", header.format)));
        }
        // Training may go on elsewhere, though it rounds differently there.
        if (SequenceConfig { device: config.device, ..header.config }) != *config {
            return Err(broken(&"it was made with another configuration of the sequence model"));
        }
        if header.catalogue != hash_catalogue(&catalogue) {
            return Err(broken(&"it was made with other keys, or other counts of them"));
        }
        let position = header.random.position.parse().map_err(|error| broken(&error))?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| broken(&error))?;
        let mut trainer = Self::new(config, vocabulary, catalogue, header.seed)?;
        trainer.fill(&file, &header.tensors)?;
        trainer.step = header.step;
        trainer.rng = ChaCha8Rng::from_seed(header.random.seed);
        trainer.rng.set_stream(header.random.stream);
        trainer.rng.set_word_pos(position);
        Ok(trainer)
    }

    /// Batches learned from so far.
    pub fn step_count(&self) -> u64 {
        self.step
    }

    fn tensors(&self) -> Vec<Named<'_>> {
        let mut tensors: Vec<Named<'_>> = Vec::new();
        for (name, DenseWeight { shape, values, first, second }) in self.dense.named() {
            let columns = Some(shape.1).filter(|columns| *columns > 1);
            for (suffix, numbers) in [("", values), (".first", first), (".second", second)] {
                tensors.push((format!("{name}{suffix}"), columns, numbers.into()));
            }
        }
        let width = Some(self.config.embedding_width);
        for (name, table) in [("items", &self.tables.items), ("tokens", &self.tables.tokens)] {
            let [vectors, biases, squares, bias_squares] = table_names(name);
            tensors.push((vectors, width, table.vectors().into()));
            tensors.push((biases, None, table.biases().collect()));
            tensors.push((squares, None, table.squares().map(|squares| squares.vector).collect()));
            tensors.push((bias_squares, None, table.squares().map(|squares| squares.bias).collect()));
        }
        tensors.push((STATE.to_owned(), Some(self.config.hidden_width), (&self.state).into()));
        tensors
    }

    /// Takes over every tensor of a checkpoint, whose hash must be `expected`.
    fn fill(&mut self, file: &SafeTensors<'_>, expected: &str) -> Result<()> {
        let names: Vec<String> = self.tensors().into_iter().map(|(name, ..)| name).collect();
        let mut data = Vec::with_capacity(names.len());
        for name in &names {
            let view = file.tensor(name).map_err(|error| broken(&error))?;
            if view.dtype() != Dtype::F32 {
                return Err(broken(&format!("{name} is not of type f32")));
            }
            data.push(view.data());
        }
        let found = hash_tensors(data.iter().copied());
        if found != expected {
            return Err(broken(&format!("it is damaged: its hash is {found}, its header says {expected}")));
        }
        let fill = |name: &str, numbers: &mut Vec<f32>| match names.iter().position(|known| known == name) {
            Some(position) => from_bytes(name, data[position], numbers),
            None => Err(broken(&format!("it has no {name}"))),
        };
        for (name, weight) in self.dense.named_mut() {
            fill(name, &mut weight.values)?;
            fill(&format!("{name}.first"), &mut weight.first)?;
            fill(&format!("{name}.second"), &mut weight.second)?;
        }
        let width = self.config.embedding_width;
        for (name, table) in [("items", &mut self.tables.items), ("tokens", &mut self.tables.tokens)] {
            let rows = table.biases().len();
            let [mut vectors, mut biases] = [vec![0.0; rows * width], vec![0.0; rows]];
            let [mut squares, mut bias_squares] = [vec![0.0; rows], vec![0.0; rows]];
            let parts = [&mut vectors, &mut biases, &mut squares, &mut bias_squares];
            for (name, numbers) in table_names(name).iter().zip(parts) {
                fill(name, numbers)?;
            }
            let both = squares.into_iter().zip(bias_squares);
            let squares: Vec<_> = both.map(|(vector, bias)| Squares { vector, bias }).collect();
            *table = RowTable::restore(width, vectors, &biases, &squares);
        }
        // There are as many lanes as the last batch had.
        let lanes = names.iter().position(|name| name == STATE).map_or(0, |position| data[position].len() / 4);
        self.state = vec![0.0; lanes];
        fill(STATE, &mut self.state)
    }
}

/// Names of a table's vectors, biases and what Adagrad remembers of either.
fn table_names(name: &str) -> [String; 4] {
    ["", ".biases", ".squares", ".bias_squares"].map(|part| format!("{name}{part}"))
}

fn broken(reason: &dyn Display) -> Error {
    Error::Checkpoint { reason: reason.to_string() }
}

fn to_bytes(numbers: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(numbers.len() * 4);
    numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    bytes
}

/// Overwrites `numbers` by as many finite ones.
fn from_bytes(name: &str, bytes: &[u8], numbers: &mut [f32]) -> Result<()> {
    let (read, rest) = bytes.as_chunks();
    if read.len() != numbers.len() || !rest.is_empty() {
        return Err(broken(&format!("{name} has {} numbers instead of {}", read.len(), numbers.len())));
    }
    for (number, bytes) in numbers.iter_mut().zip(read) {
        *number = f32::from_le_bytes(*bytes);
    }
    match numbers.iter().all(|number| number.is_finite()) {
        true => Ok(()),
        false => Err(broken(&format!("{name} has numbers that are not finite"))),
    }
}

fn hash_tensors<'a>(tensors: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hasher = blake3::Hasher::new();
    tensors.for_each(|bytes| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    });
    hasher.finalize().to_hex().to_string()
}

fn hash_catalogue(catalogue: &ItemCatalogue) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::new();
    for (item, count) in catalogue.items.iter().zip(&catalogue.counts) {
        bytes.clear();
        bytes.extend_from_slice(&item.row.map_or(u64::MAX, u64::from).to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.push(u8::try_from(item.tokens.as_slice().len()).unwrap_or(u8::MAX));
        item.tokens.as_slice().iter().for_each(|token| bytes.extend_from_slice(&token.to_le_bytes()));
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}

/// Name of the lanes' state.
const STATE: &str = "state";
