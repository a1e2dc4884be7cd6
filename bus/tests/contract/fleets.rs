//! Fleets: several members in one process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use nearcast_bus::{
    BucketSpec, Bus, Clock, LeaseSettings, Partition, Record, StreamSpec, SystemClock, Token,
    claims::Resource,
    fleet::{Fleet, FleetPlace, FleetSettings, Learner, LearnerError, Learners},
};
use tokio::time::{sleep, timeout};

use crate::ground::{Ground, TestResult, bucket, clock, stream};

const TTL: Duration = Duration::from_millis(1_000);

/// Everything that was learnt from, in order; also seen from outside.
#[derive(Debug)]
struct Recorder {
    partition: u32,
    ids: Vec<String>,
    seen: Arc<Mutex<BTreeMap<u32, Vec<String>>>>,
}

#[async_trait]
impl Learner for Recorder {
    async fn apply(&mut self, records: Vec<Record>) -> Result<(), LearnerError> {
        self.ids.extend(records.into_iter().map(|record| record.id));
        self.seen.lock().expect("no test panics while it holds this").insert(self.partition, self.ids.clone());
        Ok(())
    }

    async fn checkpoint(&mut self) -> Result<Vec<u8>, LearnerError> {
        Ok(self.ids.join("\n").into_bytes())
    }
}

#[derive(Debug, Default)]
struct Recorders(Arc<Mutex<BTreeMap<u32, Vec<String>>>>);

#[async_trait]
impl Learners for Recorders {
    async fn begin(
        &self,
        partition: Partition,
        _token: Token,
        checkpoint: Option<Vec<u8>>,
    ) -> Result<Box<dyn Learner>, LearnerError> {
        let text = String::from_utf8(checkpoint.unwrap_or_default())?;
        let ids = text.lines().map(str::to_owned).collect();
        Ok(Box::new(Recorder { partition: partition.0, ids, seen: Arc::clone(&self.0) }))
    }
}

async fn place(bus: &Bus) -> TestResult<FleetPlace> {
    Ok(FleetPlace {
        stream: bus.stream(StreamSpec { partitions: PARTITIONS, ..stream("log") }).await?,
        members: bus.bucket(bucket("members")).await?,
        checkpoints: bus.bucket(BucketSpec { bytes_max: 64 << 20, ..bucket("checkpoints") }).await?,
    })
}

async fn join(place: &FleetPlace, name: &str, learners: &Arc<Recorders>) -> TestResult<Fleet> {
    let settings = FleetSettings {
        name: name.to_owned(),
        run: format!("{name}-{:?}", SystemClock.elapsed()),
        lease: LeaseSettings::new(TTL),
        checkpoint_every: Duration::from_millis(100),
        offices: vec!["placement".to_owned()],
    };
    Ok(Fleet::join(place.clone(), learners.clone(), settings, clock()).await?)
}

