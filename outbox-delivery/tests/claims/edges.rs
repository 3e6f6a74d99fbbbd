//! Settings and answers that are out of the ordinary.

use std::time::Duration;

use outbox_delivery::{Decision, Failed, Relay, Unhealthy};
use outbox_traits::{Claim, Event, PublishError, Published};
use tokio::time::sleep;

use crate::{
    MINUTE, SECOND, one_a_key,
    support::{Scripted, event, remote::Remote, start_on_claims as start},
};

#[tokio::test(start_paused = true)]
async fn an_enormous_batch_is_as_large_as_a_claim_and_what_is_held_is_bounded() {
    let store = Remote::with(&one_a_key(Claim::MAX_LIMIT * 3)).await;
    let transport = Scripted::accepting().with_delay(10 * SECOND);
    let relay = Relay::new(store.clone(), transport.clone()).with_batch_size(usize::MAX).with_concurrency(1);
    let relay = start(relay);
    sleep(5 * SECOND).await;
    assert_eq!(transport.calls()[0].len(), Claim::MAX_LIMIT);
    assert_eq!(store.counts().await.leased, 2 * Claim::MAX_LIMIT as u64);
    sleep(MINUTE).await;
    assert_eq!(relay.stop().await.published, 3 * Claim::MAX_LIMIT as u64);
}

#[tokio::test(start_paused = true)]
async fn the_smallest_settings_are_made_large_enough_to_work() {
    let store = Remote::with(&one_a_key(5)).await;
    let relay = Relay::new(store.clone(), Scripted::accepting())
        .with_batch_size(0)
        .with_concurrency(0)
        .with_lease(Duration::ZERO)
        .with_poll_interval(Duration::ZERO)
        .with_max_crashes(0)
        .with_purge(Duration::ZERO)
        .with_health_limit(Duration::ZERO);
    let relay = start(relay.with_publish_timeout(Duration::ZERO));
    sleep(SECOND).await;
    assert_eq!((relay.stop().await.published, store.counts().await.delivered), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn the_largest_settings_overflow_nothing() {
    let store = Remote::with(&[event("bad", "1"), event("good", "2")]).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no").with_retry_after(Duration::MAX)),
        _ => Ok(()),
    });
    let relay = Relay::new(store.clone(), transport)
        .with_concurrency(usize::MAX)
        .with_lease(Duration::MAX)
        .with_poll_interval(Duration::MAX)
        .with_max_crashes(u32::MAX)
        .with_purge(Duration::MAX)
        .with_health_limit(Duration::MAX)
        .with_grace_period(Duration::MAX)
        .with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: Duration::MAX });
    let relay = start(relay.with_publish_timeout(Duration::MAX));
    sleep(MINUTE).await;
    let report = relay.stop().await;
    assert_eq!((report.published, report.failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_report_on_events_that_were_not_given_and_two_on_one_change_nothing_else() {
    let store = Remote::with(&[event("twice", "1"), event("good", "2"), event("forgotten", "3")]).await;
    let stranger = event("stranger", "4");
    let transport = Scripted::batches(move |events: &[Event]| {
        let mut published = vec![Published { id: stranger.id(), result: Ok(()) }];
        for event in events {
            match event.event_type() {
                "twice" => {
                    published.push(Published { id: event.id(), result: Err(PublishError::failed("no")) });
                    published.push(Published { id: event.id(), result: Ok(()) });
                }
                "good" => published.push(Published { id: event.id(), result: Ok(()) }),
                _ => {}
            }
        }
        published
    });
    let relay = Relay::new(store.clone(), transport)
        .with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: 60 * MINUTE });
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed, store.counts().await.delivered), (1, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_run_over_everything_goes_past_what_failed_and_is_due_again() {
    let mut events = one_a_key(20);
    events.insert(0, event("bad", "bad"));
    events.insert(1, event("behind", "bad"));
    let store = Remote::with(&events).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let relay = Relay::new(store.clone(), transport.clone())
        .with_batch_size(1)
        .with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: Duration::ZERO });
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed), (20, 1));
    assert!(!transport.given().contains(&"behind".to_owned()));
    // It is free again.
    assert_eq!(store.pending().await, ["bad", "behind"]);
    assert_eq!(store.histories().await[0], ("bad".to_owned(), 1, 1));
}

#[tokio::test(start_paused = true)]
async fn where_the_stores_clock_is_set_what_is_being_published_is_not_published_beside_itself() {
    let store = Remote::with(&one_a_key(4)).await;
    let transport = Scripted::accepting().with_delay(10 * SECOND);
    let relay = Relay::new(store.clone(), transport.clone()).with_batch_size(2).with_concurrency(2);
    let relay = start(relay);
    sleep(SECOND).await;
    store.set_clock_ahead(MINUTE);
    sleep(MINUTE).await;
    let report = relay.stop().await;
    assert_eq!((transport.given().len(), report.published, report.lost_leases), (4, 4, 4));
    assert_eq!(store.counts().await.delivered, 4);
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_takes_longer_than_the_health_limit_is_no_silence_of_the_store() {
    let store = Remote::with(&one_a_key(20)).await;
    let transport = Scripted::accepting().with_delay(20 * MINUTE);
    let relay = Relay::new(store.clone(), transport)
        .with_batch_size(2)
        .with_concurrency(1)
        .with_publish_timeout(60 * MINUTE)
        .with_health_limit(2 * MINUTE);
    let health = relay.health();
    let relay = start(relay);
    for _ in 0..30 {
        sleep(MINUTE).await;
        assert_eq!(health.check(), Ok(()));
    }
    relay.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_wants_to_be_left_alone_is_to_blame_and_not_the_store() {
    for is_single in [false, true] {
        let store = Remote::with(&one_a_key(3)).await;
        let transport =
            Scripted::events(|_| Err(PublishError::unavailable("down").with_retry_after(5 * MINUTE)));
        let (health, running) = if is_single {
            let relay = Relay::single_worker(store, transport).with_health_limit(MINUTE);
            (relay.health(), crate::support::start(relay))
        } else {
            let relay = Relay::new(store, transport).with_health_limit(MINUTE);
            (relay.health(), start(relay))
        };
        for minute in 0..20 {
            sleep(MINUTE + SECOND).await;
            let reason = health.check().unwrap_err();
            assert!(matches!(reason, Unhealthy::NothingAccepted(_)), "{reason} after {minute} minutes");
        }
        running.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_worker_leaves_a_key_alone_for_as_long_as_its_event_asks() {
    let store = Remote::with(&[event("bad", "1"), event("good", "2")]).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no").with_retry_after(2 * MINUTE)),
        _ => Ok(()),
    });
    let relay = crate::support::start(Relay::single_worker(store, transport.clone()));
    sleep(10 * MINUTE).await;
    assert_eq!(relay.stop().await.published, 1);
    let times = transport.times();
    assert!(times.len() > 3 && times.windows(2).all(|pair| pair[1] - pair[0] >= 2 * MINUTE), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_single_worker_leaves_a_transport_alone_for_as_long_as_it_asks() {
    let store = Remote::with(&one_a_key(3)).await;
    let transport = Scripted::events(|_| Err(PublishError::unavailable("down").with_retry_after(2 * MINUTE)));
    let relay = crate::support::start(Relay::single_worker(store, transport.clone()));
    sleep(10 * MINUTE).await;
    relay.stop().await;
    let times = transport.times();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 2 * MINUTE), "{times:?}");
}
