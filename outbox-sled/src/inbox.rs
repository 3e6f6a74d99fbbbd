//! The consumer's side: what was processed already.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use async_trait::async_trait;
use outbox_traits::{Error, ErrorKind, EventId, InboxStore, Receipt, Result, check_consumer};
use sled::{
    Db, IVec, Tree,
    transaction::{ConflictableTransactionError, Transactional, TransactionalTree},
};

use crate::{
    SledOutbox, SledSession, SledTransaction, clock, error,
    peers::Peers,
    store::{BATCH, blocking},
    trees::Done,
    view::{self, NOTHING},
};

/// What each consumer has processed, in a data base of sled. Clones share it.
///
/// A consumer asks it in the [session](SledSession) in which it does its work, so that the mark and the work are
/// committed together. The session is one of an outbox of the same data base, whether the consumer saves events or not.
/// By default the trees are named `inbox.marks` and `inbox.times`.
///
/// ```
/// use outbox_sled::{SledInbox, SledOutbox};
/// use outbox_traits::{EventId, InboxStore, Receipt};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let db = sled::Config::new().temporary(true).open()?;
/// # let received = EventId::new();
/// let (outbox, inbox) = (SledOutbox::open(&db)?, SledInbox::open(&db)?);
/// let invoices = db.open_tree("invoices")?;
/// // The transport delivers it twice.
/// for expected in [Receipt::New, Receipt::Duplicate] {
///     let mut session = outbox.begin();
///     let receipt = inbox.process_once(&mut session, "billing", received).await?;
///     assert_eq!(receipt, expected);
///     if receipt.is_new() {
///         session.insert(&invoices, "o-17", "4200")?;
///     }
///     session.commit().await?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct SledInbox {
    name: String,
    /// The consumer's name and the event's id, to the time of the mark.
    marks: Tree,
    /// Time and mark.
    times: Tree,
    peers: Arc<Peers>,
}

impl SledInbox {
    /// Opens the inbox of a data base, or makes it.
    pub fn open(db: &Db) -> Result<Self> {
        Self::open_named(db, "inbox")
    }

    /// The same with a name of its own: inboxes of different names in one data base are apart.
    pub fn open_named(db: &Db, name: &str) -> Result<Self> {
        let open = |tree: &str| {
            let tried = format!("open the inbox `{name}`");
            db.open_tree(format!("{name}.{tree}")).map_err(|error| error::of(&tried, error))
        };
        let (marks, times) = (open("marks")?, open("times")?);
        Ok(Self { name: name.to_owned(), marks, times, peers: Peers::of(db, name) })
    }

    /// Runs a transaction of sled over trees of the application's, the outbox and this inbox. It is flushed when this
    /// returns.
    ///
    /// It is [`SledOutbox::transaction`], and all that is said there holds here.
    ///
    /// ```
    /// use outbox_sled::{SledInbox, SledOutbox};
    /// use outbox_traits::EventId;
    ///
    /// # let db = sled::Config::new().temporary(true).open()?;
    /// # let received = EventId::new();
    /// let (outbox, inbox) = (SledOutbox::open(&db)?, SledInbox::open(&db)?);
    /// let invoices = db.open_tree("invoices")?;
    /// inbox.transaction(&outbox, &[&invoices], |transaction| {
    ///     if transaction.process_once("billing", received)?.is_new() {
    ///         transaction.trees()[0].insert("o-17", "4200")?;
    ///     }
    ///     Ok(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`SledOutbox::transaction`].
    pub fn transaction<T>(
        &self,
        outbox: &SledOutbox,
        trees: &[&Tree],
        run: impl Fn(&SledInboxTransaction<'_, '_>) -> Result<T, ConflictableTransactionError<Error>>,
    ) -> Result<T> {
        let now = self.peers.clock.now();
        let trees: Vec<&Tree> = [&self.marks, &self.times].into_iter().chain(trees.iter().copied()).collect();
        outbox.transaction(&trees, |transaction| {
            let [marks, times, trees @ ..] = transaction.trees() else {
                unreachable!("it has a view of each tree that it was given")
            };
            run(&SledInboxTransaction { transaction, marks, times, trees, now })
        })
    }

