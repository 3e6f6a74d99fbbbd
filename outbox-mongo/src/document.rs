//! How an event becomes a document and a document an event.

use std::borrow::Cow;

use bson::{
    Binary, Bson, DateTime, Document, RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, doc,
    spec::BinarySubtype,
};
use chrono::Utc;
use outbox_traits::{DeadLetter, EncodedEvent, Error, ErrorKind, Event, EventId, MAX_REASON_CHARS, Result};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{indexes::as_integer, json};

pub(crate) const PENDING: &str = "pending";
pub(crate) const SCHEDULED: &str = "scheduled";
pub(crate) const DELIVERED: &str = "delivered";
pub(crate) const DEAD_LETTER: &str = "dead_letter";
/// Pending, but out of the order of all and in that of its key: others are handed out before it, or it waits.
pub(crate) const PARKED: &str = "parked";

/// Of a dead letter: whether the others of its key wait for it.
pub(crate) const HOLDS_KEY: &str = "holdsKey";

/// A document ends at 16 MiB, which are 16,777,216; what is left is for what the outbox adds later: times, counts, an error.
const MAX_DOCUMENT_BYTES: usize = 16_700_000;

/// What has been written elsewhere may be larger, up to where there is no room any more for what is added.
const MAX_READABLE: usize = 16_757_000;

/// An event as it is inserted.
#[derive(Debug)]
pub(crate) struct NewDocument {
    pub(crate) id: EventId,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) raw: RawDocumentBuf,
}

impl NewDocument {
    pub(crate) fn of(event: &Event) -> Result<Self> {
        let encoded = EncodedEvent::new(event)?;
        let refused = |message: &str| Error::new(ErrorKind::InvalidEvent, message).with_event(event.id());
        let Ok(Value::Object(meta)) = serde_json::to_value(event.meta()) else {
            return Err(refused("the meta has no form in JSON"));
        };
        // The least that may be stored: an event has many more bytes as BSON than as JSON where it is a long list
        // of short things, and then its text alone is kept.
        for (with_payload, with_meta) in [(true, true), (false, true), (false, false)] {
            let mut document = head(event);
            put(&mut document, "payload", event.payload(), encoded.payload.as_str(), with_payload);
            if with_meta {
                put(&mut document, "meta", &Value::Object(meta.clone()), &encoded.meta, true);
            } else {
                put(&mut document, "meta", &identity(&meta), &encoded.meta, true);
                document.insert("metaJson", encoded.meta.as_str());
            }
            tail(&mut document, event);
            let raw = RawDocumentBuf::try_from(&document)
                .map_err(|error| refused("the event has no form in BSON").with_source(error))?;
            if raw.as_bytes().len() <= MAX_DOCUMENT_BYTES {
                let idempotency_key = event.meta().idempotency_key.clone();
                return Ok(Self { id: event.id(), idempotency_key, raw });
            }
        }
        Err(refused("the event is larger than a document of MongoDB can be: store large content elsewhere"))
    }
}

fn head(event: &Event) -> Document {
    doc! { "eventId": event.id().to_string(), "type": event.event_type() }
}

/// Puts a value there as itself and, where that is not exact or not wanted, beside it as text.
fn put(document: &mut Document, name: &str, value: &Value, text: &str, wanted: bool) {
    let bson = if wanted { json::to_bson(value) } else { Bson::Null };
    let is_exact = wanted && json::is_exact(value);
    document.insert(name, bson);
    if !is_exact {
        document.insert(format!("{name}Json"), text);
    }
}

/// What is left of a meta that is too large as a document.
fn identity(meta: &Map<String, Value>) -> Value {
    Value::Object(
        ["id", "timestamp"]
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), meta.get(*name)?.clone())))
            .collect(),
    )
}

fn tail(document: &mut Document, event: &Event) {
    // Whether its time has come is for the server's clock to say, and so for the next fetch.
    document.insert("status", if event.not_before().is_some() { SCHEDULED } else { PENDING });
    // An insert has no clock of the server's but the one in `seq`: this time is for people and for readers of the
    // TypeScript shape, and nothing here goes by it.
    document.insert("createdAt", DateTime::from_millis(Utc::now().timestamp_millis()));
    // The server puts its own, ever-growing time in the place of this one.
    document.insert("seq", Timestamp { time: 0, increment: 0 });
    if let Some(time) = event.not_before() {
        document.insert("notBefore", DateTime::from_millis(time.timestamp_millis()));
    }
    if let Some(key) = &event.meta().idempotency_key {
        document.insert("idempotencyKey", key);
    }
    let key = match event.partition_key() {
        Some(key) => hash("key:", key.as_bytes()),
        None => hash("id:", event.id().as_uuid().as_bytes()),
    };
    document.insert("partitionHash", key_value(&key));
}

