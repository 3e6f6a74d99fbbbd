//! Changes of a resource as events.

use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::{Event, OutboxStore, Result, Saved};

/// What happened to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// It was created.
    Created,
    /// It was updated.
    Updated,
    /// It was deleted.
    Deleted,
}

impl Change {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }
}

type Filter = dyn Fn(Change, &Event) -> bool + Send + Sync;
type Enricher = dyn Fn(Event) -> Event + Send + Sync;

/// Records the changes of one kind of resource as events of a store, in the session of the business write.
///
/// It is what [`Outboxed`](super::Outboxed) uses, and what a host with a repository of another shape calls by
/// hand, after the business write, so that generated ids are known:
///
/// ```
/// use outbox_traits::{OutboxStore, Result, resource::ResourceEvents};
///
/// async fn rename<S: OutboxStore>(events: &ResourceEvents<S>, session: &mut S::Session) -> Result<()> {
///     // … the business write …
///     events.updated(&"c-1", &serde_json::json!({ "name": "Ada" }), session).await?;
///     Ok(())
/// }
/// ```
///
/// By default every change is recorded and the meta has the resource and its id.
pub struct ResourceEvents<S> {
    store: Arc<S>,
    resource: String,
    filter: Option<Arc<Filter>>,
    enricher: Option<Arc<Enricher>>,
}

impl<S: OutboxStore> ResourceEvents<S> {
    /// Records changes of `resource`, such as `order`.
    pub fn new(store: impl Into<Arc<S>>, resource: impl Into<String>) -> Self {
        Self { store: store.into(), resource: resource.into(), filter: None, enricher: None }
    }

    /// Records a change only if the filter says so; it sees the event as it would be written.
    #[must_use]
    pub fn enqueue_if(mut self, filter: impl Fn(Change, &Event) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// Lets a function fill the meta, for instance with the user of the request.
    #[must_use]
    pub fn enrich(mut self, enricher: impl Fn(Event) -> Event + Send + Sync + 'static) -> Self {
        self.enricher = Some(Arc::new(enricher));
        self
    }

    /// Records that an entity was created. `None`: the filter did not want it.
    pub async fn created<I, E>(&self, id: &I, entity: &E, session: &mut S::Session) -> Result<Option<Saved>>
    where
        I: ToString + Sync + ?Sized,
        E: Serialize + Sync + ?Sized,
    {
        self.record(Change::Created, [self.event(Change::Created, id, entity)?], session).await
    }

    /// Records that an entity was updated. `None`: the filter did not want it.
    pub async fn updated<I, C>(&self, id: &I, changes: &C, session: &mut S::Session) -> Result<Option<Saved>>
    where
        I: Serialize + ToString + Sync + ?Sized,
        C: Serialize + Sync + ?Sized,
    {
        let event = self.event(Change::Updated, id, &Updated { id, changes })?;
        self.record(Change::Updated, [event], session).await
    }

    /// Records that an entity was deleted. `None`: the filter did not want it.
    pub async fn deleted<I>(&self, id: &I, session: &mut S::Session) -> Result<Option<Saved>>
    where
        I: Serialize + ToString + Sync + ?Sized,
    {
        let event = self.event(Change::Deleted, id, &Deleted { id })?;
        self.record(Change::Deleted, [event], session).await
    }

    /// Records many creations, one event each, in one round trip where the engine allows it.
    pub async fn created_all<'a, I, E>(
        &self,
        entities: impl IntoIterator<Item = (I, &'a E)> + Send,
        session: &mut S::Session,
    ) -> Result<()>
    where
        I: ToString,
        E: Serialize + 'a,
    {
        let events = entities
            .into_iter()
            .map(|(id, entity)| self.event(Change::Created, &id, entity))
            .collect::<Result<Vec<_>>>()?;
        self.record(Change::Created, events, session).await.map(drop)
    }

    /// Records the same changes of many entities, one event each, in one round trip where the engine allows it.
    pub async fn updated_all<I, C>(&self, ids: &[I], changes: &C, session: &mut S::Session) -> Result<()>
    where
        I: Serialize + ToString + Sync,
        C: Serialize + Sync + ?Sized,
    {
        let events = ids
            .iter()
            .map(|id| self.event(Change::Updated, id, &Updated { id, changes }))
            .collect::<Result<Vec<_>>>()?;
        self.record(Change::Updated, events, session).await.map(drop)
    }

    /// Records many deletions, one event each, in one round trip where the engine allows it.
    pub async fn deleted_all<I>(&self, ids: &[I], session: &mut S::Session) -> Result<()>
    where
        I: Serialize + ToString + Sync,
    {
        let events = ids
            .iter()
            .map(|id| self.event(Change::Deleted, id, &Deleted { id }))
            .collect::<Result<Vec<_>>>()?;
        self.record(Change::Deleted, events, session).await.map(drop)
    }

    fn event<I, P>(&self, change: Change, id: &I, payload: &P) -> Result<Event>
    where
        I: ToString + ?Sized,
        P: Serialize + ?Sized,
    {
        let event_type = format!("{}.{}", self.resource, change.as_str());
        let event = Event::new(event_type, payload)?.with_resource(&self.resource, id.to_string());
        Ok(match &self.enricher {
            Some(enrich) => enrich(event),
            None => event,
        })
    }

    /// Saves what the filter wants; the answer is that of the first.
    async fn record(
        &self,
        change: Change,
        events: impl IntoIterator<Item = Event>,
        session: &mut S::Session,
    ) -> Result<Option<Saved>> {
        let wanted: Vec<Event> = events
            .into_iter()
            .filter(|event| self.filter.as_ref().is_none_or(|filter| filter(change, event)))
            .collect();
        Ok(match wanted.as_slice() {
            [] => None,
            [event] => Some(self.store.save_in_session(event, session).await?),
            events => self.store.save_all_in_session(events, session).await?.into_iter().next(),
        })
    }
}

#[derive(Serialize)]
struct Updated<'a, I: ?Sized, C: ?Sized> {
    id: &'a I,
    changes: &'a C,
}

#[derive(Serialize)]
struct Deleted<'a, I: ?Sized> {
    id: &'a I,
}

// By hand, because a derive would ask the store to be `Clone`.
impl<S> Clone for ResourceEvents<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            resource: self.resource.clone(),
            filter: self.filter.clone(),
            enricher: self.enricher.clone(),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for ResourceEvents<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceEvents")
            .field("store", &self.store)
            .field("resource", &self.resource)
            .field("filter", &self.filter.is_some())
            .field("enricher", &self.enricher.is_some())
            .finish()
    }
}
