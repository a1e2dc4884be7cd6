//! A whole model version in memory.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    Blend, BlendConfig, CoAccessConfig, Error, FileRecord, Gate, GateState, Manifest, PlacementConfig, PlacementHead,
    Result, SequenceConfig, SequenceModel, TrainedBlend, TrainedCoAccess, Vocabulary, VocabularyConfig,
    artifact::{
        CARD, COACCESS, CONFIG, CONTEXTS, GATE, LINKS, MANIFEST, METRICS, TENSORS, VOCABULARY, blend,
        files::{self, NamedBytes},
        manifest::is_plain_name,
        tables, tensors,
    },
};

/// `config.toml`: everything a version was made with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Which keys got a row.
    pub vocabulary: VocabularyConfig,
    /// The sequence model.
    pub sequence: SequenceConfig,
    /// The co-access tables.
    pub coaccess: CoAccessConfig,
    /// The blend.
    pub blend: BlendConfig,
    /// The placement head.
    pub placement: PlacementConfig,
}

/// Everything that training hands to the predictor.
#[derive(Clone, Debug)]
pub struct Model {
    /// Keys by embedding row.
    pub vocabulary: Vocabulary,
    /// What one client asks for next.
    pub sequence: SequenceModel,
    /// Which keys follow which.
    pub coaccess: TrainedCoAccess,
    /// What one client asks for next, ranked from all evidence.
    pub blend: TrainedBlend,
    /// How much demand a key will have in a region.
    pub placement: PlacementHead,
    /// Region names by their position in the placement head.
    pub regions: Vec<String>,
    /// What the gate learned, when the version carries it.
    pub gate: Option<GateState>,
    /// Where the version comes from.
    pub manifest: Manifest,
    /// What it was made with.
    pub config: ModelConfig,
    /// `metrics.json`: how it did on the log's later part.
    pub metrics: serde_json::Value,
    /// `MODEL_CARD.md`.
    pub card: String,
}

impl Model {
    /// Writes the version to the directory `dir`, which must not exist; it appears there complete or not at all.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be written or `dir` exists; [`Error::ArtifactContent`] when its parts do not
    /// belong together.
    pub fn save(&self, dir: &Path) -> Result<Manifest> {
        self.save_with(dir, &[])
    }

    /// As [`save`](Self::save), with further files for people, such as a report: they are sealed like the others, and
    /// loading passes over them.
    ///
    /// # Errors
    /// As [`save`](Self::save); [`Error::ArtifactContent`] also when a name is taken or no plain file name.
    pub fn save_with(&self, dir: &Path, attachments: &[NamedBytes]) -> Result<Manifest> {
        self.check_parts()?;
        let mut contents: Vec<NamedBytes> = vec![
            (TENSORS, tensors::write(self)?),
            (VOCABULARY, tables::write_vocabulary(&self.vocabulary)?),
            (COACCESS, tables::write_coaccess(&self.coaccess)?),
            (LINKS, blend::write_links(&self.blend)?),
            (CONTEXTS, blend::write_contexts(&self.blend)?),
            (CONFIG, toml::to_string(&self.config).map_err(Error::learn(CONFIG))?.into_bytes()),
            (METRICS, json(METRICS, &self.metrics)?),
            (CARD, self.card.clone().into_bytes()),
        ];
        if let Some(gate) = &self.gate {
            contents.push((GATE, json(GATE, gate)?));
        }
        for (name, bytes) in attachments {
            if contents.iter().any(|(taken, _)| taken == name) || *name == MANIFEST || !is_plain_name(name) {
                return Err(Error::content(name, "its name is taken, or no plain file name"));
            }
            contents.push((name, bytes.clone()));
        }
        let records = contents.iter().map(|(name, bytes)| ((*name).to_owned(), FileRecord::of(bytes)));
        let manifest = self.manifest.clone().sealed(records.collect())?;
        contents.push((MANIFEST, json(MANIFEST, &manifest)?));
        files::write_directory(dir, &contents)?;
        Ok(manifest)
    }

