//! What is known about an event beside its payload.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use chrono::{DateTime, DurationRound, SecondsFormat, TimeDelta, Utc};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::{Map, Value};

use crate::{Event, EventId};

/// What is known about an event beside its type and payload.
///
/// As JSON its names are in camel case and absent fields are left out:
/// `{"id", "timestamp", "resource", "resourceId", …}`. Fields that this version does not know are kept in
/// [`extra`](Self::extra), so that what a newer producer wrote survives a read and a publish.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Meta {
    id: EventId,
    timestamp: DateTime<Utc>,
    /// The kind of thing that the event is about, such as `order`.
    pub resource: Option<String>,
    /// Which one of them.
    pub resource_id: Option<String>,
    /// The user on whose behalf it happened.
    pub user_id: Option<String>,
    /// The organization or tenant that it belongs to.
    pub organization_id: Option<String>,
    /// Shared by all events of one flow of work.
    pub correlation_id: Option<String>,
    /// The id of the event that caused this one.
    pub causation_id: Option<String>,
    /// Events that share it are delivered in order; where it is absent, the resource id serves. See
    /// [`Event::partition_key`].
    pub partition_key: Option<String>,
    /// The version of the payload's schema.
    pub schema_version: Option<u32>,
    /// The service that the event comes from.
    pub source: Option<String>,
    /// A store keeps one event for each key and answers [`Duplicate`](crate::Saved::Duplicate) to more.
    pub idempotency_key: Option<String>,
    /// Headers for the transport, such as `traceparent`.
    pub headers: BTreeMap<String, String>,
    /// Fields that this version does not know, as they came.
    pub extra: Map<String, Value>,
}

pub(crate) const ID: &str = "id";
pub(crate) const TIMESTAMP: &str = "timestamp";
const SCHEMA_VERSION: &str = "schemaVersion";
const HEADERS: &str = "headers";

/// The optional text fields: one list, so that reading and writing cannot drift apart.
macro_rules! text_fields {
    ($with:ident) => {
        $with! {
            resource: "resource",
            resource_id: "resourceId",
            user_id: "userId",
            organization_id: "organizationId",
            correlation_id: "correlationId",
            causation_id: "causationId",
            partition_key: "partitionKey",
            source: "source",
            idempotency_key: "idempotencyKey",
        }
    };
}

impl Meta {
    /// Meta of a new event: an id of version 7 and the application's time.
    pub(crate) fn new() -> Self {
        Self::with_identity(EventId::new(), Utc::now())
    }

    fn with_identity(id: EventId, timestamp: DateTime<Utc>) -> Self {
        Self {
            id,
            timestamp: to_millisecond(timestamp),
            resource: None,
            resource_id: None,
            user_id: None,
            organization_id: None,
            correlation_id: None,
            causation_id: None,
            partition_key: None,
            schema_version: None,
            source: None,
            idempotency_key: None,
            headers: BTreeMap::new(),
            extra: Map::new(),
        }
    }

    /// The id of the event.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// When it happened, by the application's clock, in UTC and whole milliseconds. Never used for order.
    #[must_use]
    pub fn timestamp(&self) -> DateTime<Utc> {
        self.timestamp
    }

    pub(crate) fn set_id(&mut self, id: EventId) {
        self.id = id;
    }

    pub(crate) fn set_timestamp(&mut self, timestamp: DateTime<Utc>) {
        self.timestamp = to_millisecond(timestamp);
    }

    /// Takes from a parent what a child event takes; see [`Event::caused_by`].
    pub(crate) fn set_parent(&mut self, parent: &Event) {
        let parent = parent.meta();
        self.causation_id = Some(parent.id.to_string());
        self.correlation_id = Some(parent.correlation_id.clone().unwrap_or_else(|| parent.id.to_string()));
        for (own, parents) in [
            (&mut self.user_id, &parent.user_id),
            (&mut self.organization_id, &parent.organization_id),
            (&mut self.source, &parent.source),
        ] {
            if parents.is_some() {
                own.clone_from(parents);
            }
        }
    }

    /// Whether this is the name of a field of its own, which [`extra`](Self::extra) must not carry.
    pub(crate) fn is_known(name: &str) -> bool {
        macro_rules! is_text_field {
            ($($field:ident: $name:literal,)*) => { matches!(name, $($name)|*) };
        }
        matches!(name, ID | TIMESTAMP | SCHEMA_VERSION | HEADERS) || text_fields!(is_text_field)
    }
}

/// Every backend keeps at least milliseconds, so an event has no more from the start.
fn to_millisecond(time: DateTime<Utc>) -> DateTime<Utc> {
    // Fails only for times more than 292 years away from 1970, which carry no fraction that matters here.
    time.duration_trunc(TimeDelta::milliseconds(1))
        .unwrap_or_else(|_| DateTime::from_timestamp_millis(time.timestamp_millis()).unwrap_or(time))
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(ID, &self.id)?;
        // As ECMAScript writes a date, for readers of the TypeScript shape.
        map.serialize_entry(TIMESTAMP, &self.timestamp.to_rfc3339_opts(SecondsFormat::Millis, true))?;
        macro_rules! write_text_fields {
            ($($field:ident: $name:literal,)*) => {
                $(if let Some(text) = &self.$field {
                    map.serialize_entry($name, text)?;
                })*
            };
        }
        text_fields!(write_text_fields);
        if let Some(version) = self.schema_version {
            map.serialize_entry(SCHEMA_VERSION, &version)?;
        }
        if !self.headers.is_empty() {
            map.serialize_entry(HEADERS, &self.headers)?;
        }
        for (name, value) in &self.extra {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MetaVisitor)
    }
}

/// Not by a derive with `flatten`, whose detour would cost numbers their exact form.
struct MetaVisitor;

impl<'de> Visitor<'de> for MetaVisitor {
    type Value = Meta;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the meta of an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Meta, A::Error> {
        let (mut id, mut timestamp) = (None, None);
        let mut meta = Meta::with_identity(EventId::from(uuid::Uuid::nil()), DateTime::UNIX_EPOCH);
        macro_rules! read_field {
            ($($field:ident: $name:literal,)*) => {
                // `null` is the same as absent.
                while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
                    match &*name {
                        ID => id = Some(fields.next_value()?),
                        TIMESTAMP => timestamp = Some(fields.next_value()?),
                        SCHEMA_VERSION => meta.schema_version = fields.next_value()?,
                        HEADERS => meta.headers = fields.next_value::<Option<_>>()?.unwrap_or_default(),
                        $($name => meta.$field = fields.next_value()?,)*
                        _ => drop(meta.extra.insert(name.into_owned(), fields.next_value()?)),
                    }
                }
            };
        }
        text_fields!(read_field);
        meta.set_id(id.ok_or_else(|| A::Error::missing_field(ID))?);
        meta.set_timestamp(timestamp.ok_or_else(|| A::Error::missing_field(TIMESTAMP))?);
        Ok(meta)
    }
}
