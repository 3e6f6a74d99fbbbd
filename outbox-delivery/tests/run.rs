//! A relay that runs, in simulated time.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use outbox_delivery::Relay;
use outbox_traits::{ErrorKind, OutboxStore, PublishError};
use tokio::time::{Instant, advance, sleep};

use self::support::{
    Flaky, Scripted,
    consumer::{Consumer, Ending},
    event, outbox_with, pending, start,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn idle_it_looks_ever_less_often_and_an_event_waits_no_longer_than_an_interval() {
    for interval in [None, Some(Duration::from_millis(100)), Some(Duration::from_secs(10))] {
        let store = Flaky::default();
        let transport = Scripted::accepting();
        let relay = Relay::single_worker(store.clone(), transport.clone());
        let relay = match interval {
            Some(interval) => relay.with_poll_interval(interval),
            None => relay,
        };
        let (relay, longest) = (start(relay), interval.unwrap_or(Duration::from_secs(2)));
        // Soon at first.
        sleep(Duration::from_millis(51)).await;
        assert!(store.limits.lock().unwrap().len() >= 2);
        sleep(600 * longest).await;
        let looks = store.limits.lock().unwrap().len();
        assert!((600..900).contains(&looks), "{looks} looks with {interval:?}");
        store.save(&event("a", "1")).await.unwrap();
        let saved_at = Instant::now();
        sleep(2 * longest).await;
        assert!(transport.times()[0] - saved_at <= longest + MILLISECOND);
        assert_eq!(relay.stop().await.published, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn with_work_it_never_waits() {
    let events: Vec<_> = (0..1000).map(|n| event("a", &n.to_string())).collect();
    let outbox = outbox_with(&events).await;
    let started = Instant::now();
    let relay = Relay::single_worker(outbox.clone(), Scripted::accepting()).with_batch_size(1);
    let relay = start(relay.with_poll_interval(MINUTE));
    while !pending(&outbox).await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(relay.stop().await.published, 1000);
}

#[tokio::test(start_paused = true)]
async fn what_always_fails_is_tried_ever_less_often() {
    let outbox = outbox_with(&[event("bad", "1")]).await;
    let transport = Scripted::events(|_| Err(PublishError::failed("no")));
    let relay = start(Relay::single_worker(outbox.clone(), transport.clone()));
    sleep(10 * MINUTE).await;
    let report = relay.stop().await;
    // At full jitter a wait is half of its ceiling on average: about 8 until 30 s is reached, then 4 a minute.
    let tries = transport.calls().len();
    assert!((25..100).contains(&tries), "{tries} tries");
    assert_eq!((report.published, report.failed), (0, tries as u64));
    assert_eq!(pending(&outbox).await, ["bad"]);
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_transport_is_tried_ever_less_often_and_is_used_when_it_is_back() {
    let outbox = outbox_with(&[event("a", "1"), event("b", "2")]).await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&tries);
    let transport = Scripted::events(move |_| {
        if counter.fetch_add(1, Ordering::Relaxed) < 40 {
            return Err(PublishError::unavailable("down"));
        }
        Ok(())
    });
    let relay = start(Relay::single_worker(outbox.clone(), transport.clone()));
    sleep(10 * MINUTE).await;
    let report = relay.stop().await;
    assert_eq!(report.published, 2);
    assert!(pending(&outbox).await.is_empty());
    let times = transport.times();
    assert!(times[20] - times[0] > Duration::from_secs(30), "{:?}", times[20] - times[0]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_makes_the_transport_unavailable_holds_up_its_key_alone() {
    let mut events = vec![event("poison", "a")];
    events.extend((0..25).map(|_| event("behind", "a")));
    events.extend((0..30).map(|n| event("other", &n.to_string())));
    let outbox = outbox_with(&events).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "poison" => Err(PublishError::unavailable("the connection broke")),
        _ => Ok(()),
    });
    let relay = start(Relay::single_worker(outbox.clone(), transport.clone()).with_batch_size(10));
    sleep(10 * MINUTE).await;
    assert_eq!(relay.stop().await.published, 30);
    assert_eq!(pending(&outbox).await.len(), 26);
    assert!(transport.calls().len() < 100, "{} calls", transport.calls().len());
}

#[tokio::test(start_paused = true)]
async fn a_flapping_transport_gets_every_event_and_keeps_the_order_of_each_key() {
    let events: Vec<_> = (0..200).map(|n| event(&format!("e{n}"), &(n % 7).to_string())).collect();
    let outbox = outbox_with(&events).await;
    let accepted = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&accepted);
    let transport = Scripted::events(move |event| match fastrand::u8(..6) {
        0 => Err(PublishError::failed("no")),
        1 => Err(PublishError::rejected("no")),
        2 => panic!("no"),
        _ => {
            log.lock().unwrap().push((event.partition_key().unwrap().to_owned(), event.id()));
            Ok(())
        }
    });
    let relay = Relay::single_worker(outbox.clone(), transport).with_batch_size(3);
    let relay = start(relay.with_retry_delay(MILLISECOND, 20 * MILLISECOND));
    sleep(10 * MINUTE).await;
    relay.stop().await;
    assert!(pending(&outbox).await.is_empty());
    // A panic after an acceptance means that it is published again: it is the first time that counts.
    let accepted = accepted.lock().unwrap();
    for key in 0..7 {
        let key = key.to_string();
        let mut seen = Vec::new();
        for (_, id) in accepted.iter().filter(|(of, _)| *of == key) {
            if !seen.contains(id) {
                seen.push(*id);
            }
        }
        let expected: Vec<_> = events
            .iter()
            .filter(|event| event.partition_key() == Some(&key))
            .map(outbox_traits::Event::id)
            .collect();
        assert_eq!(seen, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_makes_the_transport_panic_holds_up_no_other_key() {
    let mut events: Vec<_> = (0..10).map(|n| event("good", &n.to_string())).collect();
    events.insert(4, event("bad", "bad"));
    let outbox = outbox_with(&events).await;
    let transport = Scripted::events(|event| {
        assert_eq!(event.event_type(), "good");
        Ok(())
    });
    let relay = start(Relay::single_worker(outbox.clone(), transport));
    sleep(10 * MINUTE).await;
    let report = relay.stop().await;
    assert_eq!(report.published, 10);
    assert_eq!(pending(&outbox).await, ["bad"]);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_key_that_fills_the_batch_starves_no_other() {
    let mut events: Vec<_> = (0..50).map(|_| event("bad", "stuck")).collect();
    events.extend((0..50).map(|n| event("good", &n.to_string())));
    let outbox = outbox_with(&events).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let relay = Relay::single_worker(outbox.clone(), transport).with_batch_size(10);
    let relay = start(relay.with_retry_delay(MINUTE, MINUTE));
    sleep(Duration::from_millis(500)).await;
    assert_eq!(relay.stop().await.published, 50);
    assert_eq!(pending(&outbox).await.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn more_than_ten_batches_of_waiting_events_make_the_rest_wait_and_no_busy_loop() {
    let store = Flaky::default();
    let mut events: Vec<_> = (0..200).map(|_| event("bad", "stuck")).collect();
    events.push(event("good", "1"));
    store.save_all(&events).await.unwrap();
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let relay = Relay::single_worker(store.clone(), transport.clone()).with_batch_size(10);
    let relay = start(relay.with_retry_delay(MINUTE, MINUTE));
    sleep(10 * MINUTE).await;
    assert_eq!(relay.stop().await.published, 0);
    let limits = store.limits.lock().unwrap();
    assert_eq!(limits.iter().max(), Some(&100));
    // Once an interval of 1.5 s on average, and a few for the growing fetch.
    assert!(limits.len() < 10 * 60 + 500, "{} fetches", limits.len());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_failed_is_not_tried_before_its_back_off() {
    let outbox = outbox_with(&[event("bad", "1")]).await;
    let transport = Scripted::events(|_| Err(PublishError::failed("no")));
    let relay = Relay::single_worker(outbox.clone(), transport.clone());
    let relay = start(relay.with_retry_delay(MINUTE, MINUTE).with_poll_interval(MILLISECOND));
    sleep(MILLISECOND).await;
    // New events of the key do not hasten it.
    for _ in 0..20 {
        outbox.save(&event("later", "1")).await.unwrap();
        sleep(MILLISECOND).await;
    }
    assert!(transport.calls().len() <= 2, "{:?}", transport.calls());
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_delay_of_nothing_makes_no_busy_loop() {
    for error in [PublishError::failed, PublishError::unavailable, |_| PublishError::not_attempted()] {
        let outbox = outbox_with(&[event("a", "1")]).await;
        let transport = Scripted::events(move |_| Err(error("no").with_retry_after(Duration::ZERO)));
        let relay =
            Relay::single_worker(outbox.clone(), transport.clone()).with_poll_interval(Duration::ZERO);
        let relay = start(relay.with_retry_delay(Duration::ZERO, Duration::ZERO));
        sleep(Duration::from_secs(2)).await;
        let tries = transport.calls().len();
        assert!((150..=201).contains(&tries), "{tries} tries");
        relay.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_is_survived_and_counted() {
    let store = Flaky::default();
    store.save(&event("a", "1")).await.unwrap();
    store.fetch_errors.lock().unwrap().extend([ErrorKind::Unavailable; 20]);
    let started = Instant::now();
    let transport = Scripted::accepting();
    let relay = start(Relay::single_worker(store.clone(), transport.clone()));
    sleep(20 * MINUTE).await;
    let report = relay.stop().await;
    assert_eq!((report.published, report.store_errors), (1, 20));
    assert!(transport.times()[0] - started > Duration::from_secs(20));
    assert_eq!(report.last_error.as_deref(), Some("told to fail"));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_acknowledged_is_acknowledged_later_and_not_published_again() {
    let store = Flaky::default();
    store.save_all(&[event("a", "1"), event("b", "1")]).await.unwrap();
    store.acknowledge_errors.lock().unwrap().extend([ErrorKind::Conflict; 5]);
    let transport = Scripted::accepting();
    let relay = Relay::single_worker(store.clone(), transport.clone()).with_batch_size(1);
    let relay = start(relay);
    sleep(MINUTE).await;
    let report = relay.stop().await;
    assert_eq!((report.published, report.store_errors), (2, 5));
    assert_eq!(transport.given(), ["a", "b"]);
    assert!(pending(&store.inner).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_no_retry_helps_ends_it() {
    let store = Flaky::default();
    store.fetch_errors.lock().unwrap().extend([ErrorKind::Conflict, ErrorKind::Schema]);
    let error = start(Relay::single_worker(store, Scripted::accepting())).end().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
}

#[tokio::test(start_paused = true)]
async fn cancelled_it_finishes_the_publish_in_flight_and_begins_no_other() {
    let outbox = outbox_with(&[event("a", "1"), event("b", "2")]).await;
    let transport = Scripted::accepting().with_delay(Duration::from_secs(5));
    let relay = start(Relay::single_worker(outbox.clone(), transport).with_batch_size(1));
    sleep(Duration::from_secs(1)).await;
    let cancelled = Instant::now();
    assert_eq!(relay.stop().await.published, 1);
    assert_eq!(cancelled.elapsed(), Duration::from_secs(4));
    assert_eq!(pending(&outbox).await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn cancelled_it_returns_within_the_grace_period_whatever_hangs() {
    let outbox = outbox_with(&[event("a", "1")]).await;
    let transport = Scripted::accepting().with_delay(24 * 60 * MINUTE);
    let relay = Relay::single_worker(outbox.clone(), transport);
    let relay = start(relay.with_grace_period(Duration::from_secs(3)));
    sleep(Duration::from_secs(1)).await;
    let cancelled = Instant::now();
    assert_eq!(relay.stop().await.published, 0);
    assert_eq!(cancelled.elapsed(), Duration::from_secs(3));
    assert_eq!(pending(&outbox).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn cancelled_it_still_acknowledges_what_was_accepted() {
    let store = Flaky::default();
    store.save(&event("a", "1")).await.unwrap();
    store.acknowledge_errors.lock().unwrap().extend([ErrorKind::Unavailable; 4]);
    let transport = Scripted::accepting().with_delay(Duration::from_secs(1));
    let relay = start(Relay::single_worker(store.clone(), transport));
    sleep(MILLISECOND).await;
    let report = relay.stop().await;
    assert_eq!((report.published, report.store_errors), (1, 4));
    assert!(pending(&store.inner).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn cancelled_after_the_store_was_away_it_does_not_wait_to_acknowledge() {
    let store = Flaky::default();
    store.save(&event("a", "1")).await.unwrap();
    store.acknowledge_errors.lock().unwrap().extend([ErrorKind::Unavailable; 2]);
    let relay = Relay::single_worker(store.clone(), Scripted::accepting());
    let relay = relay.with_retry_delay(60 * MINUTE, 60 * MINUTE);
    // A delay is anything up to an hour, and hardly ever as short as that.
    let relay = start(relay.with_grace_period(50 * MILLISECOND));
    sleep(MILLISECOND).await;
    assert_eq!(pending(&store.inner).await, ["a"]);
    // Once more when it is told to stop, and then after the first delay: the second does not fit into the grace period.
    assert_eq!(relay.stop().await.store_errors, 2);
    assert_eq!(pending(&store.inner).await, ["a"]);

    store.acknowledge_errors.lock().unwrap().extend([ErrorKind::Unavailable]);
    let relay = Relay::single_worker(store.clone(), Scripted::accepting());
    let relay = start(relay.with_retry_delay(60 * MINUTE, 60 * MINUTE));
    sleep(MILLISECOND).await;
    let cancelled = Instant::now();
    let report = relay.stop().await;
    assert_eq!((report.published, report.store_errors, cancelled.elapsed()), (1, 1, Duration::ZERO));
    assert!(pending(&store.inner).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_transport_is_left_alone_as_it_asks_though_nothing_can_be_acknowledged_at_first() {
    let store = Flaky::default();
    store.save_all(&[event("good", "1"), event("bad", "2")]).await.unwrap();
    store.acknowledge_errors.lock().unwrap().extend([ErrorKind::Unavailable]);
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::unavailable("down").with_retry_after(2 * MINUTE)),
        _ => Ok(()),
    });
    let relay = start(Relay::single_worker(store.clone(), transport.clone()));
    sleep(10 * MINUTE).await;
    relay.stop().await;
    let times = transport.times();
    assert!(times.len() > 2 && times[1] - times[0] >= 2 * MINUTE, "{times:?}");
    assert_eq!(pending(&store.inner).await, ["bad"]);
}

#[tokio::test(start_paused = true)]
async fn cancelled_it_does_not_wait_for_a_transport_that_wants_to_be_left_alone() {
    let store = Flaky::default();
    store.save_all(&[event("good", "1"), event("bad", "2")]).await.unwrap();
    store.acknowledge_errors.lock().unwrap().extend([ErrorKind::Unavailable; 2]);
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::unavailable("down").with_retry_after(2 * MINUTE)),
        _ => Ok(()),
    });
    let relay = start(Relay::single_worker(store.clone(), transport.clone()));
    sleep(MILLISECOND).await;
    let cancelled = Instant::now();
    assert_eq!(relay.stop().await.published, 1);
    assert!(cancelled.elapsed() < Duration::from_secs(1), "{:?}", cancelled.elapsed());
    assert_eq!(pending(&store.inner).await, ["bad"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_asked_again() {
    let store = Flaky::default();
    store.save(&event("a", "1")).await.unwrap();
    store.hanging.lock().unwrap().extend(["get_pending", "acknowledge_all", "purge"]);
    let relay = Relay::single_worker(store.clone(), Scripted::accepting()).with_purge(Duration::ZERO);
    let relay = start(relay);
    sleep(2 * MINUTE).await;
    assert!(pending(&store.inner).await.is_empty());
    sleep(30 * MINUTE).await;
    let report = relay.stop().await;
    assert_eq!((report.published, report.purged, report.store_errors), (1, 1, 3), "{report}");
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_idle_it_returns_at_once() {
    let relay = Relay::single_worker(Flaky::default(), Scripted::accepting());
    let relay = start(relay.with_poll_interval(MINUTE));
    advance(MILLISECOND).await;
    let cancelled = Instant::now();
    relay.stop().await;
    assert_eq!(cancelled.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_hangs_fails_after_its_time_out_and_holds_up_no_other_key() {
    let outbox = outbox_with(&[event("bad", "1"), event("behind", "1"), event("good", "2")]).await;
    let transport = Consumer::of(&[]);
    transport.decide(|event| match event.event_type() {
        "bad" => Ending::Hangs,
        _ => Ending::Accepted,
    });
    let relay = Relay::single_worker(outbox.clone(), transport);
    let relay = start(relay.with_publish_timeout(Duration::from_secs(5)));
    sleep(10 * MINUTE).await;
    let report = relay.stop().await;
    assert!(report.published == 1 && report.failed > 10, "{report}");
    let error = report.last_error.unwrap();
    assert!(error.starts_with("the transport did not answer within 5s"), "{error}");
    assert_eq!(pending(&outbox).await, ["bad", "behind"]);
}

#[tokio::test(start_paused = true)]
async fn in_strict_mode_the_first_failure_ends_it_and_the_rest_stays_pending() {
    let events = [event("a", "1"), event("bad", "2"), event("c", "3")];
    let outbox = outbox_with(&events).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let relay = start(Relay::single_worker(outbox.clone(), transport.clone()).with_strict());
    let report = relay.end().await.unwrap();
    assert_eq!((report.published, report.failed, report.stopped_at), (1, 1, Some(events[1].id())));
    assert_eq!(pending(&outbox).await, ["bad", "c"]);
    assert_eq!(transport.given(), ["a", "bad"]);
}

#[tokio::test(start_paused = true)]
async fn delivered_events_are_purged_beside_the_work() {
    let outbox = outbox_with(&[event("a", "1")]).await;
    let relay = start(Relay::single_worker(outbox, Scripted::accepting()).with_purge(Duration::ZERO));
    sleep(2 * MINUTE).await;
    assert_eq!(relay.stop().await.purged, 1);
}

/// A grace period that is enough for an event and not for its batch.
#[cfg(feature = "in-process")]
#[tokio::test(start_paused = true)]
async fn stopped_it_acknowledges_what_a_handler_had_begun_and_begins_no_more_of_the_batch() {
    let outbox = outbox_with(&[event("a", "1"), event("b", "2"), event("c", "3")]).await;
    let transport = outbox_delivery::transport::InProcess::new().subscribe("*", |_| async {
        sleep(Duration::from_secs(4)).await;
        Ok::<_, PublishError>(())
    });
    let relay = Relay::single_worker(outbox.clone(), transport);
    let relay = start(relay.with_grace_period(Duration::from_secs(5)));
    sleep(Duration::from_secs(5)).await;
    let cancelled = Instant::now();
    let report = relay.stop().await;
    assert!(cancelled.elapsed() < Duration::from_secs(4), "{:?}", cancelled.elapsed());
    assert_eq!((report.published, report.failed), (2, 0));
    assert_eq!(pending(&outbox).await, ["c"]);
}
