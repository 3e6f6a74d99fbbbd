//! How it ends.

use std::time::Duration;

use outbox_delivery::{CancellationToken, Relay};
use outbox_traits::{Claim, ClaimStore, ErrorKind, PublishError};
use tokio::time::{Instant, sleep};

use crate::{
    MINUTE, SECOND, one_a_key,
    support::{
        Scripted, consumer::Consumer, consumer::Ending, event, remote::Call, remote::Fate, remote::Remote,
        start_on_claims as start,
    },
};

#[tokio::test(start_paused = true)]
async fn in_strict_mode_the_first_failure_ends_it_and_the_rest_stays_pending() {
    let events = [event("a", "1"), event("bad", "2"), event("c", "3"), event("d", "4")];
    for endings in [Ending::Failed, Ending::Rejected, Ending::Unavailable, Ending::Panics] {
        let store = Remote::with(&events).await;
        let consumer = Consumer::of(&events);
        consumer.decide(move |event| match event.event_type() {
            "bad" => endings,
            _ => Ending::Accepted,
        });
        let relay = start(Relay::new(store.clone(), consumer.clone()).with_strict());
        let report = relay.end().await.unwrap();
        assert_eq!((report.published, report.stopped_at), (1, Some(events[1].id())), "{endings:?}");
        assert!(report.last_error.is_some());
        assert_eq!(store.pending().await, ["bad", "c", "d"]);
        assert_eq!(consumer.began(events[2].id()), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn in_strict_mode_an_event_that_kills_its_workers_ends_it_and_is_not_set_aside() {
    let events = one_a_key(2);
    let store = Remote::with(&events).await;
    let transport = Scripted::accepting().with_delay(60 * MINUTE);
    let relay = start(Relay::new(store.clone(), transport).with_strict());
    sleep(SECOND).await;
    relay.kill().await;
    sleep(MINUTE).await;
    let transport = Scripted::accepting();
    let relay = Relay::new(store.clone(), transport.clone()).with_strict().with_max_crashes(1);
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.stopped_at), (0, Some(events[0].id())), "{report}");
    assert!(report.last_error.unwrap().starts_with("1 deliveries were started and never ended"));
    assert_eq!(store.pending().await, ["e0", "e1"]);
    assert!(transport.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn in_strict_mode_nothing_is_published_before_an_event_that_may_kill_its_worker_and_comes_earlier() {
    let events = [event("a", "1"), event("suspect", "2"), event("c", "3"), event("d", "4")];
    let store = Remote::with(&events).await;
    for _ in 0..3 {
        assert_eq!(store.claim(&Claim::new("dies").with_types(["suspect"])).await.unwrap().len(), 1);
        sleep(MINUTE).await;
    }
    let transport = Scripted::events(|event| match event.event_type() {
        "suspect" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let relay = Relay::new(store.clone(), transport.clone()).with_strict();
    let report = start(relay).end().await.unwrap();
    assert_eq!((report.published, report.stopped_at), (1, Some(events[1].id())), "{report}");
    assert_eq!(transport.given(), ["a", "suspect"]);
    assert_eq!(store.pending().await, ["suspect", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_grace_period_what_ends_by_itself_is_written_down_all_the_same() {
    let events = [event("a", "1"), event("bad", "2"), event("c", "3")];
    for ending in [Ending::Failed, Ending::Unavailable] {
        for is_strict in [false, true] {
            let store = Remote::with(&events).await;
            store.decide(|_| Fate::Takes(SECOND));
            let consumer = Consumer::of(&events);
            consumer.decide(move |event| if event.event_type() == "bad" { ending } else { Ending::Accepted });
            let relay = Relay::new(store.clone(), consumer).with_grace_period(Duration::ZERO);
            let relay = relay.with_batch_size(1).with_concurrency(1);
            let report = if is_strict {
                start(relay.with_strict()).end().await.unwrap()
            } else {
                relay.publish_pending().await.unwrap()
            };
            let counts = store.counts().await;
            assert_eq!((counts.delivered, counts.leased), (report.published, 0), "{ending:?} {is_strict}");
            assert!(report.published > 0, "{report}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_it_finishes_what_is_in_flight_and_gives_back_the_rest_at_no_cost() {
    let store = Remote::with(&one_a_key(10)).await;
    let transport = Scripted::accepting().with_delay(5 * SECOND);
    let relay = Relay::new(store.clone(), transport).with_batch_size(2).with_concurrency(1);
    let relay = start(relay);
    sleep(SECOND).await;
    let cancelled = Instant::now();
    let report = relay.stop().await;
    assert_eq!((report.published, report.released), (2, 2));
    assert_eq!(cancelled.elapsed(), 4 * SECOND);
    let histories = store.histories().await;
    assert_eq!(histories.len(), 8);
    assert!(histories.iter().all(|(_, attempts, failures)| (*attempts, *failures) == (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn cancelled_it_returns_within_the_grace_period_whatever_hangs_and_loses_no_attempt() {
    let store = Remote::with(&one_a_key(3)).await;
    let transport = Scripted::accepting().with_delay(24 * 60 * MINUTE);
    let relay = Relay::new(store.clone(), transport).with_grace_period(10 * SECOND);
    let relay = start(relay.with_publish_timeout(60 * MINUTE));
    sleep(SECOND).await;
    let cancelled = Instant::now();
    let report = relay.stop().await;
    assert!(cancelled.elapsed() <= 10 * SECOND);
    assert_eq!((report.published, report.failed, report.released), (0, 0, 3));
    assert!(store.histories().await.iter().all(|(_, attempts, _)| *attempts == 0));
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_it_claims_it_gives_back_what_comes() {
    let store = Remote::with(&one_a_key(3)).await;
    store.decide(|_| Fate::Takes(SECOND));
    let transport = Scripted::accepting();
    let relay = start(Relay::new(store.clone(), transport.clone()));
    sleep(SECOND / 2).await;
    assert_eq!(relay.stop().await.released, 3);
    assert!(transport.calls().is_empty());
    assert_eq!(store.pending().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn cancelled_it_returns_within_the_grace_period_when_the_store_is_away() {
    let store = Remote::with(&one_a_key(3)).await;
    let transport = Scripted::accepting().with_delay(SECOND);
    let relay = Relay::new(store.clone(), transport).with_grace_period(10 * SECOND);
    let relay = start(relay);
    sleep(SECOND / 2).await;
    store.decide(|_| Fate::Fails(ErrorKind::Unavailable));
    let cancelled = Instant::now();
    let report = relay.stop().await;
    assert_eq!((report.published, cancelled.elapsed()), (3, 10 * SECOND));
    assert!(report.store_errors < 100);
}

#[tokio::test(start_paused = true)]
async fn cancelled_after_the_store_was_away_it_does_not_wait_to_give_back_what_it_holds() {
    let store = Remote::with(&one_a_key(3)).await;
    let relay = Relay::new(store.clone(), Scripted::accepting().with_delay(2 * SECOND));
    let relay = start(relay.with_grace_period(SECOND).with_lease(10 * MINUTE));
    sleep(SECOND).await;
    store.decide(|_| Fate::Fails(ErrorKind::Unavailable));
    // Since a minute, so that it would be left alone for seconds.
    sleep(MINUTE).await;
    store.decide(|_| Fate::Works);
    relay.stop().await;
    let counts = store.counts().await;
    assert_eq!((counts.leased, counts.delivered), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn in_strict_mode_it_ends_also_where_nothing_can_be_written_down() {
    let store = Remote::with(&[event("bad", "1")]).await;
    store.decide(|call| match call {
        Call::Settle => Fate::Fails(ErrorKind::Unavailable),
        _ => Fate::Works,
    });
    let transport = Scripted::events(|_| Err(PublishError::failed("no")));
    let relay = start(Relay::new(store.clone(), transport).with_strict().with_grace_period(10 * SECOND));
    let started = Instant::now();
    let report = relay.end().await.unwrap();
    assert_eq!((report.published, started.elapsed()), (0, 10 * SECOND));
    assert!(report.stopped_at.is_some() && report.store_errors < 100, "{report}");
}

#[tokio::test(start_paused = true)]
async fn cancelled_before_it_begins_it_claims_nothing() {
    let store = Remote::with(&one_a_key(3)).await;
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let report = Relay::new(store.clone(), Scripted::accepting()).run(shutdown).await.unwrap();
    assert_eq!((report.published, store.count(Call::Claim)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_idle_it_returns_at_once() {
    let relay = start(Relay::new(Remote::new(), Scripted::accepting()).with_poll_interval(MINUTE));
    sleep(MINUTE).await;
    let cancelled = Instant::now();
    relay.stop().await;
    assert_eq!(cancelled.elapsed(), Duration::ZERO);
}