    /// Moves the inbox's clock forward, for tests.
    #[doc(hidden)]
    pub fn advance_clock(&self, by: Duration) {
        self.peers.clock.advance(by);
    }

    /// Removes marks of these times, in one transaction, and returns how many.
    fn remove(&self, times: &[IVec]) -> Result<u64> {
        let removed = (&self.marks, &self.times).transaction(|(marks, by_time)| {
            marks.flush();
            let mut removed = 0;
            for time in times {
                // Another purge may have been here.
                if by_time.remove(time)?.is_some() {
                    marks.remove(mark_in(time))?;
                    removed += 1;
                }
            }
            Ok(removed)
        });
        removed.map_err(|error| error::of_transaction(&format!("purge the inbox `{}`", self.name), error))
    }
}

#[async_trait]
impl InboxStore for SledInbox {
    type Session = SledSession;

    async fn process_once(
        &self,
        session: &mut SledSession,
        consumer: &str,
        event: EventId,
    ) -> Result<Receipt> {
        check_consumer(consumer)?;
        let mark = mark_of(consumer, event);
        let time = view::timed(self.peers.clock.now(), &mark);
        let conflict = || {
            let message = format!(
                "another open session is at this event for the consumer `{consumer}`: try again when it ended"
            );
            Error::new(ErrorKind::Conflict, message).with_event(event)
        };
        let table = &self.peers.reservations;
        let is_new = session.mark(table, (&self.marks, mark), (&self.times, time), conflict).await?;
        Ok(if is_new { Receipt::New } else { Receipt::Duplicate })
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        let until = clock::before(self.peers.clock.now(), older_than);
        let mut purged = 0;
        loop {
            let inbox = self.clone();
            let (found, gone) = blocking(move || {
                // The end of all marks of this time.
                let end = view::time_key(until.saturating_add(1));
                let times = if until == i64::MAX { inbox.times.iter() } else { inbox.times.range(..end) };
                let times: sled::Result<Vec<IVec>> = times.keys().take(BATCH).collect();
                let tried = || format!("purge the inbox `{}`", inbox.name);
                let times = times.map_err(|error| error::of(&tried(), error))?;
                Ok((times.len(), inbox.remove(&times)?))
            })
            .await?;
            purged += gone;
            if found < BATCH {
                return Ok(purged);
            }
        }
    }
}

/// The inside of a transaction that [`SledInbox::transaction`] runs.
pub struct SledInboxTransaction<'a, 'b> {
    transaction: &'a SledTransaction<'b>,
    marks: &'a TransactionalTree,
    times: &'a TransactionalTree,
    trees: &'a [TransactionalTree],
    now: i64,
}

impl SledInboxTransaction<'_, '_> {
    /// The application's trees, in the order in which they were given.
    #[must_use]
    pub fn trees(&self) -> &[TransactionalTree] {
        self.trees
    }

    /// Says whether the event is new to the consumer, and marks it as processed.
    ///
    /// # Errors
    /// [`InvalidEvent`](ErrorKind::InvalidEvent) if the name of the consumer cannot be kept.
    pub fn process_once(&self, consumer: &str, event: EventId) -> Done<Receipt> {
        check_consumer(consumer).map_err(ConflictableTransactionError::Abort)?;
        let mark = mark_of(consumer, event);
        if self.marks.get(&mark)?.is_some() {
            return Ok(Receipt::Duplicate);
        }
        self.times.insert(view::timed(self.now, &mark), NOTHING)?;
        self.marks.insert(mark, &view::time_key(self.now))?;
        Ok(Receipt::New)
    }
}

impl<'b> Deref for SledInboxTransaction<'_, 'b> {
    type Target = SledTransaction<'b>;

    fn deref(&self) -> &Self::Target {
        self.transaction
    }
}

/// The id is of one length and comes last, so that no two are the same.
fn mark_of(consumer: &str, event: EventId) -> IVec {
    [consumer.as_bytes(), event.as_uuid().as_bytes()].concat().into()
}

fn mark_in(time: &IVec) -> IVec {
    time.subslice(8, time.len() - 8)
}

impl fmt::Debug for SledInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledInbox").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for SledInboxTransaction<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledInboxTransaction").field("trees", &self.trees.len()).finish_non_exhaustive()
    }
}
