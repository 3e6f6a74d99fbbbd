//! Events that come back other than they were saved.

use chrono::DateTime;
use outbox_traits::Event;
use serde_json::{Map, Value, json};

use crate::fault::Fault;

/// The event as a store with this fault reads it.
pub(crate) fn read(fault: Fault, mut event: Event) -> Event {
    match fault {
        Fault::PartitionKeyAndHeadersGetLost => {
            event.meta_mut().partition_key = None;
            event.meta_mut().headers.clear();
            event
        }
        Fault::UnknownMetaFieldsGetLost => {
            event.meta_mut().extra.clear();
            event
        }
        Fault::TimesAreCutToSeconds => {
            let time = event.meta().timestamp();
            let seconds = DateTime::from_timestamp(time.timestamp(), 0).unwrap_or(time);
            event.with_timestamp(seconds)
        }
        Fault::LargeIntegersBecomeFloats => with_payload(&event, &|value| match value.as_i64() {
            Some(_) => value,
            None => value.as_f64().map_or(value, |float| json!(float)),
        }),
        Fault::ZeroLosesItsSign => with_payload(&event, &without_sign_of_zero),
        Fault::NulCharactersAreDropped => with_payload(&event, &|value| match value {
            Value::String(text) => json!(text.replace('\0', "")),
            other => other,
        }),
        Fault::EmptyObjectsBecomeNull => {
            with_payload(&event, &|value| if value == json!({}) { Value::Null } else { value })
        }
        Fault::ExtraFieldsLoseTheSignOfZero => {
            for value in event.meta_mut().extra.values_mut() {
                *value = map(value.take(), &without_sign_of_zero);
            }
            event
        }
        Fault::NulCharactersOfHeadersAreDropped => {
            let headers = std::mem::take(&mut event.meta_mut().headers);
            let without = |text: String| text.replace('\0', "");
            event.meta_mut().headers =
                headers.into_iter().map(|(name, value)| (without(name), without(value))).collect();
            event
        }
        Fault::EmptyTextsAreAbsent => {
            let meta = event.meta_mut();
            meta.organization_id = meta.organization_id.take().filter(|text| !text.is_empty());
            event
        }
        Fault::TimesAreNanoseconds => {
            let nanoseconds = event.meta().timestamp().timestamp_nanos_opt().unwrap_or_default();
            event.with_timestamp(DateTime::from_timestamp_nanos(nanoseconds))
        }
        Fault::LongListsAreCutOff => with_payload(&event, &|value| match value {
            Value::Array(items) => items.into_iter().take(1_000_000).collect(),
            other => other,
        }),
        _ => event,
    }
}

pub(crate) fn without_not_before(event: &Event) -> Event {
    // It is no part of the JSON.
    serde_json::from_value(json!(event)).expect("an event is an event")
}

pub(crate) fn with_payload(event: &Event, alter: &dyn Fn(Value) -> Value) -> Event {
    let mut whole = json!(event);
    whole["payload"] = map(whole["payload"].take(), alter);
    let altered: Event = serde_json::from_value(whole).expect("still an event");
    match event.not_before() {
        Some(time) => altered.with_not_before(time),
        None => altered,
    }
}

fn without_sign_of_zero(value: Value) -> Value {
    if value.as_f64() == Some(0.0) { json!(0) } else { value }
}

fn map(value: Value, alter: &dyn Fn(Value) -> Value) -> Value {
    match alter(value) {
        Value::Array(items) => items.into_iter().map(|item| map(item, alter)).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, field)| (name, map(field, alter))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}
