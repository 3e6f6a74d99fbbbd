//! Whether it says that it makes progress.

use std::time::Duration;

use chrono::TimeDelta;
use outbox_delivery::{Decision, Failed, Relay, Unhealthy};
use outbox_traits::{Claim, ClaimStore, ErrorKind, OutboxStore, PublishError, Settlement};
use tokio::time::sleep;

use crate::{
    MINUTE, SECOND, one_a_key,
    support::{
        Scripted,
        consumer::{Consumer, Ending},
        event,
        remote::{Call, Fate, Remote},
        start_on_claims as start,
    },
};

#[tokio::test(start_paused = true)]
async fn it_is_healthy_while_it_runs_and_not_before_nor_after() {
    let store = Remote::with(&one_a_key(3)).await;
    let relay = Relay::new(store.clone(), Scripted::accepting());
    let health = relay.health();
    assert_eq!(health.check(), Err(Unhealthy::NotRunning));
    let relay = start(relay.with_stats(store.clone()));
    for _ in 0..100 {
        sleep(MINUTE).await;
        assert_eq!(health.check(), Ok(()));
    }
    relay.stop().await;
    assert!(!health.is_healthy());
}

#[tokio::test(start_paused = true)]
async fn it_is_unhealthy_when_the_store_is_silent_and_healthy_again_when_it_is_back() {
    let store = Remote::new();
    let relay = Relay::new(store.clone(), Scripted::accepting());
    let health = relay.health();
    let relay = start(relay);
    for fate in [Fate::Hangs, Fate::Fails(ErrorKind::Unavailable)] {
        store.decide(move |_| fate);
        sleep(4 * MINUTE).await;
        assert!(health.is_healthy());
        sleep(2 * MINUTE).await;
        assert!(matches!(health.check(), Err(Unhealthy::NoAnswer(_))));
        store.decide(|_| Fate::Works);
        sleep(MINUTE).await;
        assert!(health.is_healthy());
    }
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_unhealthy_when_nothing_is_accepted_and_healthy_again_when_something_is() {
    let events = one_a_key(3);
    let store = Remote::with(&events).await;
    let consumer = Consumer::of(&events);
    for ending in [Ending::Failed, Ending::Unavailable, Ending::Panics] {
        consumer.decide(move |_| ending);
        let relay = Relay::new(store.clone(), consumer.clone()).with_health_limit(2 * MINUTE);
        let relay = relay.with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: 20 * SECOND });
        let health = relay.health();
        let relay = start(relay);
        sleep(MINUTE).await;
        assert!(health.is_healthy());
        sleep(2 * MINUTE).await;
        assert!(matches!(health.check(), Err(Unhealthy::NothingAccepted(_))), "{ending:?}");
        consumer.decide(|_| Ending::Accepted);
        sleep(MINUTE).await;
        assert!(health.is_healthy());
        relay.stop().await;
        store.save_all(&one_a_key(3)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_unhealthy_when_it_works_and_falls_behind() {
    let store = Remote::new();
    let transport = Scripted::accepting().with_delay(SECOND);
    let relay = Relay::new(store.clone(), transport).with_batch_size(1).with_concurrency(1);
    let relay = relay.with_stats(store.clone()).with_health_limit(MINUTE);
    let health = relay.health();
    let relay = start(relay);
    // Two a second come, and one goes.
    for _ in 0..150 {
        store.save_all(&[event("a", "1"), event("b", "2")]).await.unwrap();
        sleep(SECOND).await;
    }
    let reason = health.check().unwrap_err();
    assert!(matches!(reason, Unhealthy::Behind(age) if age > MINUTE), "{reason}");
    sleep(Duration::from_secs(200)).await;
    assert_eq!((health.check(), store.counts().await.delivered), (Ok(()), 300));
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_hidden_or_waits_for_a_retry_is_not_late() {
    let store = Remote::new();
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let relay = Relay::new(store.clone(), transport)
        .with_stats(store.clone())
        .with_health_limit(2 * MINUTE)
        .with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: 30 * MINUTE });
    let health = relay.health();
    let hidden = event("hidden", "1").with_not_before(store.now() + TimeDelta::hours(1));
    store.save_all(&[hidden, event("bad", "2"), event("behind", "2")]).await.unwrap();
    let relay = start(relay);
    for _ in 0..100 {
        // With work, too.
        store.save(&event("good", "3")).await.unwrap();
        sleep(MINUTE).await;
        assert_eq!(health.check(), Ok(()));
    }
    assert_eq!(relay.stop().await.published, 101);
}

#[tokio::test(start_paused = true)]
async fn what_is_due_and_never_handed_out_is_late_although_the_relay_has_no_work() {
    let store = Remote::new();
    let relay = Relay::new(store.clone(), Scripted::accepting());
    let relay = relay.with_stats(store.clone()).with_health_limit(2 * MINUTE);
    let health = relay.health();
    let relay = start(relay);
    store.save(&event("a", "1")).await.unwrap();
    // Another worker has it, and does not come to an end with it.
    let lease = store.inner.claim(&Claim::new("other").with_lease(60 * MINUTE)).await.unwrap()[0].lease;
    sleep(MINUTE).await;
    assert_eq!(health.check(), Ok(()));
    sleep(2 * MINUTE).await;
    assert!(matches!(health.check(), Err(Unhealthy::Behind(_))), "{:?}", health.check());
    store.inner.settle(&[Settlement::released(lease)]).await.unwrap();
    sleep(MINUTE).await;
    assert_eq!(health.check(), Ok(()));
    // What nobody can say any more is not held against it.
    store.decide(|call| if call == Call::Stats { Fate::Hangs } else { Fate::Works });
    sleep(10 * MINUTE).await;
    assert_eq!((health.check(), relay.stop().await.published), (Ok(()), 1));
}
