//! Buckets.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use nearcast_bus::{BucketSpec, Change, Error, Revision, Watch};
use tokio::time::timeout;

use crate::ground::{Ground, TestResult, bucket};

pub(crate) async fn entries_are_replaced_only_by_who_has_seen_them(ground: &Ground) -> TestResult {
    let state = ground.open().await?.bucket(bucket("state")).await?;
    assert_eq!(state.get("a").await?, None);
    let first = state.create("a", "one".into()).await?;
    assert!(state.create("a", "two".into()).await.is_err_and(|error| error.is_conflict()));
    let second = state.update("a", "two".into(), first).await?;
    assert!(second > first);
    assert!(state.update("a", "three".into(), first).await.is_err_and(|error| error.is_conflict()));
    assert!(state.delete("a", first).await.is_err_and(|error| error.is_conflict()));
    let entry = state.get("a").await?.ok_or("gone")?;
    assert_eq!((entry.value, entry.revision), (Bytes::from("two"), second));
    state.delete("a", second).await?;
    assert_eq!(state.get("a").await?, None);
    assert!(state.update("a", "four".into(), second).await.is_err_and(|error| error.is_conflict()));
    let again = state.create("a", "five".into()).await?;
    assert!(again > second);
    assert!(state.update("b", "one".into(), again).await.is_err_and(|error| error.is_conflict()));
    Ok(())
}

pub(crate) async fn revisions_grow_over_all_keys(ground: &Ground) -> TestResult {
    let state = ground.open().await?.bucket(bucket("state")).await?;
    let a = state.create("a", "1".into()).await?;
    let b = state.create("b", "1".into()).await?;
    let a_again = state.update("a", "2".into(), a).await?;
    assert!(a < b && b < a_again);
    state.delete("b", b).await?;
    assert!(state.create("c", "1".into()).await? > Revision(a_again.0 + 1), "a removal has a revision, too");
    Ok(())
}

pub(crate) async fn of_many_who_replace_at_once_one_wins(ground: &Ground) -> TestResult {
    let state = ground.open().await?.bucket(bucket("state")).await?;
    let mut revision = state.create("a", "0".into()).await?;
    for _ in 0..5 {
        let replace = |who: usize| {
            let state = state.clone();
            async move { state.update("a", who.to_string().into(), revision).await }
        };
        let outcomes = join_all((0..8).map(replace)).await;
        let won: Vec<Revision> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok().copied()).collect();
        assert!(outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(Error::is_conflict), "{outcomes:?}");
        assert_eq!(won.len(), 1, "{outcomes:?}");
        revision = won[0];
    }
    Ok(())
}

pub(crate) async fn a_watch_tells_what_is_there_and_what_changes(ground: &Ground) -> TestResult {
    let state = ground.open().await?.bucket(bucket("state")).await?;
    let a = state.create("a", "1".into()).await?;
    let b = state.create("b", "1".into()).await?;
    let a = state.update("a", "2".into(), a).await?;
    let mut watch = state.watch().await?;
    let change = |key: &str, revision, value: Option<&str>| Change {
        key: key.to_owned(),
        revision,
        value: value.map(|value| Bytes::from(value.to_owned())),
    };
    assert_eq!(next(&mut *watch).await?, change("b", b, Some("1")));
    assert_eq!(next(&mut *watch).await?, change("a", a, Some("2")));
    assert!(timeout(Duration::from_millis(100), watch.next()).await.is_err(), "cancelled while it waits");
    let removed = state.delete("b", b).await?;
    assert_eq!(next(&mut *watch).await?, change("b", removed, None));
    let c = state.create("c", "".into()).await?;
    assert_eq!(next(&mut *watch).await?, change("c", c, Some("")), "an empty value is not a removal");
    Ok(())
}

pub(crate) async fn entries_are_there_after_reopening(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    let state = bus.bucket(bucket("state")).await?;
    let revision = state.create("a", "1".into()).await?;
    drop(state);
    bus.close().await;
    let state = ground.open().await?.bucket(bucket("state")).await?;
    assert!(state.update("a", "2".into(), revision).await? > revision);
    assert_eq!(next(&mut *state.watch().await?).await?.value, Some("2".into()));
    Ok(())
}

pub(crate) async fn a_full_bucket_refuses(ground: &Ground) -> TestResult {
    let state = ground.open().await?.bucket(BucketSpec { bytes_max: 50_000, ..bucket("state") }).await?;
    let value = Bytes::from(vec![0; 20_000]);
    let first = state.create("a", value.clone()).await?;
    state.create("b", value.clone()).await?;
    let refused = state.create("c", value.clone()).await;
    assert!(matches!(refused, Err(Error::BucketFull { bytes_max: 50_000, .. })), "{refused:?}");
    assert_eq!(state.get("a").await?.map(|entry| entry.revision), Some(first), "nothing was lost");
    // What is removed makes room, though a bus may remember that it was there.
    state.delete("a", first).await?;
    state.create("c", value).await?;
    Ok(())
}

async fn next(watch: &mut dyn Watch) -> TestResult<Change> {
    Ok(timeout(Duration::from_secs(10), watch.next()).await??)
}
