//! A unit of work over the outbox and whatever else is to be changed with it.

use std::{
    fmt,
    sync::{Arc, MutexGuard},
};

use outbox_traits::{EncodedEvent, Error, ErrorKind, Event, Receipt, Result, Saved};

use crate::{
    inbox::Mark,
    state::{Content, SessionId, State},
    store::Shared,
};

type OnCommit = Box<dyn FnOnce() + Send>;

/// An open unit of work; dropped without a commit, it leaves nothing.
///
/// Business state that lives in memory joins it by [`on_commit`](Self::on_commit):
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use outbox_memory::MemoryOutbox;
///
/// let orders = Arc::new(Mutex::new(Vec::new()));
/// let outbox = MemoryOutbox::new();
///
/// let mut session = outbox.begin();
/// let written = Arc::clone(&orders);
/// session.on_commit(move || written.lock().unwrap().push("o-17"));
/// assert!(orders.lock().unwrap().is_empty());
///
/// session.commit();
/// assert_eq!(*orders.lock().unwrap(), ["o-17"]);
/// ```
///
/// # A session of its own
/// A repository that writes in a `MemorySession` can be wired to a [`MemoryOutbox`](crate::MemoryOutbox):
///
/// ```
/// use outbox_memory::{MemoryOutbox, MemorySession};
/// use outbox_traits::{Error, async_trait, resource::{Outboxed, Repository, ResourceEvents}};
///
/// /// The transaction of some other store.
/// struct ForeignTransaction;
///
/// struct Names;
///
/// #[async_trait]
/// impl Repository for Names {
///     type Session = MemorySession;
///     type Id = String;
///     type Entity = String;
///     type Changes = String;
///     type Error = Error;
///
///     fn id_of(name: &String) -> String {
///         name.clone()
///     }
///     async fn create(&self, name: String, _: &mut MemorySession) -> Result<String, Error> {
///         Ok(name)
///     }
///     async fn update(&self, _: &String, _: &String, _: &mut MemorySession) -> Result<bool, Error> {
///         Ok(true)
///     }
///     async fn delete(&self, _: &String, _: &mut MemorySession) -> Result<bool, Error> {
///         Ok(true)
///     }
/// }
///
/// let names = Outboxed::new(Names, ResourceEvents::new(MemoryOutbox::new(), "name"));
/// ```
///
/// The same with the transaction of another store does not compile: its events could not share the fate of its
/// rows.
///
/// ```compile_fail,E0271
/// use outbox_memory::{MemoryOutbox, MemorySession};
/// use outbox_traits::{Error, async_trait, resource::{Outboxed, Repository, ResourceEvents}};
///
/// /// The transaction of some other store.
/// struct ForeignTransaction;
///
/// struct Names;
///
/// #[async_trait]
/// impl Repository for Names {
///     type Session = ForeignTransaction;
///     type Id = String;
///     type Entity = String;
///     type Changes = String;
///     type Error = Error;
///
///     fn id_of(name: &String) -> String {
///         name.clone()
///     }
///     async fn create(&self, name: String, _: &mut ForeignTransaction) -> Result<String, Error> {
///         Ok(name)
///     }
///     async fn update(&self, _: &String, _: &String, _: &mut ForeignTransaction) -> Result<bool, Error> {
///         Ok(true)
///     }
///     async fn delete(&self, _: &String, _: &mut ForeignTransaction) -> Result<bool, Error> {
///         Ok(true)
///     }
/// }
///
/// let names = Outboxed::new(Names, ResourceEvents::new(MemoryOutbox::new(), "name"));
/// ```
pub struct MemorySession {
    shared: Arc<Shared>,
    id: SessionId,
    events: Vec<Event>,
    marks: Vec<Mark>,
    on_commit: Vec<OnCommit>,
}

impl MemorySession {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let id = shared.lock().open_session();
        Self { shared, id, events: Vec::new(), marks: Vec::new(), on_commit: Vec::new() }
    }

    /// Runs a function when the session commits, at the moment in which its events become visible, and never
    /// if it does not. It must not call the store. If it panics, so does the commit, and no event of the session is stored.
    pub fn on_commit(&mut self, change: impl FnOnce() + Send + 'static) {
        self.on_commit.push(Box::new(change));
    }

    /// Makes everything that was written in the session visible at once.
    pub fn commit(mut self) {
        let shared = Arc::clone(&self.shared);
        let now = shared.clock.now();
        let mut state = shared.lock();
        let has_events = !self.events.is_empty();
        // Nobody sees anything of it before the lock is released. What panics leaves no event and no mark.
        for change in self.on_commit.drain(..) {
            change();
        }
        // The sequence numbers are taken here, under the one lock: commits are in the order of the numbers.
        for event in self.events.drain(..) {
            state.insert(Content::Event(Box::new(event)), now);
        }
        for mark in self.marks.drain(..) {
            state.marks.commit(mark, now);
        }
        drop(state);
        if has_events {
            shared.commits.send_replace(());
        }
    }

    /// Forgets everything that was written in the session, as dropping it does.
    pub fn rollback(self) {
        drop(self);
    }

    fn check_store(&self, shared: &Arc<Shared>) -> Result<()> {
        if Arc::ptr_eq(&self.shared, shared) {
            return Ok(());
        }
        let message = "the session belongs to another store: begin it with `MemoryOutbox::begin` of this one";
        Err(Error::new(ErrorKind::Backend, message))
    }

    /// Marks an event as processed by a consumer.
    pub(crate) fn mark(&mut self, shared: &Arc<Shared>, mark: Mark) -> Result<Receipt> {
        self.check_store(shared)?;
        let receipt = shared.lock().marks.reserve(&mark, self.id)?;
        if receipt.is_new() {
            self.marks.push(mark);
        }
        Ok(receipt)
    }

    /// Adds events to the session, all or none.
    pub(crate) fn save_all(&mut self, shared: &Arc<Shared>, events: &[Event]) -> Result<Vec<Saved>> {
        self.check_store(shared)?;
        // It has no use for the texts, but what a database refuses it is to refuse, too.
        events.iter().try_for_each(|event| EncodedEvent::new(event).map(drop))?;
        let mut state = shared.lock();
        let before = self.events.len();
        let mut saved = Vec::with_capacity(events.len());
        for event in events {
            match state.reserve(event, self.id) {
                Ok(outcome) => {
                    if outcome == Saved::Stored {
                        self.events.push(event.clone());
                    }
                    saved.push(outcome);
                }
                Err(error) => {
                    release(&mut state, self.events.drain(before..));
                    return Err(error);
                }
            }
        }
        Ok(saved)
    }
}

fn release(state: &mut MutexGuard<'_, State>, events: impl Iterator<Item = Event>) {
    for event in events {
        state.release(&event);
    }
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        if !self.events.is_empty() || !self.marks.is_empty() {
            let mut state = self.shared.lock();
            release(&mut state, self.events.drain(..));
            for mark in self.marks.drain(..) {
                state.marks.release(&mark);
            }
        }
    }
}

impl fmt::Debug for MemorySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySession")
            .field("id", &self.id)
            .field("events", &self.events.len())
            .finish_non_exhaustive()
    }
}
