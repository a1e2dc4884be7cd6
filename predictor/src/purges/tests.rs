//! The log over restarts, damage and nodes of every past.

use super::*;

fn purge(key: &str) -> Purge {
    Purge { keys: vec![key.to_owned()], ..Purge::default() }
}

fn node() -> NodeName {
    NodeName::from("eu-1")
}

fn open(folder: &tempfile::TempDir) -> Arc<PurgeLog> {
    Arc::new(PurgeLog::open(folder.path()).unwrap())
}

async fn first_update(log: &Arc<PurgeLog>, position: Option<&PurgePosition>) -> (Vec<u64>, u64, bool) {
    let update = log.join(node(), position).next().await.unwrap();
    (update.purges.iter().map(|purge| purge.epoch).collect(), update.upto, update.has_gap)
}

#[tokio::test]
async fn a_node_hears_what_it_missed_and_then_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder);
    assert_eq!(first_update(&log, None).await, (vec![], 0, false));
    assert_eq!((log.append(purge("/a")).unwrap(), log.append(purge("/b")).unwrap()), (1, 2));
    let log = open(&folder);
    assert_eq!(first_update(&log, None).await, (vec![1, 2], 2, false), "also after a restart");
    let position = PurgePosition { log: Arc::clone(&log.id), epoch: 1 };
    let mut feed = log.join(node(), Some(&position));
    assert_eq!(feed.next().await.unwrap().purges[0].keys, ["/b"]);
    assert_eq!(log.append(purge("/c")).unwrap(), 3);
    let update = feed.next().await.unwrap();
    assert_eq!((update.purges[0].keys[0].as_str(), update.upto, update.has_gap), ("/c", 3, false));
    assert_eq!((log.progress(&node()), log.objects(&node(), 3)), (Some(1), None));
    log.note(&node(), 3, 7);
    assert_eq!((log.progress(&node()), log.objects(&node(), 3)), (Some(3), Some(7)));
}

#[tokio::test]
async fn a_node_of_another_log_hears_that_there_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder);
    log.append(purge("/a")).unwrap();
    let other = PurgePosition { log: Arc::from("another"), epoch: 1 };
    assert_eq!(first_update(&log, Some(&other)).await, (vec![1], 1, true));
    // The predictor was set back to an older state of its folder.
    let ahead = PurgePosition { log: Arc::clone(&log.id), epoch: 9 };
    assert_eq!(first_update(&log, Some(&ahead)).await, (vec![1], 1, true));
}

#[tokio::test]
async fn what_is_no_longer_held_is_a_gap_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder);
    for number in 0..10 {
        log.append(purge(&format!("/{number}"))).unwrap();
    }
    log.held().purges.drain(..6);
    {
        let held = log.held();
        log.file.lock().unwrap().rewrite(held.purges.iter().map(Arc::as_ref)).unwrap();
    }
    log.append(purge("/last")).unwrap();
    for log in [Arc::clone(&log), open(&folder)] {
        assert_eq!(first_update(&log, None).await, (vec![7, 8, 9, 10, 11], 11, true));
        let position = PurgePosition { log: Arc::clone(&log.id), epoch: 6 };
        assert_eq!(first_update(&log, Some(&position)).await, (vec![7, 8, 9, 10, 11], 11, false));
    }
}

#[tokio::test]
async fn many_purges_come_in_messages_of_a_bounded_size() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder);
    let big = Purge { keys: vec!["k".repeat(2_000); 200], ..Purge::default() };
    for _ in 0..5 {
        log.append(big.clone()).unwrap();
    }
    let mut feed = log.join(node(), None);
    let mut heard = Vec::new();
    while heard.last() != Some(&5) {
        let update = feed.next().await.unwrap();
        assert!(update.purges.iter().map(|purge| weight(purge)).sum::<usize>() <= 2 * UPDATE_BYTES);
        heard.extend(update.purges.iter().map(|purge| purge.epoch));
        assert_eq!(heard.last(), Some(&update.upto));
    }
    assert_eq!(heard, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_torn_end_is_dropped_and_a_damaged_log_is_another_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("purges.jsonl");
    let log = open(&folder);
    let id = Arc::clone(&log.id);
    log.append(purge("/a")).unwrap();
    let sound = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{sound}{{\"epoch\":2,")).unwrap();
    let log = open(&folder);
    assert_eq!((Arc::clone(&log.id), log.latest()), (id.clone(), 1));
    assert_eq!(log.append(purge("/b")).unwrap(), 2);
    std::fs::write(&path, sound.replace("/a", "\"")).unwrap();
    let log = open(&folder);
    assert_ne!(log.id, id);
    assert_eq!(log.latest(), 0);
    assert!(folder.path().join("purges.damaged.jsonl").exists());
}
