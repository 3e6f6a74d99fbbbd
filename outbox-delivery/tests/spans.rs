//! What a trace shows. It is a program of its own, because whether a span is wanted is remembered for all threads of
//! one, and others want none.

mod support;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use outbox_delivery::Relay;
use outbox_traits::PublishError;
use tracing::{
    Instrument, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

use crate::support::{Scripted, event, remote::Remote};

type Span = (&'static str, BTreeMap<&'static str, String>);

/// Keeps all spans and their fields, by id and number: the registry uses an id again.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<BTreeMap<u64, Span>>>);

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Kept {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        if let Some(parent) = context.span(id).and_then(|span| span.parent()) {
            fields.insert("parent", parent.name().to_owned());
        }
        attributes.record(&mut Fields(&mut fields));
        let mut kept = self.0.lock().unwrap();
        let number = kept.len() as u64;
        kept.insert(id.into_u64() << 16 | number, (attributes.metadata().name(), fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut kept = self.0.lock().unwrap();
        let mut of_id = kept.iter_mut().filter(|(key, _)| **key >> 16 == id.into_u64());
        if let Some((_, (_, fields))) = of_id.next_back() {
            values.record(&mut Fields(fields));
        }
    }
}

impl Kept {
    fn named(&self, name: &str) -> Vec<BTreeMap<&'static str, String>> {
        let kept = self.0.lock().unwrap();
        kept.values().filter(|(span, _)| *span == name).map(|(_, fields)| fields.clone()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_publish_shows_each_event_and_the_trace_of_its_producer() {
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let good =
        event("order.placed", "1").with_header("Traceparent", traceparent).with_header("token", "secret");
    let bad = event("bad", "2");
    let store = Remote::with(&[good.clone(), bad]).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let kept = Kept::default();
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(kept.clone()));
    let relay = Relay::new(store, transport).with_name("orders").with_concurrency(1);
    // It is a trace of its own, wherever the relay runs.
    relay.publish_pending().instrument(tracing::info_span!("worker")).await.unwrap();
    drop(guard);

    let publishes = kept.named("outbox.publish");
    assert!(!publishes[0].contains_key("parent"), "{publishes:?}");
    assert_eq!(kept.named("outbox.event")[0]["parent"], "outbox.publish");
    assert_eq!((publishes[0]["relay"].as_str(), publishes[0]["events"].as_str()), ("orders", "2"));
    let events = kept.named("outbox.event");
    let placed = events.iter().find(|fields| fields["event.type"] == "order.placed").unwrap();
    assert_eq!(placed["event.id"], good.id().to_string());
    assert_eq!((placed["traceparent"].as_str(), placed["accepted"].as_str()), (traceparent, "true"));
    let bad = events.iter().find(|fields| fields["event.type"] == "bad").unwrap();
    assert_eq!((bad["accepted"].as_str(), bad["error"].as_str()), ("false", "no"));
    assert!(!bad.contains_key("traceparent"));
    assert!(!kept.named("outbox.claim").is_empty() && !kept.named("outbox.settle").is_empty());
    let all = format!("{:?}", kept.0.lock().unwrap());
    assert!(!all.contains("secret"));
}
