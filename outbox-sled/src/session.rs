//! A unit of work over trees of the application's own and the outbox.

use std::{collections::HashMap, fmt, sync::Arc};

use outbox_traits::{Error, ErrorKind, Event, Result, Saved};
use sled::{
    IVec, Tree,
    transaction::{ConflictableTransactionError::Abort, TransactionalTree},
};

use crate::{
    error,
    reservations::{Held, Reservations, Reserved},
    row::NewRow,
    store::{Shared, blocking},
    trees::{Done, Trees},
};

/// An open unit of work; dropped without a commit, it leaves nothing.
///
/// It gathers writes to trees of the data base and events, and makes all of them in one transaction of sled when it
/// commits. It sees its own writes, and nobody else does. What it has read must be unchanged when it commits, or the
/// commit is a [`Conflict`](ErrorKind::Conflict): take that as a data base's serialization failure and run the unit of
/// work again. A key that was written and not read is overwritten, whatever stands there.
///
/// ```
/// use outbox_sled::SledOutbox;
/// use outbox_traits::{Event, OutboxStoreExt};
/// use serde_json::json;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let db = sled::Config::new().temporary(true).open()?;
/// let outbox = SledOutbox::open(&db)?;
/// let stock = db.open_tree("stock")?;
/// stock.insert("apples", "7")?;
///
/// let mut session = outbox.begin();
/// let apples = session.get(&stock, "apples").await?;
/// assert_eq!(apples.as_deref(), Some(b"7".as_slice()));
/// session.insert(&stock, "apples", "6")?;
/// outbox.enqueue(Event::new("apple.sold", json!({ "left": 6 }))?, &mut session).await?;
///
/// // Somebody else sells one meanwhile.
/// stock.insert("apples", "5")?;
/// let conflict = session.commit().await.unwrap_err();
/// assert!(conflict.is_retryable());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct SledSession {
    shared: Arc<Shared>,
    events: Vec<NewRow>,
    reserved: Reserved,
    /// By each inbox that was asked.
    marks: Vec<Reserved>,
    touched: Vec<Touched>,
}

/// What a session did with one tree.
struct Touched {
    tree: Tree,
    read: HashMap<IVec, Option<IVec>>,
    /// `None` is a removal.
    written: HashMap<IVec, Option<IVec>>,
}

