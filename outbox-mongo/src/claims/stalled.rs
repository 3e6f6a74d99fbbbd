//! Transactions of claims that nobody goes on with, because their process has died or hangs.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::{
    ClientSession, Collection,
    error::Error as DriverError,
    options::{DatabaseOptions, ReadConcern, ReadPreference, SelectionCriteria},
};

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::MongoOutbox;

/// A transaction that does nothing for so long, and holds the lock, is given up; that is far longer than the time
/// between two of its commands. One that lives after all is told of it as of any conflict, and is tried again.
const AFTER: Duration = Duration::from_secs(3);
/// So long after one look comes the next.
const AGAIN: Duration = Duration::from_secs(1);
/// The document that lists the sessions of such transactions. None of them writes it, so that nobody waits for one
/// that stalls in order to be listed, and to end it.
pub(super) const SESSIONS: &str = "sessions";
/// How many are listed, the last ones: more than there are processes, or the server gives up what is not. Those that died are
/// listed still; whoever lives comes to the end of the list again, from time to time.
const MOST: i32 = 100;

/// When one that stalls is looked for.
pub(super) fn looks() -> Interval {
    let mut looks = interval(AGAIN);
    looks.reset_after(AFTER);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

fn id(session: &ClientSession) -> Bson {
    session.id().get("id").cloned().unwrap_or(Bson::Null)
}

/// Takes a session from the list, before it serves others.
pub(super) async fn unlist(
    leases: &Collection<Document>,
    session: &mut ClientSession,
) -> Result<(), DriverError> {
    let without = doc! { "$pull": { "sessions": id(session) } };
    leases.update_one(doc! { "_id": SESSIONS }, without).session(session).await?;
    Ok(())
}

impl MongoOutbox {
    /// Lists a session, before its first transaction, or puts it at the end of the list.
    pub(super) async fn list(&self, session: &ClientSession) -> Result<(), DriverError> {
        let this = id(session);
        let known = doc! { "$ifNull": ["$sessions", []] };
        let others = doc! { "$filter": { "input": known, "cond": { "$ne": ["$$this", &this] } } };
        let all = doc! { "$slice": [{ "$concatArrays": [others, [this]] }, -MOST] };
        let with_this = vec![doc! { "$set": { "sessions": all } }];
        self.leases.update_one(doc! { "_id": SESSIONS }, with_this).upsert(true).await?;
        Ok(())
    }

    /// Waits for what is no transaction and may have to wait for one, and so for one that stalls.
    pub(crate) async fn past_stalled<T>(&self, work: impl Future<Output = T>) -> T {
        let mut looks = looks();
        let ending = async {
            loop {
                looks.tick().await;
                // Who may not do it waits until the server does it by itself.
                self.end_stalled().await.ok();
            }
        };
        // Beside it, because that may have the only connection that there is.
        tokio::select! {
            done = work => done,
            never = ending => never,
        }
    }

    /// Ends transactions of claims that stall. Those of others are not touched, however long they take: a session that
    /// is listed serves nothing else, until it is taken from the list.
    pub(super) async fn end_stalled(&self) -> Result<(), DriverError> {
        let listed = self.leases.find_one(doc! { "_id": SESSIONS }).await?.unwrap_or_default();
        let Ok(known) = listed.get_array("sessions") else { return Ok(()) };
        let options = DatabaseOptions::builder()
            .read_concern(ReadConcern::local())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        let admin = self.database.client().database_with_options("admin", options);
        let inactive = i64::try_from(AFTER.as_micros()).unwrap_or(i64::MAX);
        let mut stalled = admin
            .aggregate([
                doc! { "$currentOp": { "idleSessions": true } },
                doc! { "$match": {
                    "type": "idleSession", "lsid.id": { "$in": known },
                    "transaction.timeInactiveMicros": { "$gte": inactive },
                } },
                doc! { "$project": { "id": "$lsid.id" } },
            ])
            .await?;
        while stalled.advance().await? {
            let session = stalled.deserialize_current()?;
            let these = vec![doc! { "id": session.get("id").cloned().unwrap_or(Bson::Null) }];
            admin.run_command(doc! { "killSessions": these }).await?;
        }
        Ok(())
    }
}
