//! What saving and loading a version promises.

use std::{fs, path::Path};

use nearcast_datasets::{Interner, KeyId, RegionId, Timestamp};

use super::{CARD, COACCESS, CONFIG, FILES_REQUIRED, GATE, MANIFEST, TENSORS, VOCABULARY};
use crate::{
    Blend, BlendConfig, BlendLearning, BlendSession, CoAccessRow, DemandQuery, Error, Gate, GateConfig, ItemCatalogue,
    Manifest, Model, ModelConfig, PlacementTrainer, RecentCounts, Result, SequenceConfig, SequenceTrainer,
    TrainedBlend, TrainedCoAccess, TrainingRange, Vocabulary, VocabularyConfig,
};

/// A small version; `exact_rows_max` decides whether it searches through cells.
pub(crate) fn model(exact_rows_max: usize) -> Result<Model> {
    let sequence = SequenceConfig { embedding_width: 8, hidden_width: 6, exact_rows_max, ..SequenceConfig::default() };
    let vocabulary = VocabularyConfig { token_buckets: 64, ..VocabularyConfig::default() };
    let config = ModelConfig { sequence, vocabulary, ..ModelConfig::default() };
    let names: Vec<String> = (0..40).map(|key| format!("/pages/{key}.html")).collect();
    let vocabulary = Vocabulary::build(names.iter().map(|name| (name.as_str(), 3)), &config.vocabulary)?;
    let items = names.iter().map(|name| vocabulary.item(name)).collect();
    let catalogue = ItemCatalogue { items, counts: vec![3; 40] };
    let sequence = SequenceTrainer::new(&config.sequence, &vocabulary, catalogue, 1)?.finish()?;
    let placement = PlacementTrainer::new(&config.placement, &sequence, 2, &[], 1)?.finish();
    let mut keys = Interner::default();
    names.iter().take(3).for_each(|name| _ = keys.insert(name));
    let coaccess = TrainedCoAccess {
        keys,
        at: Timestamp::from_micros(1_000_000),
        client: vec![
            CoAccessRow { key: KeyId(0), occurrences: 4.5, successors: vec![(KeyId(1), 3.0), (KeyId(2), 0.5)] },
            CoAccessRow { key: KeyId(1), occurrences: 1.0, successors: Vec::new() },
        ],
        region: vec![CoAccessRow { key: KeyId(2), occurrences: 2.0, successors: vec![(KeyId(0), 1.0)] }],
    };
    let training = TrainingRange { logs: vec!["log.parquet".to_owned()], requests: 120, ..TrainingRange::default() };
    Ok(Model {
        vocabulary,
        sequence,
        coaccess,
        blend: blend(&names)?,
        placement,
        regions: vec!["eu".to_owned(), "us".to_owned()],
        gate: Some(Gate::new(&GateConfig::default())?.state()),
        manifest: Manifest::new(Timestamp::from_micros(5), 1, training),
        config,
        metrics: serde_json::json!({"hr_20": 0.5}),
        card: "# A model\n".to_owned(),
    })
}

/// A blend of a few sessions.
fn blend(names: &[String]) -> Result<TrainedBlend> {
    let mut blend = Blend::new(&BlendConfig::default(), 1)?;
    for keys in [[1, 2, 3], [1, 2, 4], [5, 1, 2]] {
        let mut session = BlendSession::default();
        for (at, key) in (1_000_000_i64..).map(Timestamp::from_micros).zip(keys) {
            blend.learn(at, RegionId(0), &session, KeyId(key), BlendLearning::ALL);
            session.push(KeyId(key));
        }
    }
    Ok(blend.export(Timestamp::from_micros(2_000_000), |key| names.get(key.0 as usize).map(String::as_str)))
}

fn saved(dir: &Path) -> Result<Model> {
    let model = model(1_000)?;
    model.save(dir)?;
    Ok(model)
}