/// What stands for a partition key or, where there is none, for the event alone.
pub(crate) type Key = Vec<u8>;

/// The prefixes keep keys and ids apart.
fn hash(prefix: &str, of: &[u8]) -> Key {
    Sha256::new_with_prefix(prefix).chain_update(of).finalize()[..16].to_vec()
}

pub(crate) fn key_value(key: &Key) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: key.clone() }
}

/// The key of a document; one that was written elsewhere has none, and stands alone.
pub(crate) fn key(raw: &RawDocument) -> Key {
    stored_key(raw).unwrap_or_else(|| match raw.get_str("eventId").ok().and_then(|id| id.parse().ok()) {
        Some(id) => hash("id:", EventId::as_uuid(&id).as_bytes()),
        None => hash("document:", raw_id(raw).as_bytes()),
    })
}

/// Whether the event waits for no other, and no other for it.
pub(crate) fn has_no_key(raw: &RawDocument) -> bool {
    let id = raw.get_str("eventId").ok().and_then(|id| id.parse::<EventId>().ok());
    stored_key(raw).is_none_or(|key| id.is_some_and(|id| key == hash("id:", id.as_uuid().as_bytes())))
}

pub(crate) fn stored_key(raw: &RawDocument) -> Option<Key> {
    // Of another kind it is not the same value to the server.
    let hash = raw.get_binary("partitionHash").ok().filter(|hash| hash.subtype == BinarySubtype::Generic);
    hash.map(|hash| hash.bytes.to_vec())
}

/// Any value; null if there is none.
pub(crate) fn value(raw: &RawDocument, name: &str) -> bson::error::Result<Bson> {
    raw.get(name)?.map_or(Ok(Bson::Null), Bson::try_from)
}

/// A count that only some documents have. What another program wrote that can be none counts for nothing.
pub(crate) fn count(raw: &RawDocument, name: &str) -> u32 {
    value(raw, name).ok().and_then(|count| as_count(&count)).unwrap_or(0)
}

/// Nobody has counted further than that: what is larger is none.
pub(crate) const MAX_COUNT: u32 = 1_000_000_000;

/// A number of which one can count on.
pub(crate) fn as_count(number: &Bson) -> Option<u32> {
    if number.as_f64().is_some_and(f64::is_nan) {
        return None;
    }
    u32::try_from(as_integer(number)?).ok().filter(|count| *count <= MAX_COUNT)
}

/// The event in a document, or why it cannot be read.
pub(crate) fn event(raw: &RawDocument) -> Result<Event, String> {
    if raw.as_bytes().len() > MAX_READABLE {
        return Err("the document is so large that it has no room for what becomes of it".to_owned());
    }
    let id = event_id(raw).ok_or("the field `eventId` is not a UUID in its usual form")?;
    let event_type = raw.get_str("type").map_err(|_| "the field `type` is not a text")?;
    let not_before = match field(raw, "notBefore")? {
        None | Some(RawBsonRef::Null) => None,
        Some(RawBsonRef::DateTime(time)) => Some(
            chrono::DateTime::from_timestamp_millis(time.timestamp_millis())
                .ok_or("the field `notBefore` lies outside all calendars")?,
        ),
        Some(_) => return Err("the field `notBefore` is not a date".to_owned()),
    };
    let (payload, meta) = (json_text(raw, "payload", "payloadJson")?, json_text(raw, "meta", "metaJson")?);
    EncodedEvent::decode(id, event_type.to_owned(), &payload, &meta, not_before)
        .map_err(|error| error.to_string())
}

fn field<'a>(raw: &'a RawDocument, name: &str) -> Result<Option<RawBsonRef<'a>>, String> {
    raw.get(name).map_err(|error| format!("the document cannot be read: {error}"))
}

/// A value as JSON text: the text beside it, where there is one.
fn json_text<'a>(raw: &'a RawDocument, name: &str, beside: &str) -> Result<Cow<'a, str>, String> {
    match field(raw, beside)? {
        None | Some(RawBsonRef::Null) => {}
        Some(RawBsonRef::String(text)) => return Ok(text.into()),
        Some(_) => return Err(format!("the field `{beside}` is not a text")),
    }
    let value = field(raw, name)?.ok_or_else(|| format!("the field `{name}` is missing"))?;
    let mut json = String::new();
    json::write(value, &mut json).map_err(|error| format!("the field `{name}`: {error}"))?;
    Ok(json.into())
}

/// Only in the form in which the store itself looks for it.
fn event_id(raw: &RawDocument) -> Option<EventId> {
    let text = raw.get_str("eventId").ok()?;
    let id: EventId = text.parse().ok()?;
    (id.to_string() == text).then_some(id)
}

