//! The envelope that stores keep.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{DomainEvent, Error, ErrorKind, EventId, Meta, Result};

/// The longest type of an event, in characters.
pub const MAX_TYPE_CHARS: usize = 256;

/// How deep arrays and objects of a payload, or of one unknown meta field, may be nested. Readers of JSON
/// and BSON stop at 100 to 128 levels; an event that could be saved and not be read would be lost.
pub const MAX_NESTING: usize = 96;

/// An immutable fact in the envelope that stores keep: a type, a JSON payload and a [`Meta`].
///
/// As JSON it is `{"type", "payload", "meta"}`. Reading it from JSON takes what a producer wrote, whatever
/// its type is; [`validate`](Self::validate), which every `save` begins with, holds it to the rules.
///
/// ```
/// use outbox_traits::Event;
/// use serde_json::json;
///
/// let placed = Event::new("order.placed", json!({ "total": 4200 }))?
///     .with_resource("order", "o-17")
///     .with_user_id("u-1");
/// let billed = Event::new("invoice.created", json!({ "number": 9 }))?.caused_by(&placed);
///
/// assert_eq!(billed.meta().causation_id, Some(placed.id().to_string()));
/// assert_eq!(billed.meta().user_id.as_deref(), Some("u-1"));
/// # Ok::<(), outbox_traits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    r#type: String,
    payload: Value,
    meta: Meta,
    /// How the store is to treat the event is no part of the fact, and of its JSON.
    #[serde(skip)]
    not_before: Option<DateTime<Utc>>,
}

impl Event {
    /// A new event, with an id of version 7 and the application's time.
    ///
    /// The payload is anything that serde can turn into JSON, a `serde_json::Value` among them. JSON knows no
    /// NaN and no infinity: serde writes a float of a struct that is one of them as `null`. How deep it is nested and
    /// how large it is are looked at when it is saved; to come that far it has to be written by serde, which calls
    /// itself for each level. What was read from JSON text is no deeper than `serde_json`'s own limit of 128; of a value of
    /// your own that may be thousands of levels deep, look at the depth first.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEvent`] if the type is blank, longer than [`MAX_TYPE_CHARS`], starts with `$` or
    /// contains a NUL, or if the payload has no form in JSON.
    pub fn new(event_type: impl Into<String>, payload: impl Serialize) -> Result<Self> {
        let event_type = event_type.into();
        validate_type(&event_type)?;
        let payload = serde_json::to_value(payload).map_err(|error| {
            Error::invalid_event(format!(
                "the payload of an event of type `{event_type}` has no form in JSON"
            ))
            .with_source(error)
        })?;
        Ok(Self { r#type: event_type, payload, meta: Meta::new(), not_before: None })
    }

    /// The envelope of a domain event.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of<E: DomainEvent + ?Sized>(event: &E) -> Result<Self> {
        let mut envelope = Self::new(event.event_type(), event)?;
        let meta = &mut envelope.meta;
        meta.resource = event.resource().map(str::to_owned);
        meta.resource_id = event.resource_id();
        // The resource id serves where the key is absent: no need to write it twice.
        meta.partition_key = event.partition_key().filter(|key| Some(key) != meta.resource_id.as_ref());
        Ok(envelope)
    }

    /// The id: a consumer recognises a redelivery by it.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.meta.id()
    }

    /// The type, such as `order.placed`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.r#type
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &Value {
        &self.payload
    }

