//! Writing in a transaction: the caller's own, or one of the store's.

use std::collections::HashSet;

use bson::{Document, RawDocumentBuf, doc};
use mongodb::{
    ClientSession,
    error::{Error as DriverError, ErrorKind as DriverErrorKind},
    options::{ReadPreference, SelectionCriteria, WriteConcern},
};
use outbox_traits::{Error, ErrorKind, Result, Saved};

use crate::{
    MongoOutbox,
    claims::Conflicts,
    collection,
    document::NewDocument,
    store::{COMMAND_BYTES, ONE_ANSWER, runs},
};

/// What is looked up at once: about two documents can be found for each.
const LOOK_UP: usize = 2000;

impl MongoOutbox {
    /// Says of each document whether it was new, in the caller's transaction.
    pub(crate) async fn insert_in_session(
        &self,
        documents: &[NewDocument],
        session: &mut ClientSession,
        tried: &str,
    ) -> Result<Vec<Saved>> {
        self.ready(tried).await?;
        if !is_in_transaction(session).await.map_err(self.error(tried))? {
            let message = format!(
                "could not {tried} collection `{}`: the session has no open transaction, and so the event would \
                 not share the fate of what else is written; call `start_transaction` first, or `save`",
                self.namespace()
            );
            return Err(Error::new(ErrorKind::Backend, message));
        }
        self.insert(documents, session).await.map_err(self.error(tried))
    }

    /// The same in a transaction of the store's own, all or none.
    pub(crate) async fn insert_in_transaction(
        &self,
        documents: &[NewDocument],
    ) -> Result<Vec<Saved>, DriverError> {
        let mut session = collection::session(&self.database).await?;
        // The driver's helper would run it again for two minutes. One with what another has just saved is a conflict: in a
        // snapshot, what it has in the indexes is no duplicate.
        // Not while the server is away, which the driver has waited for by then: the caller decides about that.
        let mut conflicts = Conflicts::new();
        loop {
            match self.insert_and_commit(documents, &mut session).await {
                Ok(saved) => return Ok(saved),
                Err(error) => conflicts.wait(self, error).await?,
            }
        }
    }

    async fn insert_and_commit(
        &self,
        documents: &[NewDocument],
        session: &mut ClientSession,
    ) -> Result<Vec<Saved>, DriverError> {
        session.start_transaction().await?;
        let saved = self.insert(documents, session).await;
        if saved.is_err() {
            session.abort_transaction().await.ok();
        } else {
            collection::commit(session).await?;
        }
        saved
    }

    /// Looks first and inserts what is not there: a duplicate that is refused aborts the whole transaction. What
    /// another transaction saves in between is a write conflict, and so an error that a retry helps.
    async fn insert(
        &self,
        documents: &[NewDocument],
        session: &mut ClientSession,
    ) -> Result<Vec<Saved>, DriverError> {
        let mut saved = Vec::with_capacity(documents.len());
        // A question for ids and keys is shorter than what it is about.
        for chunk in runs(documents, LOOK_UP, COMMAND_BYTES, |document| document.raw.as_bytes().len()) {
            let mut taken = self.taken(chunk, session).await?;
            let mut new: Vec<&RawDocumentBuf> = Vec::with_capacity(chunk.len());
            for document in chunk {
                if taken.takes(document) {
                    new.push(&document.raw);
                    saved.push(Saved::Stored);
                } else {
                    saved.push(Saved::Duplicate);
                }
            }
            if !new.is_empty() {
                self.events.insert_many(new).session(&mut *session).await?;
            }
        }
        Ok(saved)
    }

    /// Which of the ids and keys exist, in whatever state.
    async fn taken(
        &self,
        documents: &[NewDocument],
        session: &mut ClientSession,
    ) -> Result<Taken, DriverError> {
        let find =
            self.events.find(existing(documents)).projection(doc! { "eventId": 1, "idempotencyKey": 1 });
        // What the client prefers holds for the transaction, in which nothing is read from a secondary.
        let find = find.selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        let mut cursor = find.batch_size(ONE_ANSWER).session(&mut *session).await?;
        let mut taken = Taken::default();
        while cursor.advance(session).await? {
            let found = cursor.current();
            taken.ids.extend(found.get_str("eventId").ok().map(str::to_owned));
            taken.keys.extend(found.get_str("idempotencyKey").ok().map(str::to_owned));
        }
        Ok(taken)
    }
}

/// By the indexes of both.
fn existing(documents: &[NewDocument]) -> Document {
    let ids: Vec<String> = documents.iter().map(|document| document.id.to_string()).collect();
    let keys: Vec<&str> =
        documents.iter().filter_map(|document| document.idempotency_key.as_deref()).collect();
    let by_id = doc! { "eventId": { "$in": ids } };
    if keys.is_empty() {
        by_id
    } else {
        doc! { "$or": [by_id, { "idempotencyKey": { "$in": keys } }] }
    }
}

#[derive(Default)]
struct Taken {
    ids: HashSet<String>,
    keys: HashSet<String>,
}

impl Taken {
    /// Takes the id and the key of a document, if neither is taken.
    fn takes(&mut self, document: &NewDocument) -> bool {
        let id = document.id.to_string();
        if self.ids.contains(&id)
            || document.idempotency_key.as_ref().is_some_and(|key| self.keys.contains(key))
        {
            return false;
        }
        self.ids.insert(id);
        self.keys.extend(document.idempotency_key.clone());
        true
    }
}

/// The driver does not say it, but refuses to begin a transaction where one is open. Where none is, it refuses to begin
/// one with such a write concern, and so leaves the session as it is: a commit before may be repeated after it. Neither
/// is a word to the server.
pub(crate) async fn is_in_transaction(session: &mut ClientSession) -> Result<bool, DriverError> {
    let none = WriteConcern::nodes(0);
    let Err(error) = session.start_transaction().write_concern(none).await else {
        session.abort_transaction().await.ok();
        return Ok(false);
    };
    let DriverErrorKind::Transaction { message, .. } = &*error.kind else { return Err(error) };
    // The words are those of the specification of all drivers.
    if message.contains("transaction already in progress") {
        return Ok(true);
    }
    if message.contains("do not support unacknowledged write concern") {
        return Ok(false);
    }
    // A session of a snapshot has no transactions.
    Err(error)
}

#[cfg(test)]
mod tests {
    use outbox_traits::Event;
    use serde_json::json;

    use super::*;

    /// A question has to be in one message, and the answer to it in few.
    #[test]
    fn what_is_looked_up_at_once_is_never_more_than_was_thought() {
        for length in [0, 1, 5000] {
            let event = Event::new("t", json!({})).unwrap().with_idempotency_key("k".repeat(length));
            let documents = [NewDocument::of(&event).unwrap(), NewDocument::of(&event).unwrap()];
            let size = |documents| RawDocumentBuf::try_from(&existing(documents)).unwrap().as_bytes().len();
            assert!(
                size(&documents) - size(&documents[..1]) <= documents[0].raw.as_bytes().len(),
                "{length}"
            );
        }
    }
}
