//! How an event becomes a row and a row an event.

use chrono::{DateTime, Datelike, Utc};
use outbox_traits::{DeadLetter, EncodedEvent, Error, ErrorKind, Event, EventId, MAX_REASON_CHARS, Result};
use sha2::{Digest, Sha256};
use sqlx::{ColumnIndex, Decode, Row, Type, ValueRef};
use uuid::Uuid;

/// Lanes divide the partition keys, for workers that share the outbox.
const LANES: u8 = 64;

/// An event as it is inserted.
#[derive(Debug)]
pub struct NewRow {
    /// The id.
    pub id: Uuid,
    /// The type.
    pub event_type: String,
    /// The payload as JSON.
    pub payload: String,
    /// The meta as JSON.
    pub meta: String,
    /// Hidden until then; whole milliseconds.
    pub not_before: Option<DateTime<Utc>>,
    /// What stands for the partition key or, where there is none, for the id.
    pub partition_hash: [u8; 16],
    /// Which lane it belongs to.
    pub lane: i16,
    /// What stands for the idempotency key. A hash, because the key itself may be of any length and have
    /// characters that an engine refuses or takes for one another.
    pub idempotency_hash: Option<[u8; 32]>,
}

impl NewRow {
    /// For an engine whose calendar begins with this year.
    pub(crate) fn of(event: &Event, first_year: i32) -> Result<Self> {
        let EncodedEvent { payload, meta, .. } = EncodedEvent::new(event)?;
        if event.not_before().is_some_and(|time| time.year() < first_year) {
            let message = format!(
                "the not-before time lies before the year {first_year}, where the engine's calendar begins"
            );
            return Err(Error::new(ErrorKind::InvalidEvent, message).with_event(event.id()));
        }
        let hash = match event.partition_key() {
            Some(key) => first_half(&Sha256::new_with_prefix("key:").chain_update(key).finalize()),
            None => hash_without_key(event.id()),
        };
        Ok(Self {
            id: event.id().into(),
            event_type: event.event_type().to_owned(),
            payload,
            meta,
            not_before: event.not_before(),
            partition_hash: hash,
            lane: i16::from(hash[0] % LANES),
            idempotency_hash: event.meta().idempotency_key.as_deref().map(|key| {
                std::array::from_fn::<u8, 32, _>({
                    let digest = Sha256::digest(key);
                    move |index| digest[index]
                })
            }),
        })
    }

    /// Whether it is hidden no longer at this time.
    pub(crate) fn is_due_at(&self, now: DateTime<Utc>) -> bool {
        self.not_before.is_none_or(|time| time <= now)
    }

    /// About how many bytes it takes in a statement.
    pub(crate) fn bytes(&self) -> usize {
        [self.event_type.len(), self.payload.len(), self.meta.len(), 128].iter().sum()
    }
}

/// What stands for the partition key of an event that has none. The prefixes keep keys and ids apart.
pub(crate) fn hash_without_key(id: EventId) -> [u8; 16] {
    first_half(&Sha256::new_with_prefix("id:").chain_update(id.as_uuid().as_bytes()).finalize())
}

fn first_half(digest: &[u8]) -> [u8; 16] {
    std::array::from_fn(|index| digest[index])
}

/// Cuts rows into runs of bounded size; a row beyond the bound is a run of its own.
pub(crate) fn chunks<'a>(rows: &'a [NewRow], max_rows: usize, max_bytes: usize) -> Vec<&'a [NewRow]> {
    let within_bytes = |rows: &'a [NewRow]| {
        let mut bytes = 0;
        rows.chunk_by(move |row, next| {
            bytes += row.bytes();
            let fits = bytes + next.bytes() <= max_bytes;
            if !fits {
                bytes = 0;
            }
            fits
        })
    };
    rows.chunks(max_rows).flat_map(within_bytes).collect()
}

/// Which of the rows were stored, from the ids and idempotency hashes of those that were.
///
/// Rows that agree in both stand or fall together with the first of them, so the first is the stored one.
pub(crate) fn stored_of(rows: &[NewRow], mut stored: Vec<(Uuid, Option<Vec<u8>>)>) -> Vec<bool> {
    // From the end, so that taking one leaves the places of those before.
    stored.reverse();
    rows.iter()
        .map(|row| {
            let hash = row.idempotency_hash.as_ref().map(<[u8; 32]>::as_slice);
            let found = stored.iter().rposition(|(id, stored)| *id == row.id && stored.as_deref() == hash);
            found.map(|index| stored.remove(index)).is_some()
        })
        .collect()
}

