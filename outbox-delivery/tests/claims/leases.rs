//! Leases: renewed, lost, and run out.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use outbox_delivery::{Decision, Failed, Relay};
use outbox_traits::{Claim, ClaimStore, ErrorKind, OutboxStore, PublishError};
use tokio::time::sleep;

use crate::{
    MINUTE, SECOND, one_a_key,
    support::{
        Scripted, consumer::Consumer, consumer::Ending, event, remote::Call, remote::Fate, remote::Remote,
        start_on_claims as start,
    },
};

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

/// As through a connection that is half open, which a pool does not hand out twice.
#[tokio::test(start_paused = true)]
async fn one_call_that_is_never_answered_costs_no_lease() {
    for (call, lease) in [(Call::Renew, 5), (Call::Renew, 30), (Call::Settle, 30), (Call::Settle, 600)] {
        let events = one_a_key(3);
        let store = Remote::with(&events).await;
        let mut calls = 0;
        store.decide(move |made| {
            calls += usize::from(made == call);
            if made == call && calls == 1 { Fate::Hangs } else { Fate::Works }
        });
        let consumer = Consumer::of(&events);
        let length = lease * SECOND;
        consumer.decide(move |_| Ending::Takes(if call == Call::Renew { 2 * length } else { SECOND }));
        let relay = Relay::new(store.clone(), consumer.clone()).with_lease(length);
        let relay = start(relay.with_publish_timeout(60 * MINUTE));
        // One after the other.
        sleep(7 * length).await;
        let report = relay.stop().await;
        assert_eq!((report.published, report.lost_leases), (3, 0), "{call:?} of {length:?}: {report}");
        assert_eq!((store.counts().await.delivered, consumer.faults()), (3, vec![]));
        assert!(events.iter().all(|event| consumer.began(event.id()) == 1), "{call:?} of {length:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn claims_that_fail_hold_up_no_renewal() {
    let events = one_a_key(3);
    let store = Remote::with(&events).await;
    let mut claims = 0;
    store.decide(move |call| {
        claims += usize::from(call == Call::Claim);
        if call == Call::Claim && claims > 1 { Fate::Fails(ErrorKind::Unavailable) } else { Fate::Works }
    });
    let consumer = Consumer::of(&events);
    consumer.decide(|_| Ending::Takes(10 * MINUTE));
    let relay = Relay::new(store.clone(), consumer.clone()).with_lease(2 * SECOND);
    let relay = start(relay.with_publish_timeout(60 * MINUTE));
    sleep(31 * MINUTE).await;
    let report = relay.stop().await;
    assert_eq!((report.published, report.lost_leases), (3, 0), "{report}");
    assert!(report.store_errors > 100, "{report}");
    assert!(events.iter().all(|event| consumer.began(event.id()) == 1));
}

/// It breaks the contract. Nobody is to wait for leases that it said nothing of.
#[tokio::test(start_paused = true)]
async fn a_store_that_answers_for_too_few_leases_ends_the_relay_and_says_so() {
    for (call, publish) in [(Call::Renew, MINUTE), (Call::Settle, SECOND)] {
        let store = Remote::with(&one_a_key(3)).await;
        store.answer_for_one_less(call);
        let transport = Scripted::accepting().with_delay(publish);
        let relay = Relay::new(store.clone(), transport).with_concurrency(1).with_lease(10 * SECOND);
        let error = start(relay).end().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
        let text = "the outbox store answered for 2 of 3 leases";
        assert!(error.to_string().starts_with(text), "{call:?}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_renewal_of_each_lease_fails_there_is_no_busy_loop() {
    // The delays are drawn: with other ones 5 runs of 1,000 had 50 to 52 renewals.
    fastrand::seed(7);
    let store = Remote::with(&one_a_key(2)).await;
    store.fail_each_renewal(ErrorKind::Unavailable);
    let mut renewals = 0;
    store.decide(move |call| {
        renewals += usize::from(call == Call::Renew);
        assert!(renewals < 1000, "a busy loop");
        Fate::Works
    });
    let transport = Scripted::accepting().with_delay(7 * SECOND);
    let relay = Relay::new(store.clone(), transport).with_lease(10 * SECOND);
    let relay = start(relay);
    sleep(8 * SECOND).await;
    let report = relay.stop().await;
    assert!((1..50).contains(&store.count(Call::Renew)), "{} renewals", store.count(Call::Renew));
    assert_eq!((report.published, report.lost_leases), (2, 0));
    assert!(report.store_errors > 0 && report.last_error.unwrap().contains("told to fail"));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_is_counted_and_its_event_is_not_taken_for_delivered() {
    let events = one_a_key(1);
    let store = Remote::with(&events).await;
    let mut settled = 0;
    store.decide(move |call| {
        settled += usize::from(call == Call::Settle);
        if call == Call::Settle && settled == 1 { Fate::Takes(7 * SECOND) } else { Fate::Works }
    });
    let consumer = Consumer::of(&events);
    let relay = Relay::new(store.clone(), consumer.clone()).with_lease(5 * SECOND);
    let relay = start(relay);
    sleep(5 * SECOND).await;
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
async fn an_event_that_kills_its_worker_takes_no_other_with_it_where_few_crashes_are_borne() {
    for max_crashes in [2, 3] {
        let mut events = one_a_key(10);
        events.insert(4, event("bad", "bad"));
        let store = Remote::with(&events).await;
        for _ in 0..max_crashes {
            let transport = Scripted::accepting().with_delay(60 * MINUTE);
            let relay = Relay::new(store.clone(), transport.clone()).with_publish_timeout(90 * MINUTE);
            let relay = start(relay.with_max_crashes(max_crashes));
            while !transport.given().contains(&"bad".to_owned()) {
                sleep(SECOND).await;
            }
            relay.kill().await;
            sleep(MINUTE).await;
        }
        let relay = start(Relay::new(store.clone(), Scripted::accepting()).with_max_crashes(max_crashes));
        sleep(10 * MINUTE).await;
        relay.stop().await;
        let dead: Vec<_> = store.dead().await.into_iter().map(|dead| dead.event_type).collect();
        assert_eq!(dead, ["bad"], "of at most {max_crashes} crashes");
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
        let relay = Relay::new(store.clone(), consumer.clone()).with_concurrency(1);
        let relay = start(relay.with_publish_timeout(60 * MINUTE));
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

/// What was tried already, and is held so that claims go past it, would have one more crash too.
#[tokio::test(start_paused = true)]
async fn where_everything_is_tried_once_nothing_is_held_beside_an_event_that_may_kill_its_worker() {
    let events = [event("fails", "1"), event("suspect", "2")];
    let store = Remote::with(&events).await;
    for _ in 0..3 {
        assert_eq!(store.claim(&Claim::new("dies").with_types(["suspect"])).await.unwrap().len(), 1);
        sleep(MINUTE).await;
    }
    store.decide(|call| if call == Call::Claim { Fate::Takes(SECOND) } else { Fate::Works });
    let (held, seen) = (Arc::new(Mutex::new(Vec::new())), store.clone());
    let written = Arc::clone(&held);
    let transport = Scripted::events(move |event| {
        if event.event_type() == "fails" {
            return Err(PublishError::failed("no"));
        }
        *written.lock().unwrap() = seen.held_by("outbox");
        Ok(())
    });
    let relay = Relay::new(store.clone(), transport.clone())
        .with_batch_size(1)
        .with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: Duration::ZERO });
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed), (1, 1));
    assert_eq!(*held.lock().unwrap(), [events[1].id()]);
}