#[test]
fn a_loaded_version_answers_as_the_saved_one_did() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    for exact_rows_max in [1_000, 10] {
        let dir = folder.path().join(exact_rows_max.to_string());
        let model = model(exact_rows_max)?;
        let manifest = model.save(&dir)?;
        let loaded = Model::load(&dir)?;
        assert_eq!(loaded.manifest, manifest);
        assert_eq!((&loaded.regions, &loaded.gate, &loaded.config), (&model.regions, &model.gate, &model.config));
        assert_eq!((&loaded.metrics, &loaded.card), (&model.metrics, &model.card));
        assert_eq!(
            (&loaded.coaccess.client, &loaded.coaccess.region),
            (&model.coaccess.client, &model.coaccess.region)
        );
        assert_eq!(loaded.coaccess.keys.iter().collect::<Vec<_>>(), model.coaccess.keys.iter().collect::<Vec<_>>());
        assert_eq!((&loaded.blend.rows, &loaded.blend.contexts), (&model.blend.rows, &model.blend.contexts));
        let scalars = |model: &Model| (model.blend.at, model.blend.requests, model.blend.ranker.clone());
        assert_eq!(scalars(&loaded), scalars(&model));
        assert!(loaded.vocabulary.iter().eq(model.vocabulary.iter()));
        let answers = |model: &Model| {
            let mut state = model.sequence.initial_state();
            let mut top = Vec::new();
            model.sequence.step(&mut state, &model.vocabulary.item("/pages/7.html"));
            model.sequence.top(&state, 5, &mut top);
            let item = model.vocabulary.item("/pages/unknown-9.html");
            let query = DemandQuery { item, region: 1, at: Timestamp::from_micros(7), counts: RecentCounts::default() };
            let demand = model.placement.expected_requests(&model.sequence, &query);
            (
                state.clone(),
                top,
                model.sequence.score(&state, &item).to_bits(),
                demand.iter().map(|rate| rate.to_bits()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(answers(&loaded), answers(&model));
    }
    Ok(())
}

#[test]
fn the_same_model_is_saved_as_the_same_bytes() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let first = model(10)?.save(&folder.path().join("first"))?;
    // More than once, because an order that is drawn anew each time is right half of the time.
    for turn in 0..8 {
        let again = model(10)?.save(&folder.path().join(turn.to_string()))?;
        assert_eq!(first, again);
    }
    Ok(())
}

#[test]
fn attachments_are_sealed_with_the_version_and_do_not_hinder_loading() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("v");
    let manifest = model(1_000)?.save_with(&dir, &[("report.html", b"<p>".to_vec())])?;
    assert_eq!(manifest.files["report.html"].bytes, 3);
    Model::load(&dir)?;
    let registry = crate::Registry::open(&folder.path().join("registry").display().to_string())?;
    let version = registry.publish(&dir)?;
    assert_eq!(registry.file(version, "report.html")?.as_deref(), Some(&b"<p>"[..]));
    assert_eq!(registry.file(version, "absent.html")?, None);
    fs::write(folder.path().join("registry/versions/v0001/report.html"), "<q>").unwrap();
    assert!(matches!(registry.file(version, "report.html"), Err(Error::ArtifactHash { .. })));
    assert!(matches!(registry.verify(version), Err(Error::ArtifactHash { .. })));
    for name in [CARD, MANIFEST, "../report.html", ".hidden", ""] {
        let refused = model(1_000)?.save_with(&folder.path().join("w"), &[(name, Vec::new())]);
        assert!(matches!(refused, Err(Error::ArtifactContent { .. })), "{name}");
    }
    Ok(())
}

#[test]
fn saving_never_replaces_what_is_there_and_leaves_nothing_half_done() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("v");
    saved(&dir)?;
    assert!(matches!(saved(&dir), Err(Error::File { action: "create", .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no staging directory is left behind");
    Ok(())
}

#[test]
fn a_changed_byte_in_any_file_is_refused_by_name() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("v");
    saved(&dir)?;
    for name in FILES_REQUIRED.into_iter().chain([GATE]) {
        let good = fs::read(dir.join(name)).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(dir.join(name), bad).unwrap();
        match Model::load(&dir) {
            Err(Error::ArtifactHash { file, .. }) => assert_eq!(file, name),
            other => panic!("{name}: {:?}", other.map(|_| ())),
        }
        fs::remove_file(dir.join(name)).unwrap();
        match Model::load(&dir) {
            Err(Error::ArtifactFiles { file, state: "missing", .. }) => assert_eq!(file, name),
            other => panic!("{name}: {:?}", other.map(|_| ())),
        }
        fs::write(dir.join(name), good).unwrap();
    }
    Model::load(&dir).map(|_| ())
}

#[test]
fn other_formats_and_manifests_that_reach_outside_are_refused() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("v");
    saved(&dir)?;
    let path = dir.join(MANIFEST);
    let good = fs::read_to_string(&path).unwrap();
    let change = |from: &str, to: &str| {
        assert!(good.contains(from));
        fs::write(&path, good.replace(from, to)).unwrap();
        Model::load(&dir).map(|_| ())
    };
    assert!(matches!(
        change("\"format\": 4", "\"format\": 3"),
        Err(Error::ArtifactFormat { found: 3, expected: 4, .. })
    ));
    assert!(matches!(change("\"seed\": 1", "\"seed\": 2"), Err(Error::ArtifactHash { .. })));
    assert!(matches!(change("\"requests\": ", "\"requests\": 1"), Err(Error::ArtifactHash { .. })));
    assert!(matches!(change("{", "["), Err(Error::ArtifactContent { .. })));
    let reaching_out = {
        let manifest: Manifest = serde_json::from_str(&good).unwrap();
        let renamed = manifest.files.iter().map(|(name, record)| (name.replace(CARD, "../card"), record.clone()));
        manifest.clone().sealed(renamed.collect())?
    };
    fs::write(&path, serde_json::to_vec(&reaching_out).unwrap()).unwrap();
    assert!(matches!(Model::load(&dir), Err(Error::ArtifactContent { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(Model::load(&dir), Err(Error::ArtifactFiles { state: "missing", .. })));
    Ok(())
}

/// Hashes that match prove only that the bytes are those that were published, not that they make sense.
#[test]
fn content_that_makes_no_sense_is_an_error_even_when_its_hash_matches() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("v");
    saved(&dir)?;
    let (manifest, files) = super::read_all("v", |name| super::files::read(&dir.join(name)))?;
    for (broken, content) in [
        (TENSORS, &b"\x08\0\0\0\0\0\0\0{}      "[..]),
        (VOCABULARY, b"PAR1"),
        (COACCESS, b""),
        (CONFIG, b"[sequence]\nembedding_width = 9"),
        (CONFIG, b"[sequence]\nwidth = 9"),
    ] {
        let mut records = manifest.files.clone();
        records.insert(broken.to_owned(), crate::FileRecord::of(content));
        let changed = serde_json::to_vec(&manifest.clone().sealed(records)?).unwrap();
        let read = |name: &str| {
            Ok(Some(match name {
                MANIFEST => changed.clone(),
                name if name == broken => content.to_vec(),
                name => files[name].clone(),
            }))
        };
        assert!(matches!(Model::load_from("v", read), Err(Error::ArtifactContent { .. })), "{broken}");
    }
    Ok(())
}