/// A stored row: its place and id, and the event or why it cannot be read.
#[derive(Debug)]
pub struct Stored {
    /// Its place in the outbox.
    pub seq: i64,
    /// What it holds.
    pub event: Result<Event, String>,
}

/// A row of an engine, as the shared code reads it. The statements name the columns in this order: `seq`,
/// `id`, `type`, `payload`, `meta`, `not_before`; and for a dead letter also `last_error`, `attempts`,
/// `failures`, `first_failed_at`, `last_failed_at`, `dead_at` and its place if it holds its key. Times are in microseconds since 1970.
pub trait ReadRow: Row {
    /// Place and id.
    fn position(&self) -> sqlx::Result<(i64, EventId)>;
    /// An event.
    fn stored(&self) -> sqlx::Result<Stored>;
    /// A dead letter, with its place.
    fn dead_letter(&self) -> sqlx::Result<(i64, DeadLetter)>;
    /// A large integer.
    fn number(&self, index: usize) -> sqlx::Result<i64>;
    /// A large integer that may be absent.
    fn optional(&self, index: usize) -> sqlx::Result<Option<i64>>;
    /// A count; none at all is what nobody could have written.
    fn count(&self, index: usize) -> u32;
    /// An id.
    fn uuid(&self, index: usize) -> sqlx::Result<Uuid>;
    /// A text.
    fn text(&self, index: usize) -> sqlx::Result<String>;
    /// Bytes.
    fn bytes(&self, index: usize) -> sqlx::Result<Vec<u8>>;
    /// Whether there is nothing there.
    fn is_null(&self, index: usize) -> sqlx::Result<bool>;
}

/// Bytes in a row, for an engine that has a quicker way to them than the driver's.
pub trait RowBytes: Row {
    /// Those in a column.
    fn bytes_at(&self, index: usize) -> sqlx::Result<Vec<u8>>
    where
        usize: ColumnIndex<Self>,
        for<'r> Vec<u8>: Decode<'r, Self::Database> + Type<Self::Database>,
    {
        self.try_get(index)
    }
}

impl<R> ReadRow for R
where
    R: RowBytes,
    usize: ColumnIndex<R>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i32: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Uuid: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn position(&self) -> sqlx::Result<(i64, EventId)> {
        Ok((self.try_get(0)?, self.try_get::<Uuid, _>(1)?.into()))
    }

    fn stored(&self) -> sqlx::Result<Stored> {
        Ok(Stored { seq: self.try_get(0)?, event: event(self) })
    }

    fn dead_letter(&self) -> sqlx::Result<(i64, DeadLetter)> {
        let (seq, id) = self.position()?;
        let event_type = raw_text(self, 2);
        let content = event(self).map_err(|_| raw_content(self));
        let reason = self.try_get::<Option<String>, _>(6).ok().flatten().unwrap_or_default();
        let time =
            |index| self.try_get(index).ok().flatten().and_then(DateTime::<Utc>::from_timestamp_micros);
        let mut letter =
            DeadLetter::new(id, event_type, content, reason, time(11).unwrap_or(DateTime::UNIX_EPOCH));
        letter.attempts = self.count(7);
        letter.failures = self.count(8);
        letter.first_failed_at = time(9);
        letter.last_failed_at = time(10);
        letter.holds_key = !self.is_null(12)?;
        Ok((seq, letter))
    }

    fn number(&self, index: usize) -> sqlx::Result<i64> {
        self.try_get(index)
    }

    fn optional(&self, index: usize) -> sqlx::Result<Option<i64>> {
        self.try_get(index)
    }

    fn count(&self, index: usize) -> u32 {
        u32::try_from(self.try_get::<i32, _>(index).unwrap_or(0)).unwrap_or(0)
    }

    fn uuid(&self, index: usize) -> sqlx::Result<Uuid> {
        self.try_get(index)
    }

    fn text(&self, index: usize) -> sqlx::Result<String> {
        self.try_get(index)
    }

    fn bytes(&self, index: usize) -> sqlx::Result<Vec<u8>> {
        self.bytes_at(index)
    }

    fn is_null(&self, index: usize) -> sqlx::Result<bool> {
        Ok(self.try_get_raw(index)?.is_null())
    }
}