/// An error as it is kept: a document has room for so much of it, whatever the event is.
pub(crate) fn reason(text: &str) -> String {
    text.chars().take(MAX_REASON_CHARS).collect()
}

/// The changes that make a dead letter of a document which cannot be read: the first of them that it has room for.
pub(crate) fn set_aside(raw: &RawDocument, reason: &str) -> [Document; 3] {
    let mut set = doc! { "status": DEAD_LETTER, "lastError": self::reason(reason) };
    let mut now = doc! { "deadAt": true };
    if event_id(raw).is_none() {
        // So that it can be named, and requeued or discarded by that name.
        set.insert("standInId", stand_in(raw).to_string());
    }
    if raw.get_timestamp("seq").is_err() {
        // Pages of dead letters go by it.
        now.insert("seq", doc! { "$type": "timestamp" });
    }
    let whole = doc! { "$set": set, "$currentDate": now, "$unset": { "retryAt": "" } };
    let mut without_reason = whole.clone();
    if let Ok(set) = without_reason.get_document_mut("$set") {
        set.remove("lastError");
    }
    // Full to the last byte: for the status alone there is room where nothing goes by what was there.
    let status = doc! { "$set": { "status": DEAD_LETTER }, "$unset": { "retryAt": "", "createdAt": "" } };
    [whole, without_reason, status]
}

/// An id for a document that has none.
fn stand_in(raw: &RawDocument) -> EventId {
    let digest = Sha256::digest(raw_id(raw));
    uuid::Builder::from_custom_bytes(std::array::from_fn(|index| digest[index])).into_uuid().into()
}

fn raw_id(raw: &RawDocument) -> String {
    raw.get("_id").ok().flatten().map_or_else(String::new, |id| format!("{id:?}"))
}

/// A number for a document that has no place, the same each time, and below all places.
pub(crate) fn number(raw: &RawDocument) -> u64 {
    let digest = Sha256::digest(raw_id(raw));
    u64::from(u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])).max(1)
}

/// Behind it are all places: what is no later was no time of the server's.
pub(crate) const NO_PLACE: u64 = 0xFFFF_FFFF;

/// What `seq` is where there is a place, behind this one.
pub(crate) fn with_place(after: u64) -> Document {
    doc! { "$gt": seq(after.max(NO_PLACE)) }
}

/// And where there is none, as two ranges of an index: missing, null, or whatever another program wrote.
pub(crate) fn without_place() -> Document {
    doc! { "$not": with_place(NO_PLACE) }
}

/// A place in the outbox as one number.
pub(crate) fn position(raw: &RawDocument) -> u64 {
    let seq = raw.get_timestamp("seq").unwrap_or(Timestamp { time: 0, increment: 0 });
    (u64::from(seq.time) << 32) + u64::from(seq.increment)
}

/// And back.
pub(crate) fn seq(position: u64) -> Timestamp {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    Timestamp { time: half(position >> 32), increment: half(position) }
}

/// The id by which a dead document is known: its own, or where that is not usable another one.
pub(crate) fn shown_id(raw: &RawDocument) -> EventId {
    event_id(raw).or_else(|| raw.get_str("standInId").ok()?.parse().ok()).unwrap_or_else(|| stand_in(raw))
}

/// When a dead letter died that does not say it.
pub(crate) const NO_TIME: chrono::DateTime<Utc> = chrono::DateTime::UNIX_EPOCH;

