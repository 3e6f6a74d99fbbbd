//! How an event is kept.

use std::borrow::Cow;

use outbox_traits::{EncodedEvent, Error, Event, EventId, Result};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sled::IVec;
use uuid::Uuid;

use crate::clock;

const MAX_REASON_CHARS: usize = 2000;

/// What changes of an event, and what must be known of it without reading it. It is small, so that an
/// acknowledgement does not write a large payload again. Fields may be added: an absent one takes its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) id: EventId,
    pub(crate) r#type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idempotency_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) not_before: Option<i64>,
    pub(crate) status: Status,
}

/// Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Status {
    Pending,
    /// Pending, and hidden until then.
    Scheduled(i64),
    Delivered(i64),
    Dead {
        at: i64,
        reason: String,
    },
}

impl Row {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, sled::Error> {
        serde_json::to_vec(self).map_err(|error| sled::Error::Io(error.into()))
    }

    /// What cannot be read is taken for a pending row of nobody: a fetch meets it and sets it aside, where an
    /// error would come back for ever.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|_| Self {
            id: Uuid::nil().into(),
            r#type: String::new(),
            idempotency_key: None,
            not_before: None,
            status: Status::Pending,
        })
    }

    /// The status while it is yet to be delivered.
    pub(crate) fn open_status(&self, now: i64) -> Status {
        self.not_before.filter(|due| *due > now).map_or(Status::Pending, Status::Scheduled)
    }
}

/// An event as it is inserted.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    /// With a status that the insert decides.
    pub(crate) row: Row,
    pub(crate) record: IVec,
}

impl NewRow {
    pub(crate) fn of(event: &Event) -> Result<Self> {
        let EncodedEvent { payload, meta, .. } = EncodedEvent::new(event)?;
        let row = Row {
            id: event.id(),
            r#type: event.event_type().to_owned(),
            idempotency_key: event.meta().idempotency_key.clone(),
            not_before: event.not_before().map(|time| time.timestamp_millis()),
            status: Status::Pending,
        };
        let record = (|| {
            serde_json::to_vec(&Record {
                id: row.id,
                r#type: Cow::Borrowed(&row.r#type),
                not_before: row.not_before,
                payload: serde_json::from_str(&payload)?,
                meta: serde_json::from_str(&meta)?,
            })
        })()
        .map_err(|error: serde_json::Error| {
            let message = "the event has no form in JSON";
            Error::new(outbox_traits::ErrorKind::InvalidEvent, message).with_event(row.id).with_source(error)
        })?;
        Ok(Self { row, record: record.into() })
    }
}

/// The event itself; written once.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    id: EventId,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow)]
    meta: &'a RawValue,
}

/// Reads an event back, or says why it cannot.
pub(crate) fn decode(record: &[u8]) -> Result<Event, String> {
    let record: Record<'_> = serde_json::from_slice(record)
        .map_err(|error| format!("the stored record cannot be read: {error}"))?;
    EncodedEvent::decode(
        record.id,
        record.r#type.into_owned(),
        record.payload.get(),
        record.meta.get(),
        record.not_before.map(clock::time),
    )
    .map_err(|error| error.to_string())
}

/// A reason of bounded length.
pub(crate) fn reason(text: &str) -> String {
    text.chars().take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_an_older_version_is_read_and_a_broken_one_is_of_nobody() {
        let id = EventId::new();
        let old = format!(r#"{{"id":"{id}","type":"t","status":{{"delivered":7}}}}"#);
        let row = Row::decode(old.as_bytes());
        assert_eq!((row.id, row.status), (id, Status::Delivered(7)));
        assert_eq!(Row::decode(b"{").status, Status::Pending);
    }

    #[test]
    fn a_record_comes_back_as_an_event() {
        let event = Event::new("t\u{e9}\"\\", serde_json::json!({ "a": "\0", "b": -0.0 })).unwrap();
        let event = event.with_not_before("1969-12-31T23:59:59.999Z".parse().unwrap());
        assert_eq!(decode(&NewRow::of(&event).unwrap().record), Ok(event));
    }
}
