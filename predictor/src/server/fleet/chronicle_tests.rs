//! The record on a bus: what is written is there for the next, and of two who write only one can.

use nearcast_bus::{Bus, BusSettings};

use super::*;

struct World {
    bus: Bus,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { bus: Bus::open(BusSettings::embedded(folder.path())).await.unwrap(), _folder: folder }
    }

    async fn begin(&self, token: u64) -> Result<(Chronicle, Vec<Kept>)> {
        let bucket = self.bus.bucket(record_spec()).await.unwrap();
        let writer = Writer { bucket, ended: CancellationToken::new() };
        Chronicle::begin(writer, Token(token), "m").await
    }
}

fn kept(design: &str, changes: &str, blocks: &[&str]) -> Kept {
    let blocks = blocks.iter().map(|block| (*block).to_owned()).collect();
    Kept { name: "trial".to_owned(), design: design.to_owned(), changes: changes.to_owned(), blocks }
}

#[tokio::test]
async fn a_successor_finds_what_was_written_however_long_it_is() {
    let world = World::new().await;
    let (mut first, found) = world.begin(3).await.unwrap();
    assert_eq!(found, []);
    let design = "d".repeat(3 * PART_BYTES_MAX / 2);
    first.add("trial", Entry::Design(&design)).await.unwrap();
    first.add("trial", Entry::Change("one")).await.unwrap();
    first.add("trial", Entry::Block("b1")).await.unwrap();
    let document = vec![7; 2 * PART_BYTES_MAX];
    let hash = blake3::hash(&document).to_hex();
    for _ in 0..2 {
        first.add("trial", Entry::Evidence { hash: &hash, document: &document }).await.unwrap();
    }
    for number in 2..=40 {
        first.add("trial", Entry::Block(&format!("b{number}"))).await.unwrap();
    }
    first.add("trial", Entry::Change("two")).await.unwrap();
    let (_, found) = world.begin(5).await.unwrap();
    let blocks: Vec<String> = (1..=40).map(|number| format!("b{number}")).collect();
    let blocks: Vec<&str> = blocks.iter().map(String::as_str).collect();
    assert_eq!(found, [kept(&design, "one\ntwo\n", &blocks)]);
    let evidence = first.writer.bucket.get(&part_key(&hash, 1)).await.unwrap().unwrap();
    assert_eq!(evidence.value.len(), PART_BYTES_MAX);
}

#[tokio::test]
async fn who_conducts_no_more_can_write_nothing_and_nobody_goes_back() {
    let world = World::new().await;
    let (mut first, _) = world.begin(3).await.unwrap();
    first.add("trial", Entry::Design("d")).await.unwrap();
    let (mut second, found) = world.begin(5).await.unwrap();
    assert_eq!(found, [kept("d", "", &[])]);
    // It does not know yet.
    assert!(matches!(first.add("trial", Entry::Change("stale")).await, Err(Error::OfficeLost)));
    second.add("trial", Entry::Change("good")).await.unwrap();
    assert!(matches!(first.add("trial", Entry::Block("stale")).await, Err(Error::OfficeLost)));
    assert!(matches!(world.begin(4).await, Err(Error::OfficeLost)));
    let (_, found) = world.begin(6).await.unwrap();
    assert_eq!(found, [kept("d", "good\n", &[])]);
}

#[tokio::test]
async fn two_who_begin_at_once_follow_each_other() {
    let world = World::new().await;
    let (a, b) = tokio::join!(world.begin(5), world.begin(5));
    let (mut a, mut b) = (a.unwrap().0, b.unwrap().0);
    let written = [a.add("trial", Entry::Design("a")).await, b.add("trial", Entry::Design("b")).await];
    assert_eq!(written.iter().filter(|written| written.is_ok()).count(), 1, "{written:?}");
}

#[tokio::test]
async fn what_was_written_without_an_answer_is_not_written_twice() {
    let world = World::new().await;
    let (mut chronicle, _) = world.begin(3).await.unwrap();
    // As if the answer had been lost.
    let what = What::Change { experiment: "trial".to_owned(), text: Text::Here("one".to_owned()) };
    let bytes = chronicle.encode(what).unwrap();
    chronicle.writer.bucket.create(&entry_key(chronicle.next), bytes).await.unwrap();
    chronicle.add("trial", Entry::Change("one")).await.unwrap();
    chronicle.add("trial", Entry::Design("d")).await.unwrap();
    assert_eq!(world.begin(4).await.unwrap().1, [kept("d", "one\n", &[])]);
}

#[tokio::test]
async fn a_damaged_entry_stops_whoever_would_begin() {
    let world = World::new().await;
    let (chronicle, _) = world.begin(3).await.unwrap();
    chronicle.writer.bucket.create(&entry_key(chronicle.next), "x".into()).await.unwrap();
    assert!(matches!(world.begin(4).await, Err(Error::Bus(BusError::Damaged { .. }))));
}
