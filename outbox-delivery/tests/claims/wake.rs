//! Wake-ups.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use outbox_delivery::Relay;
use outbox_traits::{Error, ErrorKind, OutboxStore, Result, WakeStore, Wakeups, async_trait};
use tokio::time::{Instant, sleep};

use crate::{
    MILLISECOND, MINUTE, SECOND,
    support::{
        Scripted, event,
        remote::{Call, Fate, Remote},
        start_on_claims as start,
    },
};

/// Wakes at every turn, for nothing.
#[derive(Debug)]
struct Spurious;

#[async_trait]
impl Wakeups for Spurious {
    async fn wait(&mut self) {}
}

#[tokio::test(start_paused = true)]
async fn woken_it_publishes_at_once_and_idle_it_hardly_asks() {
    let store = Remote::new();
    let transport = Scripted::accepting();
    let relay = Relay::new(store.clone(), transport.clone()).with_wakeups(store.clone());
    let relay = start(relay);
    sleep(60 * MINUTE).await;
    // Every 3.75 s on average.
    let claims = store.count(Call::Claim);
    assert!((700..1300).contains(&claims), "{claims} claims in an hour");
    for n in 0..20 {
        store.save(&event("a", "1")).await.unwrap();
        let saved_at = Instant::now();
        sleep(SECOND).await;
        let published = transport.times();
        assert!(published.len() == n + 1 && published[n] - saved_at <= SECOND / 100);
    }
    assert_eq!(relay.stop().await.published, 20);
}

#[tokio::test(start_paused = true)]
async fn woken_while_a_claim_is_on_its_way_it_claims_again_at_once() {
    let store = Remote::new();
    let transport = Scripted::accepting();
    let relay = start(Relay::new(store.clone(), transport.clone()).with_wakeups(store.clone()));
    sleep(MINUTE).await;
    store.decide(|call| match call {
        Call::Claim => Fate::AnswersAfter(SECOND / 10),
        _ => Fate::Works,
    });
    for n in 0..20 {
        let claims = store.count(Call::Claim);
        while store.count(Call::Claim) == claims {
            sleep(MILLISECOND).await;
        }
        sleep(MILLISECOND).await;
        // The claim has gone past it.
        store.save(&event("a", "1")).await.unwrap();
        let saved_at = Instant::now();
        sleep(6 * SECOND).await;
        let published = transport.times();
        assert_eq!(published.len(), n + 1);
        assert!(published[n] - saved_at <= SECOND / 4, "{:?}", published[n] - saved_at);
        // Until it is idle again.
        sleep(MINUTE).await;
    }
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn wakeups_for_nothing_make_no_busy_loop() {
    let store = Remote::new();
    store.wake_by(|| Ok(Box::new(Spurious)));
    let relay = Relay::new(store.clone(), Scripted::accepting()).with_wakeups(Arc::new(store.clone()));
    let relay = start(relay);
    sleep(MINUTE).await;
    let claims = store.count(Call::Claim);
    assert!(claims <= 60 * 510, "{claims} claims in a minute");
    relay.stop().await;
}

/// Wake-ups that fail, told how often they were begun before: they are begun ever less often, and the events come all
/// the same.
pub(crate) async fn is_asked_ever_less_often(
    mut wakes: impl FnMut(usize) -> Result<Box<dyn Wakeups>> + Send + 'static,
) -> Remote {
    let store = Remote::new();
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&tries);
    store.wake_by(move || wakes(counter.fetch_add(1, Ordering::Relaxed)));
    let dynamic: Arc<dyn WakeStore> = Arc::new(store.clone());
    let relay = start(Relay::new(store.clone(), Scripted::accepting()).with_wakeups(dynamic));
    sleep(10 * MINUTE).await;
    store.save(&event("a", "1")).await.unwrap();
    sleep(10 * SECOND).await;
    assert_eq!(relay.stop().await.published, 1);
    let tries = tries.load(Ordering::Relaxed);
    assert!((25..100).contains(&tries), "{tries} tries");
    store
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_wake_it_is_asked_ever_less_often_and_the_events_come_all_the_same() {
    is_asked_ever_less_often(|_| Err(Error::new(ErrorKind::Unavailable, "told to fail"))).await;
}

/// Hears of nothing, and is lost after a minute.
#[derive(Debug)]
struct Deaf;

#[async_trait]
impl Wakeups for Deaf {
    async fn wait(&mut self) {
        sleep(MINUTE).await;
        panic!("the connection is lost");
    }
}

#[tokio::test(start_paused = true)]
async fn it_looks_for_what_was_committed_meanwhile_as_soon_as_it_listens() {
    let store = Remote::new();
    let listened = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&listened);
    store.wake_by(move || {
        times.lock().unwrap().push(Instant::now());
        Ok(Box::new(Deaf))
    });
    let relay = start(Relay::new(store.clone(), Scripted::accepting()).with_wakeups(store.clone()));
    sleep(10 * MINUTE).await;
    relay.stop().await;
    let (claims, listened) = (store.times(Call::Claim), listened.lock().unwrap());
    assert!(listened.len() >= 8, "{} times", listened.len());
    for began in &listened[1..] {
        let is_soon = |claim: &Instant| *claim >= *began && *claim - *began <= MILLISECOND;
        assert!(claims.iter().any(is_soon), "none after {:?}", *began - listened[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_worker_hardly_asks_where_it_is_woken() {
    let store = Remote::new();
    let relay = Relay::single_worker(store.clone(), Scripted::accepting()).with_wakeups(store.clone());
    let relay = crate::support::start(relay);
    sleep(60 * MINUTE).await;
    let fetches = store.count(Call::Fetch);
    assert!((700..1300).contains(&fetches), "{fetches} fetches in an hour");
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_single_worker_is_woken_too() -> Result<()> {
    let store = Remote::new();
    let transport = Scripted::accepting();
    let relay = Relay::single_worker(store.clone(), transport.clone())
        .with_poll_interval(60 * MINUTE)
        .with_wakeups(store.clone());
    let relay = crate::support::start(relay);
    sleep(SECOND).await;
    store.save(&event("a", "1")).await?;
    sleep(SECOND).await;
    assert_eq!((transport.calls().len(), relay.stop().await.published), (1, 1));
    Ok(())
}
