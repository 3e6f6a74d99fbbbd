//! What fails, and what becomes of it.

use std::time::Duration;

use outbox_delivery::{Decision, ExponentialRetry, Failed, Relay};
use outbox_traits::{OutboxStore, PublishError};
use tokio::time::sleep;

use crate::{
    MILLISECOND, MINUTE, SECOND, one_a_key,
    support::{
        Scripted, consumer::Consumer, consumer::Ending, event, remote::Remote, start as start_single,
        start_on_claims as start,
    },
};

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_ever_less_often_and_set_aside_in_the_end() {
    let events = [event("bad", "1"), event("behind", "1"), event("other", "2")];
    let store = Remote::with(&events).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let relay = start(Relay::new(store.clone(), transport.clone()));
    sleep(SECOND / 10).await;
    assert_eq!(store.counts().await.delivered, 1);
    sleep(120 * MINUTE).await;
    let report = relay.stop().await;
    assert_eq!((report.published, report.failed, report.dead_lettered), (2, 20, 1));
    let dead = store.dead().await;
    assert_eq!((dead[0].id, dead[0].attempts, dead[0].failures), (events[0].id(), 20, 20));
    assert_eq!(dead[0].reason, "no");
    assert_eq!(store.counts().await.delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_rejected_is_set_aside_at_once() {
    let events = [event("bad", "1"), event("behind", "1")];
    let store = Remote::with(&events).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::rejected("never")),
        _ => Ok(()),
    });
    let report = Relay::new(store.clone(), transport).publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed, report.dead_lettered), (1, 1, 1));
    assert_eq!(store.dead().await[0].reason, "never");
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_the_users_decides_by_event_error_and_number_of_failures() {
    let store = Remote::with(&[event("mail", "1"), event("order", "2")]).await;
    let transport = Scripted::events(|_| Err(PublishError::rejected("no")));
    let relay = Relay::new(store.clone(), transport.clone()).with_retry_policy(|failed: &Failed<'_>| {
        assert_eq!((failed.error.to_string().as_str(), failed.attempts), ("no", failed.failures));
        match failed.event.event_type() {
            "mail" if failed.failures == 3 => Decision::DeadLetter,
            _ => Decision::Retry { after: MINUTE },
        }
    });
    let relay = start(relay);
    sleep(5 * MINUTE).await;
    relay.stop().await;
    let tries = |kind: &str| transport.given().iter().filter(|given| *given == kind).count();
    assert_eq!((tries("mail"), tries("order")), (3, 5));
    assert_eq!(store.dead().await[0].event_type, "mail");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_does_not_want_to_wait_makes_no_busy_loop() {
    let store = Remote::with(&[event("a", "1")]).await;
    let transport = Scripted::events(|_| Err(PublishError::failed("no").with_retry_after(Duration::ZERO)));
    let relay = Relay::new(store.clone(), transport.clone()).with_retry_policy(|failed: &Failed<'_>| {
        Decision::Retry { after: failed.error.retry_after().unwrap_or_default() }
    });
    let relay = start(relay);
    sleep(2 * SECOND).await;
    let tries = transport.calls().len();
    assert!((150..=201).contains(&tries), "{tries} tries");
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_comes_as_soon_as_it_is_due() {
    let store = Remote::with(&[event("a", "1")]).await;
    let transport = Scripted::events(|_| Err(PublishError::failed("no")));
    let relay = Relay::new(store.clone(), transport.clone())
        .with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: 3 * SECOND })
        .with_poll_interval(MINUTE);
    let relay = start(relay);
    sleep(10 * SECOND).await;
    let times = transport.times();
    assert_eq!(times.len(), 4);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 3 * SECOND + 2 * MILLISECOND), "{times:?}");
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_panics_or_hangs_burns_no_more_than_a_failure_of_each_and_ends_with_the_guilty_one_alone()
 {
    for ending in [Ending::Panics, Ending::Hangs] {
        let mut events = one_a_key(10);
        events.insert(4, event("bad", "bad"));
        let store = Remote::with(&events).await;
        let consumer = Consumer::of(&events);
        consumer.decide(move |event| match event.event_type() {
            "bad" => ending,
            _ => Ending::Accepted,
        });
        let relay = Relay::new(store.clone(), consumer.clone())
            .with_concurrency(1)
            .with_retry_policy(ExponentialRetry::new(SECOND, SECOND).with_max_failures(1));
        let relay = start(relay);
        sleep(20 * MINUTE).await;
        let report = relay.stop().await;
        // The first time nobody knows who was to blame.
        assert_eq!((report.published, report.failed, report.dead_lettered), (10, 12, 1), "{ending:?}");
        let dead = store.dead().await;
        assert_eq!((dead[0].event_type.as_str(), dead[0].failures), ("bad", 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_flapping_transport_gets_every_event_and_keeps_the_order_of_each_key() {
    let events: Vec<_> = (0..100).map(|n| event(&format!("e{n}"), &(n % 7).to_string())).collect();
    let store = Remote::with(&events).await;
    let consumer = Consumer::of(&events);
    consumer.decide(|_| match fastrand::u8(..8) {
        0 => Ending::Failed,
        1 => Ending::Unavailable,
        2 => Ending::Panics,
        3 => Ending::AnswerIsLost,
        4 => Ending::Takes(20 * SECOND),
        5 => Ending::Hangs,
        _ => Ending::Accepted,
    });
    let make = || {
        let policy = ExponentialRetry::new(MILLISECOND, SECOND).with_max_failures(u32::MAX);
        start(Relay::new(store.clone(), consumer.clone()).with_batch_size(3).with_retry_policy(policy))
    };
    let relays = [make(), make(), make()];
    while store.counts().await.delivered < 100 {
        sleep(MINUTE).await;
    }
    for relay in relays {
        assert_eq!(relay.stop().await.lost_leases, 0);
    }
    assert_eq!((store.counts().await.delivered, consumer.faults()), (100, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_published_by_itself_from_then_on() {
    for is_single in [false, true] {
        let mut events = one_a_key(10);
        events[4] = event("poison", "a");
        let store = Remote::with(&events).await;
        let transport = Scripted::refusing_batches_with_poison(PublishError::failed);
        let relay = if is_single {
            start_single(Relay::single_worker(store.clone(), transport.clone()))
        } else {
            start(Relay::new(store.clone(), transport.clone()))
        };
        // There are others beside it at each of its tries.
        for n in 0..600 {
            store.save(&event("later", &format!("later {n}"))).await.unwrap();
            sleep(SECOND / 10).await;
        }
        sleep(MINUTE).await;
        let report = relay.stop().await;
        let calls = transport.calls();
        let (alone, with_others): (Vec<_>, Vec<_>) = calls
            .iter()
            .filter(|call| call.iter().any(|kind| kind == "poison"))
            .partition(|call| call.len() == 1);
        assert!(with_others.len() == 1 && alone.len() > 3, "single: {is_single}: {with_others:?}, {alone:?}");
        assert_eq!(report.published, 609, "single: {is_single}");
    }
}
