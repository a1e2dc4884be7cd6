//! What a bus refuses, and that nothing is lost by it.

use std::sync::Arc;

use nearcast_bus::{
    BucketSpec, Bus, BusSettings, Error, PAYLOAD_BYTES_MAX, Partition, Sequence, SkewedClock, StreamSpec,
};

use crate::{
    ground::{Ground, TestResult, bucket, stream},
    streams::read,
};

pub(crate) async fn what_a_newer_program_wrote(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    let log = bus.stream(StreamSpec { version: 2, ..stream("log") }).await?;
    log.append(Partition(0), "a", "one".into()).await?;
    let state = bus.bucket(BucketSpec { version: 3, ..bucket("state") }).await?;
    let revision = state.create("a", "one".into()).await?;
    let refused = bus.stream(stream("log")).await.map(|_| ());
    assert!(matches!(refused, Err(Error::Newer { what: "stream", found: 2, known: 1, .. })), "{refused:?}");
    let refused = bus.bucket(bucket("state")).await.map(|_| ());
    assert!(matches!(refused, Err(Error::Newer { what: "bucket", found: 3, known: 1, .. })), "{refused:?}");
    assert_eq!(read(&mut *log.tail(Partition(0), Sequence::FIRST).await?, 1).await?[0].payload, "one");
    assert_eq!(state.get("a").await?.map(|entry| entry.revision), Some(revision));
    Ok(())
}

pub(crate) async fn another_number_of_partitions(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    let log = bus.stream(stream("log")).await?;
    log.append(Partition(2), "a", "one".into()).await?;
    for asked in [2, 4] {
        let refused = bus.stream(StreamSpec { partitions: asked, ..stream("log") }).await.map(|_| ());
        let is_right = matches!(refused, Err(Error::Partitions { found: 3, asked: was, .. }) if was == asked);
        assert!(is_right, "{refused:?}");
    }
    assert_eq!(read(&mut *log.tail(Partition(2), Sequence::FIRST).await?, 1).await?[0].payload, "one");
    Ok(())
}

pub(crate) async fn what_is_not_there_and_may_not_be_made(ground: &Ground) -> TestResult {
    let bus = Bus::open(BusSettings { create: false, ..ground.settings() }).await?;
    let refused = bus.stream(stream("log")).await.map(|_| ());
    assert!(matches!(&refused, Err(Error::Missing { what: "stream", name }) if name == "log"), "{refused:?}");
    let refused = bus.bucket(bucket("state")).await.map(|_| ());
    assert!(matches!(&refused, Err(Error::Missing { what: "bucket", name }) if name == "state"), "{refused:?}");
    bus.close().await;
    let bus = ground.open().await?;
    bus.stream(stream("log")).await?;
    bus.bucket(bucket("state")).await?;
    bus.close().await;
    let bus = Bus::open(BusSettings { create: false, ..ground.settings() }).await?;
    bus.stream(stream("log")).await?;
    bus.bucket(bucket("state")).await?;
    Ok(())
}

pub(crate) async fn a_clock_that_is_an_hour_behind(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    let log = bus.stream(stream("log")).await?;
    log.append(Partition(0), "a", "one".into()).await?;
    drop(log);
    bus.close().await;
    let behind = async {
        let bus = ground.open_by(Arc::new(SkewedClock::new(-3_600))).await?;
        bus.stream(stream("log")).await.map(|_| ())
    };
    let refused = behind.await;
    assert!(matches!(refused, Err(Error::Clock { direction: "behind", .. })), "{refused:?}");
    let log = ground.open().await?.stream(stream("log")).await?;
    assert_eq!(read(&mut *log.tail(Partition(0), Sequence::FIRST).await?, 1).await?[0].payload, "one");
    Ok(())
}

pub(crate) async fn names_payloads_and_partitions_that_cannot_be(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    for name in ["", "a b", "a.b", "a_b"] {
        assert!(matches!(bus.stream(stream(name)).await, Err(Error::Invalid { .. })), "{name}");
        assert!(matches!(bus.bucket(bucket(name)).await, Err(Error::Invalid { .. })), "{name}");
    }
    let none = bus.stream(StreamSpec { partitions: 0, ..stream("log") }).await;
    assert!(matches!(none, Err(Error::Invalid { .. })));
    let log = bus.stream(stream("log")).await?;
    log.append(Partition(0), "largest", vec![0; PAYLOAD_BYTES_MAX].into()).await?;
    let refused = log.append(Partition(0), "larger", vec![0; PAYLOAD_BYTES_MAX + 1].into()).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    assert!(matches!(log.append(Partition(0), "", "a".into()).await, Err(Error::Invalid { .. })));
    assert!(matches!(log.append(Partition(3), "a", "a".into()).await, Err(Error::NoPartition { count: 3, .. })));
    assert!(matches!(log.tail(Partition(3), Sequence::FIRST).await, Err(Error::NoPartition { .. })));
    let state = bus.bucket(bucket("state")).await?;
    state.create("largest", vec![0; PAYLOAD_BYTES_MAX].into()).await?;
    assert!(matches!(state.create("a b", "a".into()).await, Err(Error::Invalid { .. })));
    assert_eq!(log.extent(Partition(0)).await?.next, Sequence(2));
    Ok(())
}
