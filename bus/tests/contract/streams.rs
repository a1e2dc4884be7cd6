//! Streams.

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use nearcast_bus::{Discard, DurableStream, Error, Partition, Read, Record, Sequence, StreamSpec, Tail};
use tokio::time::timeout;

use crate::ground::{Ground, TestResult, stream};

const P: Partition = Partition(1);

pub(crate) async fn records_are_read_in_order_from_any_place(ground: &Ground) -> TestResult {
    let log = ground.open().await?.stream(stream("log")).await?;
    assert_eq!((log.extent(P).await?.first, log.extent(P).await?.next), (Sequence(1), Sequence(1)));
    for number in 1..=20u64 {
        let appended = log.append(P, &format!("id-{number}"), number.to_string().into()).await?;
        assert_eq!((appended.sequence, appended.is_duplicate), (Sequence(number), false));
    }
    for from in [1, 7, 20] {
        let mut tail = log.tail(P, Sequence(from)).await?;
        let records = read(&mut *tail, 21 - from as usize).await?;
        let expected = (from..=20).map(|number| Record {
            sequence: Sequence(number),
            id: format!("id-{number}"),
            payload: number.to_string().into(),
        });
        assert_eq!(records, expected.collect::<Vec<_>>());
        assert_eq!(tail.position(), Sequence(21));
    }
    let extent = log.extent(P).await?;
    assert_eq!((extent.first, extent.next, extent.discarded()), (Sequence(1), Sequence(21), 0));
    assert!(extent.bytes > 20);
    Ok(())
}

pub(crate) async fn the_same_id_is_appended_once(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    let log = bus.stream(stream("log")).await?;
    let first = log.append(P, "a", "one".into()).await?;
    log.append(P, "b", "two".into()).await?;
    let again = log.append(P, "a", "one".into()).await?;
    assert_eq!((again.sequence, again.is_duplicate), (first.sequence, true));
    assert_eq!(log.extent(P).await?.next, Sequence(3));
    // Another partition has ids of its own.
    assert!(!log.append(Partition(2), "a", "one".into()).await?.is_duplicate);
    drop(log);
    bus.close().await;
    let log = ground.open().await?.stream(stream("log")).await?;
    assert!(log.append(P, "b", "two".into()).await?.is_duplicate, "an id is remembered over a restart");
    Ok(())
}

pub(crate) async fn partitions_are_apart(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    let (log, other) = (bus.stream(stream("log")).await?, bus.stream(stream("other")).await?);
    for number in 0..6u32 {
        log.append(Partition(number % 3), &number.to_string(), number.to_string().into()).await?;
    }
    for partition in 0..3 {
        let records = read(&mut *log.tail(Partition(partition), Sequence::FIRST).await?, 2).await?;
        let payloads: Vec<Bytes> = records.into_iter().map(|record| record.payload).collect();
        assert_eq!(payloads, [partition.to_string(), (partition + 3).to_string()]);
        assert_eq!(other.extent(Partition(partition)).await?.next, Sequence(1));
    }
    Ok(())
}

pub(crate) async fn many_appending_at_once_lose_nothing(ground: &Ground) -> TestResult {
    let log = ground.open().await?.stream(stream("log")).await?;
    let append = |writer: usize| {
        let log = log.clone();
        async move {
            for number in 0..25 {
                log.append(P, &format!("{writer}/{number}"), format!("{writer} {number}").into()).await?;
            }
            Ok::<_, Error>(())
        }
    };
    try_join_all((0..8).map(append)).await?;
    let records = read(&mut *log.tail(P, Sequence::FIRST).await?, 200).await?;
    assert!(records.iter().zip(1..).all(|(record, number)| record.sequence == Sequence(number)));
    for writer in 0..8 {
        let own = records.iter().filter(|record| record.id.starts_with(&format!("{writer}/")));
        let ids: Vec<&str> = own.map(|record| record.id.as_str()).collect();
        assert_eq!(ids, (0..25).map(|number| format!("{writer}/{number}")).collect::<Vec<_>>());
    }
    Ok(())
}

