//! The trace of the producer, in the headers of an event: W3C Trace Context, read and written by the library of
//! OpenTelemetry.

use std::collections::BTreeMap;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use outbox_traits::{Event, Meta};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::header::header;

/// Puts the trace in which an event happens into its headers, `traceparent` and `tracestate`, so that the relay and
/// the consumer go on in it.
///
/// ```
/// use outbox_delivery::EventTrace;
/// use outbox_traits::Event;
/// use serde_json::json;
///
/// # fn place() -> outbox_traits::Result<Event> {
/// let event = Event::new("order.placed", json!({ "total": 4200 }))?.with_current_trace();
/// # Ok(event)
/// # }
/// ```
///
/// It is there for the meta alone, too, for an enricher of resource events.
pub trait EventTrace: Sized {
    /// With the current span's context: that of `tracing`, where its spans are exported by `tracing-opentelemetry`, and
    /// otherwise that of OpenTelemetry. Where there is none, nothing changes.
    #[must_use]
    fn with_current_trace(self) -> Self;
}

impl EventTrace for Event {
    fn with_current_trace(mut self) -> Self {
        write_current(&mut self.meta_mut().headers);
        self
    }
}

impl EventTrace for Meta {
    fn with_current_trace(mut self) -> Self {
        write_current(&mut self.headers);
        self
    }
}

fn write_current(headers: &mut BTreeMap<String, String>) {
    let of_tracing = Span::current().context();
    let context = if is_of_a_span(&of_tracing) { of_tracing } else { Context::current() };
    if is_of_a_span(&context) {
        // Nothing of an earlier trace is to stay beside the new `traceparent`, however it is written.
        let is_of_a_trace =
            |name: &str| ["traceparent", "tracestate"].iter().any(|one| one.eq_ignore_ascii_case(name));
        headers.retain(|name, _| !is_of_a_trace(name));
        TraceContextPropagator::new().inject_context(&context, &mut Written(headers));
    }
}

/// Makes the producer's span the parent of an event's span, and links the two with the call that published it.
pub(crate) fn join(call: &Span, of_event: &Span, event: &Event) {
    let headers = Read(&event.meta().headers);
    let producer = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
    if !is_of_a_span(&producer) {
        return;
    }
    call.add_link(producer.span().span_context().clone());
    // Without a layer that exports there is nothing to join.
    if of_event.set_parent(producer).is_ok() {
        of_event.add_link(call.context().span().span_context().clone());
    }
}

fn is_of_a_span(context: &Context) -> bool {
    context.span().span_context().is_valid()
}

struct Written<'a>(&'a mut BTreeMap<String, String>);

impl Injector for Written<'_> {
    fn set(&mut self, name: &str, value: String) {
        // A `tracestate` may be empty, and is then better left out.
        if !value.is_empty() {
            self.0.insert(name.to_owned(), value);
        }
    }
}

struct Read<'a>(&'a BTreeMap<String, String>);

impl Extractor for Read<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        header(self.0, name)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}
