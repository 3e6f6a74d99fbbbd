//! The lock, and the session of this process that takes it.

use std::{sync::Arc, time::Duration};

use bson::{DateTime, Document, RawArrayBuf, RawDocumentBuf, doc, rawdoc};
use mongodb::{ClientSession, Collection, error::Error as DriverError, options::ReturnDocument};
use outbox_traits::ErrorKind;
use tokio::{
    runtime::Handle,
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{LOCK, stalled, view::View};
use crate::{MongoOutbox, collection, error};

/// So long after it was listed a session is listed again: the end of the list is kept, and others may have come since.
const LISTED: Duration = Duration::from_mins(1);
/// So long what a call has left open is being ended, while others wait for their turn.
const ENDING: Duration = Duration::from_secs(2);

/// What those of one process that want the lock hand on to each other: a session that serves nothing else, because
/// others may end what it does when it stalls.
pub(crate) struct Turn {
    leases: Collection<Document>,
    session: Option<ClientSession>,
    /// When the session was last listed.
    listed: Option<Instant>,
    /// Whether the session may have an open transaction at the server.
    is_open: bool,
}

impl Turn {
    pub(crate) fn of(leases: &Collection<Document>) -> Arc<Mutex<Self>> {
        let leases = leases.clone();
        Arc::new(Mutex::new(Self { leases, session: None, listed: None, is_open: false }))
    }

    /// Ends at the server what somebody began who was dropped.
    async fn end_open(&mut self) {
        let Self { leases, session: Some(session), is_open: is_open @ true, .. } = self else { return };
        session.abort_transaction().await.ok();
        // Before its first command is answered the driver takes a transaction for one that the server does not know.
        // But there the next one of a session ends the one before.
        let next = async {
            session.start_transaction().await?;
            leases.find_one(doc! { "_id": LOCK }).session(&mut *session).await?;
            session.abort_transaction().await
        };
        *is_open = next.await.is_err();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        // Without a runtime nothing can be sent.
        let Ok(runtime) = Handle::try_current() else { return };
        let leases = self.leases.clone();
        runtime.spawn(async move {
            session.abort_transaction().await.ok();
            // By itself, so that the driver throws it away if the server does not answer. Else it goes back to the
            // client, and may serve the application.
            stalled::unlist(&leases, &mut session).await.ok();
        });
    }
}

/// The lock, in an open transaction.
pub(crate) struct Held<'a> {
    pub(crate) session: &'a mut ClientSession,
    /// The server's time.
    pub(crate) now: DateTime,
    /// Of the lock.
    pub(super) version: i64,
    is_open: &'a mut bool,
    turn: Arc<Mutex<Turn>>,
}

impl Held<'_> {
    /// Whether nobody had the lock in between.
    fn is_after(&self, view: &View) -> bool {
        self.version == view.version.saturating_add(1)
    }

    /// Commits what was done, or undoes what was not.
    pub(super) async fn end<T>(self, done: Result<T, DriverError>) -> Result<T, DriverError> {
        if let Err(error) = &done {
            // At once: others wait for the lock.
            self.session.abort_transaction().await.ok();
            // After any other error nobody knows what has arrived.
            *self.is_open = error::kind(error) != ErrorKind::Conflict;
            return done;
        }
        collection::commit(self.session).await?;
        *self.is_open = false;
        done
    }

    /// Undoes what was done.
    pub(super) async fn give_up(self) {
        self.session.abort_transaction().await.ok();
        *self.is_open = false;
    }
}

impl Drop for Held<'_> {
    /// Of a call that was dropped, or met an error: others, of other processes too, wait for the lock.
    fn drop(&mut self) {
        if !*self.is_open {
            return;
        }
        // Without a runtime the next call of this process does it.
        let Ok(runtime) = Handle::try_current() else { return };
        let turn = Arc::clone(&self.turn);
        // Over a connection that has fallen silent it would never be done. What is still open then the next call ends, which
        // somebody waits for and may drop.
        runtime.spawn(async move { timeout(ENDING, turn.lock().await.end_open()).await });
    }
}

