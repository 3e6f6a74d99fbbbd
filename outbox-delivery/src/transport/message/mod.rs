//! Events as messages, alike for every broker: the encoding, the headers and where a message goes.
//!
//! A transport of one's own makes a [`Message`] of each event, and takes an [`Encoding`] and a [`Route`] from its
//! user as the transports here do.

mod attributes;
mod encoding;
mod route;
mod text;
mod uri;

use outbox_traits::{Event, PublishError};

pub use self::{encoding::Encoding, route::Route, text::percent_encoded};

/// An event as a broker takes it.
///
/// ```
/// use outbox_delivery::transport::message::{Encoding, Message};
/// use outbox_traits::Event;
/// use serde_json::json;
///
/// let event = Event::new("order.placed", json!({ "total": 4200 }))?
///     .with_resource("order", "o-17")
///     .with_source("shop")
///     .with_header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// let message = Message::of(&event, Encoding::Binary, "shop")?;
///
/// assert_eq!(message.body, br#"{"total":4200}"#);
/// let headers: Vec<_> = message.headers_with("ce-").collect();
/// assert!(headers.contains(&("ce-type".into(), "order.placed")));
/// assert!(headers.contains(&("ce-subject".into(), "order/o-17")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The attributes of a CloudEvent in binary mode, by their plain names (`id`, `type`, …) and without
    /// `datacontenttype`, which is the content type; empty in the other encodings. A broker has its own way to
    /// tell them from other headers, mostly a prefix: see [`headers_with`](Self::headers_with).
    pub attributes: Vec<(String, String)>,
    /// The headers of the event's meta as they are, in every encoding: `traceparent` is where instrumentation
    /// looks for it.
    pub headers: Vec<(String, String)>,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    /// The event in this encoding. `default_source` is the `source` of a CloudEvent whose event has none; if it is
    /// empty, that is `outbox`.
    ///
    /// # Errors
    /// [`Rejected`](outbox_traits::PublishErrorKind::Rejected) if an unknown field of the meta has no place among
    /// the attributes of a CloudEvent, or if an attribute would have a character that none may have: a control
    /// character, such as an end of a line in the type, or a noncharacter of Unicode. [`Encoding::Plain`] takes both.
    pub fn of(event: &Event, encoding: Encoding, default_source: &str) -> Result<Self, PublishError> {
        encoding::encode(event, encoding, default_source)
    }

    /// The attributes, each name with this prefix, and the headers as they are: for brokers whose messages
    /// have one list of headers.
    ///
    /// The prefix is `ce-` on HTTP and NATS, `ce_` on Kafka and `cloudEvents:` on AMQP.
    pub fn headers_with(&self, prefix: &str) -> impl Iterator<Item = (String, &str)> {
        let attributes = self.attributes.iter().map(move |(name, value)| (format!("{prefix}{name}"), value));
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), value));
        attributes.chain(headers).map(|(name, value)| (name, value.as_str()))
    }

    /// How many bytes the body and all names and values have, without what the broker's protocol adds.
    #[must_use]
    pub fn size(&self) -> usize {
        let headers = self.attributes.iter().chain(&self.headers);
        self.body.len() + headers.map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }

    /// Refuses a message that is larger than this many bytes, for good.
    ///
    /// # Errors
    /// [`Rejected`](outbox_traits::PublishErrorKind::Rejected), with both sizes.
    pub fn check_size(&self, max_bytes: usize) -> Result<(), PublishError> {
        let size = self.size();
        if size <= max_bytes {
            return Ok(());
        }
        Err(PublishError::rejected(format!(
            "the message has {size} bytes, and at most {max_bytes} are taken: raise the limit, or publish a \
             reference to the data instead of the data"
        )))
    }
}

#[cfg(test)]
mod tests;
