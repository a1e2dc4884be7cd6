//! What only the embedded bus can meet.

use nearcast_bus::Error;

use crate::ground::{Ground, TestResult, stream};

#[tokio::test]
async fn one_process_has_it_open_at_a_time() -> TestResult {
    let ground = Ground::embedded()?;
    let bus = ground.open().await?;
    let refused = ground.open().await.map(|_| ());
    assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
    bus.close().await;
    ground.open().await?;
    Ok(())
}

#[tokio::test]
async fn a_stream_opened_twice_is_one() -> TestResult {
    let bus = Ground::embedded()?.open().await?;
    let (first, second) = (bus.stream(stream("log")).await?, bus.stream(stream("log")).await?);
    first.append(nearcast_bus::Partition(0), "a", "a".into()).await?;
    assert!(second.append(nearcast_bus::Partition(0), "a", "a".into()).await?.is_duplicate);
    Ok(())
}
