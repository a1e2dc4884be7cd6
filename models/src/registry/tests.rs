//! What the registry promises, in a directory and in an object store alike.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc, thread};

use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory};
use tempfile::TempDir;

use crate::{Error, Registry, Result, VersionName, artifact::tests::model};

/// A saved version, and an empty registry of each kind.
struct World {
    folder: TempDir,
    saved: PathBuf,
}

impl World {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let saved = folder.path().join("saved");
        model(1_000)?.save(&saved)?;
        Ok(Self { folder, saved })
    }

    fn local(&self) -> Result<Registry> {
        Registry::open(&self.folder.path().join("registry").display().to_string())
    }

    /// Runs the same check on each kind of registry.
    fn check(&self, check: impl Fn(&Registry) -> Result<()>) -> Result<()> {
        check(&self.local()?)?;
        check(&Registry::with_store(Arc::new(InMemory::new()), "team/models"))
    }
}

const V1: VersionName = VersionName(1);
const V2: VersionName = VersionName(2);

#[test]
fn versions_are_numbered_listed_and_loaded_by_name_or_alias() -> Result<()> {
    let world = World::new()?;
    world.check(|registry| {
        assert!(registry.list()?.is_empty());
        assert_eq!((registry.publish(&world.saved)?, registry.publish(&world.saved)?), (V1, V2));
        registry.alias("champion", V1)?;
        let listed: Vec<_> = registry.list()?.into_iter().map(|summary| (summary.version, summary.aliases)).collect();
        assert_eq!(listed, [(V1, vec!["champion".to_owned()]), (V2, vec![])]);
        registry.alias("champion", V2)?;
        assert_eq!(registry.resolve("champion")?, V2);
        let (version, model) = registry.load("champion")?;
        assert_eq!((version, model.vocabulary.len()), (V2, 40));
        assert_eq!(registry.load("v0001")?.0, V1);
        assert_eq!(registry.verify(V1)?, model.manifest);
        Ok(())
    })
}

#[test]
fn unknown_names_and_bad_aliases_are_refused() -> Result<()> {
    let world = World::new()?;
    world.check(|registry| {
        registry.publish(&world.saved)?;
        for name in ["v0002", "champion", "../v0001", ""] {
            assert!(matches!(registry.resolve(name), Err(Error::AliasOrVersionUnknown { .. })), "{name}");
        }
        assert!(matches!(registry.alias("champion", V2), Err(Error::AliasOrVersionUnknown { .. })));
        assert!(matches!(registry.alias("../champion", V1), Err(Error::Name { .. })));
        assert!(matches!(registry.verify(V2), Err(Error::AliasOrVersionUnknown { .. })));
        assert!(registry.aliases()?.is_empty());
        Ok(())
    })
}

#[test]
fn an_aliased_version_stays_and_a_deleted_number_is_not_reused() -> Result<()> {
    let world = World::new()?;
    world.check(|registry| {
        registry.publish(&world.saved)?;
        registry.publish(&world.saved)?;
        registry.alias("champion", V2)?;
        assert!(matches!(registry.delete(V2), Err(Error::AliasedVersion { .. })));
        registry.alias("champion", V1)?;
        registry.delete(V2)?;
        assert!(matches!(registry.delete(V2), Err(Error::AliasOrVersionUnknown { .. })));
        assert!(matches!(registry.load("v0002"), Err(Error::AliasOrVersionUnknown { .. })));
        assert_eq!(registry.list()?.len(), 1);
        assert_eq!(registry.publish(&world.saved)?, VersionName(3));
        Ok(())
    })
}

#[test]
fn publishers_at_once_lose_nothing_and_share_no_number() -> Result<()> {
    let world = World::new()?;
    world.check(|registry| {
        let published: Vec<_> = thread::scope(|scope| {
            let publishers: Vec<_> = (0..8).map(|_| scope.spawn(|| registry.publish(&world.saved))).collect();
            publishers.into_iter().map(|publisher| publisher.join().expect("no publisher panics")).collect()
        });
        let numbers: BTreeSet<_> = published.into_iter().collect::<Result<_>>()?;
        assert_eq!(numbers.len(), 8);
        for version in &numbers {
            registry.verify(*version)?;
        }
        assert_eq!(registry.list()?.len(), 8);
        Ok(())
    })
}