impl SledSession {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let reserved = Reserved::none(&shared.trees.peers.reservations);
        Self { shared, events: Vec::new(), reserved, marks: Vec::new(), touched: Vec::new() }
    }

    /// The value of a key, as this session sees it: asked twice, it answers the same.
    ///
    /// # Errors
    /// [`Backend`](ErrorKind::Backend) if the tree is one of another data base or of the outbox.
    pub async fn get(&mut self, tree: &Tree, key: impl AsRef<[u8]> + Send) -> Result<Option<IVec>> {
        let key = IVec::from(key.as_ref());
        let touched = self.touch(tree)?;
        if let Some(known) = touched.written.get(&key).or_else(|| touched.read.get(&key)) {
            return Ok(known.clone());
        }
        let found = {
            let (tree, key) = (tree.clone(), key.clone());
            blocking(move || tree.get(key).map_err(|error| error::of("read a key", error))).await?
        };
        self.touch(tree)?.read.insert(key, found.clone());
        Ok(found)
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`Backend`](ErrorKind::Backend) if the tree is one of another data base or of the outbox.
    pub fn insert(&mut self, tree: &Tree, key: impl AsRef<[u8]>, value: impl Into<IVec>) -> Result<()> {
        self.touch(tree)?.written.insert(key.as_ref().into(), Some(value.into()));
        Ok(())
    }

    /// Removes a key, if it is there.
    ///
    /// # Errors
    /// [`Backend`](ErrorKind::Backend) if the tree is one of another data base or of the outbox.
    pub fn remove(&mut self, tree: &Tree, key: impl AsRef<[u8]>) -> Result<()> {
        self.touch(tree)?.written.insert(key.as_ref().into(), None);
        Ok(())
    }

    /// Makes everything that was written in the session visible at once, and returns when it is flushed; see the
    /// [crate documentation](crate#what-survives) for what that means.
    ///
    /// Dropping the future does not stop a commit that has begun.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if what the session has read was changed, or an id or key that it has saved
    /// was taken, by somebody else: nothing is written. [`Unavailable`](ErrorKind::Unavailable) if the disk failed:
    /// the writes may or may not outlive the process.
    pub async fn commit(self) -> Result<()> {
        let Self { shared, events, reserved, marks, touched } = self;
        if events.is_empty() && touched.is_empty() {
            return Ok(());
        }
        let trees = Arc::clone(&shared.trees);
        let committed = shared.writer.run(move || {
            apply(&trees, trees.peers.clock.now(), &events, &touched)?;
            // Reserved until the events are flushed, so that no other session finds an id free in between.
            Ok((reserved, marks))
        });
        committed.await.map(drop)
    }

    /// Forgets everything that was written in the session, as dropping it does.
    pub fn rollback(self) {
        drop(self);
    }

    /// Adds events to the session, all or none.
    pub(crate) async fn save_all(&mut self, shared: &Arc<Shared>, events: &[Event]) -> Result<Vec<Saved>> {
        if !Arc::ptr_eq(&self.shared.trees.peers, &shared.trees.peers) {
            let message =
                "the session belongs to another outbox: begin it with `SledOutbox::begin` of this one";
            return Err(Error::new(ErrorKind::Backend, message));
        }
        let rows = events.iter().map(NewRow::of).collect::<Result<Vec<_>>>()?;
        let (trees, session) = (Arc::clone(&shared.trees), self.reserved.holder);
        let mut reserved = Reserved::none(&shared.trees.peers.reservations);
        let (rows, saved, reserved) = blocking(move || {
            let outcomes = rows.iter().map(|new| reserved.take(&new.row, session, &trees));
            let saved = outcomes.collect::<Result<Vec<_>>>()?;
            Ok((rows, saved, reserved))
        })
        .await?;
        // Nobody may be told of a duplicate of what a crash could take back.
        shared.wait_until_durable(reserved.met).await?;
        self.reserved.absorb(reserved);
        let stored = rows.into_iter().zip(&saved).filter(|(_, saved)| **saved == Saved::Stored);
        self.events.extend(stored.map(|(row, _)| row));
        Ok(saved)
    }

    /// Puts a key into a tree if it is not there, and a second key into another. It returns whether it did; then the
    /// first one is not there at the commit either, or that is a conflict.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if another open session has done so.
    pub(crate) async fn mark(
        &mut self,
        table: &Arc<Reservations>,
        (marks, key): (&Tree, IVec),
        (times, time): (&Tree, IVec),
        conflict: impl FnOnce() -> Error,
    ) -> Result<bool> {
        let touched = self.touch(marks)?;
        if touched.written.contains_key(&key) {
            return Ok(false);
        }
        let mut reserved = Reserved::none(table);
        if reserved.hold([Held::Mark(key.clone())]).is_err() {
            return Err(conflict());
        }
        let found = {
            let (marks, key) = (marks.clone(), key.clone());
            blocking(move || marks.contains_key(key).map_err(|error| error::of("read the inbox", error)))
                .await?
        };
        if found {
            // A transaction of the application's own is seen before it is flushed, and could be taken back by a crash.
            self.shared.writer.run(|| Ok(())).await?;
            return Ok(false);
        }
        let touched = self.touch(marks)?;
        touched.read.insert(key.clone(), None);
        touched.written.insert(key, Some(time.subslice(0, 8)));
        self.touch(times)?.written.insert(time, Some(IVec::default()));
        self.marks.push(reserved);
        Ok(true)
    }

    fn touch(&mut self, tree: &Tree) -> Result<&mut Touched> {
        // By its name: two overlays of one tree would not see each other's writes.
        let name = tree.name();
        let known = self.touched.iter().position(|touched| touched.tree.name() == name);
        // Another data base may have a tree of the same name.
        if !self.shared.trees.is_beside(tree) {
            return Err(refused(&name, "is one of another data base than the outbox"));
        }
        if known.is_none() && self.shared.trees.is_own(tree) {
            return Err(refused(&name, "is one of the outbox's own"));
        }
        let index = known.unwrap_or_else(|| {
            let tree = tree.clone();
            self.touched.push(Touched { tree, read: HashMap::new(), written: HashMap::new() });
            self.touched.len() - 1
        });
        Ok(&mut self.touched[index])
    }
}

