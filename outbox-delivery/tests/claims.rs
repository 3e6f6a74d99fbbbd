//! A relay on claims that runs, in simulated time.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use outbox_delivery::{Decision, ExponentialRetry, Failed, Relay};
use outbox_traits::{ClaimStore, ErrorKind, Event, OutboxStore, Outcome, PublishError};
use tokio::time::{Instant, sleep};

use self::support::{
    Scripted,
    consumer::{Consumer, Ending},
    event,
    remote::{Call, Fate, Remote},
    start_on_claims as start,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

fn one_a_key(count: usize) -> Vec<Event> {
    (0..count).map(|n| event(&format!("e{n}"), &n.to_string())).collect()
}

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

#[tokio::test(start_paused = true)]
async fn idle_it_asks_ever_less_often() {
    let store = Remote::new();
    let relay = start(Relay::new(store.clone(), Scripted::accepting()));
    sleep(10 * MINUTE).await;
    // Every 750 ms on average.
    let claims = store.count(Call::Claim);
    assert!((600..1300).contains(&claims), "{claims} claims");
    store.save(&event("a", "1")).await.unwrap();
    sleep(2 * SECOND).await;
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
async fn leases_are_renewed_while_a_publish_goes_on() {
    let events = one_a_key(3);
    let store = Remote::with(&events).await;
    let consumer = Consumer::of(&events);
    consumer.decide(|_| Ending::Takes(MINUTE));
    let make = || {
        let relay = Relay::new(store.clone(), consumer.clone()).with_lease(5 * SECOND).with_concurrency(1);
        start(relay.with_publish_timeout(10 * MINUTE))
    };
    let relays = [make(), make()];
    sleep(5 * MINUTE).await;
    let mut published = 0;
    for relay in relays {
        let report = relay.stop().await;
        assert_eq!((report.lost_leases, report.failed), (0, 0));
        published += report.published;
    }
    assert_eq!((published, consumer.faults()), (3, vec![]));
    assert!(events.iter().all(|event| consumer.began(event.id()) == 1));
}

#[tokio::test(start_paused = true)]
async fn where_renewals_fail_publishing_ends_before_the_lease_and_nothing_is_taken_for_delivered() {
    let events = one_a_key(1);
    let store = Remote::with(&events).await;
    store.decide(|call| match call {
        Call::Claim => Fate::Works,
        _ => Fate::Fails(ErrorKind::Unavailable),
    });
    let consumer = Consumer::of(&events);
    consumer.decide(|_| Ending::Takes(MINUTE));
    let relay = Relay::new(store.clone(), consumer.clone()).with_lease(10 * SECOND);
    let relay = start(relay.with_publish_timeout(10 * MINUTE));
    sleep(9 * SECOND + SECOND / 2).await;
    // Cut off, and the lease is still held.
    assert_eq!((consumer.is_publishing(), store.counts().await.leased), (false, 1));
    sleep(SECOND).await;
    store.decide(|_| Fate::Works);
    consumer.decide(|_| Ending::Accepted);
    sleep(MINUTE).await;
    let report = relay.stop().await;
    assert_eq!((report.published, report.lost_leases, report.failed), (1, 1, 0));
    assert!(report.store_errors > 0);
    assert_eq!(consumer.began(events[0].id()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_is_counted_and_its_event_is_not_taken_for_delivered() {
    let events = one_a_key(1);
    let store = Remote::with(&events).await;
    store.decide(|call| match call {
        Call::Settle => Fate::Takes(7 * SECOND),
        _ => Fate::Works,
    });
    let consumer = Consumer::of(&events);
    let relay = Relay::new(store.clone(), consumer.clone()).with_lease(5 * SECOND);
    let relay = start(relay);
    sleep(6 * SECOND).await;
    store.decide(|_| Fate::Works);
    assert!(store.delivered().is_empty());
    sleep(MINUTE).await;
    let report = relay.stop().await;
    assert_eq!((report.published, report.lost_leases), (2, 1));
    assert_eq!(consumer.began(events[0].id()), 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_others_acknowledged_meanwhile_is_no_harm() {
    let events = [event("a", "1"), event("b", "1")];
    let store = Remote::with(&events).await;
    let transport = Scripted::accepting().with_delay(20 * SECOND);
    let relay = start(Relay::new(store.clone(), transport.clone()));
    sleep(SECOND).await;
    store.acknowledge(events[0].id()).await.unwrap();
    sleep(10 * MINUTE).await;
    let report = relay.stop().await;
    assert_eq!((report.lost_leases, store.counts().await.delivered), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_events_of_a_worker_that_died_are_published_by_another_when_its_leases_end() {
    let events = one_a_key(2);
    let store = Remote::with(&events).await;
    let consumer = Consumer::of(&events);
    consumer.decide(|_| Ending::Hangs);
    let relay = start(Relay::new(store.clone(), consumer.clone()));
    sleep(SECOND).await;
    relay.kill().await;
    consumer.decide(|_| Ending::Accepted);
    let relay = start(Relay::new(store.clone(), consumer.clone()));
    sleep(28 * SECOND).await;
    assert_eq!(store.counts().await.delivered, 0);
    sleep(3 * SECOND).await;
    assert_eq!((relay.stop().await.published, store.counts().await.delivered), (2, 2));
}

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
async fn an_event_that_kills_its_worker_again_and_again_takes_no_other_with_it_and_is_set_aside() {
    let mut events = one_a_key(10);
    events.insert(4, event("bad", "bad"));
    let store = Remote::with(&events).await;
    let consumer = Consumer::of(&events);
    let (kill, mut killed) = tokio::sync::mpsc::unbounded_channel();
    consumer.decide(move |event| {
        if event.event_type() == "bad" {
            kill.send(()).unwrap();
            return Ending::Hangs;
        }
        Ending::Accepted
    });
    let mut kills = 0;
    let report = loop {
        let relay = Relay::new(store.clone(), consumer.clone()).with_publish_timeout(60 * MINUTE);
        let relay = start(relay);
        tokio::select! {
            _ = killed.recv() => {
                relay.kill().await;
                kills += 1;
            }
            () = sleep(5 * MINUTE) => break relay.stop().await,
        }
    };
    assert_eq!((kills, report.dead_lettered), (10, 1));
    assert_eq!(store.counts().await.delivered, 10);
    let dead = store.dead().await;
    assert_eq!((dead[0].event_type.as_str(), dead[0].attempts), ("bad", 11));
    assert!(dead[0].reason.starts_with("10 deliveries were started and never ended"), "{}", dead[0].reason);
    // Those in front of it in the batch were published again, until it was by itself.
    let published = |n: usize| consumer.began(events[n].id());
    assert!((0..4).all(|n| published(n) <= 4) && (5..11).all(|n| published(n) <= 2));
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_transport_burns_no_attempt_and_is_tried_ever_less_often() {
    let store = Remote::with(&one_a_key(50)).await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&tries);
    let transport = Scripted::events(move |_| match counter.load(Ordering::Relaxed) {
        0 => Err(PublishError::unavailable("down")),
        _ => Ok(()),
    });
    let relay = Relay::new(store.clone(), transport.clone()).with_batch_size(10);
    let relay = start(relay);
    sleep(20 * MINUTE).await;
    let calls = transport.calls().len();
    assert!((40..200).contains(&calls), "{calls} calls");
    assert!(store.count(Call::Claim) < 2 * calls + 10, "{} claims", store.count(Call::Claim));
    let histories = store.histories().await;
    assert_eq!(histories.len(), 50);
    assert!(histories.iter().all(|(_, attempts, failures)| (*attempts, *failures) == (0, 0)));
    tries.store(1, Ordering::Relaxed);
    sleep(MINUTE).await;
    assert_eq!(relay.stop().await.published, 50);
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_never_tries_anything_makes_no_busy_loop() {
    let store = Remote::with(&one_a_key(5)).await;
    let transport = Scripted::events(|_| Err(PublishError::not_attempted()));
    let relay = start(Relay::new(store.clone(), transport.clone()));
    sleep(10 * MINUTE).await;
    let report = relay.stop().await;
    assert!(transport.calls().len() < 100, "{} calls", transport.calls().len());
    assert_eq!((report.published, report.failed), (0, 0));
    assert_eq!(store.counts().await.pending, 5);
}

#[tokio::test(start_paused = true)]
async fn a_flapping_transport_gets_every_event_and_keeps_the_order_of_each_key() {
    let events: Vec<_> = (0..300).map(|n| event(&format!("e{n}"), &(n % 7).to_string())).collect();
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
    sleep(24 * 60 * MINUTE).await;
    for relay in relays {
        assert_eq!(relay.stop().await.lost_leases, 0);
    }
    assert_eq!((store.counts().await.delivered, consumer.faults()), (300, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_is_survived_and_counted_with_no_busy_loop() {
    for fate in [Fate::Fails(ErrorKind::Unavailable), Fate::AnswerIsLost, Fate::Hangs] {
        let events = one_a_key(30);
        let store = Remote::with(&events).await;
        let consumer = Consumer::of(&events);
        consumer.decide(|_| Ending::Takes(SECOND));
        let relay = Relay::new(store.clone(), consumer.clone()).with_batch_size(5);
        let relay = start(relay);
        sleep(SECOND + SECOND / 2).await;
        store.decide(move |call| match fate {
            // A claim whose answer is lost would count as a crash.
            Fate::AnswerIsLost if call == Call::Claim => Fate::Fails(ErrorKind::Unavailable),
            _ => fate,
        });
        sleep(20 * MINUTE).await;
        let calls = store.count(Call::Claim) + store.count(Call::Settle) + store.count(Call::Renew);
        assert!(calls < 2000, "{calls} calls with {fate:?}");
        store.decide(|_| Fate::Works);
        sleep(10 * MINUTE).await;
        let report = relay.stop().await;
        assert_eq!((store.counts().await.delivered, consumer.faults()), (30, vec![]));
        assert!(report.store_errors > 10 && report.last_error.is_some(), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_no_retry_helps_ends_it_and_what_is_in_flight_is_settled() {
    let store = Remote::with(&one_a_key(10)).await;
    store.decide({
        let mut claims = 0;
        move |call| match call {
            Call::Claim if claims > 0 => Fate::Fails(ErrorKind::Schema),
            Call::Claim => {
                claims += 1;
                Fate::Works
            }
            _ => Fate::Works,
        }
    });
    let transport = Scripted::accepting().with_delay(SECOND);
    let error = start(Relay::new(store.clone(), transport)).end().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    assert_eq!(store.counts().await.delivered, 10);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_store_is_handed_to_the_caller_of_publish_pending() {
    for kind in [ErrorKind::Schema, ErrorKind::Unavailable] {
        for failing in [Call::Claim, Call::Settle] {
            let store = Remote::with(&one_a_key(3)).await;
            store.decide(move |call| if call == failing { Fate::Fails(kind) } else { Fate::Works });
            let error = Relay::new(store, Scripted::accepting()).publish_pending().await.unwrap_err();
            assert_eq!(error.kind(), kind);
        }
    }
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
async fn an_unavailable_transport_ends_publish_pending() {
    let store = Remote::with(&one_a_key(10)).await;
    let transport = Scripted::events(|_| Err(PublishError::unavailable("down")));
    let relay = Relay::new(store.clone(), transport.clone()).with_batch_size(2).with_concurrency(1);
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, transport.calls().len()), (0, 1));
    assert_eq!(store.pending().await.len(), 10);
}

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
async fn cancelled_while_idle_it_returns_at_once() {
    let relay = start(Relay::new(Remote::new(), Scripted::accepting()).with_poll_interval(MINUTE));
    sleep(MINUTE).await;
    let cancelled = Instant::now();
    relay.stop().await;
    assert_eq!(cancelled.elapsed(), Duration::ZERO);
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