    /// The payload as a value of the domain.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it has another shape.
    pub fn payload_as<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.payload).map_err(|error| {
            let message =
                format!("the payload of `{}` is not a `{}`", self.r#type, std::any::type_name::<T>());
            Error::new(ErrorKind::Corrupt, message).with_event(self.id()).with_source(error)
        })
    }

    /// What is known about the event beside its payload.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The meta, to be changed before the event is saved.
    pub fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }

    /// Events that share this key are delivered in order: the partition key of the meta or, where there is
    /// none, the resource id. `None`: the event waits for no other.
    #[must_use]
    pub fn partition_key(&self) -> Option<&str> {
        self.meta.partition_key.as_deref().or(self.meta.resource_id.as_deref())
    }

    /// The moment before which the store hides the event from `get_pending` and `claim`, by its own clock.
    #[must_use]
    pub fn not_before(&self) -> Option<DateTime<Utc>> {
        self.not_before
    }

    /// With an id of one's own instead of a new UUID of version 7.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<EventId>) -> Self {
        self.meta.set_id(id.into());
        self
    }

    /// With the time at which it happened; cut to the millisecond.
    #[must_use]
    pub fn with_timestamp(mut self, timestamp: DateTime<Utc>) -> Self {
        self.meta.set_timestamp(timestamp);
        self
    }

    /// With the thing that it is about: its kind and its id.
    #[must_use]
    pub fn with_resource(mut self, resource: impl Into<String>, id: impl Into<String>) -> Self {
        self.meta.resource = Some(resource.into());
        self.meta.resource_id = Some(id.into());
        self
    }

    /// With the user on whose behalf it happened.
    #[must_use]
    pub fn with_user_id(mut self, id: impl Into<String>) -> Self {
        self.meta.user_id = Some(id.into());
        self
    }

    /// With the organization or tenant that it belongs to.
    #[must_use]
    pub fn with_organization_id(mut self, id: impl Into<String>) -> Self {
        self.meta.organization_id = Some(id.into());
        self
    }

    /// With the id that all events of one flow of work share.
    #[must_use]
    pub fn with_correlation_id(mut self, id: impl Into<String>) -> Self {
        self.meta.correlation_id = Some(id.into());
        self
    }

    /// With the id of what caused it; [`caused_by`](Self::caused_by) sets it from a parent event.
    #[must_use]
    pub fn with_causation_id(mut self, id: impl Into<String>) -> Self {
        self.meta.causation_id = Some(id.into());
        self
    }

    /// With the key whose events are to be delivered in order.
    #[must_use]
    pub fn with_partition_key(mut self, key: impl Into<String>) -> Self {
        self.meta.partition_key = Some(key.into());
        self
    }

    /// With the version of the payload's schema.
    #[must_use]
    pub fn with_schema_version(mut self, version: u32) -> Self {
        self.meta.schema_version = Some(version);
        self
    }

    /// With the service that it comes from.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.meta.source = Some(source.into());
        self
    }

    /// With a key of which a store keeps one event only, until that one is purged.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.meta.idempotency_key = Some(key.into());
        self
    }

    /// With one more header for the transport.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.headers.insert(name.into(), value.into());
        self
    }

    /// With these headers for the transport, in place of all that it had.
    #[must_use]
    pub fn with_headers(mut self, headers: BTreeMap<String, String>) -> Self {
        self.meta.headers = headers;
        self
    }

    /// Hidden from `get_pending` and `claim` until then, by the store's clock; a fraction of a millisecond is
    /// rounded up, so that it is never early.
    #[must_use]
    pub fn with_not_before(mut self, time: DateTime<Utc>) -> Self {
        let cut = DateTime::from_timestamp_millis(time.timestamp_millis()).unwrap_or(time);
        let up = if cut < time { cut.checked_add_signed(TimeDelta::milliseconds(1)) } else { Some(cut) };
        self.not_before = Some(up.unwrap_or(time));
        self
    }

    /// As a child of `parent`: its id becomes the causation id, its correlation id (or, where it has none, its
    /// id) the correlation id, and its user, organization and source are taken where it has them.
    ///
    /// The idempotency key, the resource and the partition key are never taken: they are the parent's own.
    #[must_use]
    pub fn caused_by(mut self, parent: &Event) -> Self {
        self.meta.set_parent(parent);
        self
    }

    /// Holds the event to the rules that every backend can keep.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEvent`] if the type breaks the rules of [`new`](Self::new), a time lies outside
    /// the years 0 to 9999, an unknown meta field has the name of a known one, something is nested deeper
    /// than [`MAX_NESTING`], or the key of an object begins with `$serde_json::private::`, which `serde_json` keeps for
    /// itself. The size is looked at by [`EncodedEvent::new`](crate::EncodedEvent::new).
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(|error| error.with_event(self.id()))
    }

    fn check(&self) -> Result<()> {
        validate_type(&self.r#type)?;
        for (name, time) in [("timestamp", Some(self.meta.timestamp())), ("not-before time", self.not_before)]
        {
            if time.is_some_and(|time| !(0..=9999).contains(&time.year())) {
                return Err(Error::invalid_event(format!("the {name} lies outside the years 0 to 9999")));
            }
        }
        if let Some(name) = self.meta.extra.keys().find(|name| Meta::is_known(name)) {
            let message =
                format!("the extra meta field `{name}` has the name of a field of its own: set that");
            return Err(Error::invalid_event(message));
        }
        if let Some(problem) = misfit(&self.payload, MAX_NESTING) {
            return Err(Error::invalid_event(format!("the payload {problem}")));
        }
        for (name, value) in &self.meta.extra {
            if let Some(problem) = reserved(name).or_else(|| misfit(value, MAX_NESTING)) {
                return Err(Error::invalid_event(format!("the meta field `{name}` {problem}")));
            }
        }
        Ok(())
    }

    pub(crate) fn from_parts(
        event_type: String,
        payload: Value,
        meta: Meta,
        not_before: Option<DateTime<Utc>>,
    ) -> Self {
        Self { r#type: event_type, payload, meta, not_before }
    }
}

fn validate_type(event_type: &str) -> Result<()> {
    let problem = if event_type.trim().is_empty() {
        "is blank".to_owned()
    } else if event_type.chars().count() > MAX_TYPE_CHARS {
        format!("is longer than {MAX_TYPE_CHARS} characters")
    } else if event_type.starts_with('$') {
        "starts with `$`, which is reserved".to_owned()
    } else if event_type.contains('\0') {
        // PostgreSQL has no text with a NUL.
        "contains a NUL character".to_owned()
    } else {
        return Ok(());
    };
    let shown: String = event_type.chars().take(64).collect();
    Err(Error::invalid_event(format!(
        "the event type {shown:?} {problem}; choose one such as `order.placed`"
    )))
}

/// What keeps a value from coming back as it is, found without looking deeper than the limit.
fn misfit(value: &Value, levels: usize) -> Option<String> {
    match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => {
            Some(format!("is nested deeper than {MAX_NESTING} levels"))
        }
        Value::Array(items) => items.iter().find_map(|item| misfit(item, levels - 1)),
        Value::Object(fields) => {
            fields.iter().find_map(|(name, field)| reserved(name).or_else(|| misfit(field, levels - 1)))
        }
        _ => None,
    }
}

/// `serde_json` reads an object with such a key as something else, once any crate of the program has turned on
/// its features `raw_value` or `arbitrary_precision`.
fn reserved(name: &str) -> Option<String> {
    name.starts_with("$serde_json::private::")
        .then(|| format!("has the key `{name}`, which `serde_json` keeps for itself: choose another"))
}