pub(crate) fn dead_letter(raw: &RawDocument) -> DeadLetter {
    let text = |name: &str| raw.get_str(name).unwrap_or_default().to_owned();
    let time = |name: &str| {
        let time = raw.get_datetime(name).ok()?;
        chrono::DateTime::from_timestamp_millis(time.timestamp_millis())
    };
    let mut reason = text("lastError");
    let content = event(raw).map_err(|why| {
        if reason.is_empty() {
            // It had no room for it.
            reason = why;
        }
        // One that is no BSON throughout is shown in bytes.
        Document::try_from(raw)
            .map_or_else(|_| format!("{raw:?}"), |raw| Bson::Document(raw).into_relaxed_extjson().to_string())
    });
    let dead_at = time("deadAt").unwrap_or(NO_TIME);
    let mut letter = DeadLetter::new(shown_id(raw), text("type"), content, reason, dead_at);
    letter.attempts = count(raw, "attempts");
    letter.failures = count(raw, "failures");
    letter.first_failed_at = time("firstFailedAt");
    letter.last_failed_at = time("lastFailedAt");
    letter.holds_key = raw.get_bool(HOLDS_KEY).unwrap_or(false);
    letter
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(event: &Event) -> Document {
        Document::try_from(&NewDocument::of(event).unwrap().raw).unwrap()
    }

    fn sample() -> Event {
        Event::new("t", json!({ "a": [1, -0.0, null] })).unwrap()
    }

    #[test]
    fn an_event_comes_back_from_its_document() {
        let time = "2024-02-29T12:00:00.001Z".parse().unwrap();
        for written in [sample(), sample().with_not_before(time), sample().with_header("a.b", "$c\u{0}")] {
            let new = NewDocument::of(&written).unwrap();
            assert_eq!(event(&new.raw), Ok(written));
        }
    }

    #[test]
    fn a_key_and_an_id_never_share_a_hash() {
        let hash = |event: &Event| stored(event).get_binary_generic("partitionHash").unwrap().clone();
        let with = sample().with_partition_key("k");
        assert_eq!(hash(&with), hash(&sample().with_resource("r", "k")));
        assert_ne!(hash(&sample()), hash(&sample()));
        assert_eq!(hash(&with)[..], Sha256::digest("key:k")[..16]);
    }

    fn raw(document: &Document) -> RawDocumentBuf {
        RawDocumentBuf::try_from(document).unwrap()
    }

    #[test]
    fn a_count_is_read_whatever_kind_of_integer_it_is() {
        let document = raw(&doc! { "i": 7, "l": 7_i64, "below": -1, "beyond": i64::MAX, "text": "7" });
        for (name, expected) in [("i", 7), ("l", 7), ("below", 0), ("beyond", 0), ("text", 0), ("none", 0)] {
            assert_eq!(count(&document, name), expected, "{name}");
        }
    }

    /// Two of them may be all that is there, and must not share a name.
    #[test]
    fn documents_without_an_id_get_each_its_own_and_always_the_same() {
        let id = |document: Document| dead_letter(&raw(&document)).id;
        assert_eq!(id(doc! { "_id": 1, "type": "a" }), id(doc! { "_id": 1, "type": "b" }));
        let ids = [doc! { "_id": 1 }, doc! { "_id": 2 }, doc! { "_id": "1" }, doc! {}].map(id);
        assert_eq!(std::collections::HashSet::from(ids).len(), ids.len());
    }

    #[test]
    fn what_is_set_aside_gets_only_what_it_has_not() {
        let id = EventId::new();
        let seq = Timestamp { time: 1, increment: 1 };
        let whole = |document: Document| set_aside(&raw(&document), "no")[0].clone();
        let named = whole(doc! { "_id": 1, "eventId": id.to_string(), "seq": seq });
        let named = named.get_document("$set").unwrap();
        assert!(!named.contains_key("standInId"));
        for nameless in [doc! { "_id": 1, "seq": seq }, doc! { "_id": 1, "eventId": "x", "seq": seq }] {
            let changes = whole(nameless);
            assert!(changes.get_document("$set").unwrap().contains_key("standInId"));
            assert!(!changes.get_document("$currentDate").unwrap().contains_key("seq"));
        }
        let placeless = whole(doc! { "_id": 1, "eventId": id.to_string() });
        assert!(placeless.get_document("$currentDate").unwrap().contains_key("seq"));
    }

    /// Some relays look no further than this.
    #[test]
    fn of_a_meta_that_is_too_large_its_id_and_time_are_left() {
        let mut event = sample();
        event.meta_mut().extra.insert("long".to_owned(), json!(vec![0; 1_400_000]));
        let stored = stored(&event);
        let meta = stored.get_document("meta").unwrap();
        let mut names: Vec<&str> = meta.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["id", "timestamp"]);
        assert_eq!(meta.get_str("id").unwrap(), event.id().to_string());
    }

    #[test]
    fn a_document_without_a_place_has_a_number_of_its_own_below_all_places() {
        let documents = [doc! { "_id": 1 }, doc! { "_id": 2 }, doc! { "_id": "1" }];
        let numbers = documents.map(|document| number(&raw(&document)));
        assert_eq!(std::collections::HashSet::from(numbers).len(), numbers.len());
        assert!(numbers.iter().all(|number| (1..=NO_PLACE).contains(number)), "{numbers:?}");
        assert_eq!(number(&raw(&doc! { "_id": 1, "type": "t" })), numbers[0]);
        assert_eq!(seq(NO_PLACE + 1), Timestamp { time: 1, increment: 0 });
    }

    #[test]
    fn a_place_is_a_number_and_back() {
        for (time, increment) in [(0, 0), (0, u32::MAX), (1_700_000_000, 7), (u32::MAX, u32::MAX)] {
            let seq = Timestamp { time, increment };
            let raw = RawDocumentBuf::try_from(&doc! { "seq": seq }).unwrap();
            assert_eq!(super::seq(position(&raw)), seq);
        }
        assert!(
            position(
                &RawDocumentBuf::try_from(&doc! { "seq": Timestamp { time: 1, increment: 0 } }).unwrap()
            ) > 9
        );
    }
}
