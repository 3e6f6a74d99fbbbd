//! A transport and a store that are away.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use outbox_delivery::{ExponentialRetry, Relay};
use outbox_traits::{Claim, ClaimStore, ErrorKind, Event, OutboxStore, Outcome, PublishError, Settlement};
use tokio::time::{Instant, sleep};

use crate::{
    MILLISECOND, MINUTE, SECOND, one_a_key,
    support::{
        Scripted, consumer::Consumer, consumer::Ending, event, remote::Call, remote::Fate, remote::Remote,
        start as start_single, start_on_claims as start,
    },
};

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
async fn a_transport_that_says_when_to_come_back_is_left_alone_until_then() {
    for (asked_for, waited) in [(2 * MINUTE, 2 * MINUTE), (100 * MINUTE, 5 * MINUTE)] {
        let store = Remote::with(&one_a_key(50)).await;
        let calls = Arc::new(AtomicUsize::new(0));
        let transport = Scripted::events(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Err(PublishError::unavailable("down").with_retry_after(asked_for)),
            _ => Ok(()),
        });
        let relay = Relay::new(store.clone(), transport.clone()).with_batch_size(50).with_concurrency(1);
        let relay = start(relay);
        sleep(10 * MINUTE).await;
        assert_eq!(relay.stop().await.published, 50);
        let times = transport.times();
        let pause = times[1] - times[0];
        assert!(pause >= waited && pause < waited + SECOND, "{pause:?} where {asked_for:?} was asked for");
    }
}

