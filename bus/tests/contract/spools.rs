//! Spools.

use std::time::Duration;

use bytes::Bytes;
use nearcast_bus::{Partition, Sequence, Spool, SpoolSettings, StreamSpec};

use crate::{
    ground::{Ground, TestResult, stream},
    streams::read,
};

pub(crate) async fn everything_is_published_once_and_in_order(ground: &Ground) -> TestResult {
    let log = ground.open().await?.stream(stream("log")).await?;
    let spool = Spool::start(log.clone(), SpoolSettings::default());
    let mut tickets = Vec::new();
    for number in 0..90u32 {
        let partition = Partition(number % 3);
        tickets.push(spool.offer(partition, format!("id-{number}"), number.to_string().into())?);
        if number % 10 == 0 {
            tickets.push(spool.offer(partition, format!("id-{number}"), number.to_string().into())?);
        }
    }
    for ticket in tickets {
        ticket.await??;
    }
    for partition in 0..3 {
        let records = read(&mut *log.tail(Partition(partition), Sequence::FIRST).await?, 30).await?;
        let expected: Vec<String> = (0..30).map(|number| format!("id-{}", number * 3 + partition)).collect();
        assert_eq!(records.into_iter().map(|record| record.id).collect::<Vec<_>>(), expected);
        assert_eq!(log.extent(Partition(partition)).await?.next, Sequence(31));
    }
    let counts = spool.counts();
    assert_eq!((counts.appended, counts.duplicates, counts.waiting, counts.waiting_bytes), (99, 9, 0, 0));
    Ok(())
}

pub(crate) async fn what_does_not_fit_is_refused_and_counted(ground: &Ground) -> TestResult {
    let log = ground.open().await?.stream(stream("log")).await?;
    let spool = Spool::start(log, SpoolSettings { bytes_max: 1_000, ..SpoolSettings::default() });
    let refused = spool.offer(Partition(0), "large".to_owned(), vec![0; 1_001].into());
    assert_eq!(refused.err().map(|full| full.bytes_max), Some(1_000));
    spool.offer(Partition(0), "fits".to_owned(), vec![0; 1_000].into())?.await??;
    // What is published makes room.
    spool.offer(Partition(0), "fits too".replace(' ', "-"), vec![0; 1_000].into())?.await??;
    let invalid = spool.offer(Partition(9), "nowhere".to_owned(), Bytes::new())?.await?;
    assert!(invalid.is_err_and(|error| error.to_string().contains("no partition 9")));
    assert_eq!((spool.counts().refused, spool.counts().appended), (1, 2));
    Ok(())
}

pub(crate) async fn a_full_stream_is_waited_for(ground: &Ground) -> TestResult {
    let log = ground.open().await?.stream(StreamSpec { bytes_max: 25_000, ..stream("log") }).await?;
    let settings = SpoolSettings { retry_max: Duration::from_millis(100), ..SpoolSettings::default() };
    let spool = Spool::start(log.clone(), settings);
    let offer = |number: u32| spool.offer(Partition(0), number.to_string(), vec![0; 10_000].into());
    let tickets = (0..3).map(offer).collect::<Result<Vec<_>, _>>()?;
    while log.refused() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(spool.counts().waiting, 1);
    log.trim(Partition(0), Sequence(3)).await?;
    for ticket in tickets {
        ticket.await??;
    }
    assert_eq!(log.extent(Partition(0)).await?.next, Sequence(4));
    assert!(spool.counts().retries > 0);
    Ok(())
}