pub(crate) async fn a_tail_waits_for_what_is_appended_later(ground: &Ground) -> TestResult {
    let log = ground.open().await?.stream(stream("log")).await?;
    let mut tail = log.tail(P, Sequence::FIRST).await?;
    // Cancelled while it waits: nothing is lost by that.
    assert!(timeout(Duration::from_millis(100), tail.next(10)).await.is_err());
    let reading = tokio::spawn(async move { read(&mut *tail, 2).await.map_err(|error| error.to_string()) });
    log.append(P, "a", "one".into()).await?;
    log.append(P, "b", "two".into()).await?;
    let records = timeout(Duration::from_secs(10), reading).await???;
    assert_eq!(records.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    Ok(())
}

pub(crate) async fn everything_is_there_after_reopening(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    let log = bus.stream(stream("log")).await?;
    let payload = Bytes::from(vec![7; 100_000]);
    log.append(P, "a", payload.clone()).await?;
    drop(log);
    bus.close().await;
    let log = ground.open().await?.stream(stream("log")).await?;
    assert_eq!(log.append(P, "b", payload.clone()).await?.sequence, Sequence(2));
    let records = read(&mut *log.tail(P, Sequence::FIRST).await?, 2).await?;
    assert!(records.iter().all(|record| record.payload == payload));
    Ok(())
}

pub(crate) async fn a_full_stream_lets_go_of_its_oldest_and_says_what_is_gone(ground: &Ground) -> TestResult {
    let spec = StreamSpec { bytes_max: 100_000, discard: Discard::Oldest, ..stream("log") };
    let log = ground.open().await?.stream(spec).await?;
    let mut early = log.tail(P, Sequence::FIRST).await?;
    fill(&*log, 30).await?;
    let extent = log.extent(P).await?;
    assert!(extent.bytes <= 100_000 && extent.next == Sequence(31), "{extent:?}");
    // Ten thousand bytes each: nine fit beside what the bus adds.
    assert_eq!(extent.discarded(), 21, "{extent:?}");
    let mut late = log.tail(P, Sequence::FIRST).await?;
    assert_eq!(late.next(5).await?, Read::Gap { from: Sequence(1), to: Sequence(22) });
    let records = read(&mut *late, 9).await?;
    assert_eq!((records[0].sequence, records[8].sequence), (Sequence(22), Sequence(30)));
    // One that was there before gets what it was quick enough for, and is told of the rest.
    let mut met = 0;
    while early.position() < Sequence(31) {
        met += match early.next(100).await? {
            Read::Records(records) => records.len() as u64,
            Read::Gap { from, to } => to.0 - from.0,
        };
    }
    assert_eq!((met, log.refused()), (30, 0));
    Ok(())
}

pub(crate) async fn a_full_stream_may_refuse_until_it_is_trimmed(ground: &Ground) -> TestResult {
    let spec = StreamSpec { bytes_max: 100_000, discard: Discard::Newest, ..stream("log") };
    let log = ground.open().await?.stream(spec).await?;
    let refused = fill(&*log, 30).await;
    let Err(Error::StreamFull { name, partition, bytes_max }) = refused else { panic!("{refused:?}") };
    assert_eq!((name.as_str(), partition, bytes_max), ("log", P, 100_000));
    assert_eq!((log.refused(), log.extent(P).await?.next, log.extent(P).await?.discarded()), (1, Sequence(10), 0));
    // Others have room of their own.
    log.append(Partition(0), "a", "a".into()).await?;
    log.trim(P, Sequence(6)).await?;
    let appended = log.append(P, "10", vec![0; 10_000].into()).await?;
    assert_eq!((appended.sequence, appended.is_duplicate), (Sequence(10), false));
    Ok(())
}

pub(crate) async fn what_is_trimmed_is_a_gap(ground: &Ground) -> TestResult {
    let log = ground.open().await?.stream(stream("log")).await?;
    fill(&*log, 5).await?;
    log.trim(P, Sequence(4)).await?;
    assert_eq!(log.extent(P).await?.first, Sequence(4));
    let mut tail = log.tail(P, Sequence(2)).await?;
    assert_eq!(tail.next(9).await?, Read::Gap { from: Sequence(2), to: Sequence(4) });
    assert_eq!(read(&mut *tail, 2).await?[0].sequence, Sequence(4));
    // Not beyond the end, which stays where it is.
    log.trim(P, Sequence(99)).await?;
    let extent = log.extent(P).await?;
    assert_eq!((extent.first, extent.next, extent.bytes), (Sequence(6), Sequence(6), 0));
    assert_eq!(log.append(P, "next", "next".into()).await?.sequence, Sequence(6));
    Ok(())
}

pub(crate) async fn limits_may_be_changed_in_place(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    let log = bus.stream(StreamSpec { bytes_max: 50_000, ..stream("log") }).await?;
    assert!(fill(&*log, 10).await.is_err());
    let mut tail = log.tail(P, Sequence(5)).await?;
    let raised = bus.stream(StreamSpec { bytes_max: 500_000, version: 2, ..stream("log") }).await?;
    assert_eq!(raised.append(P, "more", vec![0; 10_000].into()).await?.sequence, Sequence(5));
    assert_eq!(read(&mut *tail, 1).await?[0].id, "more", "who reads by the old handle goes on");
    Ok(())
}

/// Appends so many records of ten thousand bytes.
async fn fill(log: &dyn DurableStream, count: u32) -> Result<(), Error> {
    for number in 0..count {
        log.append(P, &number.to_string(), vec![0; 10_000].into()).await?;
    }
    Ok(())
}

/// Reads so many records; there may be no gap between.
pub(crate) async fn read(tail: &mut dyn Tail, count: usize) -> TestResult<Vec<Record>> {
    let mut records = Vec::new();
    while records.len() < count {
        match timeout(Duration::from_secs(20), tail.next(count - records.len())).await?? {
            Read::Records(more) => records.extend(more),
            Read::Gap { from, to } => return Err(format!("nothing between {from:?} and {to:?}").into()),
        }
    }
    Ok(records)
}
