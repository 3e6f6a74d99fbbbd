//! The outbox in a transaction of sled that the application writes itself.

use outbox_traits::{Event, Result, Saved};
use sled::{
    Tree,
    transaction::{ConflictableTransactionError, TransactionalTree},
};

use crate::{SledOutbox, row::NewRow, trees::Done, view::View};

/// The inside of a transaction that [`SledOutbox::transaction`] runs.
pub struct SledTransaction<'a> {
    outbox: View<'a>,
    trees: &'a [TransactionalTree],
    now: i64,
}

impl SledOutbox {
    /// Runs a transaction of sled over trees of the application's and the outbox. It is flushed when this returns.
    ///
    /// A [session](crate::SledSession) is the way for async code. This is for code that is written as a closure over
    /// sled's transactional trees: it blocks the thread, so call it where that may be done. All that holds for sled's
    /// transactions holds here too: the closure may run again and must do nothing but read and write what it is
    /// given. A plain `tree.get` inside it would wait for ever.
    ///
    /// ```
    /// use outbox_sled::SledOutbox;
    /// use outbox_traits::{Event, Saved};
    /// use serde_json::json;
    ///
    /// # let db = sled::Config::new().temporary(true).open()?;
    /// let outbox = SledOutbox::open(&db)?;
    /// let orders = db.open_tree("orders")?;
    ///
    /// let placed = Event::new("order.placed", json!({ "total": 4200 }))?;
    /// let saved = outbox.transaction(&[&orders], |transaction| {
    ///     transaction.trees()[0].insert("o-17", "4200")?;
    ///     transaction.save(&placed)
    /// })?;
    /// assert_eq!(saved, Saved::Stored);
    /// assert!(orders.contains_key("o-17")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// An id that an open session has saved too makes the commit of that session a
    /// [`Conflict`](outbox_traits::ErrorKind::Conflict).
    ///
    /// # Errors
    /// What the closure returns in [`Abort`](ConflictableTransactionError::Abort), and errors of sled. Nothing is
    /// written then.
    pub fn transaction<T>(
        &self,
        trees: &[&Tree],
        run: impl Fn(&SledTransaction<'_>) -> Result<T, ConflictableTransactionError<outbox_traits::Error>>,
    ) -> Result<T> {
        let now = self.shared.now();
        self.shared.trees.change_with(trees, |outbox, trees| {
            outbox.flush();
            run(&SledTransaction { outbox: *outbox, trees, now })
        })
    }
}

impl SledTransaction<'_> {
    /// The application's trees, in the order in which they were given.
    #[must_use]
    pub fn trees(&self) -> &[TransactionalTree] {
        self.trees
    }

    /// Saves an event in the transaction.
    ///
    /// # Errors
    /// [`InvalidEvent`](outbox_traits::ErrorKind::InvalidEvent) if the event breaks a rule; the transaction is
    /// unharmed, unless the closure returns the error.
    pub fn save(&self, event: &Event) -> Done<Saved> {
        let new = NewRow::of(event).map_err(ConflictableTransactionError::Abort)?;
        if self.outbox.is_taken(&new.row)? {
            return Ok(Saved::Duplicate);
        }
        self.outbox.insert(&new, self.now)?;
        Ok(Saved::Stored)
    }
}

impl std::fmt::Debug for SledTransaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledTransaction").field("trees", &self.trees.len()).finish_non_exhaustive()
    }
}
