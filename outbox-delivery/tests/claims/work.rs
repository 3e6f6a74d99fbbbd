//! Claims, publishes and settlements, when all is well.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use outbox_delivery::{Decision, Failed, Relay};
use outbox_traits::{
    ClaimStore, Event, OutboxStore, Outcome, PublishError, Published, Transport, async_trait,
};
use tokio::time::{Instant, sleep};

use crate::{
    MILLISECOND, MINUTE, SECOND, one_a_key,
    support::{
        Scripted, consumer::Consumer, event, remote::Call, remote::Fate, remote::Remote,
        start_on_claims as start,
    },
};

#[tokio::test(start_paused = true)]
async fn a_store_is_taken_as_it_is_or_in_an_arc() {
    let store = Arc::new(Remote::with(&[event("a", "1")]).await);
    let dynamic: Arc<dyn ClaimStore> = store.clone();
    for relay in [
        Relay::new(store.clone(), Scripted::accepting()),
        Relay::new(dynamic, Scripted::accepting()),
        Relay::new(Arc::unwrap_or_clone(store), Scripted::accepting()),
    ] {
        relay.publish_pending().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn everything_is_published_in_the_order_of_its_key_and_settled() {
    let events: Vec<_> = (0..500).map(|n| event("a", &(n % 7).to_string())).collect();
    let store = Remote::with(&events).await;
    let consumer = Consumer::of(&events);
    let report = Relay::new(store.clone(), consumer.clone()).publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed), (500, 0));
    assert_eq!(report.to_string(), "published 500, failed 0");
    assert_eq!((store.counts().await.delivered, consumer.faults()), (500, vec![]));
}

#[tokio::test(start_paused = true)]
async fn as_many_publishes_go_on_at_once_as_were_asked_for_and_settlements_are_batched() {
    let store = Remote::with(&one_a_key(80)).await;
    let transport = Scripted::accepting().with_delay(SECOND);
    let relay = Relay::new(store.clone(), transport.clone()).with_batch_size(10).with_concurrency(4);
    let started = Instant::now();
    assert_eq!(relay.publish_pending().await.unwrap().published, 80);
    assert_eq!(started.elapsed(), 2 * SECOND);
    assert_eq!(transport.calls().len(), 8);
    // Four that end together are settled in two calls at most: one that ended first, and the rest.
    assert!(store.count(Call::Settle) <= 4, "{}", store.count(Call::Settle));
}

/// Not one after the other in one of them, while the others have nothing to do.
#[tokio::test(start_paused = true)]
async fn what_is_less_than_a_batch_is_spread_over_the_publishes() {
    for (count, calls) in [(1, 1), (3, 3), (8, 8), (40, 8), (41, 8)] {
        let store = Remote::with(&one_a_key(count)).await;
        let transport = Scripted::accepting().with_delay(SECOND);
        let relay = Relay::new(store.clone(), transport.clone()).with_concurrency(8);
        let started = Instant::now();
        assert_eq!(relay.publish_pending().await.unwrap().published, count as u64);
        assert_eq!((started.elapsed(), transport.calls().len()), (SECOND, calls), "{count} events");
    }
    // Those of a key stay together.
    for keys in [1, 3] {
        let events: Vec<_> = (0..99).map(|n| event("a", &(n % keys).to_string())).collect();
        let store = Remote::with(&events).await;
        let transport = Scripted::accepting().with_delay(SECOND);
        let relay = Relay::new(store.clone(), transport.clone()).with_concurrency(8);
        assert_eq!(relay.publish_pending().await.unwrap().published, 99);
        assert_eq!(transport.calls().len(), keys, "one for each key");
    }
}

/// As it is with a transport that knows nothing but how to publish one.
#[tokio::test(start_paused = true)]
async fn a_slow_transport_of_one_s_own_publishes_nothing_twice() {
    for (time, timeout) in [(400, 30_000), (100, 1000), (700, 1000)] {
        let events = one_a_key(100);
        let (store, slow) = (Remote::with(&events).await, Slow::new(Duration::from_millis(time)));
        let relay = Relay::new(store.clone(), Arc::clone(&slow)).with_concurrency(1);
        let report =
            relay.with_publish_timeout(Duration::from_millis(timeout)).publish_pending().await.unwrap();
        assert_eq!((report.published, report.failed), (100, 0), "{report}");
        assert_eq!(slow.published.load(Relaxed), 100);
    }
}

#[derive(Debug)]
struct Slow {
    time: Duration,
    published: AtomicUsize,
}

