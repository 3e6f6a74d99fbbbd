//! What another program writes and reads, by the shape that is published.

use std::str::FromStr;

use mongodb::bson::{
    Binary, Bson, DateTime, Decimal128, Document, RawDocumentBuf, Timestamp, doc, oid::ObjectId,
    spec::BinarySubtype,
};
use outbox_conformance::{ElsewhereHarness, Filled, WrittenDead};
use outbox_mongo::mongodb;
use outbox_traits::{Event, EventId, async_trait};
use serde_json::{Value, json};

use super::MongoOf;

/// As the driver of JavaScript, which has floats only: whole numbers of 32 bits are integers, and longer ones are not.
fn of_javascript(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64().and_then(|number| i32::try_from(number).ok()) {
            Some(number) => number.into(),
            None => number.as_f64().unwrap().into(),
        },
        Value::String(text) => text.into(),
        Value::Array(items) => Bson::Array(items.iter().map(of_javascript).collect()),
        Value::Object(fields) => {
            Bson::Document(fields.iter().map(|(name, value)| (name.clone(), of_javascript(value))).collect())
        }
    }
}

fn row(event: &Event, status: &str) -> Document {
    let (id, time) =
        (event.id().to_string(), DateTime::from_millis(event.meta().timestamp().timestamp_millis()));
    doc! {
        "eventId": &id, "type": event.event_type(), "payload": of_javascript(event.payload()),
        "meta": { "id": &id, "timestamp": time }, "status": status, "createdAt": time,
    }
}

/// Makes the payload as long as leaves room for so many bytes more.
pub(crate) fn fill(row: &mut Document, room: usize) {
    fill_by(row, "payload", room);
}

/// Makes this field as long as leaves so much room.
fn fill_by(row: &mut Document, field: &str, room: usize) {
    row.insert(field, "");
    let size = RawDocumentBuf::try_from(&*row).unwrap().as_bytes().len();
    // With the `_id` that the driver adds.
    row.insert(field, "x".repeat(16 * 1024 * 1024 - size - 17 - room));
}

/// What has so much room below the server's limit is read by the store, by its `MAX_READABLE`, and what has less is not.
const READABLE: usize = 16 * 1024 * 1024 - 16_757_000;

#[async_trait]
impl<const DELETES: bool> ElsewhereHarness for MongoOf<DELETES> {
    async fn write_elsewhere(&self, event: &Event) {
        self.outbox().insert_one(row(event, "pending")).await.unwrap();
    }

    async fn write_kinds_elsewhere(&self, event: &Event) -> Option<Value> {
        let binary = |subtype, bytes: &[u8]| Binary { subtype, bytes: bytes.to_vec() };
        let id = ObjectId::parse_str("0123456789abcdef01234567").unwrap();
        let mut row = row(event, "pending");
        row.insert("payload", doc! {
            "at": DateTime::from_millis(1), "id": id, "uuid": binary(BinarySubtype::Uuid, &[0xab; 16]),
            "bytes": binary(BinarySubtype::Generic, &[0xfb, 0xff, 1]), "none": binary(BinarySubtype::Generic, &[]),
            "prices": [Decimal128::from_str("12.50").unwrap()],
        });
        self.outbox().insert_one(row).await.unwrap();
        Some(json!({
            "at": "1970-01-01T00:00:00.001Z", "id": id.to_hex(), "uuid": "abababab-abab-abab-abab-abababababab",
            "bytes": "+/8B", "none": "", "prices": [{ "$numberDecimal": "12.50" }],
        }))
    }