fn refused(tree: &[u8], problem: &str) -> Error {
    let name = String::from_utf8_lossy(tree);
    Error::new(ErrorKind::Backend, format!("the session cannot use the tree `{name}`, which {problem}"))
}

/// The commit, as one transaction.
fn apply(trees: &Trees, now: i64, events: &[NewRow], touched: &[Touched]) -> Result<()> {
    let others: Vec<&Tree> = touched.iter().map(|touched| &touched.tree).collect();
    trees.change_with(&others, |outbox, others| {
        for (touched, view) in touched.iter().zip(others) {
            touched.verify(view)?;
        }
        for new in events {
            // The reservation keeps other sessions away, but not a transaction of the application's own.
            if outbox.is_taken(&new.row)? {
                let message = "another transaction has saved this id or idempotency key meanwhile";
                return Err(Abort(Error::new(ErrorKind::Conflict, message).with_event(new.row.id)));
            }
            outbox.insert(new, now)?;
        }
        for (touched, view) in touched.iter().zip(others) {
            touched.write(view)?;
        }
        Ok(())
    })
}

impl Touched {
    fn verify(&self, view: &TransactionalTree) -> Done<()> {
        for (key, value) in &self.read {
            if view.get(key)? != *value {
                let name = self.tree.name();
                let message = format!(
                    "a key of the tree `{}` was changed since the session read it: run the unit of work again",
                    String::from_utf8_lossy(&name)
                );
                return Err(Abort(Error::new(ErrorKind::Conflict, message)));
            }
        }
        Ok(())
    }

    fn write(&self, view: &TransactionalTree) -> Done<()> {
        for (key, value) in &self.written {
            match value {
                Some(value) => view.insert(key, value)?,
                None => view.remove(key)?,
            };
        }
        Ok(())
    }
}

impl fmt::Debug for SledSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledSession")
            .field("id", &self.reserved.holder)
            .field("events", &self.events.len())
            .field("trees", &self.touched.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use outbox_traits::{EventId, OutboxStore};

    use super::*;
    use crate::SledOutbox;

    /// As where a time-out drops it: a thread goes on with it for a while, and what that holds is in no session.
    #[tokio::test]
    async fn what_a_save_that_was_cut_off_holds_is_a_conflict_in_its_session_and_no_duplicate() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let outbox = SledOutbox::open(&db).unwrap();
        let trees = &outbox.shared.trees;
        let one = Event::new("t", ()).unwrap().with_idempotency_key("key");
        let row = NewRow::of(&one).unwrap().row;
        let all = [one.clone(), one.clone().with_id(EventId::new())];

        let mut session = outbox.begin();
        let mut cut_off = Reserved::none(&trees.peers.reservations);
        assert_eq!(cut_off.take(&row, session.reserved.holder, trees).unwrap(), Saved::Stored);
        for again in &all {
            let error = outbox.save_in_session(again, &mut session).await.unwrap_err();
            assert_eq!((error.kind(), error.event()), (ErrorKind::Conflict, Some(again.id())));
        }
        drop(cut_off);
        let saved = outbox.save_all_in_session(&all, &mut session).await.unwrap();
        assert_eq!(saved, [Saved::Stored, Saved::Duplicate], "of one batch");
        for again in &all {
            let saved = outbox.save_in_session(again, &mut session).await.unwrap();
            assert_eq!(saved, Saved::Duplicate, "of one session");
        }
        session.commit().await.unwrap();
        assert_eq!(outbox.get_pending(10).await.unwrap(), all[..1]);
    }
}
