//! Which arms there are in a fleet and where each is in force: one document, which who conducts experiments writes and
//! every member obeys.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nearcast_bus::{BucketSpec, Revision, SharedBucket, Watch};
use nearcast_models::{Model, Registry};
use serde::{Deserialize, Serialize};
use tokio::{task::spawn_blocking, time::sleep};

use super::chronicle::Writer;
use crate::{
    Error, Result,
    arms::ArmSpec,
    engine::Arm,
    server::{
        input::Input,
        inputs::{EngineGone, WeakInputs},
    },
};

/// The document. The field names are a contract.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::server) struct Regime {
    /// Of the term in which it was written.
    pub(in crate::server) token: u64,
    /// Rises with every change, whoever makes it.
    pub(in crate::server) number: u64,
    /// By experiment that is under way, its arm.
    pub(in crate::server) challengers: BTreeMap<String, ArmSpec>,
    /// By node, the arm that it is to serve; every other node serves the champion.
    pub(in crate::server) treated: BTreeMap<Arc<str>, Arc<str>>,
    /// The challengers that took the champion's place and were not undone, the last one last.
    pub(in crate::server) promoted: Vec<Promoted>,
    /// What the champion was told to do since.
    pub(in crate::server) told: Option<ToldArm>,
}

/// A challenger that is the champion by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) struct Promoted {
    pub(in crate::server) experiment: String,
    pub(in crate::server) arm: ArmSpec,
}

/// What an operator had the champion do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) struct ToldArm {
    /// The number of the document that told it first.
    pub(in crate::server) number: u64,
    pub(in crate::server) arm: Arm,
    /// Whether what was learnt until then is forgotten.
    pub(in crate::server) reset: bool,
}

impl Regime {
    /// The names of the arms that are needed beside the champion.
    pub(in crate::server) fn arms(&self) -> BTreeSet<Arc<str>> {
        self.challengers.values().map(ArmSpec::name).collect()
    }
}

/// A challenger's model, if it has one, or why it cannot be had.
pub(in crate::server) type Loaded = Result<Option<Arc<Model>>, String>;

/// Writes the document, in one term.
#[derive(Debug)]
pub(super) struct RegimeStore {
    writer: Writer,
    revision: Option<Revision>,
}

impl RegimeStore {
    /// What is written there; the next to write is who has seen it.
    ///
    /// # Errors
    /// A bus that is away, a document that cannot be read.
    pub(super) async fn open(writer: Writer) -> Result<(Self, Regime)> {
        let entry = writer.bucket.get(KEY).await?;
        let damaged = |_| nearcast_bus::Error::Damaged { what: "entry", name: KEY.to_owned() };
        let regime = entry.as_ref().map(|entry| serde_json::from_slice(&entry.value).map_err(damaged)).transpose()?;
        Ok((Self { writer, revision: entry.map(|entry| entry.revision) }, regime.unwrap_or_default()))
    }

    /// Replaces it.
    ///
    /// # Errors
    /// [`Error::OfficeLost`] when another has.
    pub(super) async fn put(&mut self, regime: &Regime) -> Result<()> {
        let bytes = serde_json::to_vec(regime).map_err(std::io::Error::from);
        let bytes = bytes.map_err(Error::file("write", "the arms in force"))?;
        self.revision = Some(self.writer.write(KEY, bytes.into(), self.revision).await?);
        Ok(())
    }
}

/// A member's look at the document: loads what it names and has the engine's task obey it.
#[derive(Debug)]
pub(super) struct RegimeWatch {
    pub(super) bucket: SharedBucket,
    pub(super) registry: Option<Arc<Registry>>,
    pub(super) inputs: WeakInputs,
}

impl RegimeWatch {
    /// Follows it until the engine's task has ended.
    pub(super) async fn run(self) {
        let ended = self.follow().await;
        if let Err(EngineGone) = ended {
            tracing::debug!("the arms in force are followed no more");
        }
    }

