//! JSON as BSON, and back.

use std::ops::RangeInclusive;

use bson::{Bson, Document, RawBson, RawBsonRef, spec::BinarySubtype};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

/// A JSON value as the BSON that a reader in another language expects: numbers as numbers, objects as documents.
///
/// Not all JSON has such a form: a whole number beyond 64 signed bits becomes a float, and a NUL in a name, which
/// ends a name in BSON, another character. [`is_exact`] tells.
pub(crate) fn to_bson(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(value) => Bson::Boolean(*value),
        Value::Number(number) => number_to_bson(number),
        Value::String(text) => Bson::String(text.clone()),
        Value::Array(items) => Bson::Array(items.iter().map(to_bson).collect()),
        Value::Object(fields) => Bson::Document(to_document(fields)),
    }
}

pub(crate) fn to_document(fields: &Map<String, Value>) -> Document {
    fields.iter().map(|(name, value)| (name.replace('\0', "\u{FFFD}"), to_bson(value))).collect()
}

fn number_to_bson(number: &Number) -> Bson {
    // As JavaScript's driver writes them, and no larger than need be.
    match number.as_i64() {
        Some(number) => i32::try_from(number).map_or(Bson::Int64(number), Bson::Int32),
        None => number.as_f64().map_or(Bson::Null, Bson::Double),
    }
}

/// Whether the BSON form gives the very same JSON back, without making it.
pub(crate) fn is_exact(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => is_exact_number(number),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(fields) => fields.iter().all(|(name, value)| !name.contains('\0') && is_exact(value)),
    }
}

/// By their texts: `-0.0 == 0.0`.
fn is_exact_number(number: &Number) -> bool {
    let Ok(bson) = RawBson::try_from(number_to_bson(number)) else { return false };
    let mut back = String::new();
    write(bson.as_raw_bson_ref(), &mut back).is_ok() && back == number.to_string()
}

/// What JavaScript's driver writes as a float although it is whole: what is longer than 32 bits, as far as it is exact.
const LONG: RangeInclusive<u64> = 0x8000_0000..=0x1F_FFFF_FFFF_FFFF;

/// The whole number that JavaScript's driver has written as a float, such as a time in milliseconds. A shorter one it writes as
/// an integer, so that a float is one that was meant.
#[allow(clippy::cast_possible_truncation, reason = "what has more bits is out of the range")]
fn long_integer(number: f64) -> Option<i64> {
    let whole = number as i64;
    (LONG.contains(&whole.unsigned_abs()) && number.fract() == 0.0).then_some(whole)
}

/// Writes a stored value as JSON, as JavaScript's `JSON.stringify` does with what its driver reads: a date and a UUID as text, an
/// object id as hex, bytes as Base64, and a decimal number by its text in an object. What has no such form is refused, in words,
/// and so are floats that are no numbers, which would be null.
pub(crate) fn write(bson: RawBsonRef<'_>, json: &mut String) -> Result<(), String> {
    match bson {
        RawBsonRef::Null => json.push_str("null"),
        RawBsonRef::Boolean(value) => json.push_str(if value { "true" } else { "false" }),
        RawBsonRef::Int32(number) => json.push_str(&number.to_string()),
        RawBsonRef::Int64(number) => json.push_str(&number.to_string()),
        RawBsonRef::Double(number) => {
            let float =
                Number::from_f64(number).ok_or_else(|| format!("the number {number} has no form in JSON"))?;
            match long_integer(number) {
                Some(integer) => json.push_str(&integer.to_string()),
                None => json.push_str(&float.to_string()),
            }
        }
        RawBsonRef::String(text) => write_text(text, json)?,
        RawBsonRef::Array(items) => {
            json.push('[');
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write(item.map_err(|error| error.to_string())?, json)?;
            }
            json.push(']');
        }
        RawBsonRef::Document(fields) => {
            json.push('{');
            for (index, field) in fields.iter().enumerate() {
                let (name, value) = field.map_err(|error| error.to_string())?;
                if index > 0 {
                    json.push(',');
                }
                write_text(name.as_str(), json)?;
                json.push(':');
                write(value, json)?;
            }
            json.push('}');
        }
        RawBsonRef::DateTime(time) => {
            let time = chrono::DateTime::from_timestamp_millis(time.timestamp_millis())
                .ok_or("a date lies outside all calendars")?;
            write_text(&time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true), json)?;
        }
        RawBsonRef::ObjectId(id) => write_text(&id.to_hex(), json)?,
        RawBsonRef::Binary(binary) if binary.subtype == BinarySubtype::Uuid => {
            let id = Uuid::from_slice(binary.bytes).map_err(|error| format!("a UUID: {error}"))?;
            write_text(&id.to_string(), json)?;
        }
        RawBsonRef::Binary(_) => json.push_str(&extended(bson)?["$binary"]["base64"].to_string()),
        RawBsonRef::Decimal128(_) => json.push_str(&extended(bson)?.to_string()),
        other => return Err(format!("a value of type {:?} has no form in JSON", other.element_type())),
    }
    Ok(())
}

