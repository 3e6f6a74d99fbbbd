//! Dead letters that hold their keys.

use outbox_delivery::{Decision, Failed, Relay};
use outbox_traits::{Claim, ClaimStore, DeadLetterStore, Event, PublishError, PublishErrorKind, Settlement};
use tokio::time::sleep;

use crate::{
    MINUTE, SECOND,
    support::{Scripted, event, remote::Remote, start_on_claims as start},
};

/// Rejects the events of some types.
fn rejecting(types: &'static [&str]) -> Scripted {
    Scripted::events(move |event| {
        if types.contains(&event.event_type()) { Err(PublishError::rejected("never")) } else { Ok(()) }
    })
}

fn events() -> Vec<Event> {
    vec![event("bad", "1"), event("behind", "1"), event("other", "2"), Event::new("bad", ()).unwrap()]
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_holds_keys_publishes_nothing_behind_a_dead_letter_until_it_is_requeued() {
    let events = events();
    let store = Remote::with(&events).await;
    let transport = rejecting(&["bad"]);
    let relays = [transport.clone(), transport.clone()]
        .map(|transport| start(Relay::new(store.clone(), transport).with_held_keys()));
    sleep(60 * MINUTE).await;
    assert_eq!(store.counts().await.delivered, 1);
    let behind = transport.calls().into_iter().filter(|types| types.contains(&"behind".to_owned()));
    assert!(behind.count() <= 1, "it may have been in a batch with the other, and was not attempted");
    assert_eq!(store.pending().await, ["behind"]);
    let dead: Vec<_> = store.dead().await.iter().map(|letter| (letter.id, letter.holds_key)).collect();
    assert_eq!(dead, [(events[0].id(), true), (events[3].id(), false)]);
    for relay in relays {
        relay.stop().await;
    }

    // What ailed it is mended.
    assert!(store.inner.requeue(events[0].id()).await.unwrap());
    let transport = Scripted::accepting();
    let report = Relay::new(store.clone(), transport.clone()).publish_pending().await.unwrap();
    assert_eq!(report.published, 2);
    assert_eq!(transport.given(), ["bad", "behind"]);
}

#[tokio::test(start_paused = true)]
async fn what_waited_for_a_dead_letter_goes_on_when_it_is_discarded() {
    let events = events();
    let store = Remote::with(&events).await;
    let transport = rejecting(&["bad"]);
    let relay = start(Relay::new(store.clone(), transport.clone()).with_held_keys());
    sleep(MINUTE).await;
    assert_eq!(store.pending().await, ["behind"]);
    assert!(store.inner.discard(events[0].id()).await.unwrap());
    sleep(MINUTE).await;
    assert_eq!(relay.stop().await.published, 2);
    assert_eq!(transport.given().last().unwrap(), "behind");
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_it_in_the_same_claim_is_given_back_without_an_attempt() {
    let events = [event("bad", "1"), event("second", "1"), event("third", "1")];
    let store = Remote::with(&events).await;
    let transport = rejecting(&["bad"]);
    let relay = Relay::new(store.clone(), transport.clone()).with_held_keys();
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed, report.dead_lettered, report.released), (0, 1, 1, 2));
    assert!(store.inner.discard(events[0].id()).await.unwrap());
    let histories = store.histories().await;
    assert_eq!(histories, [("second".to_owned(), 0, 0), ("third".to_owned(), 0, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_holds_the_keys_of_some_events_only() {
    let all = [event("order", "1"), event("behind", "1"), event("mail", "2"), event("behind", "2")];
    let store = Remote::with(&all).await;
    let relay =
        Relay::new(store.clone(), rejecting(&["order", "mail"])).with_retry_policy(|failed: &Failed<'_>| {
            assert_eq!(failed.error.kind(), PublishErrorKind::Rejected);
            match failed.event.event_type() {
                "order" => Decision::HoldKey,
                _ => Decision::DeadLetter,
            }
        });
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.dead_lettered), (1, 2));
    let dead: Vec<_> = store.dead().await.iter().map(|letter| letter.holds_key).collect();
    assert_eq!(dead, [true, false]);
    assert_eq!(store.pending().await, ["behind"], "that of the order");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_kills_its_workers_holds_its_key_too() {
    let events = [event("killer", "1"), event("behind", "1")];
    let store = Remote::with(&events).await;
    for _ in 0..2 {
        store.claim(&Claim::new("dies").with_limit(1)).await.unwrap();
        sleep(MINUTE).await;
    }
    let relay = Relay::new(store.clone(), Scripted::accepting()).with_held_keys().with_max_crashes(2);
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.dead_lettered, report.released), (0, 1, 1));
    assert!(store.dead().await[0].holds_key);
}

/// Which may have been requeued, and so have fewer crashes than those behind it.
#[tokio::test(start_paused = true)]
async fn an_event_that_may_kill_its_worker_waits_for_the_one_before_it() {
    let events = [event("bad", "1"), event("suspect", "1"), event("other", "2")];
    let store = Remote::with(&events).await;
    for _ in 0..3 {
        assert_eq!(store.claim(&Claim::new("dies")).await.unwrap().len(), 3);
        sleep(MINUTE).await;
    }
    let leased = store.claim(&Claim::new("sets aside")).await.unwrap();
    let settlements = [
        Settlement::dead_letter_holding_key(leased[0].lease, "suspicious"),
        Settlement::released(leased[1].lease),
        Settlement::delivered(leased[2].lease),
    ];
    store.settle(&settlements).await.unwrap();
    assert!(store.inner.requeue(events[0].id()).await.unwrap());
    let transport = Scripted::events(|_| Err(PublishError::failed("not yet")));
    let relay = Relay::new(store.clone(), transport.clone())
        .with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: 60 * MINUTE });
    let relay = start(relay);
    sleep(10 * SECOND).await;
    relay.stop().await;
    assert_eq!(transport.given(), ["bad"]);
}