    async fn follow(&self) -> Result<(), EngineGone> {
        let mut watch: Box<dyn Watch> = loop {
            match self.bucket.watch().await {
                Ok(watch) => break watch,
                Err(error) => tracing::debug!(%error, "the arms in force cannot be followed now"),
            }
            sleep(RETRY).await;
        };
        let (mut regime, mut lacking) = (Regime::default(), BTreeSet::new());
        loop {
            tokio::select! {
                change = watch.next() => match change {
                    Ok(change) => match change.value.map(|value| serde_json::from_slice::<Regime>(&value)) {
                        Some(Ok(next)) if change.key == KEY => {
                            let before = regime.arms();
                            lacking = next.arms().into_iter().filter(|arm| lacking.contains(arm) || !before.contains(arm)).collect();
                            regime = next;
                            // Nodes need not wait for what is loaded.
                            self.inputs.tell(Input::Obey(Box::new(regime.clone()), Vec::new())).await?;
                            self.load(&regime, &mut lacking).await?;
                        }
                        Some(Err(error)) => tracing::error!(%error, "the arms in force cannot be read; they stay as they are"),
                        _ => {}
                    },
                    Err(error) => {
                        tracing::debug!(%error, "the arms in force cannot be read now");
                        sleep(RETRY).await;
                    }
                },
                () = sleep(LOAD_AGAIN), if !lacking.is_empty() => self.load(&regime, &mut lacking).await?,
            }
        }
    }

    /// Hands over the models of arms that were not handed over yet.
    async fn load(&self, regime: &Regime, lacking: &mut BTreeSet<Arc<str>>) -> Result<(), EngineGone> {
        if lacking.is_empty() {
            return Ok(());
        }
        let mut models = Vec::new();
        for spec in regime.challengers.values().filter(|spec| lacking.contains(&spec.name())) {
            models.push((spec.name(), self.model(spec.version.clone()).await));
        }
        for (arm, _) in models.iter().filter(|(_, loaded)| loaded.is_ok()) {
            lacking.remove(arm);
        }
        self.inputs.tell(Input::Obey(Box::new(regime.clone()), models)).await
    }

    async fn model(&self, version: Option<Arc<str>>) -> Loaded {
        let Some(version) = version else { return Ok(None) };
        let registry = self.registry.clone().ok_or_else(|| "this predictor has no registry".to_owned())?;
        let loaded = spawn_blocking(move || registry.load(&version)).await.map_err(|error| error.to_string())?;
        loaded.map(|(_, model)| Some(Arc::new(model))).map_err(|error| error.to_string())
    }
}

/// Where it is kept.
pub(super) fn regime_spec() -> BucketSpec {
    BucketSpec { name: "arms".to_owned(), version: 1, bytes_max: 16 << 20 }
}

const KEY: &str = "in-force";
const RETRY: Duration = Duration::from_millis(100);
/// A version that could not be loaded may have been put into the registry since.
const LOAD_AGAIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use nearcast_bus::{Bus, BusSettings};
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn of_two_who_write_the_later_to_look_wins() {
        let folder = tempfile::tempdir().unwrap();
        let bus = Bus::open(BusSettings::embedded(folder.path())).await.unwrap();
        let bucket = bus.bucket(regime_spec()).await.unwrap();
        let open =
            || RegimeStore::open(Writer { bucket: SharedBucket::clone(&bucket), ended: CancellationToken::new() });
        let (mut first, found) = open().await.unwrap();
        assert_eq!(found, Regime::default());
        let challengers = [("trial".to_owned(), ArmSpec::none())].into();
        let treated = [("eu-1".into(), "none".into())].into();
        let one = Regime { token: 3, number: 1, challengers, treated, ..Regime::default() };
        first.put(&one).await.unwrap();
        let (mut second, found) = open().await.unwrap();
        assert_eq!(found, one);
        let two = Regime { token: 4, number: 2, ..Regime::default() };
        second.put(&two).await.unwrap();
        assert!(matches!(first.put(&one).await, Err(Error::OfficeLost)));
        assert_eq!(open().await.unwrap().1, two);
    }
}
