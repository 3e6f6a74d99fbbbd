//! Facts of a domain, and what can be enqueued.

use serde::Serialize;

use crate::{Event, Result};

/// A fact of your domain that others are to be told.
///
/// `#[derive(DomainEvent)]` (feature `derive`) writes the implementation; by hand it is as short:
///
/// ```
/// use outbox_traits::{DomainEvent, Event};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct OrderPlaced {
///     order_id: String,
///     total: u64,
/// }
///
/// impl DomainEvent for OrderPlaced {
///     fn event_type(&self) -> &str {
///         "order.placed"
///     }
///     fn resource(&self) -> Option<&str> {
///         Some("order")
///     }
///     fn resource_id(&self) -> Option<String> {
///         Some(self.order_id.clone())
///     }
/// }
///
/// let event = Event::of(&OrderPlaced { order_id: "o-17".into(), total: 4200 })?;
/// assert_eq!(event.partition_key(), Some("o-17"));
/// # Ok::<(), outbox_traits::Error>(())
/// ```
pub trait DomainEvent: Serialize {
    /// The type, such as `order.placed`. A method, so that an enum can have one for each variant.
    fn event_type(&self) -> &str;

    /// The kind of thing that the event is about, such as `order`. None by default.
    fn resource(&self) -> Option<&str> {
        None
    }

    /// Which one of them. None by default.
    fn resource_id(&self) -> Option<String> {
        None
    }

    /// Events that share it are delivered in order. The resource id by default.
    fn partition_key(&self) -> Option<String> {
        self.resource_id()
    }
}

/// What can be enqueued: an [`Event`], a reference to one, or a reference to a [`DomainEvent`].
pub trait IntoEvent {
    /// The envelope to be stored.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEvent`](crate::ErrorKind::InvalidEvent) as [`Event::new`].
    fn into_event(self) -> Result<Event>;
}

impl IntoEvent for Event {
    fn into_event(self) -> Result<Event> {
        Ok(self)
    }
}

impl IntoEvent for &Event {
    fn into_event(self) -> Result<Event> {
        Ok(self.clone())
    }
}

impl<E: DomainEvent + ?Sized> IntoEvent for &E {
    fn into_event(self) -> Result<Event> {
        Event::of(self)
    }
}
