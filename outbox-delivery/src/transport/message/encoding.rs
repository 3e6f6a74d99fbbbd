//! The forms of a message.

use outbox_traits::{Event, PublishError};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Message, attributes::attributes};

/// How an event is written into a message.
///
/// The first two are [CloudEvents](https://cloudevents.io) 1.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// A CloudEvent in binary mode: the attributes are headers, and the body is the payload alone. The default:
    /// a consumer that knows nothing of CloudEvents finds the payload as it was written.
    #[default]
    Binary,
    /// A CloudEvent in structured mode: the body is one JSON object of attributes, with the payload as `data`.
    Structured,
    /// `{"type", "payload", "meta"}`, as [`Event`] itself is written, and nothing of CloudEvents.
    Plain,
}

const JSON: &str = "application/json";

#[derive(Serialize)]
struct Structured<'a> {
    #[serde(flatten)]
    attributes: &'a Map<String, Value>,
    data: &'a Value,
}

pub(super) fn encode(
    event: &Event,
    encoding: Encoding,
    default_source: &str,
) -> Result<Message, PublishError> {
    let mut message =
        Message { attributes: Vec::new(), headers: Vec::new(), content_type: JSON, body: Vec::new() };
    message.body = match encoding {
        Encoding::Binary => {
            let attributes = attributes(event, default_source)?;
            message.attributes = attributes.into_iter().map(|(name, value)| (name, text_of(value))).collect();
            written(event.payload())
        }
        Encoding::Structured => {
            let mut attributes = attributes(event, default_source)?;
            attributes.insert("datacontenttype".into(), JSON.into());
            message.content_type = "application/cloudevents+json";
            written(&Structured { attributes: &attributes, data: event.payload() })
        }
        Encoding::Plain => written(event),
    }?;
    message.headers =
        event.meta().headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(message)
}

fn written(value: &impl Serialize) -> Result<Vec<u8>, PublishError> {
    serde_json::to_vec(value)
        .map_err(|error| PublishError::rejected("the event has no form in JSON").with_source(error))
}

/// The canonical text of an attribute's value.
fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