    /// Reads the version in `dir`, provided that its format is known and every hash matches.
    ///
    /// # Errors
    /// The `Artifact…` variants of [`Error`] say which file is wrong and how.
    pub fn load(dir: &Path) -> Result<Self> {
        Self::load_from(&dir.display().to_string(), |name| files::read(&dir.join(name)))
    }

    /// Reads the version in `path`, whose files `read` fetches by name.
    pub(crate) fn load_from(path: &str, read: impl Fn(&str) -> Result<Option<Vec<u8>>>) -> Result<Self> {
        let manifest = read_manifest(path, &read)?;
        let file = |name: &str| manifest.check(path, name, &read);
        let text = |name| String::from_utf8(file(name)?).map_err(|error| Error::content(name, error.to_string()));
        let config: ModelConfig =
            toml::from_str(&text(CONFIG)?).map_err(|error| Error::content(CONFIG, error.to_string()))?;
        config.check()?;
        let (sequence, placement, ranker, regions) = tensors::read(&file(TENSORS)?, &config)?;
        let blend = TrainedBlend { ranker, ..blend::read_blend(file(LINKS)?, file(CONTEXTS)?)? };
        let vocabulary = tables::read_vocabulary(file(VOCABULARY)?, config.vocabulary.token_buckets)?;
        let parse = |error: serde_json::Error| Error::content(METRICS, error.to_string());
        let metrics = serde_json::from_slice(&file(METRICS)?).map_err(parse)?;
        let gate = match manifest.files.contains_key(GATE) {
            true => {
                let state: GateState = serde_json::from_slice(&file(GATE)?).map_err(parse)?;
                Some(Gate::from_state(&state)?.state())
            }
            false => None,
        };
        let (coaccess, card) = (tables::read_coaccess(file(COACCESS)?)?, text(CARD)?);
        let model =
            Self { vocabulary, sequence, coaccess, blend, placement, regions, gate, manifest, config, metrics, card };
        model.check_parts()?;
        Ok(model)
    }

    fn check_parts(&self) -> Result<()> {
        let (rows, keys) = (self.sequence.row_count(), self.vocabulary.len());
        if rows != keys {
            return Err(Error::content(VOCABULARY, format!("it has {keys} keys, the sequence model {rows} rows")));
        }
        let (buckets, tokens) = (self.vocabulary.token_buckets(), self.sequence.token_count());
        if buckets as usize != tokens {
            let reason = format!("the vocabulary has {buckets} token buckets, the sequence model {tokens}");
            return Err(Error::content(CONFIG, reason));
        }
        // Whoever loads a version may rely on its blend.
        Blend::new(&self.config.blend, 0)?.set_ranker(&self.blend.ranker)?;
        let same = self.config.sequence == *self.sequence.config()
            && self.config.placement == *self.placement.config()
            && self.config.vocabulary.token_buckets == buckets;
        match same {
            true => Ok(()),
            false => Err(Error::content(CONFIG, "it is not what the models were made with")),
        }
    }
}

impl ModelConfig {
    /// Checks every value of every part against its range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that is out of its range.
    pub fn check(&self) -> Result<()> {
        self.sequence.check()?;
        self.coaccess.check()?;
        self.blend.check()?;
        self.placement.check()
    }
}

/// Reads the manifest of the version in `path`.
pub(crate) fn read_manifest(path: &str, read: impl Fn(&str) -> Result<Option<Vec<u8>>>) -> Result<Manifest> {
    let missing = || Error::ArtifactFiles { path: path.to_owned(), file: MANIFEST.to_owned(), state: "missing" };
    Manifest::parse(path, &read(MANIFEST)?.ok_or_else(missing)?)
}

/// Every file of the version in `path` but the manifest, each compared with its hash.
pub(crate) fn read_all(
    path: &str,
    read: impl Fn(&str) -> Result<Option<Vec<u8>>>,
) -> Result<(Manifest, BTreeMap<String, Vec<u8>>)> {
    let manifest = read_manifest(path, &read)?;
    let check = |name: &String| Ok((name.clone(), manifest.check(path, name, &read)?));
    let files = manifest.files.keys().map(check).collect::<Result<_>>()?;
    Ok((manifest, files))
}

fn json(file: &'static str, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(Error::learn(file))?;
    bytes.push(b'\n');
    Ok(bytes)
}
