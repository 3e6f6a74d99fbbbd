//! An event's type and meta as the attributes of a CloudEvent.

use chrono::SecondsFormat;
use outbox_traits::{Event, PublishError};
use serde_json::{Map, Value};

use super::uri::uri_reference;
use crate::header::header;

/// Where neither the event nor who publishes it says another: the specification wants one that is not empty.
const SOURCE: &str = "outbox";

/// The core attributes, the extensions for partitioning and distributed tracing, and everything else that the
/// meta has as extensions of lower-case letters and digits, which is all that a name may consist of.
pub(super) fn attributes(event: &Event, default_source: &str) -> Result<Map<String, Value>, PublishError> {
    let meta = event.meta();
    let sources = [meta.source.as_deref().unwrap_or_default(), default_source];
    let source = sources.into_iter().find(|source| !source.is_empty()).unwrap_or(SOURCE);
    let mut attributes = Map::new();
    let mut set = |name: &str, value: Value| drop(attributes.insert(name.to_owned(), value));
    set("specversion", "1.0".into());
    set("id", event.id().to_string().into());
    set("source", uri_reference(source).into());
    set("type", event.event_type().into());
    set("time", meta.timestamp().to_rfc3339_opts(SecondsFormat::Millis, true).into());
    let subject = [&meta.resource, &meta.resource_id].into_iter().flatten();
    let subject = subject.map(String::as_str).collect::<Vec<_>>().join("/");
    for (name, value) in [
        ("subject", Some(subject.as_str())),
        ("partitionkey", event.partition_key()),
        ("correlationid", meta.correlation_id.as_deref()),
        ("causationid", meta.causation_id.as_deref()),
        ("userid", meta.user_id.as_deref()),
        ("organizationid", meta.organization_id.as_deref()),
        ("idempotencykey", meta.idempotency_key.as_deref()),
        ("traceparent", header(&meta.headers, "traceparent")),
        ("tracestate", header(&meta.headers, "tracestate")),
    ] {
        // An attribute without a value is not written: the specification knows no empty ones.
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            set(name, value.into());
        }
    }
    if let Some(version) = meta.schema_version {
        set("schemaversion", integer(i64::from(version)));
    }
    for (name, value) in &meta.extra {
        if value.is_null() || value == "" {
            continue;
        }
        let folded = folded(name);
        if folded.is_empty() || is_reserved(&folded) || attributes.contains_key(&folded) {
            return Err(PublishError::rejected(format!(
                "the meta field `{name}` has no place among the attributes of a CloudEvent, where it would be \
                 called `{folded}`: give it another name, or publish the plain encoding"
            )));
        }
        attributes.insert(folded, extension(value));
    }
    for (name, value) in &attributes {
        if let Some(letter) =
            value.as_str().and_then(|text| text.chars().find(|letter| is_forbidden(*letter)))
        {
            return Err(PublishError::rejected(format!(
                "the attribute `{name}` of a CloudEvent would have the character U+{:04X}, which it may not: leave it \
                 out where the event is made, or publish the plain encoding",
                u32::from(letter)
            )));
        }
    }
    Ok(attributes)
}

/// What the specification has in no text of an attribute: control characters, and what Unicode keeps for no character.
fn is_forbidden(letter: char) -> bool {
    let is_noncharacter = matches!(letter, '\u{fdd0}'..='\u{fdef}') || u32::from(letter) & 0xFFFE == 0xFFFE;
    letter.is_control() || is_noncharacter
}

/// The names that have a meaning, also where this event does not use them.
fn is_reserved(name: &str) -> bool {
    const RESERVED: &[&str] = &[
        "causationid",
        "correlationid",
        "data",
        "database64",
        "datacontenttype",
        "dataschema",
        "idempotencykey",
        "organizationid",
        "partitionkey",
        "schemaversion",
        "subject",
        "traceparent",
        "tracestate",
        "userid",
    ];
    RESERVED.contains(&name)
}

/// Only lower-case letters and digits.
fn folded(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|letter| letter.to_ascii_lowercase()).collect()
}

/// The types of an attribute are text, truth and an integer of 32 bits; what is none of them is its JSON as text.
fn extension(value: &Value) -> Value {
    match value {
        Value::String(_) | Value::Bool(_) => value.clone(),
        _ => value.as_i64().map_or_else(|| value.to_string().into(), integer),
    }
}

fn integer(value: i64) -> Value {
    i32::try_from(value).map_or_else(|_| value.to_string().into(), Value::from)
}
