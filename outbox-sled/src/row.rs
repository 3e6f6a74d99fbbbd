//! How an event is kept.

use std::borrow::Cow;

use outbox_traits::{EncodedEvent, Error, Event, EventId, MAX_REASON_CHARS, Result};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sled::IVec;
use uuid::Uuid;

use crate::clock;

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
    /// The partition key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(default)]
    pub(crate) saved_at: i64,
    /// The time of its last retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_at: Option<i64>,
    /// Deliveries that were started and have ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) attempts: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) failures: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_failed_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_failed_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
    pub(crate) status: Status,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Status {
    Pending,
    /// Pending, and hidden until then.
    Scheduled(i64),
    Leased {
        token: Uuid,
        until: i64,
    },
    /// It failed, and is tried again from then on.
    Waiting(i64),
    Delivered(i64),
    #[serde(rename_all = "camelCase")]
    Dead {
        at: i64,
        reason: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        holds_key: bool,
    },
}

impl Row {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, sled::Error> {
        serde_json::to_vec(self).map_err(|error| sled::Error::Io(error.into()))
    }

    /// `None`: it cannot be read.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Made again from the record, where the row cannot be read: an error would come back for ever. Where neither
    /// can be read it is nobody's: who meets it sets it aside.
    pub(crate) fn rebuild(record: &[u8], status: Status) -> Self {
        let known = decode(record).ok().and_then(|event| Some((NewRow::of(&event).ok()?, event)));
        let nobodys = || Self::new(Uuid::nil().into(), String::new());
        // When it was saved is not in the record, but when it was made is.
        let row = known.map_or_else(nobodys, |(new, event)| Self {
            saved_at: event.meta().timestamp().timestamp_millis(),
            ..new.row
        });
        Self { status, ..row }
    }

    /// Whether nothing of it could be read.
    pub(crate) fn is_nobodys(&self) -> bool {
        self.id.as_uuid().is_nil()
    }

    fn new(id: EventId, r#type: String) -> Self {
        Self {
            id,
            r#type,
            idempotency_key: None,
            not_before: None,
            key: None,
            saved_at: 0,
            retry_at: None,
            attempts: 0,
            failures: 0,
            first_failed_at: None,
            last_failed_at: None,
            last_error: None,
            status: Status::Pending,
        }
    }

    /// Counts a delivery that ended, and its failure.
    pub(crate) fn count_attempt(&mut self, error: Option<&str>, now: i64) {
        self.attempts = self.attempts.saturating_add(1);
        if let Some(error) = error {
            self.failures = self.failures.saturating_add(1);
            self.first_failed_at.get_or_insert(now);
            self.last_failed_at = Some(now);
            self.last_error = Some(reason(error));
        }
    }

    /// Forgets all deliveries.
    pub(crate) fn forget_attempts(&mut self) {
        (self.attempts, self.failures) = (0, 0);
        (self.first_failed_at, self.last_failed_at, self.last_error) = (None, None, None);
        self.retry_at = None;
    }

    /// Since when it is to be delivered.
    pub(crate) fn due_since(&self) -> i64 {
        [self.not_before, self.retry_at].into_iter().flatten().fold(self.saved_at, i64::max)
    }

    /// The status while it is yet to be delivered.
    pub(crate) fn open_status(&self, now: i64) -> Status {
        self.not_before.filter(|due| *due > now).map_or(Status::Pending, Status::Scheduled)
    }
}

/// An event as it is inserted.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    /// With a status and a time that the insert decides.
    pub(crate) row: Row,
    pub(crate) record: IVec,
}

impl NewRow {
    pub(crate) fn of(event: &Event) -> Result<Self> {
        let EncodedEvent { payload, meta, .. } = EncodedEvent::new(event)?;
        let row = Row {
            idempotency_key: event.meta().idempotency_key.clone(),
            not_before: event.not_before().map(|time| time.timestamp_millis()),
            key: event.partition_key().map(str::to_owned),
            ..Row::new(event.id(), event.event_type().to_owned())
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
        let row = Row::decode(old.as_bytes()).unwrap();
        assert_eq!((row.id, row.status, row.attempts), (id, Status::Delivered(7), 0));
        assert_eq!(Row::decode(b"{"), None);
        let event = Event::new("t", ()).unwrap().with_partition_key("k");
        let new = NewRow::of(&event).unwrap();
        // Its age is that of the event.
        let saved_at = event.meta().timestamp().timestamp_millis();
        assert_eq!(Row::rebuild(&new.record, Status::Pending), Row { saved_at, ..new.row });
        assert_eq!(Row::rebuild(b"{", Status::Waiting(3)).status, Status::Waiting(3));
    }

    #[test]
    fn a_record_comes_back_as_an_event() {
        let event = Event::new("t\u{e9}\"\\", serde_json::json!({ "a": "\0", "b": -0.0 })).unwrap();
        let event = event.with_not_before("1969-12-31T23:59:59.999Z".parse().unwrap());
        assert_eq!(decode(&NewRow::of(&event).unwrap().record), Ok(event));
    }
}
