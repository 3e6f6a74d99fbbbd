//! What every transport does: it delivers, in the order of each key, and reports.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use outbox_traits::{Event, PublishErrorKind, Transport};
use serde_json::{Value, json};

use super::{
    Received, TransportHarness,
    support::{assert_keys_in_order, event, ids_of, of_keys, publish, publish_all, received, results_of},
};

/// 13.1: every event that is published arrives, once while nothing fails.
pub async fn every_event_arrives<H: TransportHarness>(h: Arc<H>) {
    let events: Vec<_> = (0..20).map(|index| event(&format!("event {index}"))).collect();
    for event in &events {
        publish(&h, event).await;
    }
    assert_eq!(received(&h).await.len(), 20);
    let batch = of_keys(7, 0, 150);
    publish_all(&h, &batch).await;
    let mut arrived = ids_of(&received(&h).await);
    let mut expected: Vec<_> = events.iter().chain(&batch).map(Event::id).collect();
    arrived.sort_unstable();
    expected.sort_unstable();
    assert_eq!(arrived, expected);
}

/// 13.2: the report on a batch names each of its events once, and no other.
pub async fn a_report_names_each_event_once<H: TransportHarness>(h: Arc<H>) {
    assert!(h.transport().publish_all(&[]).await.is_empty());
    for count in [1, 2, 3, 100] {
        let events = of_keys(3, 0, count);
        let report = h.transport().publish_all(&events).await;
        let mut reported: Vec<_> = report.iter().map(|published| published.id).collect();
        let mut expected: Vec<_> = events.iter().map(Event::id).collect();
        reported.sort_unstable();
        expected.sort_unstable();
        assert_eq!(reported, expected);
        assert!(report.iter().all(|published| published.result.is_ok()));
    }
}

/// 13.3: accepted means that the other side has it, at the moment of the answer.
pub async fn an_accepted_event_has_arrived<H: TransportHarness>(h: Arc<H>) {
    for index in 0..5 {
        let event = event(&format!("event {index}"));
        publish(&h, &event).await;
        assert!(ids_of(&received(&h).await).contains(&event.id()), "event {index} was accepted");
        let batch = of_keys(2, 4 * index, 4);
        publish_all(&h, &batch).await;
        let arrived = ids_of(&received(&h).await);
        assert!(batch.iter().all(|event| arrived.contains(&event.id())), "batch {index} was accepted");
    }
}

/// 13.4: the id, the type and the payload arrive as they are.
pub async fn the_id_the_type_and_the_payload_arrive<H: TransportHarness>(h: Arc<H>) {
    let placed =
        Event::new("order.placed", json!({ "total": 4200, "lines": [{ "sku": "a" }] })).expect("valid");
    let renamed = Event::new("customer.renamed", json!({ "name": "Zoë" })).expect("valid");
    publish_all(&h, &[placed.clone(), renamed.clone()]).await;
    let received = received(&h).await;
    assert_arrived(&received, &placed);
    assert_arrived(&received, &renamed);
}

fn assert_arrived(received: &[Received], event: &Event) {
    let arrived = received.iter().find(|arrived| arrived.id == event.id()).expect("the event has arrived");
    assert_eq!(arrived.event_type, event.event_type());
    assert_eq!(arrived.payload, *event.payload());
    assert_eq!(arrived.partition_key.as_deref(), event.partition_key());
    for (name, value) in &event.meta().headers {
        assert_eq!(arrived.headers.get(&name.to_ascii_lowercase()), Some(value), "the header {name}");
    }
}