/// In the extended JSON of BSON, of which this is a part for some.
fn extended(bson: RawBsonRef<'_>) -> Result<Value, String> {
    Ok(Bson::try_from(bson).map_err(|error| error.to_string())?.into_relaxed_extjson())
}

fn write_text(text: &str, json: &mut String) -> Result<(), String> {
    json.push_str(&serde_json::to_string(text).map_err(|error| error.to_string())?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use bson::{Binary, DateTime, Decimal128, RawDocumentBuf, bson, doc, oid::ObjectId};
    use serde_json::json;

    use super::*;

    fn written(bson: impl Into<Bson>) -> Result<String, String> {
        let document = RawDocumentBuf::try_from(&doc! { "value": bson.into() }).unwrap();
        let mut json = String::new();
        write(document.get("value").unwrap().unwrap(), &mut json).map(|()| json)
    }

    fn is_exact_in_bson(value: &Value) -> bool {
        // What is told without making it is what comes of making it.
        let back = written(to_bson(value));
        assert_eq!(is_exact(value), back == Ok(value.to_string()), "{value}");
        is_exact(value)
    }

    #[test]
    fn what_bson_can_hold_is_held_as_itself() {
        let value =
            json!({ "i": 1, "l": 1_i64 << 40, "f": 1.5, "s": "x", "b": true, "n": null, "a": [{}, []] });
        let stored =
            bson!({ "a": [{}, []], "b": true, "f": 1.5, "i": 1_i32, "l": 1_i64 << 40, "n": null, "s": "x" });
        let Bson::Document(written) = to_bson(&value) else { panic!("a document") };
        for (name, value) in stored.as_document().unwrap() {
            assert_eq!(written.get(name), Some(value));
        }
        for exact in [
            value,
            json!([i64::MIN, i64::MAX, 1e308, -0.0, 0.0, 1.0, 5e-324]),
            json!({ "$set": { "a.b": 1 }, "": {}, "$oid": "x", "_id": "\u{0}" }),
        ] {
            assert!(is_exact_in_bson(&exact), "{exact}");
        }
    }

    #[test]
    fn what_bson_cannot_hold_is_told() {
        for inexact in [json!(u64::MAX), json!([{ "a\u{0}b": 1 }])] {
            assert!(!is_exact_in_bson(&inexact), "{inexact}");
        }
    }

    #[test]
    fn what_others_wrote_is_read_as_they_would_write_json() {
        let id = ObjectId::parse_str("0123456789abcdef01234567").unwrap();
        let bytes = |subtype, bytes: &[u8]| Binary { subtype, bytes: bytes.to_vec() };
        let uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let stored = doc! {
            "at": DateTime::from_millis(1), "id": id, "uuid": bytes(BinarySubtype::Uuid, uuid.as_bytes()),
            "bytes": bytes(BinarySubtype::Generic, &[0xfb, 0xff, 1, 2]), "none": bytes(BinarySubtype::Generic, &[]),
            "price": Decimal128::from_str("12.50").unwrap(),
        };
        let read: Value = serde_json::from_str(&written(stored).unwrap()).unwrap();
        let expected = json!({
            "at": "1970-01-01T00:00:00.001Z", "id": id.to_hex(), "uuid": "01234567-89ab-cdef-0123-456789abcdef",
            "bytes": "+/8BAg==", "none": "", "price": { "$numberDecimal": "12.50" },
        });
        assert_eq!(read, expected);
        for alien in [Bson::MaxKey, f64::NAN.into(), Bson::JavaScriptCode("1".to_owned())] {
            assert!(written(alien).unwrap_err().contains("no form in JSON"));
        }
        let short = bytes(BinarySubtype::Uuid, &[1, 2]);
        assert!(written(short).unwrap_err().contains("UUID"));
    }
}
