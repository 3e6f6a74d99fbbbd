//! The contract of a store.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;

use crate::{EncodedEvent, Event, EventId, Result};

/// What became of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Saved {
    /// The event was stored and is pending, or will be when the session commits.
    Stored,
    /// An event of this id or idempotency key exists already, in whatever state; it stays as it is and
    /// this one was not stored. The session is unharmed.
    Duplicate,
}

/// A durable queue of events that lives beside the business data.
///
/// Applications call [`OutboxStoreExt::enqueue`](crate::OutboxStoreExt::enqueue), a relay calls the rest.
/// `Arc<dyn OutboxStore>` has all but the session-scoped methods, and so names no session.
///
/// # The contract
/// The suite of the crate `outbox-conformance` checks all of this against any store; `docs/contract.md`
/// numbers the clauses.
///
/// - **Atomic.** Saved in a session, an event shares the fate of what else was written in it: invisible until
///   the commit, never there after a rollback.
/// - **Causal order.** If the commit of A returned before the save of B began, A comes before B. Between
///   overlapping saves any order may be taken, but none is ever skipped because another became visible
///   first. The order never rests on an application's clock.
/// - **Duplicates are an outcome.** An id or an idempotency key that exists is [`Saved::Duplicate`], and the
///   session is still usable and commits.
/// - **Exact.** An event comes back as it was saved, or `save` refuses it as
///   [`InvalidEvent`](crate::ErrorKind::InvalidEvent).
/// - **The caller's session stays the caller's.** A store neither commits nor rolls back, whatever happens.
/// - **Cost.** A fetch costs neither more behind a million delivered events nor before a million pending ones.
/// - **Undecodable rows** are never returned and block nothing: they are set aside as dead letters.
#[async_trait]
pub trait OutboxStore: Debug + Send + Sync + 'static {
    /// The caller's own open transaction or unit of work: the driver's type, behind `&mut`, so that a
    /// transaction, a savepoint and a plain connection all serve.
    type Session: ?Sized + Send
    where
        Self: Sized;

    /// Saves one event in a transaction of its own.
    ///
    /// # Errors
    /// [`InvalidEvent`](crate::ErrorKind::InvalidEvent) if the event breaks a rule; nothing is stored.
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if a concurrent transaction is in the way: where another open session has saved
    /// the id or the idempotency key, a database makes this one wait, and an embedded store may answer so at once.
    async fn save(&self, event: &Event) -> Result<Saved>;

    /// Saves events in the order of the slice, in one transaction of its own: all or none. One answer for
    /// each, in the order of the slice.
    ///
    /// # Errors
    /// [`InvalidEvent`](crate::ErrorKind::InvalidEvent) if any event breaks a rule; nothing is stored.
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if a concurrent transaction is in the way: where another open session has saved
    /// the id or the idempotency key, a database makes this one wait, and an embedded store may answer so at once.
    async fn save_all(&self, events: &[Event]) -> Result<Vec<Saved>>;

    /// Saves one event in the caller's session.
    ///
    /// # Errors
    /// [`InvalidEvent`](crate::ErrorKind::InvalidEvent) if the event breaks a rule; nothing is stored and the
    /// session is unharmed.
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if a concurrent transaction is in the way: where another open session has saved
    /// the id or the idempotency key, a database makes this one wait, and an embedded store may answer so at once.
    async fn save_in_session(&self, event: &Event, session: &mut Self::Session) -> Result<Saved>
    where
        Self: Sized;

    /// Saves events in the order of the slice in the caller's session, in one round trip where the engine
    /// allows it. One answer for each, in the order of the slice.
    ///
    /// The default saves one after the other.
    ///
    /// # Errors
    /// [`InvalidEvent`](crate::ErrorKind::InvalidEvent) if any event breaks a rule; nothing is stored and the
    /// session is unharmed.
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if a concurrent transaction is in the way: where another open session has saved
    /// the id or the idempotency key, a database makes this one wait, and an embedded store may answer so at once.
    async fn save_all_in_session(&self, events: &[Event], session: &mut Self::Session) -> Result<Vec<Saved>>
    where
        Self: Sized,
    {
        // All are looked at before the first is written: a bad one must not leave half of them behind.
        events.iter().try_for_each(|event| EncodedEvent::new(event).map(drop))?;
        let mut saved = Vec::with_capacity(events.len());
        for event in events {
            saved.push(self.save_in_session(event, session).await?);
        }
        Ok(saved)
    }

    /// The first events in order that are pending and due, at most `limit`. It changes nothing: asked twice, it
    /// answers the same.
    async fn get_pending(&self, limit: usize) -> Result<Vec<Event>>;

    /// Marks one event as delivered, or deletes it, as the [retention](crate::Retention) of the store says. Again,
    /// it changes nothing, the time of delivery included; an unknown id is no error; a dead event is left alone.
    async fn acknowledge(&self, id: EventId) -> Result<()>;

    /// Marks events as delivered, in one round trip where the engine allows it.
    ///
    /// The default acknowledges one after the other.
    async fn acknowledge_all(&self, ids: &[EventId]) -> Result<()> {
        for id in ids {
            self.acknowledge(*id).await?;
        }
        Ok(())
    }

    /// Deletes events that were delivered at least `older_than` ago by the store's clock and returns how many;
    /// zero means all delivered ones. Never touches another, and works in bounded batches, so that neither
    /// saves nor fetches wait for it.
    async fn purge(&self, older_than: Duration) -> Result<u64>;
}
