//! What consumers have processed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use outbox_traits::{Error, ErrorKind, EventId, InboxStore, Receipt, Result, check_consumer};

use crate::{MemoryOutbox, MemorySession, clock::earlier, state::SessionId, store::Shared};

/// An inbox in memory, for tests. Clones share it, and so do all that are made of one outbox.
///
/// ```
/// use outbox_memory::{MemoryInbox, MemoryOutbox};
/// use outbox_traits::{EventId, InboxStore, Receipt};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let outbox = MemoryOutbox::new();
/// let inbox = MemoryInbox::new(&outbox);
/// let delivered = EventId::new();
/// for expected in [Receipt::New, Receipt::Duplicate] {
///     let mut session = outbox.begin();
///     let receipt = inbox.process_once(&mut session, "billing", delivered).await?;
///     assert_eq!(receipt, expected);
///     session.commit();
/// }
/// # Ok::<(), outbox_traits::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct MemoryInbox {
    shared: Arc<Shared>,
}

impl MemoryInbox {
    /// The inbox beside this outbox: its session is a session of the outbox, and its clock is the outbox's.
    #[must_use]
    pub fn new(outbox: &MemoryOutbox) -> Self {
        Self { shared: Arc::clone(&outbox.shared) }
    }
}

#[async_trait]
impl InboxStore for MemoryInbox {
    type Session = MemorySession;

    async fn process_once(
        &self,
        session: &mut MemorySession,
        consumer: &str,
        event: EventId,
    ) -> Result<Receipt> {
        check_consumer(consumer)?;
        session.mark(&self.shared, Mark { consumer: consumer.to_owned(), event })
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        // Older than time itself: there is none.
        let until = earlier(self.shared.clock.now(), older_than);
        Ok(until.map_or(0, |until| self.shared.lock().marks.purge(until)))
    }
}

/// That a consumer has processed an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    consumer: String,
    event: EventId,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open(SessionId),
    Processed(DateTime<Utc>),
}

/// All marks, those of open sessions among them.
#[derive(Debug, Default)]
pub(crate) struct Marks(HashMap<Mark, State>);

impl Marks {
    /// Takes a mark for a session, so that no other can before it ends.
    pub(crate) fn reserve(&mut self, mark: &Mark, session: SessionId) -> Result<Receipt> {
        match self.0.get(mark) {
            None => {
                self.0.insert(mark.clone(), State::Open(session));
                Ok(Receipt::New)
            }
            Some(State::Open(other)) if *other != session => {
                let message = format!(
                    "another open session processes this event for the consumer {:?}: try again when it ended",
                    mark.consumer
                );
                Err(Error::new(ErrorKind::Conflict, message).with_event(mark.event))
            }
            Some(_) => Ok(Receipt::Duplicate),
        }
    }

    pub(crate) fn commit(&mut self, mark: Mark, now: DateTime<Utc>) {
        self.0.insert(mark, State::Processed(now));
    }

    pub(crate) fn release(&mut self, mark: &Mark) {
        self.0.remove(mark);
    }

    fn purge(&mut self, until: DateTime<Utc>) -> u64 {
        let before = self.0.len();
        self.0.retain(|_, state| !matches!(state, State::Processed(at) if *at <= until));
        (before - self.0.len()) as u64
    }
}
