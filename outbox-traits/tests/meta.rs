//! The JSON of the meta, beyond what the suite asks of every store.

use outbox_traits::{Event, Meta};
use serde_json::{Value, json};

fn read(meta: Value) -> Result<Meta, serde_json::Error> {
    // By a text and by a value: serde takes two ways through the same code.
    let by_text = serde_json::from_str::<Meta>(&meta.to_string());
    let by_value = serde_json::from_value::<Meta>(meta);
    assert_eq!(by_text.as_ref().ok(), by_value.as_ref().ok());
    by_text
}

fn minimal() -> Value {
    json!({ "id": "01890a5d-ac96-774b-bcce-b302099a8057", "timestamp": "2024-01-02T03:04:05.678Z" })
}

fn with(name: &str, value: Value) -> Value {
    let mut meta = minimal();
    meta[name] = value;
    meta
}

#[test]
fn id_and_timestamp_are_required() {
    assert!(read(minimal()).is_ok());
    for name in ["id", "timestamp"] {
        let mut meta = minimal();
        meta.as_object_mut().unwrap().remove(name);
        let error = read(meta).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn null_is_the_same_as_absent() {
    let absent = read(minimal()).unwrap();
    for name in ["userId", "headers", "schemaVersion", "partitionKey"] {
        assert_eq!(read(with(name, Value::Null)).unwrap(), absent);
    }
    assert!(read(with("id", Value::Null)).is_err());
}

#[test]
fn a_known_field_of_another_type_is_refused() {
    for (name, value) in [
        ("id", json!("17")),
        ("timestamp", json!("yesterday")),
        ("userId", json!(17)),
        ("schemaVersion", json!("one")),
        ("schemaVersion", json!(-1)),
        ("headers", json!({ "a": 1 })),
        ("headers", json!([])),
    ] {
        assert!(read(with(name, value.clone())).is_err(), "{name} = {value}");
    }
    assert!(read(json!([])).is_err());
}

#[test]
fn a_name_with_an_escape_in_it_is_read_like_any_other() {
    let text = r#"{ "id": "01890a5d-ac96-774b-bcce-b302099a8057", "timestamp": "2024-01-02T03:04:05.678Z",
        "us\u0065rId": "u-1", "n\u0065w": { "a": 1.5 } }"#;
    let meta: Meta = serde_json::from_str(text).unwrap();
    assert_eq!(meta.user_id.as_deref(), Some("u-1"));
    assert_eq!(meta.extra["new"], json!({ "a": 1.5 }));
}

#[test]
fn a_timestamp_is_read_in_any_offset_and_cut_to_the_millisecond() {
    let meta = read(with("timestamp", json!("2024-01-02T05:04:05.678999+02:00"))).unwrap();
    assert_eq!(json!(meta)["timestamp"], "2024-01-02T03:04:05.678Z");
}

#[test]
fn the_parts_of_an_event_are_in_the_order_of_the_shape() {
    let event = Event::new("t", json!({})).unwrap();
    let text = serde_json::to_string(&event).unwrap();
    assert!(text.starts_with(r#"{"type":"t","payload":{},"meta":{"id":""#), "{text}");
}