/// 13.4: a payload of any shape arrives exactly.
pub async fn unusual_payloads_arrive_exactly<H: TransportHarness>(h: Arc<H>) {
    let deep = (0..64).fold(json!(1), |inner, _| json!([inner]));
    let payloads: [Value; 12] = [
        json!(null),
        json!([]),
        json!({}),
        json!(""),
        json!(false),
        json!({ "": "", "a.b": 1, "$c": { "": null } }),
        json!([i64::MIN, u64::MAX, 1e308, 0.1, -1]),
        json!("line\r\nline\ttab \u{0} \u{7f} \u{2028} \"quoted\" \\ %41"),
        json!("日本語 🦀 e\u{301} \u{10ffff}"),
        json!("\u{feff}with a byte order mark"),
        deep,
        json!("x".repeat(50_000)),
    ];
    let events: Vec<_> =
        payloads.into_iter().map(|payload| Event::new("suite.unusual", payload).expect("valid")).collect();
    publish_all(&h, &events).await;
    let received = received(&h).await;
    for event in &events {
        assert_arrived(&received, event);
    }
}

/// 13.4: a type of any text arrives exactly, or is refused for good: it is not tried for ever, nor lost.
pub async fn an_unusual_type_arrives_exactly_or_is_refused<H: TransportHarness>(h: Arc<H>) {
    let long = "x".repeat(256);
    let types = [
        "Order Placed",
        "größe.geändert",
        "a..b",
        ".a",
        "a.",
        "a.*",
        "a.>",
        "*",
        "a/b?c#d",
        "100%",
        "a\nb",
        "a\tb",
        "\u{1f980}",
        "a:b",
        &long,
    ];
    for event_type in types {
        let event = Event::new(event_type, json!({ "type": event_type })).expect("a valid type");
        assert_arrives_or_is_refused(&h, &event).await;
    }
    publish(&h, &event("an event as usual")).await;
}

async fn assert_arrives_or_is_refused<H: TransportHarness>(h: &Arc<H>, event: &Event) {
    match results_of(h, std::slice::from_ref(event)).await.remove(0) {
        Ok(()) => assert_arrived(&received(h).await, event),
        Err(error) => {
            assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
            assert!(!ids_of(&received(h).await).contains(&event.id()), "it was refused, and has arrived");
        }
    }
}

/// 13.5: the partition key arrives, or the resource id where there is none.
pub async fn the_partition_key_arrives<H: TransportHarness>(h: Arc<H>) {
    let events = [
        event("with a key").with_partition_key("customer-9"),
        event("with a resource").with_resource("order", "o-17"),
        event("with both").with_resource("order", "o-18").with_partition_key("customer-10"),
        event("with neither"),
        event("with an unusual key").with_partition_key("a b/%41 \"ü\" 🦀"),
    ];
    publish_all(&h, &events).await;
    let received = received(&h).await;
    for event in &events {
        assert_arrived(&received, event);
    }
}

