//! What a claim goes by: everything at one moment, outside of any transaction, and nearly all in one question.

use std::collections::HashMap;

use bson::{DateTime, RawDocumentBuf, doc};
use mongodb::{ClientSession, error::Error as DriverError, options::ReadConcern};
use outbox_traits::Claim;
use tokio::time::sleep;

use super::{
    Held, LOCK, PAUSE,
    look::{self, Spot},
    passed::Start,
    stalled::SESSIONS,
    state::Leases,
};
use crate::{
    MongoOutbox,
    document::{Key, SCHEDULED},
    indexes::{FIFO_KEYS, keys},
    store::{ONE_ANSWER, as_limit},
};

/// So often it is asked, a millisecond after the other, whether the majority has what it is to have.
const MOST_MOMENTS: usize = 500;
/// Keys with documents that are read at once; where there are more, only those that are asked for.
const KNOWN_KEYS: usize = 200;

/// How a claim finds things.
#[derive(Debug)]
pub(super) struct View {
    /// The server's time.
    pub(super) now: DateTime,
    /// The lock's: whoever has it to write may do so as long as it is the same.
    pub(super) version: i64,
    /// Those that ran out included.
    pub(super) leases: Vec<Leases>,
    /// Keys that have a document, and when they are ready; the first of them.
    pub(super) keys: HashMap<Key, DateTime>,
    pub(super) has_all_keys: bool,
    /// The first pending events.
    pub(super) page: Vec<RawDocumentBuf>,
    pub(super) page_size: usize,
    /// Whether these are whole events.
    pub(super) is_whole: bool,
    /// Whether the time of a hidden event has come, which then is not in its place yet.
    pub(super) is_due: bool,
}

impl MongoOutbox {
    /// Whose reads are all of one moment.
    pub(crate) async fn moment(&self) -> Result<ClientSession, DriverError> {
        self.database.client().start_session().snapshot(true).await
    }

    /// The same, of the moment before the lock was taken: what its last holder has written the majority may not have yet.
    pub(super) async fn moment_before(&self, held: &Held<'_>) -> Result<ClientSession, DriverError> {
        for _ in 0..MOST_MOMENTS {
            let mut moment = self.moment().await?;
            let lock = self.leases.find_one(doc! { "_id": LOCK }).read_concern(ReadConcern::snapshot());
            let lock = lock.session(&mut moment).await?;
            let reached = lock.and_then(|lock| lock.get_i64("version").ok()).unwrap_or_default();
            if reached >= held.version.saturating_sub(1) {
                return Ok(moment);
            }
            sleep(PAUSE.0).await;
        }
        // It is found out later, and the lock is let go of then.
        self.moment().await
    }

    /// With the first pending events from there on, whole or in what they are chosen by; `None` where there is no lock yet.
    pub(super) async fn view(
        &self,
        moment: &mut ClientSession,
        claim: &Claim,
        start: Option<&Start>,
        page_size: usize,
        is_whole: bool,
    ) -> Result<Option<View>, DriverError> {
        let mut question = vec![
            doc! { "$match": look::pending(claim, start) },
            doc! { "$sort": { "seq": 1 } },
            doc! { "$limit": as_limit(page_size) },
        ];
        if !is_whole {
            question.push(doc! { "$project": Spot::fields() });
        }
        // No event has a document without an `_id`.
        let leases = vec![
            doc! { "$match": { "_id": { "$ne": SESSIONS } } },
            doc! { "$replaceWith": { "leases": "$$ROOT", "now": "$$NOW" } },
        ];
        let known = vec![
            doc! { "$limit": as_limit(KNOWN_KEYS + 1) },
            doc! { "$replaceWith": { "key": "$_id", "readyAt": "$readyAt" } },
        ];
        // At the same moment as the rest: what somebody else puts into its place is either here, or there.
        let due = vec![
            doc! { "$match": { "status": SCHEDULED } },
            doc! { "$sort": { "notBefore": 1 } },
            doc! { "$limit": 1 },
            doc! { "$replaceWith": { "isDue": { "$lte": ["$notBefore", "$$NOW"] } } },
        ];
        question.push(doc! { "$unionWith": { "coll": self.events.name(), "pipeline": due } });
        question.push(doc! { "$unionWith": { "coll": self.leases.name(), "pipeline": leases } });
        question.push(doc! { "$unionWith": { "coll": self.keys.name(), "pipeline": known } });
        let answer = self.events.aggregate(question).hint(keys(FIFO_KEYS));
        let answer = answer.batch_size(ONE_ANSWER);
        let mut cursor = answer
            .read_concern(ReadConcern::snapshot())
            .session(&mut *moment)
            .await?
            .with_type::<RawDocumentBuf>();
        let (mut lock, mut is_due) = (None, false);
        let (mut leases, mut known, mut page) = (Vec::new(), HashMap::new(), Vec::with_capacity(page_size));
        while cursor.advance(moment).await? {
            let raw = cursor.current();
            if raw.get("_id")?.is_some() {
                page.push(raw.to_owned());
            } else if let Ok(document) = raw.get_document("leases") {
                if document.get_str("_id").is_ok_and(|id| id == LOCK) {
                    lock = Some((raw.get_datetime("now")?, document.get_i64("version").unwrap_or(0)));
                } else {
                    leases.push(Leases::of(document)?);
                }
            } else if let Ok(this_is_due) = raw.get_bool("isDue") {
                is_due = this_is_due;
            } else {
                known.insert(raw.get_binary("key")?.bytes.to_vec(), raw.get_datetime("readyAt")?);
            }
        }
        let has_all_keys = known.len() <= KNOWN_KEYS;
        Ok(lock.map(|(now, version)| View {
            now,
            version,
            leases,
            keys: known,
            has_all_keys,
            page,
            page_size,
            is_whole,
            is_due,
        }))
    }

    /// Makes the document that is the lock.
    pub(super) async fn make_lock(&self) -> Result<(), DriverError> {
        let new = doc! { "$setOnInsert": { "version": 0_i64 } };
        self.leases.update_one(doc! { "_id": LOCK }, new).upsert(true).await?;
        Ok(())
    }
}