    async fn write_filled_elsewhere(&self, event: &Event, way: usize) -> Option<Filled> {
        let fields = [
            "seq",
            "partitionHash",
            "idempotencyKey",
            "notBefore",
            "attempts",
            "failures",
            "firstFailedAt",
            "lastFailedAt",
            "lastError",
            "retryAt",
            "deadAt",
            "deliveredAt",
            "payloadJson",
            "metaJson",
            "holdsKey",
            "standInId",
        ];
        let failed = DateTime::from_millis(1_709_208_000_001);
        let uuid = Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] };
        let (filled, counts) = match way {
            // As the driver of JavaScript writes what is undefined.
            0 => (fields.map(|field| (field.to_owned(), Bson::Null)).into_iter().collect(), (0, 0)),
            1 => (
                doc! {
                    "seq": "first", "partitionHash": "none", "attempts": "2", "failures": [], "firstFailedAt": "never",
                    "lastFailedAt": false, "lastError": 7, "retryAt": "soon", "deadAt": "no", "holdsKey": "no",
                },
                (0, 0),
            ),
            2 => (doc! { "attempts": 2.0, "failures": 1.0, "firstFailedAt": failed }, (2, 1)),
            3 => (doc! { "attempts": 3_i64, "failures": "none" }, (3, 0)),
            4 => (
                doc! { "failures": 1_i64, "firstFailedAt": Bson::Null, "retryAt": DateTime::from_millis(32_503_680_000_000) },
                (0, 1),
            ),
            5 => (doc! { "attempts": i64::MAX, "failures": -1, "partitionHash": uuid }, (0, 0)),
            6 => (doc! { "attempts": f64::NAN, "failures": f64::INFINITY, "partitionHash": [] }, (0, 0)),
            7 => (doc! { "attempts": Decimal128::from_str("2").unwrap(), "failures": i32::MAX }, (0, 0)),
            _ => return None,
        };
        let mut row = row(event, "pending");
        row.extend::<Document>(filled);
        self.outbox().insert_one(row).await.unwrap();
        let first_failed_at =
            (way == 2).then(|| chrono::DateTime::from_timestamp_millis(failed.timestamp_millis()).unwrap());
        Some(Filled { attempts: counts.0, failures: counts.1, first_failed_at })
    }

    async fn deliver_elsewhere(&self, id: EventId) {
        let delivered = doc! { "$set": { "status": "delivered", "deliveredAt": DateTime::now() } };
        self.outbox().update_one(doc! { "eventId": id.to_string() }, delivered).await.unwrap();
    }

    async fn read_elsewhere(&self, id: EventId) -> Option<Value> {
        let pending = doc! { "eventId": id.to_string(), "status": "pending" };
        let read = self.stored(pending).await?;
        let json = |name: &str| read.get(name).unwrap().clone().into_relaxed_extjson();
        Some(json!({ "type": json("type"), "payload": json("payload"), "meta": json("meta") }))
    }

    async fn write_dead_elsewhere(&self, event: &Event, way: usize) -> Option<WrittenDead> {
        let mut row = row(event, "dead_letter");
        let id = event.id().to_string();
        // The server's own time, as the store itself would have it.
        let place = Bson::from(Timestamp { time: 0, increment: 0 });
        let died = DateTime::from_millis(1_709_208_000_001);
        let (changes, room) = match way {
            0 => (doc! { "deadAt": died }, None),
            1 => (doc! { "seq": Bson::Null, "deadAt": Bson::Null }, None),
            2 => (doc! { "seq": "first" }, None),
            3 => (doc! { "seq": place, "deadAt": died, "holdsKey": false }, None),
            4 => (doc! { "seq": place, "deadAt": "yesterday", "holdsKey": Bson::Null }, None),
            5 => (doc! { "eventId": id.to_uppercase() }, None),
            6 => (doc! { "eventId": [&id], "seq": place, "deadAt": died }, None),
            // As much as a document can hold: with room for a place, for one where nothing goes by what makes it, or for none.
            7 => (doc! { "deadAt": died }, Some(13)),
            8 => (doc! {}, Some(3)),
            9 | 10 => {
                row.remove("createdAt");
                let changes = if way == 9 {
                    doc! {}
                } else {
                    doc! { "eventId": id.to_uppercase(), "deadAt": died }
                };
                (changes, Some(3))
            }
            // By a field that is no part of the event.
            11 => {
                row.extend(doc! { "seq": place, "deadAt": died });
                fill_by(&mut row, "note", READABLE);
                (doc! {}, None)
            }
            _ => return None,
        };
        row.extend(changes);
        if let Some(room) = room {
            fill(&mut row, room);
        }
        self.outbox().insert_one(&row).await.unwrap();
        // What has a place already is not looked for, to give it a time.
        let no_time = (way == 4).then_some(DateTime::from_millis(0));
        let dead_at = row.get_datetime("deadAt").ok().copied().or(no_time);
        let dead_at =
            dead_at.map(|time| chrono::DateTime::from_timestamp_millis(time.timestamp_millis()).unwrap());
        Some(WrittenDead { dead_at, is_readable: room.is_none() && ![5, 6].contains(&way) })
    }
}
