//! Where a message goes.

use std::{fmt, sync::Arc};

use outbox_traits::{Event, PublishError};

use crate::guard;

/// The subject of NATS, topic of Kafka, routing key of RabbitMQ or stream of Redis that an event is published to.
///
/// ```
/// use outbox_delivery::transport::message::Route;
/// use outbox_traits::Event;
/// use serde_json::json;
///
/// let event = Event::new("order.placed", json!({}))?.with_organization_id("acme");
/// assert_eq!(Route::by_type().of(&event), "order.placed");
/// assert_eq!(Route::by_type_below("shop.").of(&event), "shop.order.placed");
/// assert_eq!(Route::to("events").of(&event), "events");
/// let by_tenant = Route::new(|event| format!("events.{}", event.meta().organization_id.as_deref().unwrap_or("none")));
/// assert_eq!(by_tenant.of(&event), "events.acme");
/// # Ok::<(), outbox_traits::Error>(())
/// ```
#[derive(Clone)]
pub struct Route {
    route: Arc<dyn Fn(&Event) -> String + Send + Sync>,
}

impl Route {
    /// What this function answers for an event. Events of one partition key should go to one place, or their
    /// order ends there.
    #[must_use]
    pub fn new(route: impl Fn(&Event) -> String + Send + Sync + 'static) -> Self {
        Self { route: Arc::new(route) }
    }

    /// The type of the event.
    #[must_use]
    pub fn by_type() -> Self {
        Self::new(|event| event.event_type().to_owned())
    }

    /// This prefix and the type of the event, with nothing between them.
    #[must_use]
    pub fn by_type_below(prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        Self::new(move |event| format!("{prefix}{}", event.event_type()))
    }

    /// The same place for all.
    #[must_use]
    pub fn to(place: impl Into<String>) -> Self {
        let place = place.into();
        Self::new(move |_| place.clone())
    }

    /// Where this event goes.
    #[must_use]
    pub fn of(&self, event: &Event) -> String {
        (self.route)(event)
    }

    /// Where this event goes, for a transport: a function that panics is the failure of this event, and of none of the
    /// others of its batch.
    ///
    /// # Errors
    /// [`Failed`](outbox_traits::PublishErrorKind::Failed), if the function panicked.
    pub fn try_of(&self, event: &Event) -> Result<String, PublishError> {
        guard::run(|| self.of(event))
            .map_err(|panic| PublishError::failed(format!("the function of the route panicked: {panic}")))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}