impl Slow {
    fn new(time: Duration) -> Arc<Self> {
        Arc::new(Self { time, published: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Transport for Slow {
    async fn publish(&self, _: &Event) -> Result<(), PublishError> {
        sleep(self.time).await;
        self.published.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// What its key was told last is the last of it.
#[tokio::test(start_paused = true)]
async fn what_a_transport_accepts_behind_a_failure_of_its_key_is_published_again_after_it() {
    let events = [event("a1", "a"), event("a2", "a"), event("b1", "b"), event("a3", "a")];
    let ids: Vec<_> = events.iter().map(Event::id).collect();
    for forgets in [false, true] {
        let store = Remote::with(&events).await;
        let failing = Mutex::new(Some(ids[0]));
        let transport = Scripted::batches(move |batch| {
            let mut failing = failing.lock().unwrap();
            let mut published = Vec::new();
            for event in batch {
                let fails = failing.take_if(|id| *id == event.id()).is_some();
                let result = if fails { Err(PublishError::failed("no")) } else { Ok(()) };
                if !fails || !forgets {
                    published.push(Published { id: event.id(), result });
                }
            }
            published
        });
        let relay = Relay::new(store.clone(), transport.clone()).with_concurrency(1);
        let relay = start(relay.with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: SECOND }));
        sleep(MINUTE).await;
        let report = relay.stop().await;
        assert_eq!((report.published, report.failed), (4, 1));
        let given = transport.given();
        assert_eq!(given[..4], ["a1", "a2", "b1", "a3"]);
        assert_eq!(given[4..], ["a1", "a2", "a3"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_batch_is_claimed_while_one_is_published() {
    let store = Remote::with(&one_a_key(20)).await;
    store.decide(|call| match call {
        Call::Claim => Fate::Takes(SECOND / 2),
        _ => Fate::Works,
    });
    let transport = Scripted::accepting().with_delay(SECOND);
    let relay = Relay::new(store.clone(), transport.clone()).with_batch_size(10).with_concurrency(1);
    let relay = start(relay);
    sleep(5 * SECOND).await;
    let times = transport.times();
    assert_eq!(times[1] - times[0], SECOND);
    relay.stop().await;
}

/// The claim that found nothing more, beside what was published before the lull, says nothing of what came since.
#[tokio::test(start_paused = true)]
async fn after_a_lull_as_many_publishes_go_on_at_once_as_were_asked_for() {
    let store = Remote::with(&one_a_key(5)).await;
    let transport = Scripted::accepting().with_delay(10 * MILLISECOND);
    let relay = Relay::new(store.clone(), transport.clone()).with_batch_size(10).with_concurrency(4);
    let relay = start(relay.with_poll_interval(SECOND));
    sleep(5 * SECOND).await;
    assert_eq!(transport.calls().len(), 4);
    store.save_all(&one_a_key(400)).await.unwrap();
    sleep(5 * SECOND).await;
    assert_eq!(relay.stop().await.published, 405);
    let times = transport.times();
    assert_eq!(times[44 - 1] - times[4], 90 * MILLISECOND, "ten rounds of four");
}

#[tokio::test(start_paused = true)]
async fn where_one_claim_takes_all_keys_no_claims_are_wasted_beside_it() {
    let events: Vec<_> = (0..2000).map(|n| event("a", &(n % 20).to_string())).collect();
    let store = Remote::with(&events).await;
    let transport = Scripted::accepting().with_delay(10 * MILLISECOND);
    let relay = start(Relay::new(store.clone(), transport).with_batch_size(20));
    while store.counts().await.delivered < 2000 {
        sleep(10 * MILLISECOND).await;
    }
    relay.stop().await;
    // A hundred batches.
    assert!(store.count(Call::Claim) < 120, "{} claims", store.count(Call::Claim));
}

#[tokio::test(start_paused = true)]
async fn idle_it_asks_ever_less_often() {
    let store = Remote::new();
    let relay = start(Relay::new(store.clone(), Scripted::accepting()));
    sleep(10 * MINUTE).await;
    // Every 1.5 s on average.
    let claims = store.count(Call::Claim);
    assert!((300..600).contains(&claims), "{claims} claims");
    store.save(&event("a", "1")).await.unwrap();
    sleep(3 * SECOND).await;
    assert_eq!(relay.stop().await.published, 1);
    assert!(store.count(Call::Settle) == 1 && store.count(Call::Renew) == 0);
}

#[tokio::test(start_paused = true)]
async fn with_work_it_never_waits() {
    let store = Remote::with(&one_a_key(1000)).await;
    let started = Instant::now();
    let relay = Relay::new(store.clone(), Scripted::accepting()).with_batch_size(1);
    let relay = start(relay.with_poll_interval(MINUTE));
    while store.counts().await.delivered < 1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(relay.stop().await.published, 1000);
}

#[tokio::test(start_paused = true)]
async fn publish_pending_tries_each_event_once() {
    let events = [event("bad", "1"), event("a", "1"), event("b", "2"), event("c", "1"), event("d", "3")];
    let store = Remote::with(&events).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let relay = Relay::new(store.clone(), transport.clone())
        .with_batch_size(2)
        .with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: Duration::ZERO });
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed), (2, 1));
    assert_eq!(transport.given().iter().filter(|given| *given == "bad").count(), 1);
    assert_eq!(store.pending().await, ["bad", "a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn delivered_events_are_purged_beside_the_work() {
    let store = Remote::with(&one_a_key(3)).await;
    let relay = start(Relay::new(store.clone(), Scripted::accepting()).with_purge(10 * MINUTE));
    sleep(9 * MINUTE).await;
    assert_eq!(store.counts().await.delivered, 3);
    sleep(4 * MINUTE).await;
    assert_eq!((relay.stop().await.purged, store.counts().await.delivered), (3, 0));
    assert!((6..30).contains(&store.count(Call::Purge)), "{}", store.count(Call::Purge));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_settled_once() {
    let store = Remote::with(&one_a_key(30)).await;
    let relay = Relay::new(store.clone(), Scripted::accepting()).with_batch_size(7);
    relay.publish_pending().await.unwrap();
    let settlements = store.settlements().concat();
    assert_eq!(settlements.len(), 30);
    assert!(settlements.iter().all(|settlement| settlement.outcome == Outcome::Delivered));
}
