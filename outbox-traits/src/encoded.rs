//! The text form in which stores without a JSON type of their own keep an event.

use chrono::{DateTime, Utc};

use crate::{Error, ErrorKind, Event, EventId, Result};

/// The largest event, payload and meta together, as JSON in bytes: 8 MiB. Beyond it engines begin to differ
/// (a document of MongoDB ends at 16 MiB, a packet of MySQL closes the connection), so that an event is
/// refused while the session is still unharmed.
pub const MAX_ENCODED_BYTES: usize = 8 * 1024 * 1024;

/// An event that keeps the rules, with its payload and meta as JSON texts, ready to be stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EncodedEvent {
    /// The payload as JSON.
    pub payload: String,
    /// The meta as JSON.
    pub meta: String,
}

impl EncodedEvent {
    /// Validates an event and writes it as JSON texts.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEvent`] if it breaks a rule of [`Event::validate`] or is larger than
    /// [`MAX_ENCODED_BYTES`].
    pub fn new(event: &Event) -> Result<Self> {
        event.validate()?;
        let encoded = (|| {
            Ok(Self {
                payload: serde_json::to_string(event.payload())?,
                meta: serde_json::to_string(event.meta())?,
            })
        })()
        .map_err(|error: serde_json::Error| {
            Error::invalid_event("the event has no form in JSON").with_event(event.id()).with_source(error)
        })?;
        let bytes = encoded.payload.len() + encoded.meta.len();
        if bytes > MAX_ENCODED_BYTES {
            let message = format!(
                "the event has {bytes} bytes as JSON and the limit is {MAX_ENCODED_BYTES}: \
                 store large content elsewhere and send a reference to it"
            );
            return Err(Error::invalid_event(message).with_event(event.id()));
        }
        Ok(encoded)
    }

    /// Reads an event back from its stored parts.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the payload is no JSON, the meta is not a meta or its id is not `id`: such a
    /// row is to be set aside as a dead letter.
    pub fn decode(
        id: EventId,
        event_type: String,
        payload: &str,
        meta: &str,
        not_before: Option<DateTime<Utc>>,
    ) -> Result<Event> {
        let corrupt = |part: &str, error: serde_json::Error| {
            Error::new(ErrorKind::Corrupt, format!("the stored {part} cannot be read"))
                .with_event(id)
                .with_source(error)
        };
        let payload = serde_json::from_str(payload).map_err(|error| corrupt("payload", error))?;
        let meta: crate::Meta = serde_json::from_str(meta).map_err(|error| corrupt("meta", error))?;
        if meta.id() != id {
            let message = format!("the stored meta names another event, {}", meta.id());
            return Err(Error::new(ErrorKind::Corrupt, message).with_event(id));
        }
        Ok(Event::from_parts(event_type, payload, meta, not_before))
    }
}