/// Waits until the members own so many partitions each, and one of them the office, and all know who owns what.
async fn owned(fleets: &[&Fleet], mut counts: Vec<usize>) -> TestResult {
    counts.sort_unstable();
    let wait = async {
        loop {
            let views: Vec<_> = fleets.iter().map(|fleet| fleet.view().borrow().clone()).collect();
            let owners = &views[0].owners;
            let is_known = owners.len() == PARTITIONS as usize + 1 && views.iter().all(|view| view.owners == *owners);
            let views: Vec<_> = views.iter().map(|view| &view.owned).collect();
            let is_partition = |resource: &&Resource| matches!(resource, Resource::Partition(_));
            let mut shares: Vec<usize> = views.iter().map(|owned| owned.keys().filter(is_partition).count()).collect();
            shares.sort_unstable();
            let offices = views.iter().filter(|owned| owned.contains_key(&office())).count();
            if shares == counts && offices == 1 && is_known {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = timeout(Duration::from_secs(20), wait).await;
    let views = || fleets.iter().map(|fleet| fleet.view().borrow().clone()).collect::<Vec<_>>();
    in_time.map_err(|_| format!("not {counts:?}: {:#?}", views()).into())
}

/// Waits until so much of each partition was learnt from, whoever did.
async fn learnt(recorders: &Recorders, each: usize) -> TestResult<BTreeMap<u32, Vec<String>>> {
    let wait = async {
        loop {
            let seen = recorders.0.lock().expect("no test panics while it holds this").clone();
            if seen.len() == PARTITIONS as usize && seen.values().all(|ids| ids.len() >= each) {
                return seen;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let seen = timeout(Duration::from_secs(30), wait).await;
    seen.map_err(|_| {
        let seen = recorders.0.lock().expect("no test panics while it holds this");
        format!("{:?}", seen.values().map(Vec::len).collect::<Vec<_>>()).into()
    })
}

async fn publish(place: &FleetPlace, numbers: std::ops::Range<u32>) -> TestResult {
    for number in numbers {
        for partition in 0..PARTITIONS {
            place.stream.append(Partition(partition), &format!("{partition}/{number}"), "x".into()).await?;
        }
    }
    Ok(())
}

fn expected(each: u32) -> BTreeMap<u32, Vec<String>> {
    let ids = |partition| (0..each).map(|number| format!("{partition}/{number}")).collect();
    (0..PARTITIONS).map(|partition| (partition, ids(partition))).collect()
}

pub(crate) async fn members_share_and_one_that_leaves_hands_over(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    let (place, recorders) = (place(&bus).await?, Arc::new(Recorders::default()));
    let a = join(&place, "a", &recorders).await?;
    owned(&[&a], vec![4]).await?;
    publish(&place, 0..20).await?;
    let b = join(&place, "b", &recorders).await?;
    owned(&[&a, &b], vec![2, 2]).await?;
    publish(&place, 20..40).await?;
    let before = b.view().borrow().owned.clone();
    a.leave().await;
    owned(&[&b], vec![4]).await?;
    for (resource, token) in before {
        assert_eq!(b.token(&resource), Some(token), "what it had it has kept");
    }
    publish(&place, 40..60).await?;
    assert_eq!(learnt(&recorders, 60).await?, expected(60));
    assert_eq!((b.counts().lost, b.counts().fenced), (0, 0));
    b.leave().await;
    assert_eq!(place.members.get("member.b").await?, None);
    Ok(())
}

pub(crate) async fn every_record_counts_once_although_members_die(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    let (place, recorders) = (place(&bus).await?, Arc::new(Recorders::default()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // What it has learnt is looked at nowhere: it dies.
    let doomed = Arc::new(Recorders::default());
    let a = {
        let (place, doomed) = (place.clone(), Arc::clone(&doomed));
        let joined = runtime.spawn(async move { join(&place, "a", &doomed).await.map_err(|error| error.to_string()) });
        joined.await??
    };
    let b = join(&place, "b", &recorders).await?;
    let c = join(&place, "c", &recorders).await?;
    owned(&[&a, &b, &c], vec![1, 1, 2]).await?;
    publish(&place, 0..50).await?;
    runtime.shutdown_background();
    let died = SystemClock.elapsed();
    publish(&place, 50..100).await?;
    owned(&[&b, &c], vec![2, 2]).await?;
    let took = SystemClock.elapsed() - died;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(learnt(&recorders, 100).await?, expected(100));
    assert_eq!((b.counts().lost, c.counts().lost), (0, 0));
    assert!(doomed.0.lock().expect("the other runtime is gone").values().all(|ids| ids.len() <= 100));
    b.leave().await;
    c.leave().await;
    Ok(())
}

pub(crate) async fn a_checkpoint_that_cannot_be_read_stops_its_partition_alone(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    let (place, recorders) = (place(&bus).await?, Arc::new(Recorders::default()));
    place.checkpoints.create("partition.2", "nonsense".into()).await?;
    let a = join(&place, "a", &recorders).await?;
    publish(&place, 0..5).await?;
    let others = async {
        loop {
            let seen = recorders.0.lock().expect("no test panics while it holds this").clone();
            if seen.len() == 3 && seen.values().all(|ids| ids.len() == 5) && a.counts().failed > 1 {
                return seen;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let seen = timeout(Duration::from_secs(20), others).await?;
    assert!(!seen.contains_key(&2));
    assert_eq!(place.checkpoints.get("partition.2").await?.map(|entry| entry.value), Some("nonsense".into()));
    a.leave().await;
    Ok(())
}

pub(crate) async fn one_that_has_lost_a_partition_cannot_write_its_checkpoint(ground: &Ground) -> TestResult {
    let bus = ground.open().await?;
    let (place, recorders) = (place(&bus).await?, Arc::new(Recorders::default()));
    let a = join(&place, "a", &recorders).await?;
    owned(&[&a], vec![4]).await?;
    publish(&place, 0..5).await?;
    learnt(&recorders, 5).await?;
    // Somebody takes the checkpoint over under a later token, as one does whom this one believes to be gone.
    let take = async {
        loop {
            let entry = place.checkpoints.get("partition.1").await?.ok_or("no checkpoint")?;
            let text = String::from_utf8(entry.value.to_vec())?;
            let mut index: serde_json::Value = serde_json::from_str(&text)?;
            index["token"] = u64::MAX.into();
            let taken = place.checkpoints.update("partition.1", index.to_string().into(), entry.revision).await;
            match taken {
                Ok(revision) => return TestResult::Ok((revision, index)),
                Err(error) => assert!(error.is_conflict(), "{error}"),
            }
        }
    };
    let (revision, index) = take.await?;
    publish(&place, 5..10).await?;
    let fenced = async {
        while a.counts().fenced == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), fenced).await?;
    let entry = place.checkpoints.get("partition.1").await?.ok_or("gone")?;
    assert_eq!((entry.revision, entry.value), (revision, index.to_string().into()), "nothing was written over it");
    a.leave().await;
    Ok(())
}

fn office() -> Resource {
    Resource::Office("placement".to_owned())
}

const PARTITIONS: u32 = 4;
