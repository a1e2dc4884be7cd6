//! Leases.

use std::{sync::Arc, time::Duration};

use nearcast_bus::{Held, Holder, LeaseKeeper, LeaseSettings, SharedBucket, SharedClock, SkewedClock};
use tokio::time::{Instant, timeout};

use crate::ground::{Ground, TestResult, bucket, clock};

const TTL: Duration = Duration::from_millis(900);

fn keeper(state: &SharedBucket, name: &str, clock: SharedClock) -> LeaseKeeper {
    let me = Holder { name: name.to_owned(), run: "1".to_owned() };
    LeaseKeeper::start(state.clone(), "leader".to_owned(), me, LeaseSettings::new(TTL), clock)
}

async fn acquired(keeper: &mut LeaseKeeper) -> TestResult<Held> {
    Ok(timeout(Duration::from_secs(20), keeper.acquired()).await?.ok_or("the keeper has ended")?)
}

pub(crate) async fn one_of_two_holds_and_the_other_follows_when_it_lets_go(ground: &Ground) -> TestResult {
    let state = ground.open().await?.bucket(bucket("state")).await?;
    let mut a = keeper(&state, "a", clock());
    let first = acquired(&mut a).await?;
    let mut b = keeper(&state, "b", clock());
    assert!(timeout(TTL * 3, b.acquired()).await.is_err(), "the first one renews it");
    assert_eq!(a.held().map(|held| held.token), Some(first.token), "renewing does not change the token");
    let released = Instant::now();
    a.release().await;
    let second = acquired(&mut b).await?;
    assert!(second.token > first.token);
    assert!(released.elapsed() < TTL, "what is released need not be waited for");
    b.release().await;
    assert_eq!(state.get("leader").await?, None);
    Ok(())
}

pub(crate) async fn a_holder_that_dies_is_followed_with_a_greater_token(ground: &Ground) -> TestResult {
    let state = ground.open().await?.bucket(bucket("state")).await?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut a = {
        let _entered = runtime.enter();
        keeper(&state, "a", clock())
    };
    let first = acquired(&mut a).await?;
    let mut b = keeper(&state, "b", clock());
    // Its task ends with no chance to say anything.
    runtime.shutdown_background();
    let died = Instant::now();
    let second = acquired(&mut b).await?;
    assert!(second.token > first.token);
    assert!(a.held().is_none(), "the first one does not believe any more that it holds the lease");
    assert!(died.elapsed() < TTL * 3, "{:?}", died.elapsed());
    b.release().await;
    Ok(())
}

pub(crate) async fn clocks_that_are_an_hour_apart_do_not_matter(ground: &Ground) -> TestResult {
    let state = ground.open().await?.bucket(bucket("state")).await?;
    let mut a = keeper(&state, "a", Arc::new(SkewedClock::new(-3_600)));
    let first = acquired(&mut a).await?;
    let mut b = keeper(&state, "b", Arc::new(SkewedClock::new(3_600)));
    assert!(timeout(TTL * 2, b.acquired()).await.is_err());
    assert_eq!(a.held().map(|held| held.token), Some(first.token));
    a.release().await;
    assert!(acquired(&mut b).await?.token > first.token);
    b.release().await;
    Ok(())
}
