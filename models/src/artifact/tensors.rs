//! `model.safetensors`: every weight by name, readable from Python.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{
    BLEND_FEATURE_COUNT, Error, Model, PlacementHead, RankerState, Result, SequenceModel,
    artifact::{ModelConfig, TENSORS},
    blend::{CONTEXT_COUNT, UNITS},
    placement::weights::PlacementWeights,
    sequence::{retrieval::Cells, weights::SequenceWeights},
};

const CENTROIDS: &str = "sequence.cell_centroids";
/// The header's one entry: a [`HeaderEntry`] as JSON.
const HEADER: &str = "nearcast";
/// The blend's weights in the order of a [`RankerState`], with their columns (none for a vector) and numbers.
const RANKER: [(&str, Option<usize>, usize); 5] = [
    ("blend.linear", None, BLEND_FEATURE_COUNT),
    ("blend.hidden", Some(UNITS), BLEND_FEATURE_COUNT * UNITS),
    ("blend.hidden_biases", None, UNITS),
    ("blend.output", None, UNITS),
    ("blend.none", None, CONTEXT_COUNT),
];
/// Sums of squared gradients of all of the blend's weights.
const RANKER_SQUARES: &str = "blend.squares";

/// What the file says besides its tensors.
#[derive(Serialize, Deserialize)]
struct HeaderEntry {
    /// The region names, in the order of the placement head.
    regions: Vec<String>,
    /// Requests that the blend's network has learned from.
    blend_learned: u64,
}

/// A tensor's name, its columns (none for a vector) and its numbers.
type Named<'a> = (&'static str, Option<usize>, &'a [f32]);

/// The file's content for a model.
pub(super) fn write(model: &Model) -> Result<Vec<u8>> {
    let (sequence, placement) = (model.sequence.weights(), model.placement.weights());
    let mut tensors = sequence_tensors(&model.config, sequence).to_vec();
    tensors.extend(placement_tensors(&model.config, placement));
    if let Some(cells) = model.sequence.cells() {
        tensors.push((CENTROIDS, Some(model.config.sequence.embedding_width + 1), &cells.centroids));
    }
    tensors.extend(ranker_tensors(&model.blend.ranker)?);
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(.., numbers)| numbers.iter().flat_map(|number| number.to_le_bytes()).collect()).collect();
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, columns, numbers), bytes) in tensors.iter().zip(&bytes) {
        let shape = match columns {
            Some(columns) => vec![numbers.len() / columns, *columns],
            None => vec![numbers.len()],
        };
        views.push((*name, TensorView::new(Dtype::F32, shape, bytes).map_err(Error::learn(WRITE))?));
    }
    // One entry only: the library writes several in an order that is drawn anew each time.
    let entry = HeaderEntry { regions: model.regions.clone(), blend_learned: model.blend.ranker.learned };
    let entry = serde_json::to_string(&entry).map_err(Error::learn(WRITE))?;
    let header = [(HEADER.to_owned(), entry)].into_iter().collect();
    safetensors::serialize(views, Some(header)).map_err(Error::learn(WRITE))
}

/// The models and region names of one file.
type Parts = (SequenceModel, PlacementHead, RankerState, Vec<String>);

/// The models and region names that a file's content holds.
pub(super) fn read(bytes: &[u8], config: &ModelConfig) -> Result<Parts> {
    let broken = |error: &dyn std::fmt::Display| Error::content(TENSORS, error.to_string());
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| broken(&error))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| broken(&error))?;
    let numbers = |name: &str| -> Result<Vec<f32>> {
        let view = tensors.tensor(name).map_err(|error| broken(&error))?;
        if view.dtype() != Dtype::F32 {
            return Err(Error::content(TENSORS, format!("{name} is not of type f32")));
        }
        let numbers = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let numbers: Vec<f32> = numbers.collect();
        match numbers.iter().all(|number| number.is_finite()) {
            true => Ok(numbers),
            false => Err(Error::content(TENSORS, format!("{name} has numbers that are not finite"))),
        }
    };
    let sequence = read_sequence(&numbers, config)?;
    let cells = match tensors.names().contains(&CENTROIDS) {
        true => {
            let (centroids, width) = (numbers(CENTROIDS)?, config.sequence.embedding_width);
            if centroids.is_empty() || centroids.len() % (width + 1) != 0 {
                return Err(Error::content(TENSORS, format!("{CENTROIDS} has {} numbers", centroids.len())));
            }
            Some(Cells::assign(centroids, &sequence, width))
        }
        false => None,
    };
    let placement = read_placement(&numbers, config)?;
    let entry = metadata.metadata().as_ref().and_then(|header| header.get(HEADER));
    let entry = entry.ok_or_else(|| Error::content(TENSORS, format!("its header has no entry `{HEADER}`")))?;
    let HeaderEntry { regions, blend_learned: learned } =
        serde_json::from_str(entry).map_err(|error| broken(&error))?;
    let weights = RANKER.iter().map(|(name, ..)| numbers(name)).collect::<Result<Vec<_>>>()?.concat();
    let ranker = RankerState { learned, weights, squares: numbers(RANKER_SQUARES)? };
    let sequence = SequenceModel::from_parts(config.sequence.clone(), sequence, cells);
    let placement = PlacementHead::from_parts(config.placement.clone(), placement);
    if placement.region_count() != regions.len() {
        return Err(Error::content(
            TENSORS,
            format!("{} regions have names, {} have weights", regions.len(), placement.region_count()),
        ));
    }
    Ok((sequence, placement, ranker, regions))
}

