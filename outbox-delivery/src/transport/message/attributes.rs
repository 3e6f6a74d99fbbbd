//! An event's type and meta as the attributes of a CloudEvent.

use chrono::SecondsFormat;
use outbox_traits::{Event, PublishError};
use serde_json::{Map, Value};

use super::uri::uri_reference;

/// The core attributes, the extensions for partitioning and distributed tracing, and everything else that the
/// meta has as extensions of lower-case letters and digits, which is all that a name may consist of.
pub(super) fn attributes(event: &Event, default_source: &str) -> Result<Map<String, Value>, PublishError> {
    let meta = event.meta();
    let source = meta.source.as_deref().filter(|source| !source.is_empty()).unwrap_or(default_source);
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
        ("traceparent", header(event, "traceparent")),
        ("tracestate", header(event, "tracestate")),
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
        if value.is_null() {
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
    Ok(attributes)
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

/// A header of the event, however its name is written.
fn header<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    let mut headers = event.meta().headers.iter();
    headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
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