/// Whatever the interleaving, no alias may be left pointing at nothing.
#[test]
fn deleting_and_aliasing_at_once_never_leaves_a_dangling_alias() -> Result<()> {
    let world = World::new()?;
    world.check(|registry| {
        for _ in 0..20 {
            let version = registry.publish(&world.saved)?;
            let (deleted, aliased) = thread::scope(|scope| {
                let deletion = scope.spawn(|| registry.delete(version));
                let aliasing = scope.spawn(|| registry.alias("champion", version));
                (deletion.join().expect("no panic"), aliasing.join().expect("no panic"))
            });
            assert!(deleted.is_err() || aliased.is_err(), "{version} was deleted and aliased");
            if let Some(target) = registry.aliases()?.get("champion") {
                registry.verify(*target)?;
            }
        }
        Ok(())
    })
}

#[test]
fn damage_is_found_and_what_is_not_whole_is_not_published() -> Result<()> {
    let world = World::new()?;
    let registry = world.local()?;
    registry.publish(&world.saved)?;
    let path = world.folder.path().join("registry/versions/v0001/MODEL_CARD.md");
    fs::write(path, "another text").expect("the file can be written");
    assert!(matches!(registry.verify(V1), Err(Error::ArtifactHash { .. })));
    assert!(matches!(registry.load("v0001"), Err(Error::ArtifactHash { .. })));
    fs::remove_file(world.saved.join("config.toml")).expect("the file can be removed");
    assert!(matches!(registry.publish(&world.saved), Err(Error::ArtifactFiles { state: "missing", .. })));
    assert_eq!(registry.list()?.len(), 1, "a refused version takes no number");
    Ok(())
}

/// A trainer that dies while it publishes leaves a claim and some files, but never the manifest, which comes last.
#[test]
fn an_interrupted_publication_is_no_version_and_hinders_nobody() -> Result<()> {
    let world = World::new()?;
    let folder = world.folder.path().join("registry");
    for (name, text) in [("claims/v0001", ""), ("versions/v0001/model.safetensors", "half")] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
        fs::write(path, text).expect("writable");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let store = Arc::new(InMemory::new());
    let local = world.local()?;
    let remote = Registry::with_store(Arc::clone(&store) as Arc<dyn ObjectStore>, "team/models");
    for name in ["claims/v0001", "versions/v0001/model.safetensors"] {
        let path = object_store::path::Path::from(format!("team/models/{name}"));
        runtime.block_on(store.put(&path, "half".into())).expect("it is in memory");
    }
    for registry in [local, remote] {
        assert!(registry.list()?.is_empty());
        assert!(matches!(registry.load("v0001"), Err(Error::AliasOrVersionUnknown { .. })));
        assert!(matches!(registry.alias("champion", V1), Err(Error::AliasOrVersionUnknown { .. })));
        assert_eq!(registry.publish(&world.saved)?, V2);
        assert_eq!(registry.list()?.len(), 1);
        registry.verify(V2)?;
    }
    Ok(())
}

#[test]
fn a_version_of_a_newer_format_is_refused_by_every_action_and_named() -> Result<()> {
    let world = World::new()?;
    let registry = world.local()?;
    registry.publish(&world.saved)?;
    let path = world.folder.path().join("registry/versions/v0001/manifest.json");
    let format = registry.manifest(V1)?.format;
    let (ours, newer) = (format!("\"format\": {format}"), format!("\"format\": {}", format + 7));
    let manifest = fs::read_to_string(&path).expect("readable").replace(&ours, &newer);
    fs::write(path, manifest).expect("writable");
    for refused in [registry.load("v0001").err(), registry.verify(V1).err(), registry.list().err()] {
        let said = refused.expect("it is refused").to_string();
        let words = format!("versions/v0001 has format {}, this build reads format {format}", format + 7);
        assert!(said.contains(&words), "{said}");
    }
    Ok(())
}

#[test]
fn places_are_directories_or_known_urls() -> Result<()> {
    for text in ["", "nonsense://x", "s3:/"] {
        let opened = Registry::open(text);
        let is_directory = !text.is_empty() && !text.contains("://");
        assert_eq!(opened.is_ok(), is_directory, "{text:?}");
    }
    assert_eq!(Registry::open("models")?.location(), "models");
    Registry::open("file:///tmp/models").map(|_| ())
}