fn sequence_tensors<'a>(config: &ModelConfig, weights: &'a SequenceWeights) -> [Named<'a>; 9] {
    let (embedding, hidden) = (Some(config.sequence.embedding_width), Some(config.sequence.hidden_width));
    [
        ("sequence.gru.weight_ih_l0", embedding, &weights.weight_ih),
        ("sequence.gru.weight_hh_l0", hidden, &weights.weight_hh),
        ("sequence.gru.bias_ih_l0", None, &weights.bias_ih),
        ("sequence.gru.bias_hh_l0", None, &weights.bias_hh),
        ("sequence.projection", hidden, &weights.projection),
        ("sequence.items", embedding, &weights.items),
        ("sequence.item_biases", None, &weights.item_biases),
        ("sequence.tokens", embedding, &weights.tokens),
        ("sequence.token_biases", None, &weights.token_biases),
    ]
}

fn ranker_tensors(ranker: &RankerState) -> Result<Vec<Named<'_>>> {
    if ranker.weights.len() != RANKER.iter().map(|(.., length)| length).sum::<usize>() {
        return Err(Error::content(TENSORS, format!("the blend's network has {} weights", ranker.weights.len())));
    }
    let mut rest = &ranker.weights[..];
    let mut tensors = Vec::with_capacity(RANKER.len() + 1);
    for (name, columns, length) in RANKER {
        let (head, tail) = rest.split_at(length);
        tensors.push((name, columns, head));
        rest = tail;
    }
    tensors.push((RANKER_SQUARES, None, &ranker.squares));
    Ok(tensors)
}

fn read_sequence(numbers: &impl Fn(&str) -> Result<Vec<f32>>, config: &ModelConfig) -> Result<SequenceWeights> {
    let weights = SequenceWeights {
        weight_ih: numbers("sequence.gru.weight_ih_l0")?,
        weight_hh: numbers("sequence.gru.weight_hh_l0")?,
        bias_ih: numbers("sequence.gru.bias_ih_l0")?,
        bias_hh: numbers("sequence.gru.bias_hh_l0")?,
        projection: numbers("sequence.projection")?,
        items: numbers("sequence.items")?,
        item_biases: numbers("sequence.item_biases")?,
        tokens: numbers("sequence.tokens")?,
        token_biases: numbers("sequence.token_biases")?,
    };
    weights.check_shapes(TENSORS, config.sequence.embedding_width, config.sequence.hidden_width)?;
    Ok(weights)
}

fn placement_tensors<'a>(config: &ModelConfig, weights: &'a PlacementWeights) -> [Named<'a>; 8] {
    let (item, rank) = (config.sequence.embedding_width + 1, config.placement.rank);
    [
        ("placement.item_map", Some(item), &weights.item_map),
        ("placement.regions", Some(rank), &weights.regions),
        ("placement.extra_means", None, &weights.extra_means),
        ("placement.extra_scales", None, &weights.extra_scales),
        ("placement.hidden", Some(PlacementWeights::input_width(&config.placement)), &weights.hidden),
        ("placement.hidden_biases", None, &weights.hidden_biases),
        ("placement.output", Some(PlacementWeights::output_width(&config.placement)), &weights.output),
        ("placement.output_biases", None, &weights.output_biases),
    ]
}

fn read_placement(numbers: &impl Fn(&str) -> Result<Vec<f32>>, config: &ModelConfig) -> Result<PlacementWeights> {
    let weights = PlacementWeights {
        item_map: numbers("placement.item_map")?,
        regions: numbers("placement.regions")?,
        extra_means: numbers("placement.extra_means")?,
        extra_scales: numbers("placement.extra_scales")?,
        hidden: numbers("placement.hidden")?,
        hidden_biases: numbers("placement.hidden_biases")?,
        output: numbers("placement.output")?,
        output_biases: numbers("placement.output_biases")?,
    };
    weights.check_shapes(TENSORS, &config.placement, config.sequence.embedding_width + 1)?;
    Ok(weights)
}

const WRITE: &str = "model.safetensors";