/// What a claim has of the lock while it looks.
pub(super) enum Lock<'a> {
    /// Nothing: it looks again if another is quicker.
    Free(&'a mut Turn),
    /// The lock: others wait.
    Held(Held<'a>),
}

impl Lock<'_> {
    /// Of a look that has nothing to write.
    pub(super) async fn let_go(self) {
        if let Self::Held(held) = self {
            held.give_up().await;
        }
    }
}

impl MongoOutbox {
    /// A transaction of what has to do with claims.
    pub(super) async fn begin<'a>(
        &self,
        turn: &'a mut Turn,
        now: DateTime,
        version: i64,
    ) -> Result<Held<'a>, DriverError> {
        let Turn { session, listed, is_open, .. } = turn;
        let session = match session {
            Some(session) => session,
            none => none.insert(collection::session(&self.database).await?),
        };
        if listed.is_none_or(|listed| listed.elapsed() >= LISTED) {
            self.list(session).await?;
            *listed = Some(Instant::now());
        }
        if *is_open {
            session.abort_transaction().await.ok();
        }
        session.start_transaction().await?;
        *is_open = true;
        Ok(Held { session, now, version, is_open, turn: Arc::clone(&self.turn) })
    }

    /// One that has the lock.
    pub(super) async fn hold<'a>(&self, turn: &'a mut Turn) -> Result<Held<'a>, DriverError> {
        let mut held = self.begin(turn, DateTime::MIN, 0).await?;
        let version = doc! { "$add": [{ "$ifNull": ["$version", 0_i64] }, 1_i64] };
        let lock = vec![doc! { "$set": { "version": version, "now": "$$NOW" } }];
        let locked = self
            .leases
            .find_one_and_update(doc! { "_id": LOCK }, lock)
            .upsert(true)
            .return_document(ReturnDocument::After)
            .session(&mut *held.session)
            .await;
        let state = locked.and_then(|lock| {
            let lock = lock.unwrap_or_default();
            Ok((*lock.get_datetime("now")?, lock.get_i64("version")?))
        });
        match state {
            Ok((now, version)) => {
                (held.now, held.version) = (now, version);
                Ok(held)
            }
            Err(error) => held.end(Err(error)).await,
        }
    }

    /// One that has the lock, if nobody else had it since this was seen.
    pub(super) async fn hold_after<'a>(
        &self,
        lock: Lock<'a>,
        view: &View,
    ) -> Result<Option<Held<'a>>, DriverError> {
        let held = match lock {
            Lock::Free(turn) => self.hold(turn).await?,
            Lock::Held(held) => held,
        };
        if held.is_after(view) {
            return Ok(Some(held));
        }
        // The version stays as it is: what changes nothing must send nobody to look again.
        held.give_up().await;
        Ok(None)
    }

    /// Several changes in one command, for which the driver has no word. Returns how many documents were changed.
    pub(super) async fn update(
        &self,
        held: &mut Held<'_>,
        collection: &str,
        updates: &[RawDocumentBuf],
    ) -> Result<i32, DriverError> {
        let list: RawArrayBuf = updates.iter().map(RawDocumentBuf::as_ref).collect();
        let answer = self.database.run_raw_command(rawdoc! { "update": collection, "updates": list });
        let answer = answer.session(&mut *held.session).await?;
        if let Some(first) = answer.get_array("writeErrors").ok().and_then(|errors| errors.first()) {
            return Err(DriverError::custom(format!("the server refused a change: {first}")));
        }
        Ok(answer.get_i32("n")?)
    }

    /// Makes claims that are under way look again, unless they have leased already; what was done before they see then.
    /// Returns whether anybody ever claimed: else nothing is to be done.
    pub(crate) async fn outdate_claims(&self) -> Result<bool, DriverError> {
        // Not beside a claim of this process, which needs a connection to come to its end: each of those that wait at the
        // server would keep one. Nor behind what a call of it has left open.
        let mut turn = self.turn.lock().await;
        turn.end_open().await;
        let next = doc! { "$inc": { "version": 1_i64 } };
        let lock = self.leases.find_one_and_update(doc! { "_id": LOCK }, next).projection(doc! { "_id": 1 });
        let lock = self.past_stalled(lock.into_future()).await?;
        Ok(lock.is_some())
    }
}