fn event<R>(row: &R) -> Result<Event, String>
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Uuid: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
{
    let text = |error: sqlx::Error| error.to_string();
    let not_before = row.try_get::<Option<i64>, _>(5).map_err(text)?.map(|micros| {
        DateTime::from_timestamp_micros(micros).ok_or("the stored not-before time is out of range")
    });
    EncodedEvent::decode(
        row.try_get::<Uuid, _>(1).map_err(text)?.into(),
        row.try_get(2).map_err(text)?,
        &row.try_get::<String, _>(3).map_err(text)?,
        &row.try_get::<String, _>(4).map_err(text)?,
        not_before.transpose()?,
    )
    .map_err(|error| error.to_string())
}

/// What an undecodable row holds, as JSON: its texts, which may be no JSON themselves.
fn raw_content<R>(row: &R) -> String
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database>,
{
    serde_json::json!({ "type": raw_text(row, 2), "payload": raw_text(row, 3), "meta": raw_text(row, 4) })
        .to_string()
}

/// A text column, whatever stands in it.
fn raw_text<R>(row: &R, index: usize) -> String
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database>,
{
    if row.try_get_raw(index).map_or(true, |value| value.is_null()) {
        return String::new();
    }
    row.try_get_unchecked(index).unwrap_or_else(|_| {
        // It is none.
        let bytes = row.try_get_unchecked::<Vec<u8>, _>(index);
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    })
}

/// A time as every engine can keep it.
pub(crate) fn utc(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::UNIX_EPOCH)
}

/// A reason as every engine can keep it.
pub(crate) fn reason(text: &str) -> String {
    text.chars()
        .map(|char| if char == '\0' { char::REPLACEMENT_CHARACTER } else { char })
        .take(MAX_REASON_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(event: &Event) -> NewRow {
        NewRow::of(event, 0).unwrap()
    }

    fn event() -> Event {
        Event::new("t", json!({})).unwrap()
    }

    #[test]
    fn a_chunk_is_bounded_in_rows_and_bytes_and_never_empty() {
        let large = Event::new("t", "x".repeat(5000)).unwrap();
        let rows: Vec<_> = [&event(), &event(), &event(), &large, &event()].map(row).into();
        let lengths = |max_rows, max_bytes| {
            chunks(&rows, max_rows, max_bytes).iter().map(|chunk| chunk.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(2, usize::MAX), [2, 2, 1]);
        assert_eq!(lengths(9, 4000), [3, 1, 1]);
        assert!(chunks(&[], 2, 2).is_empty());
    }

    #[test]
    fn a_chunk_is_full_to_the_last_byte() {
        let rows: Vec<_> = [&event(), &event(), &event()].map(row).into();
        let two = rows[0].bytes() + rows[1].bytes();
        let lengths =
            |max_bytes| chunks(&rows, 9, max_bytes).iter().map(|rows| rows.len()).collect::<Vec<_>>();
        assert_eq!(lengths(two), [2, 1]);
        assert_eq!(lengths(two - 1), [1, 1, 1]);
    }

    #[test]
    fn each_text_of_an_event_counts_for_the_length_of_its_statement() {
        let with = |name: &str, payload: &str, header: &str| {
            let event = Event::new(name, json!(payload)).unwrap().with_header("header", header);
            row(&event).bytes()
        };
        let least = with("t", "", "");
        assert!(least > 128, "the rest of the row, and the ids in the meta");
        let long = "x".repeat(101);
        assert_eq!(with(&long, "", ""), least + 100);
        assert_eq!(with("t", &long, ""), least + 101);
        assert_eq!(with("t", "", &long), least + 101);
    }

    #[test]
    fn a_row_is_hidden_until_its_time_and_not_at_it() {
        let now = DateTime::from_timestamp_millis(1_000_000).unwrap();
        let before = now - chrono::TimeDelta::milliseconds(1);
        let hidden = row(&event().with_not_before(now));
        assert!(!hidden.is_due_at(before) && hidden.is_due_at(now));
        assert!(row(&event()).is_due_at(now));
    }

    #[test]
    fn of_rows_with_one_id_the_stored_one_is_told_by_its_key() {
        let first = event().with_idempotency_key("taken");
        let second = event().with_id(first.id());
        let rows = [&first, &second, &second].map(row);
        assert_eq!(stored_of(&rows, vec![(first.id().into(), None)]), [false, true, false]);
    }

    #[test]
    fn a_key_and_an_id_never_share_a_hash() {
        let without = event();
        let with = event().with_partition_key("k");
        assert_eq!(row(&with).partition_hash, row(&event().with_resource("r", "k")).partition_hash);
        assert_ne!(row(&without).partition_hash, row(&event()).partition_hash);
        assert_eq!(u8::try_from(row(&with).lane), Ok(row(&with).partition_hash[0] % 64));
    }
}
