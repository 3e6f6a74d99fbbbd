//! Functions of the same program as a transport.
#![cfg(feature = "in-process")]

use std::sync::{Arc, Mutex};

use outbox_delivery::transport::InProcess;
use outbox_traits::{Event, PublishError, PublishErrorKind, Transport};
use serde_json::json;

fn event(event_type: &str) -> Event {
    Event::new(event_type, json!({})).unwrap()
}

#[tokio::test]
async fn all_subscribers_that_match_are_called_in_the_order_of_subscription() {
    let called = Arc::new(Mutex::new(Vec::new()));
    let mut transport = InProcess::new();
    for (name, pattern) in [(1, "order.*"), (2, "invoice.*"), (3, "*"), (4, "order.placed"), (5, "order")] {
        let called = Arc::clone(&called);
        transport = transport.subscribe(pattern, move |event| {
            called.lock().unwrap().push((name, event.event_type().to_owned()));
            async { Ok::<_, PublishError>(()) }
        });
    }
    transport.publish(&event("order.placed")).await.unwrap();
    let called = called.lock().unwrap().iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert_eq!(called, [1, 3, 4]);
}

#[tokio::test]
async fn an_event_that_nobody_wants_is_accepted() {
    let transport = InProcess::new().subscribe("a.*", |_| async { Err::<(), _>("no") });
    transport.publish(&event("b.c")).await.unwrap();
}

#[tokio::test]
async fn an_error_of_a_subscriber_is_the_source_and_a_publish_error_keeps_its_kind() {
    let transport = InProcess::new()
        .subscribe("a.b", |_| async { Err::<(), _>(std::io::Error::other("disk full")) })
        .subscribe("c.d", |_| async { Err::<(), _>(PublishError::unavailable("down")) });
    let error = transport.publish(&event("a.b")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Failed);
    assert_eq!(error.to_string(), "the subscriber of `a.b` failed: disk full");
    let error = transport.publish(&event("c.d")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
}

#[tokio::test]
async fn a_subscriber_that_panics_fails_its_event_alone() {
    let transport = InProcess::new()
        .subscribe("a.*", |event| async move {
            assert_eq!(event.event_type(), "b.b", "another type");
            Ok::<_, PublishError>(())
        })
        .subscribe("b.*", |_| async { Ok::<_, PublishError>(()) });
    let published = transport.publish_all(&[event("a.a"), event("b.b")]).await;
    let error = published[0].result.as_ref().unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("the subscriber of `a.*` panicked: "), "{message}");
    assert!(message.contains("another type"), "{message}");
    assert!(published[1].result.is_ok());
}

#[test]
#[should_panic(expected = "`*.placed` is no pattern for types of events: write `*` for all")]
fn a_pattern_of_another_kind_is_a_mistake_of_the_program() {
    let _ = InProcess::new().subscribe("*.placed", |_| async { Ok::<_, PublishError>(()) });
}
