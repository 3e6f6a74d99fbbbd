//! What is acknowledged, and what is not.

mod support;

use std::sync::Arc;

use outbox_delivery::Relay;
use outbox_traits::{ErrorKind, Event, OutboxStore, PublishError, Published};

use self::support::{Flaky, Scripted, event, outbox_with, pending};

fn accept(events: &[Event]) -> Vec<Published> {
    events.iter().map(|event| Published { id: event.id(), result: Ok(()) }).collect()
}

#[tokio::test]
async fn everything_is_published_in_order_and_acknowledged() {
    let outbox = outbox_with(&[event("a", "1"), event("b", "2"), event("c", "1")]).await;
    let transport = Scripted::accepting();
    let relay = Relay::single_worker(outbox.clone(), transport.clone()).with_batch_size(2);
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed), (3, 0));
    assert_eq!(report.to_string(), "published 3, failed 0");
    assert_eq!(transport.calls(), [vec!["a", "b"], vec!["c"]]);
    assert!(pending(&outbox).await.is_empty());
}

#[tokio::test]
async fn a_store_is_taken_as_it_is_or_in_an_arc() {
    let outbox = Arc::new(outbox_with(&[event("a", "1")]).await);
    let dynamic: Arc<dyn OutboxStore> = outbox.clone();
    for relay in [
        Relay::single_worker(outbox.clone(), Scripted::accepting()),
        Relay::single_worker(dynamic, Scripted::accepting()),
        Relay::single_worker(Arc::unwrap_or_clone(outbox), Scripted::accepting()),
    ] {
        relay.publish_pending().await.unwrap();
    }
}

#[tokio::test]
async fn an_event_that_the_report_forgot_stays_pending_and_counts_as_failed() {
    let outbox = outbox_with(&[event("a", "1"), event("b", "2")]).await;
    let transport = Scripted::batches(|events| {
        accept(events).into_iter().filter(|published| published.id == events[0].id()).collect()
    });
    let relay = Relay::single_worker(outbox.clone(), transport);
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed), (1, 1));
    assert_eq!(pending(&outbox).await, ["b"]);
    assert!(report.last_error.unwrap().starts_with("the transport did not report on the event"));
}

#[tokio::test]
async fn of_two_answers_for_one_event_the_failure_wins() {
    for failure_is_first in [true, false] {
        let outbox = outbox_with(&[event("a", "1")]).await;
        let transport = Scripted::batches(move |events| {
            let mut published = accept(events);
            let failure = Published { id: events[0].id(), result: Err(PublishError::failed("no")) };
            published.insert(usize::from(!failure_is_first), failure);
            published
        });
        let report = Relay::single_worker(outbox.clone(), transport).publish_pending().await.unwrap();
        assert_eq!((report.published, report.failed), (0, 1));
        assert_eq!(pending(&outbox).await, ["a"]);
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_that_was_not_in_the_batch() {
    let store = Flaky::default();
    let (first, second) = (event("a", "1"), event("b", "2"));
    store.save_all(&[first.clone(), second.clone()]).await.unwrap();
    let other = second.id();
    let transport = Scripted::batches(move |events| {
        let mut published = accept(&events[..1]);
        published.push(Published { id: other, result: Ok(()) });
        published.push(Published { id: events[0].id(), result: Ok(()) });
        published.push(Published { id: outbox_traits::EventId::new(), result: Ok(()) });
        published
    });
    let relay = Relay::single_worker(store.clone(), transport).with_batch_size(1);
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed), (2, 0));
    // Each once, and the second only when its own turn came.
    assert_eq!(*store.acknowledged.lock().unwrap(), [first.id(), second.id()]);
}

#[tokio::test]
async fn a_panic_fails_the_batch_and_nothing_more() {
    let outbox = outbox_with(&[event("a", "1"), event("bad", "2"), event("c", "3")]).await;
    let transport = Scripted::batches(|events| {
        assert!(events.iter().all(|event| event.event_type() != "bad"), "a bad event");
        accept(events)
    });
    let relay = Relay::single_worker(outbox.clone(), transport).with_batch_size(2);
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed), (1, 2));
    assert_eq!(pending(&outbox).await, ["a", "bad"]);
    assert!(report.last_error.unwrap().starts_with("the transport panicked: a bad event"));
}

#[tokio::test]
async fn a_failing_key_keeps_its_later_events_behind_it_and_no_others() {
    let events = [event("bad", "1"), event("a", "1"), event("b", "2"), event("c", "1"), event("d", "3")];
    let outbox = outbox_with(&events).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let relay = Relay::single_worker(outbox.clone(), transport.clone()).with_batch_size(2);
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed), (2, 1));
    assert_eq!(pending(&outbox).await, ["bad", "a", "c"]);
    assert_eq!(transport.given(), ["bad", "a", "b", "d"]);
}

#[tokio::test]
async fn an_unavailable_transport_ends_the_call() {
    let outbox = outbox_with(&[event("a", "1"), event("b", "2"), event("c", "3")]).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "a" => Ok(()),
        _ => Err(PublishError::unavailable("down")),
    });
    let relay = Relay::single_worker(outbox.clone(), transport.clone()).with_batch_size(2);
    let report = relay.publish_pending().await.unwrap();
    assert_eq!((report.published, report.failed), (1, 1));
    assert_eq!((transport.calls().len(), pending(&outbox).await.len()), (1, 2));
}

#[tokio::test]
async fn an_error_of_the_store_is_handed_to_the_caller() {
    for kind in [ErrorKind::Schema, ErrorKind::Unavailable] {
        let store = Flaky::default();
        store.fetch_errors.lock().unwrap().push_back(kind);
        let error = Relay::single_worker(store, Scripted::accepting()).publish_pending().await.unwrap_err();
        assert_eq!(error.kind(), kind);
    }
}
