//! What only NATS can meet: servers that are away, too old, keep nothing or let nobody in.

use std::{fs, path::Path, sync::Arc, time::Duration};

use nearcast_bus::{
    Bus, BusPlace, BusSettings, Credentials, Error, NatsSettings, Partition, SERVER_VERSION_MIN, Sequence, SkewedClock,
    Spool, SpoolSettings,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use crate::{
    ground::{Ground, TestResult, bucket, stream},
    port::free_port,
    streams::read,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_while_the_server_is_away_arrives_once_and_in_order() -> TestResult {
    let Some(ground) = Ground::nats(&["-js"])? else { return Ok(()) };
    let nats = NatsSettings { timeout: Duration::from_secs(1), ..NatsSettings::new(ground.server().url()) };
    let bus = Bus::open(BusSettings { place: BusPlace::Nats(nats), ..ground.settings() }).await?;
    let log = bus.stream(stream("log")).await?;
    let mut tail = log.tail(Partition(1), Sequence::FIRST).await?;
    let spool = Spool::start(log.clone(), SpoolSettings { bytes_max: 3_000_000, ..SpoolSettings::default() });
    let mut tickets = Vec::new();
    let mut offer = |numbers: std::ops::Range<u32>| {
        let mut refused = 0;
        for number in numbers {
            match spool.offer(Partition(1), format!("id-{number}"), vec![0; 10_000].into()) {
                Ok(ticket) => tickets.push(ticket),
                Err(_) => refused += 1,
            }
        }
        refused
    };
    assert_eq!(offer(0..100), 0);
    // Some of these are on their way when it dies.
    assert_eq!(read(&mut *tail, 20).await?.len(), 20);
    ground.server().kill();
    assert_eq!(offer(100..300), 0);
    // It is bounded: of three million bytes some are published by now, so that a thousand more cannot all fit.
    let refused = offer(300..1_300);
    assert!((700..1_000).contains(&refused), "{refused}");
    assert_eq!(spool.counts().refused, refused);
    let away = tokio::spawn(async move {
        let failed = tail.next(1_000).await;
        (tail, failed)
    });
    tokio::time::sleep(away_for()).await;
    ground.server().start()?;
    for ticket in tickets {
        timeout(Duration::from_secs(60), ticket).await???;
    }
    let (mut tail, met) = timeout(Duration::from_secs(60), away).await??;
    let count = 1_300 - refused as usize - 20;
    let mut records = match met {
        Ok(nearcast_bus::Read::Records(records)) => records,
        Ok(gap) => return Err(format!("{gap:?}").into()),
        Err(_) => Vec::new(),
    };
    while records.len() < count {
        match timeout(Duration::from_secs(60), tail.next(count - records.len())).await? {
            Ok(nearcast_bus::Read::Records(more)) => records.extend(more),
            Ok(gap) => return Err(format!("{gap:?}").into()),
            // The server is on its way up.
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    let numbers: Vec<u64> = records.iter().map(|record| record.sequence.0).collect();
    assert!(numbers.iter().zip(21..).all(|(number, expected)| *number == expected), "{numbers:?}");
    let ids: Vec<u32> = records.iter().filter_map(|record| record.id.strip_prefix("id-")?.parse().ok()).collect();
    assert_eq!(ids.len(), count);
    assert!(ids.is_sorted_by(|before, after| before < after), "each once, in the order of offering: {ids:?}");
    assert_eq!(log.extent(Partition(1)).await?.next, Sequence(21 + count as u64));
    assert!(spool.counts().retries > 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_after_the_server_was_away() -> TestResult {
    let Some(ground) = Ground::nats(&["-js"])? else { return Ok(()) };
    let state = ground.open().await?.bucket(bucket("state")).await?;
    let mut watch = state.watch().await?;
    let first = state.create("a", "1".into()).await?;
    assert_eq!(watch.next().await?.revision, first);
    ground.server().kill();
    ground.server().start()?;
    let update = async {
        loop {
            match state.update("a", "2".into(), first).await {
                Err(error) if error.is_transient() => {}
                outcome => return outcome,
            }
        }
    };
    let second = timeout(Duration::from_secs(30), update).await??;
    let change = timeout(Duration::from_secs(30), async {
        loop {
            if let Ok(change) = watch.next().await {
                return change;
            }
        }
    });
    assert_eq!(change.await?.revision, second);
    Ok(())
}

#[tokio::test]
async fn wrong_and_missing_credentials_are_refused() -> TestResult {
    let Some(ground) = Ground::nats(&["-js", "--auth", "right"])? else { return Ok(()) };
    ground.open_with(Credentials::Token("right".to_owned())).await?.stream(stream("log")).await?;
    for credentials in [Credentials::None, Credentials::Token("wrong".to_owned())] {
        let kind = credentials.kind();
        let refused = ground.open_with(credentials).await.map(|_| ());
        let Err(Error::Credentials { url, credentials, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!((url, credentials), (ground.server().url(), kind));
    }
    let Some(ground) = Ground::nats(&["-js", "--user", "me", "--pass", "right"])? else { return Ok(()) };
    let password = |password: &str| Credentials::Password { user: "me".to_owned(), password: password.to_owned() };
    ground.open_with(password("right")).await?;
    assert!(matches!(ground.open_with(password("wrong")).await, Err(Error::Credentials { .. })));
    let missing = ground.open_with(Credentials::CredentialsFile("not/there.creds".into())).await.map(|_| ());
    let Err(Error::CredentialsFile { path, .. }) = missing else { panic!("{missing:?}") };
    assert_eq!(path, Path::new("not/there.creds"));
    assert!(!format!("{:?}", password("right")).contains("right"), "secrets stay out of logs");
    Ok(())
}

#[tokio::test]
async fn a_server_is_known_by_its_certificate() -> TestResult {
    let folder = tempfile::tempdir()?;
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&certificate, certified.cert.pem())?;
    fs::write(&key, certified.signing_key.serialize_pem())?;
    let text = |path: &Path| path.display().to_string();
    let arguments = ["-js", "--tls", "--tlscert", &text(&certificate), "--tlskey", &text(&key)];
    let Some(ground) = Ground::nats(&arguments)? else { return Ok(()) };
    let nats = NatsSettings { ca: Some(certificate), ..NatsSettings::new(ground.server().url()) };
    let bus = Bus::open(BusSettings { place: BusPlace::Nats(nats), ..ground.settings() }).await?;
    bus.bucket(bucket("state")).await?.create("a", "1".into()).await?;
    let unknown = ground.open().await.map(|_| ());
    assert!(matches!(unknown, Err(Error::Connect { .. })), "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_keeps_nothing_is_refused() -> TestResult {
    let Some(ground) = Ground::nats(&[])? else { return Ok(()) };
    let refused = ground.open().await.map(|_| ());
    assert!(matches!(&refused, Err(Error::NoJetStream { url, .. }) if *url == ground.server().url()), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_clock_that_is_an_hour_ahead_is_refused() -> TestResult {
    let Some(ground) = Ground::nats(&["-js"])? else { return Ok(()) };
    let bus = ground.open_by(Arc::new(SkewedClock::new(3_600))).await?;
    let refused = bus.stream(stream("log")).await.map(|_| ());
    let Err(Error::Clock { skew, direction: "ahead of", .. }) = refused else { panic!("{refused:?}") };
    assert!(skew > Duration::from_secs(3_590) && skew < Duration::from_secs(3_700), "{skew:?}");
    assert!(matches!(bus.bucket(bucket("state")).await, Err(Error::Clock { .. })));
    Ok(())
}

/// A server of Debian 12's version, as far as it gets: its greeting says how old it is.
#[tokio::test]
async fn a_server_that_is_too_old_is_refused() -> TestResult {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        let Ok((mut connection, _)) = listener.accept().await else { return };
        let greeting = r#"INFO {"server_id":"A","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576,"jetstream":true}"#;
        let _ = connection.write_all(format!("{greeting}\r\n").as_bytes()).await;
        let (read, mut write) = connection.split();
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("PING") {
                let _ = write.write_all(b"PONG\r\n").await;
            }
        }
    });
    let refused = Bus::open(BusSettings::nats(format!("nats://127.0.0.1:{port}"))).await.map(|_| ());
    let Err(Error::ServerTooOld { found, needed, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((found.as_str(), needed), ("2.9.10", SERVER_VERSION_MIN));
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_to_be_so() -> TestResult {
    let port = free_port();
    let refused = Bus::open(BusSettings::nats(format!("nats://127.0.0.1:{port}"))).await.map(|_| ());
    assert!(matches!(refused, Err(Error::Connect { .. })), "{refused:?}");
    Ok(())
}

/// `NEARCAST_NATS_AWAY` seconds, to try an outage as long as the real ones.
fn away_for() -> Duration {
    let seconds = std::env::var("NEARCAST_NATS_AWAY").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}
