//! Where events go.

use std::{collections::HashSet, error::Error as StdError, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{Event, EventId, is_call_to_end};

/// Where a relay publishes events: a broker, a webhook, a file, a function.
///
/// An event is accepted when the other side has acknowledged it, not when it was handed to a buffer: the relay
/// marks it as delivered on that word alone.
///
/// ```
/// use outbox_traits::{Event, PublishError, Transport, async_trait};
///
/// #[derive(Debug)]
/// struct Print;
///
/// #[async_trait]
/// impl Transport for Print {
///     async fn publish(&self, event: &Event) -> Result<(), PublishError> {
///         println!("{} {}", event.event_type(), event.payload());
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Publishes one event and returns when it was accepted.
    async fn publish(&self, event: &Event) -> Result<(), PublishError>;

    /// Publishes events in their order and reports on each. An event that the report does not name counts as
    /// failed.
    ///
    /// **What follows an event of the same partition key that was not accepted is not to be published**, and is
    /// [`NotAttempted`](PublishErrorKind::NotAttempted): else its order is lost. A relay publishes such a one again after the other,
    /// though it was accepted.
    ///
    /// The default publishes one after the other, as [`publish_in_order`] does: what follows in its key is not tried, nor is
    /// anything after the transport as a whole was [`Unavailable`](PublishErrorKind::Unavailable), or once the
    /// [call is to end](is_call_to_end).
    async fn publish_all(&self, events: &[Event]) -> Vec<Published> {
        publish_in_order(events, |event| self.publish(event)).await
    }
}

/// What [`Transport::publish_all`] does by default, with a way of one's own to publish each event: for a transport that
/// keeps the order of a batch and decides about each event by those before it.
///
/// ```
/// use outbox_traits::{Event, PublishError, publish_in_order};
///
/// # async fn example() -> outbox_traits::Result<()> {
/// let events = [Event::new("a", ())?, Event::new("b", ())?, Event::new("c", ())?];
/// let mut room = 2;
/// let published = publish_in_order(&events, |_| {
///     let has_room = room > 0;
///     room -= usize::from(has_room);
///     async move { if has_room { Ok(()) } else { Err(PublishError::failed("the file is full")) } }
/// })
/// .await;
/// assert!(published[1].result.is_ok() && published[2].result.is_err());
/// # Ok(())
/// # }
/// ```
pub async fn publish_in_order<'a, F>(
    events: &'a [Event],
    mut publish: impl FnMut(&'a Event) -> F,
) -> Vec<Published>
where
    F: Future<Output = Result<(), PublishError>>,
{
    let mut published = Vec::with_capacity(events.len());
    let mut failed_keys = HashSet::new();
    let mut is_down = false;
    for event in events {
        let key = event.partition_key();
        let result = if is_down || key.is_some_and(|key| failed_keys.contains(key)) {
            Err(PublishError::not_attempted())
        } else if !published.is_empty() && is_call_to_end() {
            Err(PublishError::not_begun())
        } else {
            publish(event).await
        };
        if let Err(error) = &result {
            is_down |= error.kind() == PublishErrorKind::Unavailable;
            failed_keys.extend(key);
        }
        published.push(Published { id: event.id(), result });
    }
    published
}

macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        impl<T: Transport + ?Sized> Transport for $pointer<T> {
            async fn publish(&self, event: &Event) -> Result<(), PublishError> {
                (**self).publish(event).await
            }

            async fn publish_all(&self, events: &[Event]) -> Vec<Published> {
                (**self).publish_all(events).await
            }
        }
    };
}

forward!(Arc);
forward!(Box);

/// What became of one event of a batch.
#[derive(Debug)]
pub struct Published {
    /// Which event.
    pub id: EventId,
    /// Whether it was accepted.
    pub result: Result<(), PublishError>,
}

/// What a relay can act on when an event was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PublishErrorKind {
    /// This event failed now and may be accepted later.
    Failed,
    /// This event will never be accepted as it is, for instance because it is too large.
    Rejected,
    /// The transport as a whole is down: no event is to blame.
    Unavailable,
    /// The event was not tried: one before it failed, or there is no time left for it in this call.
    NotAttempted,
}

/// Why an event was not accepted.
#[derive(Debug)]
pub struct PublishError {
    kind: PublishErrorKind,
    message: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync + 'static>>,
}

impl PublishError {
    /// An error of this kind; the message says what was tried.
    #[must_use]
    pub fn new(kind: PublishErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, source: None }
    }

    /// This event failed now and may be accepted later.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(PublishErrorKind::Failed, message)
    }

    /// This event will never be accepted as it is.
    #[must_use]
    pub fn rejected(message: impl Into<String>) -> Self {
        Self::new(PublishErrorKind::Rejected, message)
    }

    /// The transport as a whole is down.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(PublishErrorKind::Unavailable, message)
    }

    /// The event was not tried: one before it failed, or there is no time left for it in this call.
    #[must_use]
    pub fn not_attempted() -> Self {
        Self::new(PublishErrorKind::NotAttempted, "not attempted, because an event before it failed")
    }

    /// The event was not tried, because the [call is to end](is_call_to_end).
    #[must_use]
    pub fn not_begun() -> Self {
        let message = "not attempted, because the relay stops, or events before it used up half of the time for the call";
        Self::new(PublishErrorKind::NotAttempted, message)
    }

    /// The same error with its cause, kept as it is.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with the time that the other side asks to be left alone, as `Retry-After` of HTTP does.
    #[must_use]
    pub fn with_retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    /// How long the other side asks to be left alone, from the answer on. A retry policy may wait for it; it comes
    /// from outside, so it may be anything.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What a relay can act on.
    #[must_use]
    pub fn kind(&self) -> PublishErrorKind {
        self.kind
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, ": {source}"))
    }
}

impl StdError for PublishError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
