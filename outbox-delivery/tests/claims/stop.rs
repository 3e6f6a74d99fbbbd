//! How it ends.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use outbox_delivery::{CancellationToken, Relay};
use outbox_traits::{Claim, ClaimStore, Error, ErrorKind, PublishError};
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
async fn in_strict_mode_what_comes_before_an_event_that_is_published_no_more_is_published() {
    let events = [event("a", "1"), event("crashes", "2"), event("c", "3")];
    let store = Remote::with(&events).await;
    for _ in 0..10 {
        assert_eq!(store.die_with("crashes").await, 1);
    }
    for published in [vec!["a"], vec![]] {
        let transport = Scripted::accepting();
        let started = Instant::now();
        let report = start(Relay::new(store.clone(), transport.clone()).with_strict()).end().await.unwrap();
        assert_eq!((report.stopped_at, started.elapsed()), (Some(events[1].id()), Duration::ZERO));
        assert_eq!(transport.given(), published);
        assert_eq!(store.pending().await, ["crashes", "c"]);
    }
}

#[tokio::test(start_paused = true)]
async fn in_strict_mode_nothing_is_published_before_what_comes_earlier_and_is_of_a_key_that_is_held() {
    let events = [event("a", "1"), event("b", "2"), event("c", "1"), event("bad", "3")];
    let store = Remote::with(&events).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let relay = Relay::new(store.clone(), transport.with_delay(SECOND)).with_strict().with_batch_size(2);
    let report = start(relay).end().await.unwrap();
    assert_eq!((report.published, report.stopped_at), (3, Some(events[3].id())), "{report}");
    assert_eq!(store.pending().await, ["bad"]);
}

#[tokio::test(start_paused = true)]
async fn in_strict_mode_nothing_is_published_before_what_comes_earlier_and_lost_its_lease() {
    for (lost, published) in [(0, vec!["a", "a", "b", "c"]), (1, vec!["a", "b", "c"])] {
        let events = [event("a", "1"), event("b", "2"), event("c", "3")];
        let store = Remote::with(&events).await;
        let id = events[lost].id();
        store.refuse(move |call, lease| match call {
            Call::Renew if lease.event() == id => Err(Error::new(ErrorKind::Unavailable, "told to fail")),
            _ => Ok(()),
        });
        let given = Arc::new(Mutex::new(Vec::new()));
        let consumer = Consumer::of(&events);
        consumer.decide({
            let given = Arc::clone(&given);
            move |event| {
                given.lock().unwrap().push(event.event_type().to_owned());
                // The first one takes longer than nine tenths of a lease.
                if given.lock().unwrap().len() == 1 { Ending::Takes(12 * SECOND) } else { Ending::Accepted }
            }
        });
        let relay = Relay::new(store.clone(), consumer).with_strict().with_lease(10 * SECOND);
        let relay = start(relay);
        sleep(MINUTE).await;
        assert_eq!((relay.stop().await.published, store.counts().await.delivered), (3, 3));
        assert_eq!(*given.lock().unwrap(), published);
    }
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
    // After the grace period, or when a settlement would have had its time.
    for (grace_period, time) in [(10 * SECOND, 10 * SECOND), (SECOND, 6 * SECOND)] {
        let store = Remote::with(&[event("bad", "1")]).await;
        store.decide(|call| match call {
            Call::Settle => Fate::Fails(ErrorKind::Unavailable),
            _ => Fate::Works,
        });
        let transport = Scripted::events(|_| Err(PublishError::failed("no")));
        let relay = Relay::new(store.clone(), transport).with_strict().with_grace_period(grace_period);
        let started = Instant::now();
        let report = start(relay).end().await.unwrap();
        assert_eq!((report.published, started.elapsed()), (0, time));
        assert!(report.stopped_at.is_some() && report.store_errors < 100, "{report}");
    }
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
