//! An event as a message of AMQP 0-9-1.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use outbox_traits::{Event, PublishError};

use crate::transport::message::{Encoding, Message, Route};

/// Headers stand in one frame, and one that is larger than agreed ends the connection. So much of it is for the other
/// properties, which are two short texts, and for what every frame has.
const BYTES_BESIDE_HEADERS: usize = 1024;
/// What the protocol adds to each header: the length of the name, the type, the length of the value.
const BYTES_BESIDE_HEADER: usize = 6;
/// What the routing key of a reply begins with. It goes to one who waits, past all queues; a wrong one ends the connection.
const REPLY_TO: &str = "amq.rabbitmq.reply-to.";

/// How messages are made of events.
pub(super) struct Mapping {
    pub(super) exchange: ShortString,
    pub(super) route: Route,
    pub(super) encoding: Encoding,
    pub(super) source: String,
    pub(super) max_bytes: usize,
}

/// A message, and where it goes.
pub(super) struct Outgoing {
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

impl Outgoing {
    pub(super) fn id(&self) -> &str {
        self.properties.message_id().as_ref().map_or("", ShortString::as_str)
    }
}

impl Mapping {
    /// The message of an event, on a connection that takes frames of so many bytes.
    pub(super) fn outgoing(&self, event: &Event, frame_max: usize) -> Result<Outgoing, PublishError> {
        /// Messages survive a restart of the broker.
        const PERSISTENT: u8 = 2;

        let message = Message::of(event, self.encoding, &self.source)?;
        message.check_size(self.max_bytes)?;
        let mut headers = FieldTable::default();
        let mut header_bytes = 0;
        if let Some((name, _)) = message.headers.iter().find(|(name, _)| is_taken(name)) {
            return Err(PublishError::rejected(format!(
                "the header `{name}` has a meaning of its own, to RabbitMQ or as an attribute of a CloudEvent: give it \
                 another name"
            )));
        }
        for (name, value) in message.headers_with("cloudEvents:") {
            header_bytes += name.len() + value.len() + BYTES_BESIDE_HEADER;
            headers.insert(short("the name of a header", name)?, AMQPValue::LongString(value.into()));
        }
        let room = frame_max.saturating_sub(BYTES_BESIDE_HEADERS);
        if header_bytes > room {
            return Err(PublishError::rejected(format!(
                "the headers of the message have {header_bytes} bytes, and RabbitMQ takes at most {room} \
                 (`frame_max`)"
            )));
        }
        let seconds = u64::try_from(event.meta().timestamp().timestamp()).unwrap_or_default();
        let mut properties = BasicProperties::default()
            .with_message_id(event.id().to_string().into())
            .with_content_type(message.content_type.into())
            .with_timestamp(seconds)
            .with_delivery_mode(PERSISTENT)
            .with_headers(headers);
        // The property takes 255 bytes, and need not be there: the type is also an attribute, or stands in the body.
        if let Ok(event_type) = ShortString::try_new(event.event_type()) {
            properties = properties.with_type(event_type);
        }
        let routing_key = short("the routing key", self.route.try_of(event)?)?;
        if self.exchange.as_str().is_empty() && routing_key.as_str().starts_with(REPLY_TO) {
            return Err(PublishError::rejected(format!(
                "the routing key `{routing_key}` is one for replies, which RabbitMQ makes and keeps no message of: have the \
                 route give another"
            )));
        }
        Ok(Outgoing { routing_key, properties, body: message.body })
    }
}

/// Whether a header of this name means something to the broker, or is an attribute to a reader of CloudEvents. The binding
/// knows two prefixes for these, one of them for clients that have no names with a colon.
fn is_taken(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    // The broker sends copies to those that stand in the first two, and counts deliveries in the third.
    matches!(name, "CC" | "BCC" | "x-delivery-count")
        || lower.starts_with("cloudevents:")
        || lower.starts_with("cloudevents_")
}

fn short(what: &str, text: String) -> Result<ShortString, PublishError> {
    ShortString::try_new(text).map_err(|error| {
        PublishError::rejected(format!("{what} is too long for RabbitMQ")).with_source(error)
    })
}
