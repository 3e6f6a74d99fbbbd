//! What applications call.

use async_trait::async_trait;

use crate::{IntoEvent, OutboxStore, Result, Saved};

/// Conveniences over every [`OutboxStore`]. Never implemented by hand.
#[async_trait]
pub trait OutboxStoreExt: OutboxStore + Sized {
    /// Writes one event into the outbox in the caller's session: it will be published if, and only if, the
    /// session commits.
    ///
    /// It takes an [`Event`](crate::Event) or a reference to any [`DomainEvent`](crate::DomainEvent).
    ///
    /// # Errors
    /// [`InvalidEvent`](crate::ErrorKind::InvalidEvent) if the event breaks a rule; the session is unharmed.
    async fn enqueue<E>(&self, event: E, session: &mut Self::Session) -> Result<Saved>
    where
        E: IntoEvent + Send,
    {
        let event = event.into_event()?;
        self.save_in_session(&event, session).await
    }

    /// Writes events into the outbox in their order, in one round trip where the engine allows it.
    ///
    /// # Errors
    /// [`InvalidEvent`](crate::ErrorKind::InvalidEvent) if any event breaks a rule; nothing is stored and the
    /// session is unharmed.
    async fn enqueue_all<I>(&self, events: I, session: &mut Self::Session) -> Result<Vec<Saved>>
    where
        I: IntoIterator + Send,
        I::Item: IntoEvent,
        I::IntoIter: Send,
    {
        let events = events.into_iter().map(IntoEvent::into_event).collect::<Result<Vec<_>>>()?;
        self.save_all_in_session(&events, session).await
    }
}

impl<S: OutboxStore> OutboxStoreExt for S {}