/// 13.5: headers arrive, `traceparent` and `tracestate` among them.
pub async fn headers_and_the_trace_arrive<H: TransportHarness>(h: Arc<H>) {
    let traced = event("traced")
        .with_header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .with_header("tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
        .with_header("x-region", "eu west 1; a=\"b\", 100%");
    let many = (0..50)
        .fold(event("many"), |event, index| event.with_header(format!("x-{index}"), index.to_string()));
    let events = [traced, event("without"), many];
    publish_all(&h, &events).await;
    let received = received(&h).await;
    for event in &events {
        assert_arrived(&received, event);
    }
    let without = received.iter().find(|arrived| arrived.id == events[1].id()).expect("it has arrived");
    assert!(!without.headers.contains_key("x-region"), "the header of another event");
}

/// 13.5: a header that the protocol has no form for arrives exactly or is refused; it never becomes another one.
pub async fn an_unusual_header_arrives_exactly_or_is_refused<H: TransportHarness>(h: Arc<H>) {
    for (name, value) in [
        ("x-note", "ünï 🦀"),
        ("x-note", "a\r\nx-injected: 1"),
        ("x-note", "a\nb"),
        ("x-note", ""),
        ("x-note", " blanks around "),
        ("x note", "a"),
        ("x-note: 1\r\nx-injected", "1"),
        ("", "a"),
        ("x-größe", "a"),
        ("content-length", "1"),
        ("content-type", "text/plain"),
        // What a message has of its own.
        ("id", "other"),
        ("type", "order.refunded"),
        ("data", "other"),
        ("ce-id", "other"),
        ("ce-type", "order.refunded"),
        ("ce_id", "other"),
        ("ce_type", "order.refunded"),
        ("cloudEvents:id", "other"),
        ("cloudEvents:type", "order.refunded"),
    ] {
        assert_arrives_or_is_refused(&h, &event("unusual").with_header(name, value)).await;
    }
    let received = received(&h).await;
    assert!(
        received.iter().all(|arrived| !arrived.headers.contains_key("x-injected")),
        "a header was injected"
    );
    publish(&h, &event("an event as usual")).await;
}

/// 13.6: the events of a key arrive in the order in which they were published, within a batch and across batches.
pub async fn the_order_of_a_key_is_kept<H: TransportHarness>(h: Arc<H>) {
    for batch in of_keys(3, 0, 120).chunks(40) {
        publish_all(&h, batch).await;
    }
    // All of one key, which is where a pipeline is tempted.
    let one_key: Vec<_> =
        of_keys(1, 0, 60).into_iter().map(|event| event.with_partition_key("alone")).collect();
    publish_all(&h, &one_key).await;
    assert_keys_in_order(&received(&h).await);
}

/// 13.6: batches that are published at the same time are reported on apart, and each keeps its order.
pub async fn batches_at_the_same_time_are_kept_apart<H: TransportHarness>(h: Arc<H>) {
    let publish_own = |worker: usize| {
        let h = Arc::clone(&h);
        async move {
            let own = |event: Event| {
                let key = format!("worker-{worker}-{}", event.partition_key().unwrap_or_default());
                event.with_partition_key(key)
            };
            let events: Vec<_> = of_keys(2, 0, 60).into_iter().map(own).collect();
            for batch in events.chunks(15) {
                publish_all(&h, batch).await;
            }
        }
    };
    // Two in each task: on a busy machine tasks alone may run one after the other.
    let in_pairs = |worker| {
        let (one, other) = (publish_own(worker), publish_own(worker + 1));
        tokio::spawn(async { tokio::join!(one, other) })
    };
    for pair in [0, 2].map(in_pairs) {
        pair.await.expect("the workers");
    }
    let received = received(&h).await;
    assert_eq!(received.len(), 240);
    assert_keys_in_order(&received);
}

/// 13.7: an event that was accepted before is accepted again, as after a crash of the relay.
pub async fn an_event_may_be_published_again<H: TransportHarness>(h: Arc<H>) {
    let events = of_keys(2, 0, 6);
    publish_all(&h, &events).await;
    publish_all(&h, &events).await;
    publish(&h, &events[0]).await;
    let received = received(&h).await;
    assert_keys_in_order(&received);
    for event in &events {
        assert_arrived(&received, event);
    }
}

/// 13.8: a call that nobody waits for any more harms none that comes after it.
pub async fn a_call_that_is_given_up_harms_no_other<H: TransportHarness>(h: Arc<H>) {
    for progress in [1, 2, 3, 5, 8, 13, 21, 34] {
        let given_up = of_keys(3, 0, 30);
        give_up(h.transport().publish_all(&given_up), progress).await;
        publish_all(&h, &[event("one"), event("two")]).await;
        let next = event("next");
        publish(&h, &next).await;
        assert!(ids_of(&received(&h).await).contains(&next.id()));
    }
}

/// Drops a future that made progress so many times.
async fn give_up<T>(mut call: Pin<Box<dyn Future<Output = T> + Send + '_>>, progress: usize) {
    let mut polls = 0;
    poll_fn(|context| {
        polls += 1;
        if call.as_mut().poll(context).is_ready() || polls == progress {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