#[tokio::test(start_paused = true)]
async fn of_calls_that_fail_together_the_longest_time_counts_that_any_asks_for() {
    let store = Remote::with(&one_a_key(4)).await;
    let transport = Scripted::events(|event| {
        let error = PublishError::unavailable("down");
        Err(if event.event_type() == "e3" { error.with_retry_after(2 * MINUTE) } else { error })
    });
    let transport = transport.with_delay(SECOND);
    let relay = Relay::new(store.clone(), transport.clone()).with_batch_size(1).with_concurrency(4);
    let relay = start(relay);
    sleep(10 * MINUTE).await;
    relay.stop().await;
    let times = transport.times();
    assert!(times[3] - times[0] <= SECOND && times[4] - times[3] >= 2 * MINUTE, "{times:?}");
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

/// It makes the other side close the connection, each time.
fn unless_poisonous(event: &Event) -> Result<(), PublishError> {
    match event.event_type() {
        "poison" => Err(PublishError::unavailable("the connection broke")),
        _ => Ok(()),
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_makes_the_transport_unavailable_holds_up_its_key_alone() {
    for keys in [1, 2] {
        // Its own key, or another, has several batches in front of all other events.
        let hot = if keys == 1 { "a" } else { "b" };
        let mut events = vec![event("poison", "a")];
        events.extend((0..45).map(|_| event("hot", hot)));
        events.extend(one_a_key(30));
        let store = Remote::with(&events).await;
        let relay = Relay::new(store.clone(), Scripted::events(unless_poisonous)).with_batch_size(10);
        let relay = start(relay);
        sleep(2 * MINUTE).await;
        assert_eq!(store.counts().await.delivered, if keys == 1 { 30 } else { 75 }, "with {keys} keys");
        relay.stop().await;
    }
}

/// Where the connection that it breaks is that of all.
#[tokio::test(start_paused = true)]
async fn an_event_that_takes_its_whole_batch_with_it_holds_up_its_key_alone() {
    for poisonous in [0, 4, 9] {
        holds_up_its_key_alone(10, poisonous, 100).await;
    }
}

#[tokio::test(start_paused = true)]
async fn so_does_one_that_takes_a_very_large_batch_with_it() {
    // The second time, another batch comes behind it.
    for count in [1001, 1500] {
        holds_up_its_key_alone(count, 4, 1200).await;
    }
}

/// One of so many events takes each batch with it that it is in.
async fn holds_up_its_key_alone(count: usize, poisonous: usize, batch_size: usize) {
    let mut events = one_a_key(count);
    events[poisonous] = event("poison", "a");
    let transport = Scripted::refusing_batches_with_poison(PublishError::unavailable);
    for is_single in [false, true] {
        let store = Remote::with(&events).await;
        let relay = if is_single {
            start_single(Relay::single_worker(store.clone(), transport.clone()).with_batch_size(batch_size))
        } else {
            start(Relay::new(store.clone(), transport.clone()).with_batch_size(batch_size))
        };
        // Nothing else comes by which it could be told.
        sleep(5 * MINUTE).await;
        let delivered = usize::try_from(store.counts().await.delivered).unwrap();
        assert_eq!(delivered, count - 1, "of {count}, at {poisonous}, single: {is_single}");
        relay.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_makes_the_transport_unavailable_is_set_aside_in_the_end() {
    let mut events = vec![event("poison", "a"), event("behind", "a")];
    events.extend(one_a_key(20));
    let store = Remote::with(&events).await;
    let policy = ExponentialRetry::default().with_max_failures(3);
    let relay = Relay::new(store.clone(), Scripted::events(unless_poisonous)).with_retry_policy(policy);
    let relay = start(relay);
    sleep(MINUTE).await;
    assert_eq!(store.counts().await.delivered, 20);
    // Until there is another event it may be the transport: one that is accepted is good for one failure.
    for _ in 0..3 {
        assert_eq!(store.counts().await.dead, 0);
        store.save(&event("later", "b")).await.unwrap();
        sleep(30 * MINUTE).await;
    }
    assert_eq!((store.counts().await.dead, store.counts().await.delivered), (1, 24));
    let error = relay.stop().await.last_error.expect("why");
    assert!(error.contains("whenever it is given this event"), "{error}");
    assert!(error.contains("takes others: the connection broke"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_comes_and_goes_burns_next_to_no_attempt() {
    let store = Remote::with(&one_a_key(5000)).await;
    let started = Instant::now();
    // Down for most of the time, sixty times: pauses are of any length, and some go past the time in which it is up.
    let transport = Scripted::events(move |_| match started.elapsed().as_secs() % 60 {
        50.. => Ok(()),
        _ => Err(PublishError::unavailable("down")),
    });
    let relay = Relay::new(store.clone(), transport.with_delay(SECOND / 2)).with_batch_size(5);
    let relay = start(relay);
    sleep(60 * MINUTE).await;
    let report = relay.stop().await;
    let settlements = store.settlements().concat();
    let is_burnt = |one: &&Settlement| !matches!(one.outcome, Outcome::Delivered | Outcome::Released);
    let burnt = settlements.iter().filter(is_burnt).count();
    assert!(report.published > 1000 && burnt <= 30, "{burnt} attempts: {report}");
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
async fn an_unavailable_transport_ends_publish_pending() {
    let store = Remote::with(&one_a_key(10)).await;
    let transport = Scripted::events(|_| Err(PublishError::unavailable("down")));
    let relay = Relay::new(store.clone(), transport.clone()).with_batch_size(2).with_concurrency(1);
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, transport.calls().len()), (0, 1));
    assert_eq!(store.pending().await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_does_not_grow() {
    let store = Remote::with(&one_a_key(5000)).await;
    store.decide(|call| if call == Call::Settle { Fate::Hangs } else { Fate::Works });
    let transport = Scripted::accepting();
    let relay = start(Relay::new(store.clone(), transport.clone()));
    sleep(MINUTE).await;
    let published = transport.given().len();
    assert!((100..=1500).contains(&published), "{published} publishes, of which none can be settled");
    store.decide(|_| Fate::Works);
    sleep(10 * MINUTE).await;
    assert_eq!(store.counts().await.delivered, 5000);
    relay.stop().await;
}

/// What met the outage, and is left out of the next try, is in front of two that may kill their workers, of which one is held
/// at a time and the other one given back: that goes on for ever if each of these has others looked for.
#[tokio::test(start_paused = true)]
async fn after_an_outage_events_that_may_kill_their_workers_are_tried_without_a_busy_loop() {
    for is_to_blame in [false, true] {
        let events = [event("first", "1"), event("suspect", "2"), event("suspect", "3")];
        let store = Remote::with(&events).await;
        for _ in 0..3 {
            let claim = Claim::new("dies").with_types(["suspect"]);
            assert_eq!(store.claim(&claim).await.unwrap().len(), 2);
            sleep(MINUTE).await;
        }
        store.decide(|_| Fate::AnswersAfter(MILLISECOND));
        let tries = AtomicUsize::new(0);
        let transport = Scripted::events(move |event| {
            let is_down =
                event.event_type() == "first" && (tries.fetch_add(1, Ordering::Relaxed) < 2 || is_to_blame);
            if is_down { Err(PublishError::unavailable("down")) } else { Ok(()) }
        });
        let before = store.count(Call::Claim);
        let relay = start(Relay::new(store.clone(), transport.clone()));
        sleep(2 * MINUTE).await;
        let report = relay.stop().await;
        let claims = store.count(Call::Claim) - before;
        assert!(claims < 500, "{claims} claims");
        assert_eq!(report.published, if is_to_blame { 2 } else { 3 }, "is to blame: {is_to_blame}");
        let is_alone = |call: &Vec<String>| call.len() == 1;
        assert!(transport.calls().iter().all(is_alone), "{:?}", transport.calls());
    }
}

/// The first one met the outage, and is left out of the next try; that may be of what might kill its worker, but for one that
/// comes behind it in its key.
#[tokio::test(start_paused = true)]
async fn after_an_outage_an_event_that_may_kill_its_worker_waits_for_what_comes_before_it_in_its_key() {
    let events = [event("first", "a"), event("suspect", "a")];
    let store = Remote::with(&events).await;
    for _ in 0..3 {
        assert_eq!(store.die_with("suspect").await, 1);
    }
    let consumer = Consumer::of(&events);
    let mut tries = 0;
    consumer.decide(move |_| {
        tries += 1;
        if tries <= 2 { Ending::Unavailable } else { Ending::Accepted }
    });
    let relay = start(Relay::new(store.clone(), consumer.clone()));
    sleep(5 * MINUTE).await;
    let report = relay.stop().await;
    assert_eq!((report.published, consumer.faults()), (2, vec![]));
}
