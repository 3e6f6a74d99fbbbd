//! The trace of the producer goes on in the publish. It is a program of its own, because whether a span is wanted is
//! remembered for all threads of one.
#![cfg(feature = "opentelemetry")]

mod support;

use opentelemetry::trace::{SpanId, SpanKind, Status, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use outbox_delivery::{EventTrace, Relay};
use outbox_traits::{Event, OutboxStoreExt, PublishError};
use serde_json::json;
use tracing::Instrument;
use tracing_subscriber::prelude::*;

use crate::support::{Scripted, remote::Remote};

/// What a program exports.
async fn exported(work: impl Future<Output = ()>) -> Vec<SpanData> {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    work.await;
    drop(guard);
    provider.force_flush().unwrap();
    exporter.get_finished_spans().unwrap()
}

fn named<'a>(spans: &'a [SpanData], name: &str) -> Vec<&'a SpanData> {
    spans.iter().filter(|span| span.name == name).collect()
}

const EARLIER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn event(event_type: &str) -> Event {
    Event::new(event_type, json!({})).unwrap()
}

/// One test, because a provider is asked in all threads.
#[tokio::test(start_paused = true)]
async fn the_span_of_an_event_is_a_child_of_its_producers_and_linked_with_the_publish() {
    let store = Remote::new();
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let spans = exported(async {
        for event_type in ["good", "bad"] {
            let produce = async {
                let mut session = store.inner.begin();
                // Somebody else's, as other libraries write it.
                let event =
                    event(event_type).with_header("Traceparent", EARLIER).with_header("TraceState", "a=b");
                let mut event = event.with_current_trace();
                let headers = &mut event.meta_mut().headers;
                assert!(headers.keys().eq(["traceparent"]), "{headers:?}");
                if event_type == "good" {
                    let own = headers.remove("traceparent").unwrap();
                    headers.insert("TraceParent".to_owned(), own);
                }
                store.enqueue(event, &mut session).await.unwrap();
                session.commit();
            };
            produce.instrument(tracing::info_span!("produce", event_type)).await;
        }
        let mut session = store.inner.begin();
        store.enqueue(event("alone").with_current_trace(), &mut session).await.unwrap();
        session.commit();
        let relay = Relay::new(store.clone(), transport.clone()).with_concurrency(1);
        relay.publish_pending().await.unwrap();
    })
    .await;

    let [publish] = named(&spans, "outbox.publish")[..] else { panic!("{spans:?}") };
    let produced = named(&spans, "produce");
    let published = named(&spans, "outbox.event");
    assert_eq!((produced.len(), published.len()), (2, 3));
    let is_of = |span: &&&SpanData, event_type: &str| {
        span.attributes
            .iter()
            .any(|field| field.key.as_str() == "event.type" && field.value.as_str() == event_type)
    };
    let of = |event_type: &str| *published.iter().find(|span| is_of(span, event_type)).unwrap();
    for (producer, span) in produced.iter().zip([of("good"), of("bad")]) {
        assert_eq!(span.span_context.trace_id(), producer.span_context.trace_id());
        assert_eq!(span.parent_span_id, producer.span_context.span_id());
        assert!(span.parent_span_is_remote);
        assert_eq!(span.span_kind, SpanKind::Producer);
        assert!(span.links.iter().any(|link| link.span_context == publish.span_context));
        let is_linked =
            |span_id: SpanId| publish.links.iter().any(|link| link.span_context.span_id() == span_id);
        assert!(is_linked(producer.span_context.span_id()));
    }
    assert_ne!(produced[0].span_context.trace_id(), publish.span_context.trace_id());
    assert!(matches!(of("bad").status, Status::Error { .. }) && of("good").status == Status::Unset);
    // Saved in no trace, it stays in that of the publish.
    assert_eq!(of("alone").parent_span_id, publish.span_context.span_id());
    assert_eq!((of("alone").links.len(), publish.links.len()), (0, 2));
}

#[test]
fn without_a_span_the_headers_stay_as_they_are() {
    let before = event("a").with_header("traceparent", "kept").with_header("tracestate", "kept");
    assert_eq!(before.clone().with_current_trace(), before);
}
