//! What a trace shows of a publish.

use outbox_traits::{Event, PublishError};
use tracing::Span;

use crate::{guard, header::header};

/// The span of a call of the transport, and one in it for each event.
#[derive(Debug)]
pub(crate) struct Spans {
    pub(crate) call: Span,
    events: Vec<Span>,
}

impl Spans {
    pub(crate) fn new(relay: &str, events: &[Event]) -> Self {
        let call = tracing::info_span!(parent: None, "outbox.publish", relay, events = events.len());
        // As many as there are events, and so only where somebody looks.
        let events = if call.is_disabled() { &[] } else { events };
        let events = events.iter().map(|event| of(&call, event)).collect();
        Self { call, events }
    }

    pub(crate) fn end(&self, results: &[Result<(), PublishError>]) {
        for (span, result) in self.events.iter().zip(results) {
            span.record("accepted", result.is_ok());
            if let Err(error) = result {
                span.record("otel.status_code", "ERROR");
                span.record("error", guard::text(error));
            }
        }
    }
}

/// The producer's `traceparent` stands in a field: whoever exports spans can join its trace by it, and with the feature
/// `opentelemetry` it is joined.
fn of(call: &Span, event: &Event) -> Span {
    let span = tracing::info_span!(
        parent: call,
        "outbox.event",
        event.id = %event.id(),
        event.type = event.event_type(),
        traceparent = header(&event.meta().headers, "traceparent"),
        accepted = tracing::field::Empty,
        error = tracing::field::Empty,
        otel.kind = "producer",
        otel.status_code = tracing::field::Empty,
    );
    #[cfg(feature = "opentelemetry")]
    crate::trace_context::join(call, &span, event);
    span
}
