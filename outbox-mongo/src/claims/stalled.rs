//! Transactions of claims that nobody goes on with, because their process has died or hangs.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::{
    ClientSession,
    error::Error as DriverError,
    options::{DatabaseOptions, ReadConcern, ReadPreference, SelectionCriteria},
};

use super::LOCK;
use crate::MongoOutbox;

/// A transaction that does nothing for so long, and holds the lock, is given up; that is far longer than the time
/// between two of its commands. One that lives after all is told of it as of any conflict, and is tried again.
pub(super) const AFTER: Duration = Duration::from_secs(3);
/// So long after one look comes the next.
pub(super) const AGAIN: Duration = Duration::from_secs(1);
/// How many sessions are known: more than there are processes, or the server gives up what is not.
const SESSIONS: i32 = 100;

/// The sessions by which the lock was taken, as an expression on the lock: with this one as the last.
pub(super) fn with_session(session: &ClientSession) -> Document {
    let this = session.id().get("id").cloned().unwrap_or(Bson::Null);
    let known = doc! { "$ifNull": ["$sessions", []] };
    let others = doc! { "$filter": { "input": known, "cond": { "$ne": ["$$this", &this] } } };
    doc! { "$slice": [{ "$concatArrays": [others, [this]] }, -SESSIONS] }
}

impl MongoOutbox {
    /// Ends transactions of claims that stall. Those of others are not touched, however long they take.
    pub(super) async fn end_stalled(&self) -> Result<(), DriverError> {
        let lock = self.leases.find_one(doc! { "_id": LOCK }).await?.unwrap_or_default();
        let Ok(known) = lock.get_array("sessions") else { return Ok(()) };
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
