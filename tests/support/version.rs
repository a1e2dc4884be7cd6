//! Small untrained model versions.

use std::path::Path;

use nearcast_datasets::Timestamp;
use nearcast_models::{
    ItemCatalogue, Manifest, Model, ModelConfig, PlacementTrainer, Result, SequenceConfig, SequenceTrainer,
    TrainedBlend, TrainedCoAccess, TrainingRange, Vocabulary,
};

/// Saves a version that knows the keys `/a` and `/b` to the folder `dir`; the seed makes each one different.
pub(crate) fn save(dir: &Path, seed: u64) -> Result<()> {
    let sequence = SequenceConfig { embedding_width: 4, hidden_width: 4, ..SequenceConfig::default() };
    let config = ModelConfig { sequence, ..ModelConfig::default() };
    let vocabulary = Vocabulary::build([("/a", 3), ("/b", 2)], &config.vocabulary)?;
    let items = ["/a", "/b"].map(|key| vocabulary.item(key)).to_vec();
    let catalogue = ItemCatalogue { items, counts: vec![3, 2] };
    let sequence = SequenceTrainer::new(&config.sequence, &vocabulary, catalogue, seed)?.finish()?;
    let placement = PlacementTrainer::new(&config.placement, &sequence, 1, &[], seed)?.finish();
    let training = TrainingRange { requests: 5, ..TrainingRange::default() };
    let model = Model {
        vocabulary,
        sequence,
        coaccess: TrainedCoAccess::default(),
        blend: TrainedBlend::default(),
        placement,
        regions: vec!["default".to_owned()],
        gate: None,
        manifest: Manifest::new(Timestamp::from_micros(0), seed, training),
        config,
        metrics: serde_json::json!({"hr_20": 0.25}),
        card: format!("# Model of seed {seed}\n"),
    };
    model.save(dir).map(|_| ())
}
